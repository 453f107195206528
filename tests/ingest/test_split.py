"""Splits: as counts, lists, columns or CelebA's own files say, and never one picture or person in two of them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from support.pictures import face

from pipeline.core.images import decode, encode_jpeg, pixel_hash, resize
from pipeline.ingest.dedup import fingerprint, joined, near_duplicates
from pipeline.ingest.split import Assignment, SplitError, Splitter, assign
from pipeline.ingest.split_lists import ListError
from pipeline.params.ingest import ArchiveSource, SplitCounts

SIDE = 256


def candidate(pixels: Any, name: str, source: int = 0, **labels: str) -> dict[str, Any]:
    digest = pixel_hash(pixels)
    return {
        "id": f"{digest}-0",
        "hash": digest,
        "source": source,
        "name": name,
        "labels": labels,
        "fingerprint": fingerprint(pixels),
    }


FACES = [candidate(face(index, SIDE), f"{index:05d}.png") for index in range(24)]


def pairs(prints: list[bytes], distance: int) -> list[tuple[int, int]]:
    found = list(near_duplicates(prints, distance))
    return [(int(a), int(b)) for one, other in found for a, b in zip(one, other, strict=True)]


def split(
    faces: list[dict[str, Any]], *sources: dict[str, Any], near: int | None = 16, seed: int = 1, **more: Any
) -> Assignment:
    described = [{"kind": "archive", "path": "x", "splits": one, **more} for one in sources]
    return assign(faces, [ArchiveSource.model_validate(one) for one in described], seed=seed, near=near)


def written(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


# pictures that show the same


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: decode(encode_jpeg(pixels, 40)),
        lambda pixels: resize(resize(pixels, SIDE // 2, SIDE // 2), SIDE, SIDE),
        lambda pixels: np.asarray(ImageEnhance.Brightness(Image.fromarray(pixels)).enhance(1.1)),
    ],
    ids=["saved again as JPEG", "reduced and enlarged", "a little brighter"],
)
def test_a_copy_that_was_changed_a_little_is_a_near_duplicate(change: Any) -> None:
    prints = [fingerprint(face(index, SIDE)) for index in range(12)] + [fingerprint(change(face(5, SIDE)))]
    assert pairs(prints, 16) == [(5, 12)]


def test_pictures_of_one_pattern_in_other_colours_are_different_ones() -> None:
    picture = face(1, SIDE)
    assert not pairs([fingerprint(picture), fingerprint(255 - picture[..., ::-1] // 2)], 16)


def test_flat_pictures_are_told_apart_by_their_pixels_alone() -> None:
    flat = [np.full((SIDE, SIDE, 3), level, np.uint8) for level in (100, 101)]
    assert [fingerprint(pixels) for pixels in flat] == [b"", b""]
    assert not pairs([b"", b""], 128)


def test_every_pair_within_the_distance_is_found_also_across_blocks() -> None:
    random = np.random.default_rng(0)
    table = random.integers(0, 256, (2500, 32), dtype=np.uint8)
    table[2400] = table[3]
    table[2400, 0] ^= 0b1011  # three bits
    prints = [bytes(row) + bytes(192) for row in table]
    assert pairs(prints, 3) == [(3, 2400)]
    assert not pairs(prints, 2)


def test_groups_join_what_is_linked_over_others() -> None:
    links = np.array([4, 1, 3]), np.array([5, 3, 4])
    assert joined(np.arange(6), *links).tolist() == [0, 1, 2, 1, 1, 1]
    assert joined(np.array([0, 0, 2, 3]), np.array([1]), np.array([2])).tolist() == [0, 0, 0, 3]


# counts


def test_near_duplicates_share_a_split_whatever_the_seed() -> None:
    copies = [candidate(decode(encode_jpeg(face(index, SIDE), 60)), f"copy-{index}.jpg") for index in range(24)]
    for seed in range(5):
        assignment = split(FACES + copies, {"train": 24, "test": "rest"}, seed=seed)
        assert assignment.splits[:24] == assignment.splits[24:]
        assert Counter(assignment.splits) == {"train": 24, "test": 24}
        assert (assignment.counts["near_duplicates"], assignment.counts["near_duplicate_pairs"]) == (24, 24)
    apart = split(FACES + copies, {"train": 24, "test": "rest"}, near=None)
    assert apart.splits[:24] != apart.splits[24:]


def test_groups_are_placed_so_that_they_fit() -> None:
    faces = [FACES[0], FACES[1], FACES[1]]
    for seed in range(8):
        assert split(faces, {"train": 1, "test": 2}, seed=seed).splits == ["train", "test", "test"]


def test_a_group_too_large_for_any_split_gives_a_part_and_its_rest_is_in_none() -> None:
    copies = [FACES[0] | {"name": f"{index}.png"} for index in range(10)]
    assignment = split([*copies, *FACES[1:13]], {"train": "rest", "test": 3})
    assert Counter(assignment.splits) == {"train": 19, "test": 3}
    assignment = split([*copies, *FACES[1:7]], {"train": 6, "test": 5})
    assert len(set(assignment.splits[:10]) - {None}) == 1
    assert Counter(assignment.splits) == {"train": 6, "test": 5, None: 5}
    assert not any(assignment.rejections)


def test_counts_that_groups_make_impossible_are_an_error_that_says_so() -> None:
    with pytest.raises(SplitError, match=r"2 faces asked for, 2 usable ones found; .*must stay together are up to 2"):
        split([FACES[0], FACES[0]], {"train": 1, "test": 1})


def test_drawing_changes_nothing_that_it_is_given_and_gives_the_same_again() -> None:
    members, earlier = {0: [0, 3], 1: [1], 2: [2]}, {1: "train", 7: "test"}
    splitter = Splitter(SplitCounts(train=2, test=2), members, earlier)
    drawn = splitter.draw("x")
    assert drawn == splitter.draw("x") == {1: "train", 0: "test", 3: "test", 2: "train"}
    assert (members, earlier) == ({0: [0, 3], 1: [1], 2: [2]}, {1: "train", 7: "test"})


def test_an_archive_of_variations_on_few_pictures_takes_little_memory() -> None:
    prints = [fingerprint(face(index, SIDE)) for index in range(4)] * 1000
    table = np.zeros(4, np.int64)
    groups = np.arange(4000)
    for one, other in near_duplicates(prints, 16):
        assert len(one) <= 1 << 15
        groups = joined(groups, one, other)
        table += np.bincount(one % 4, minlength=4)
    assert set(groups.tolist()) == {0, 1, 2, 3}
    assert table.tolist() == [1000 * 999 // 2] * 4


def test_adding_faces_leaves_the_order_of_the_others_as_it_was() -> None:
    few, more = split(FACES[:20], {"train": 20}), split(FACES, {"train": 20})
    assert sum(one == "train" for one in more.splits[:20]) >= 16
    assert set(few.splits) == {"train"}


# other people's lists


def test_nobody_is_in_two_splits_where_an_identity_list_is_given(tmp_path: Path) -> None:
    who = [str(index % 8) for index in range(24)]
    identities = written(tmp_path / "who.txt", *(f"{one['name']} {who[i]}" for i, one in enumerate(FACES)))
    assignment = split(FACES, {"train": 12, "test": 12}, persons={"identities": identities})
    assert Counter(assignment.splits) == {"train": 12, "test": 12}
    assert assignment.persons == who
    assert all(len({assignment.splits[i] for i in range(24) if who[i] == one}) == 1 for one in set(who))
    assert assignment.counts["persons"] == 8


def test_a_list_of_persons_that_knows_no_face_is_refused_since_it_would_protect_nobody(tmp_path: Path) -> None:
    identities = written(tmp_path / "identities.txt", *(f"{index:05d}.jpg {index // 2}" for index in range(24)))
    with pytest.raises(ListError, match=r"identities.txt: names none of 24 faces of .*, 00000.png for one"):
        split(FACES, {"train": "rest", "test": 4}, persons={"identities": identities})


def test_celebas_official_partition_is_joined_by_the_original_file_name(tmp_path: Path) -> None:
    partition = written(tmp_path / "partition.txt", *(f"{900 + i:06d}.jpg {i % 3}" for i in range(24)))
    mapping = written(
        tmp_path / "mapping.txt",
        " idx\torig_idx\torig_file",
        *(f"{i}\t{900 + 23 - i}\t{900 + 23 - i:06d}.jpg" for i in range(24)),
    )
    assignment = split(FACES, {"by": "celeba", "partition": partition, "mapping": mapping})
    assert assignment.splits == [("train", "valid", "test")[(23 - i) % 3] for i in range(24)]
    own = [one | {"name": f"img_align_celeba/{900 + i:06d}.jpg"} for i, one in enumerate(FACES)]
    assert split(own, {"by": "celeba", "partition": partition}).splits == [
        ("train", "valid", "test")[i % 3] for i in range(24)
    ]


def test_a_list_may_name_ids_hashes_names_or_stems_and_what_is_not_there_is_counted(tmp_path: Path) -> None:
    train = written(tmp_path / "train.txt", FACES[0]["id"], FACES[1]["hash"], "", "nobody")
    test = written(tmp_path / "test.txt", FACES[2]["name"], "00003")
    assignment = split(FACES, {"by": "list", "train": train, "test": test})
    assert assignment.splits[:4] == ["train", "train", "test", "test"]
    assert set(assignment.splits[4:]) == {None}
    assert assignment.counts["listed_but_not_there"] == 1


def test_a_column_says_the_split_also_by_its_other_names() -> None:
    values = ["train", "Validation", "val", "test", "2", "unknown", ""]
    faces = [one | {"labels": {"part": value}} for one, value in zip(FACES, values, strict=False)]
    assignment = split(faces, {"by": "column", "column": "part"})
    assert assignment.splits == ["train", "valid", "valid", "test", "test", None, None]


def test_a_copy_listed_in_another_split_is_refused_in_favour_of_the_test_split(tmp_path: Path) -> None:
    copy = candidate(decode(encode_jpeg(face(0, SIDE), 60)), "copy.jpg")
    lists = {
        "train": written(tmp_path / "train.txt", "copy", "00001"),
        "test": written(tmp_path / "test.txt", "00000"),
    }
    assignment = split([FACES[0], copy, FACES[1], FACES[1] | {"name": "again.png"}], {"by": "list", **lists})
    assert assignment.splits == ["test", None, "train", None]
    assert assignment.rejections == [None, "nearly identical to a picture of split test", None, None]


def test_a_second_source_shows_no_person_of_another_split(tmp_path: Path) -> None:
    who = {"identities": written(tmp_path / "who.txt", *(f"{one['name']} {i // 2}" for i, one in enumerate(FACES)))}
    faces = [one | {"source": i % 2} for i, one in enumerate(FACES)]
    assignment = split(faces, {"train": "rest"}, {"test": "rest"}, persons=who)
    assert assignment.splits[::2] == ["train"] * 12
    assert set(assignment.rejections[1::2]) == {"shows a person of split train"}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["000001.jpg 0", "000002.jpg 7"], r"partition\.txt, line 2: expected a file name and 0, 1 or 2, found "),
        ([], r"partition\.txt: is empty"),
        (["000001.jpg"], r"partition\.txt, line 1"),
    ],
)
def test_a_list_of_another_format_is_an_error_that_names_the_line(
    lines: list[str], complaint: str, tmp_path: Path
) -> None:
    partition = written(tmp_path / "partition.txt", *lines)
    with pytest.raises(ListError, match=complaint):
        split(FACES, {"by": "celeba", "partition": partition})


def test_a_list_that_is_missing_or_contradicts_itself_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"none\.txt: cannot be read \(No such file"):
        split(FACES, {"by": "list", "train": str(tmp_path / "none.txt")})
    both = {name: written(tmp_path / f"{name}.txt", "00001") for name in ("train", "test")}
    with pytest.raises(ListError, match="00001 is in the list of train too"):
        split(FACES, {"by": "list", **both})
