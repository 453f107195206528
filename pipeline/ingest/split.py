"""The split of every face, so that no picture, near-duplicate or person is in two.

Within a source the order is that of sha256(seed, pixel hash): it depends neither on names nor on the order of files.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.errors import FacesrError
from pipeline.core.scales import SPLITS
from pipeline.ingest.dedup import joined, near_duplicates, same
from pipeline.ingest.split_lists import designated, persons, unlisted


class SplitError(FacesrError):
    """The faces cannot be split as params ask."""


@dataclass(frozen=True)
class Assignment:
    """Answers for a list of faces, in its order."""

    splits: list[str]
    """Split of each face; "" where none asked for it."""
    refusals: list[str]
    """Why a face must not be used though its source feeds a split; "" where nothing speaks against it."""
    persons: list[str | None]
    """Who each shows, where its source says so."""
    counts: dict[str, Any]
    """What was found: `identical`, `near_duplicates`, `persons` …"""


def assign(
    faces: Sequence[Mapping[str, Any]],
    sources: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    near: int | None,
    label: Callable[[Mapping[str, Any]], str] = lambda source: str(source.get("path")),
    advance: Callable[[int], None] = lambda count: None,
) -> Assignment:
    """Choose the split of each face.

    Faces that are bound together (identical pixels, near-duplicates, one person) share a split. Where a source says
    the split of each face, the bound ones that it wants in another than their most protected one (test before valid
    before train) are refused; where counts say, a group goes to the first split that has room for all of it, and only
    where counts cannot be met otherwise a part of it, the rest being left out.

    Args:
        faces: usable ones in order: `hash`, `source` (number), `name`, `labels`, `fingerprint`.
        sources: with `splits` and, where known, `persons`.
        seed: of the order.
        near: bits of the perceptual hash in which near-duplicates differ at most; None does not look for them.
        label: what a source is called in messages.
        advance: told how many faces have been compared.

    Raises:
        SplitError: a source has fewer faces than its splits ask for, or its groups do not fit.
        ListError: a list of splits or persons cannot be used.
    """
    who = _ask([persons(source.get("persons")) for source in sources], faces)
    hashes = [face["hash"] for face in faces]
    identical = joined(np.arange(len(faces)), *same(hashes))
    similar, pairs = identical, 0
    if near is not None:
        for one, other in near_duplicates([face["fingerprint"] for face in faces], near, advance):
            pairs += int((identical[one] != identical[other]).sum())
            similar = joined(similar, one, other)
    bound = joined(similar, *same(who)).tolist()
    splits = [""] * len(faces)
    placed: dict[int, str] = {}
    refused: list[int] = []
    wishes = _ask([designated(source["splits"]) for source in sources], faces)
    for number, source in enumerate(sources):
        mine = [index for index, face in enumerate(faces) if face["source"] == number]
        if source["splits"].get("by", "seed") == "seed":
            elsewhere = set(placed)
            _by_counts(mine, hashes, bound, source["splits"], placed, splits, seed, label(source))
        else:
            _by_wish(mine, wishes, bound, placed, splits)
            elsewhere = set(placed)
        wanted = [index for index in mine if not splits[index] and _wanted(source["splits"], wishes[index])]
        refused += (index for index in wanted if bound[index] in elsewhere)
    bonds = (
        ("identical to a picture of split", identical.tolist()),
        ("nearly identical to a picture of split", similar.tolist()),
        ("shows a person of split", bound),
    )
    reasons = _reasons(refused, bonds, splits, placed)
    counts = {
        "identical": len(faces) - len(np.unique(identical)),
        "near_duplicates": len(np.unique(identical)) - len(np.unique(similar)),
        "near_duplicate_pairs": pairs,
        "persons": len({one for one in who if one}),
        "listed_but_not_there": sum(unlisted(source["splits"], faces) for source in sources),
    }
    return Assignment(splits, [reasons.get(index, "") for index in range(len(faces))], who, counts)


def _ask(answers: Sequence[Any], faces: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """What each face's source says of it."""
    asked = [answers[face["source"]] for face in faces]
    return [answer(face) if answer else None for answer, face in zip(asked, faces, strict=True)]


