"""The split of every face, so that no picture, near-duplicate or person is in two.

Within a source the order is that of sha256(seed, pixel hash): it depends neither on names nor on the order of files.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.errors import FacesrError
from pipeline.core.scales import SPLITS
from pipeline.core.schema import Row
from pipeline.ingest.dedup import joined, near_duplicates, same
from pipeline.ingest.split_lists import ListError, Lookup, person_lookup, split_lookup, unlisted

if TYPE_CHECKING:
    from pipeline.params.ingest import Source, SplitCounts


class SplitError(FacesrError):
    """The faces cannot be split as params ask."""


@dataclass(frozen=True)
class Assignment:
    """Splits for a list of faces, in its order."""

    splits: list[str | None]
    """Split of each face; None where it is in none."""
    rejections: list[str | None]
    """Why a face must not be used though its source feeds a split."""
    persons: list[str | None]
    """Who each shows, where its source says so."""
    counts: dict[str, int]
    """What was found: `identical`, `near_duplicates`, `persons` …"""


def assign(
    faces: Sequence[Row],
    sources: Sequence["Source"],
    *,
    seed: int,
    near: int | None,
    known: Mapping[str, str] | None = None,
    missing: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> Assignment:
    """Choose the split of each face.

    Faces that are linked (identical pixels, near-duplicates, one person) share a split. Where a source says the split
    of each face, linked ones that it wants in another than their most protected one (test before valid before train)
    are rejected; where counts say, a group goes to the first split that has room for all of it, and only where counts
    cannot be met otherwise a part of it, the rest being left out.

    Args:
        faces: usable ones in order: `hash`, `source` (number), `name`, `labels`, `fingerprint`.
        sources: with their splits and, where known, persons.
        seed: of the order.
        known: id -> split of faces that earlier ingests drew: they stay there as long as the split has room, and none
            that it is linked to by now was in a more protected one.
        missing: faces that there may be less than counts ask for, since so many were forgotten.
        near: bits of the perceptual hash in which near-duplicates differ at most; None does not look for them.
        advance: told how many faces have been compared.

    Raises:
        SplitError: a source has fewer faces than its splits ask for, or its groups do not fit.
        ListError: a list of splits or persons cannot be used.
    """
    persons = _look_up([person_lookup(source.persons) for source in sources], faces)
    _refuse_strangers(sources, faces, persons)
    listed = _look_up([split_lookup(source.splits) for source in sources], faces)
    by_seed = [source.splits.by == "seed" for source in sources]
    ids = [face.get("id", "") if by_seed[face["source"]] else "" for face in faces]
    before_now = {index: known[face] for index, face in enumerate(ids) if known and face in known}
    old = np.isin(np.arange(len(faces)), list(before_now))
    hashes = [face["hash"] for face in faces]
    identical = joined(np.arange(len(faces)), *same(hashes))
    similar, pairs = identical, 0
    # faces that were there before, by the links between themselves
    settled = joined(
        np.arange(len(faces)), *same([digest if there else None for digest, there in zip(hashes, old, strict=True)])
    )
    if near is not None:
        for first, second in near_duplicates([face["fingerprint"] for face in faces], near, advance):
            pairs += int((identical[first] != identical[second]).sum())
            similar = joined(similar, first, second)
            both = old[first] & old[second]
            settled = joined(settled, first[both], second[both]) if both.any() else settled
    groups = joined(similar, *same(persons)).tolist()
    settled = joined(settled, *same([person if there else None for person, there in zip(persons, old, strict=True)]))
    kept = _most_protected(before_now, settled.tolist())
    ranks = [(hashlib.sha256(f"{seed}:{face['hash']}".encode()).digest(), index) for index, face in enumerate(faces)]
    splits: dict[int, str] = {}
    group_splits: dict[int, str] = {}
    rejected: list[int] = []
    for number, source in enumerate(sources):
        own = [index for index, face in enumerate(faces) if face["source"] == number]
        before = dict(group_splits)
        if source.splits.by == "seed":
            ordered = sorted(own, key=ranks.__getitem__)
            # what is alike to a kept face of another source goes where that is
            others = {groups[i]: split for i, split in kept.items() if faces[i]["source"] != number}
            splitter = Splitter(source.splits, _members(ordered, groups), others | before, kept, missing)
            drawn = splitter.draw(source.label)
            wanted = own if source.splits.counts else []
        else:
            drawn = _as_listed(own, listed, groups, before)
            wanted = [index for index in own if listed[index]]
        splits |= drawn
        group_splits |= {groups[index]: split for index, split in drawn.items()}
        # what was not drawn though nothing stood against it is no fault of the face
        elsewhere = before if source.splits.by == "seed" else group_splits
        rejected += (index for index in wanted if index not in splits and groups[index] in elsewhere)
    moved = sorted(before_now.keys() - kept.keys() - splits.keys() - set(rejected))
    rejected += (index for index in moved if groups[index] in group_splits)
    links = (
        ("identical to a picture of split", identical.tolist()),
        ("nearly identical to a picture of split", similar.tolist()),
        ("shows a person of split", groups),
    )
    reasons = _reasons(rejected, links, splits, group_splits)
    counts = {
        "identical": len(faces) - len(np.unique(identical)),
        "near_duplicates": len(np.unique(identical)) - len(np.unique(similar)),
        "near_duplicate_pairs": pairs,
        "persons": len({person for person in persons if person}),
        "listed_but_not_there": sum(unlisted(source.splits, faces) for source in sources),
    }
    indices = range(len(faces))
    return Assignment([splits.get(i) for i in indices], [reasons.get(i) for i in indices], persons, counts)


class Splitter:
    """Draws groups of faces for the splits of one source.

    Args:
        splits: how many faces each split asks for.
        members: groups, and the faces of the source in each, in the order in which they are drawn.
        earlier: splits of groups that earlier sources decided on: they go there too, or nowhere.
        kept: splits that faces had in an earlier ingest.
        missing: faces that splits may be short of in all.
    """

    def __init__(
        self,
        splits: "SplitCounts",
        members: Mapping[int, Sequence[int]],
        earlier: Mapping[int, str],
        kept: Mapping[int, str] | None = None,
        missing: int = 0,
    ):
        self.members, self.missing = members, missing
        self.asked = {split: count for split, count in splits.counts.items() if count != "rest"}
        self.rest = next((split for split, count in splits.counts.items() if count == "rest"), None)
        self.decided = {group: earlier[group] for group in members if earlier.get(group) in splits.counts}
        self.room = dict(self.asked)
        for group, split in self.decided.items():
            if split in self.room:
                self.room[split] = max(0, self.room[split] - len(members[group]))
        self.kept: dict[int, str] = {}
        stay = [group for group in members if group not in earlier and self._keep(group, kept or {}, splits.counts)]
        for group in stay:
            self._join(group)
        self.free = [group for group in members if group not in earlier and group not in stay]

    def _keep(self, group: int, kept: Mapping[int, str], counts: Mapping[str, object]) -> bool:
        """Let faces of a group stay where they were, if all of them still have room there."""
        old = {face: kept[face] for face in self.members[group] if kept.get(face) in counts}
        numbers = Counter(old.values())
        if not old or any(self.room.get(split, number) < number for split, number in numbers.items()):
            return False
        for split in set(numbers) & set(self.room):
            self.room[split] -= numbers[split]
        self.kept |= old
        return True

    def _join(self, group: int) -> None:
        """Put new faces of a group where its old ones are; nowhere, where that is full, or they link two splits."""
        splits = {self.kept[face] for face in self.members[group] if face in self.kept}
        if len(splits) == 1:
            (split,) = splits
            for face in self.members[group]:
                if face not in self.kept and self.room.get(split, 1):
                    self.kept[face] = split
                    if split in self.room:
                        self.room[split] -= 1

    def draw(self, name: str) -> dict[int, str]:
        """The split of each face that is in one.

        Raises:
            SplitError: there are too few faces, or groups do not fit; it begins with `name`.
        """
        # in the order drawn; where groups then do not fill the room, the large ones first, since single faces fit
        # anywhere; and where that fails too, parts of groups, of which the rest is left out
        by_size = sorted(self.free, key=lambda group: -len(self.members[group]))
        for order, parts in ((self.free, False), (by_size, False), (by_size, True)):
            chosen, short = self._fill(order, parts)
            if sum(short.values()) <= (self.missing if (order, parts) == (by_size, True) else 0):
                break
        else:
            asked, found = sum(self.asked.values()), sum(map(len, self.members.values()))
            largest = max((len(self.members[group]) for group in self.free), default=0)
            why = f"; alike pictures, or those of one person, that must stay together are up to {largest}"
            raise SplitError(
                f"{name}: {asked} faces asked for, {found} usable ones found; short by {short}"
                f"{why if found >= asked and largest > 1 else ''}"
            )
        taken = {group: (split, len(self.members[group])) for group, split in self.decided.items()} | chosen
        return self.kept | {
            face: split for group, (split, count) in taken.items() for face in self.members[group][:count]
        }

    def _fill(self, order: Sequence[int], parts: bool) -> tuple[dict[int, tuple[str, int]], dict[str, int]]:
        """First fit: split and number of faces of each group, and how many faces each split is short of.

        With `parts`, a group goes where there is room for any of it.
        """
        room = dict(self.room)
        chosen = {}
        for group in order:
            size = len(self.members[group])
            split = next((split for split in room if room[split] >= (1 if parts else size)), self.rest)
            if split is not None:
                count = min(size, room.get(split, size))
                chosen[group] = split, count
                if split in room:
                    room[split] -= count
        return chosen, {split: count for split, count in room.items() if count}


def _most_protected(known: Mapping[int, str], groups: Sequence[int]) -> dict[int, str]:
    """Faces that may stay where they were: of linked ones in several splits those of the most protected."""
    strongest: dict[int, str] = {}
    for split in reversed(SPLITS):
        for face, own in known.items():
            if own == split:
                strongest.setdefault(groups[face], split)
    return {face: split for face, split in known.items() if strongest.get(groups[face], split) == split}


def _refuse_strangers(sources: Sequence["Source"], faces: Sequence[Row], persons: Sequence[str | None]) -> None:
    """Refuse a list of persons that knows none of its source's faces: it would protect nobody."""
    known, there = Counter[int](), Counter(face["source"] for face in faces)
    for face, person in zip(faces, persons, strict=True):
        known[face["source"]] += person is not None
    for number, source in enumerate(sources):
        if source.persons is not None and there[number] and not known[number]:
            place = source.persons.identities or f"column {source.persons.column}"
            example = next(face["name"] for face in faces if face["source"] == number)
            raise ListError(f"{place}: names none of {there[number]} faces of {source.label}, {example} for one")


