"""The split of every face, so that no picture, near-duplicate or person is in two.

Within a source the order is that of sha256(seed, pixel hash): it depends neither on names nor on the order of files.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.likeness import chains, groups, near_duplicates
from pipeline.membership import designated, persons, unlisted
from pipeline.schema import SPLITS


class SplitError(ValueError):
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
    before train) are refused; where counts say, a group goes to the first split that has room for all of it.

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
    alike = list(near_duplicates([face["fingerprint"] for face in faces], near, advance)) if near is not None else []
    same = list(chains(hashes))
    identical = groups(len(faces), same).tolist()
    similar = groups(len(faces), same + alike).tolist() if alike else identical
    bound = groups(len(faces), same + alike + list(chains(who))).tolist() if any(who) else similar
    splits = [""] * len(faces)
    placed: dict[int, str] = {}
    refused: list[int] = []
    wishes = _ask([designated(source["splits"]) for source in sources], faces)
    for number, source in enumerate(sources):
        mine = [index for index, face in enumerate(faces) if face["source"] == number]
        if source["splits"].get("by", "seed") == "seed":
            _by_counts(mine, hashes, bound, source["splits"], placed, splits, seed, label(source))
        else:
            _by_wish(mine, wishes, bound, placed, splits)
        refused += (
            index
            for index in mine
            if not splits[index] and bound[index] in placed and _wanted(source["splits"], wishes[index])
        )
    bonds = (
        ("identical to a picture of split", identical),
        ("nearly identical to a picture of split", similar),
        ("shows a person of split", bound),
    )
    reasons = _reasons(refused, bonds, splits, placed)
    pairs = {tuple(sorted((identical[one], identical[other]))) for one, other in alike}
    counts = {
        "identical": len(faces) - len(set(identical)),
        "near_duplicates": len(set(identical)) - len(set(similar)),
        "near_duplicate_pairs": sum(one != other for one, other in pairs),
        "persons": len({one for one in who if one}),
        "listed_but_not_there": sum(unlisted(source["splits"], list(map(dict, faces))) for source in sources),
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
    # in the order drawn; where groups then do not fill the room, the large ones first, since single faces fit anywhere
    chosen, short = _fill(free, sizes, room, rest)
    if short:
        chosen, short = _fill(sorted(free, key=lambda group: -sizes[group]), sizes, room, rest)
    if short:
        asked, found = sum(count for count in wanted.values() if count != "rest"), len(mine)
        largest = max(sizes.values(), default=0)
        why = f"; groups that must stay together have up to {largest} faces" if found >= asked and largest > 1 else ""
        raise SplitError(f"{name}: {asked} faces asked for, {found} usable ones found; short by {short}{why}")
    for group, split in {**taken, **chosen}.items():
        if split:
            placed.setdefault(group, split)
        for index in members[group]:
            splits[index] = split


def _fill(
    order: Sequence[int], sizes: Mapping[int, int], room: Mapping[str, int], rest: str
) -> tuple[dict[int, str], dict[str, int]]:
    """First fit: the split of each group ("" for none), and how many faces each split is short of."""
    left = dict(room)
    chosen = {}
    for group in order:
        split = next((name for name in left if left[name] >= sizes[group]), rest)
        if split in left:
            left[split] -= sizes[group]
        chosen[group] = split
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