def _wanted(how: Mapping[str, Any], wish: str | None) -> bool:
    """Whether a source feeds any split with a face."""
    return any(how.get(split) for split in SPLITS) if how.get("by", "seed") == "seed" else bool(wish)


def _by_wish(
    mine: Sequence[int], wishes: Sequence[str | None], bound: Sequence[int], placed: dict[int, str], splits: list[str]
) -> None:
    """Give each face the split it is listed in, but where a face bound to it is in a more protected one."""
    for split in reversed(SPLITS):
        for index in mine:
            if wishes[index] == split and placed.setdefault(bound[index], split) == split:
                splits[index] = split


def _by_counts(
    mine: Sequence[int],
    hashes: Sequence[str],
    bound: Sequence[int],
    how: Mapping[str, Any],
    placed: dict[int, str],
    splits: list[str],
    seed: int,
    name: str,
) -> None:
    """Draw as many faces for each split as it asks for."""
    members: dict[int, list[int]] = {}
    for index in mine:
        members.setdefault(bound[index], []).append(index)
    ranks = {group: min(_rank(seed, hashes[index]) for index in some) for group, some in members.items()}
    order = sorted(members, key=lambda group: ranks[group])
    wanted = {split: how[split] for split in SPLITS if how.get(split)}
    rest = next((split for split, count in wanted.items() if count == "rest"), "")
    # decided by an earlier source: the same split or none
    taken = {group: placed[group] if placed[group] in wanted else "" for group in order if group in placed}
    room = {split: count for split, count in wanted.items() if count != "rest"}
    for group, split in taken.items():
        if split in room:
            room[split] = max(0, room[split] - len(members[group]))
    free = [group for group in order if group not in taken]
    sizes = {group: len(members[group]) for group in free}
    # in the order drawn; where groups then do not fill the room, the large ones first, since single faces fit anywhere;
    # and where that fails too, parts of groups, of which the rest is left out
    chosen, short = _fill(free, sizes, room, rest)
    for parts in (False, True):
        if short:
            chosen, short = _fill(sorted(free, key=lambda group: -sizes[group]), sizes, room, rest, parts)
    if short:
        asked, found = sum(count for count in wanted.values() if count != "rest"), len(mine)
        largest = max(sizes.values(), default=0)
        why = (
            f"; alike pictures, or those of one person, that must stay together are up to {largest}"
            if found >= asked and largest > 1
            else ""
        )
        raise SplitError(f"{name}: {asked} faces asked for, {found} usable ones found; short by {short}{why}")
    for group, (split, count) in {**{group: (split, len(mine)) for group, split in taken.items()}, **chosen}.items():
        if split:
            placed.setdefault(group, split)
        drawn = sorted(members[group], key=lambda index: (_rank(seed, hashes[index]), index))
        for index in drawn[:count]:
            splits[index] = split


def _fill(
    order: Sequence[int], sizes: Mapping[int, int], room: Mapping[str, int], rest: str, parts: bool = False
) -> tuple[dict[int, tuple[str, int]], dict[str, int]]:
    """First fit: split ("" for none) and number of faces of each group, and how many faces each split is short of.

    With `parts`, a group goes where there is room for any of it.
    """
    left = dict(room)
    chosen = {}
    for group in order:
        least = 1 if parts else sizes[group]
        split = next((name for name in left if left[name] >= least), rest)
        count = min(sizes[group], left.get(split, sizes[group]))
        if split in left:
            left[split] -= count
        chosen[group] = split, count
    return chosen, {split: count for split, count in left.items() if count}


def _reasons(
    refused: Sequence[int],
    bonds: Sequence[tuple[str, Sequence[int]]],
    splits: Sequence[str],
    placed: Mapping[int, str],
) -> dict[int, str]:
    """Why each of these faces is left out, by the closest bond to one that is in the split of its group."""
    members = [{(group[index], split) for index, split in enumerate(splits) if split} for _, group in bonds]
    reasons = {}
    for index in refused:
        split = placed[bonds[-1][1][index]]
        bond = next(at for at, (_, group) in enumerate(bonds) if (group[index], split) in members[at])
        reasons[index] = f"{bonds[bond][0]} {split}"
    return reasons


def _rank(seed: int, digest: str) -> bytes:
    return hashlib.sha256(f"{seed}:{digest}".encode()).digest()