def _look_up(lookups: Sequence[Lookup | None], faces: Sequence[Row]) -> list[str | None]:
    """What the list of each face's source says of it."""
    return [lookup(face) if (lookup := lookups[face["source"]]) else None for face in faces]


def _members(faces: Iterable[int], groups: Sequence[int]) -> dict[int, list[int]]:
    """Group -> its faces, both in the order of `faces`."""
    members: dict[int, list[int]] = {}
    for face in faces:
        members.setdefault(groups[face], []).append(face)
    return members


def _as_listed(
    faces: Sequence[int], listed: Sequence[str | None], groups: Sequence[int], earlier: Mapping[int, str]
) -> dict[int, str]:
    """The split that each face is listed in, but where a linked face is in a more protected one."""
    group_splits = dict(earlier)
    return {
        face: split
        for split in reversed(SPLITS)
        for face in faces
        if listed[face] == split and group_splits.setdefault(groups[face], split) == split
    }


def _reasons(
    rejected: Sequence[int],
    links: Sequence[tuple[str, Sequence[int]]],
    splits: Mapping[int, str],
    group_splits: Mapping[int, str],
) -> dict[int, str]:
    """Why each of these faces is left out, by the closest link to one that is in the split of its group."""
    members = [{(groups[face], split) for face, split in splits.items()} for _, groups in links]
    reasons = {}
    for face in rejected:
        split = group_splits[links[-1][1][face]]
        words = next(
            words for (words, groups), held in zip(links, members, strict=True) if (groups[face], split) in held
        )
        reasons[face] = f"{words} {split}"
    return reasons
