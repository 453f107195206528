"""Faces that are added or forgotten: what is known stays as it is, and only what is new is done."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import pictures
from support.stages import faces_of, files_of

from pipeline.core.images import encode_png
from pipeline.core.shards import ShardError
from pipeline.ingest import run, worker
from pipeline.ingest.dedup import fingerprint
from pipeline.ingest.known import FORGOTTEN, ForgottenError
from pipeline.ingest.split import assign
from pipeline.pairs.run import make_pairs
from pipeline.params.ingest import ArchiveSource, Ingest, Persons, SplitCounts
from pipeline.params.pairs import Pairs


def draw(folder: Path, indices: range) -> None:
    folder.mkdir(exist_ok=True)
    for index in indices:
        (folder / f"{index:03d}.png").write_bytes(encode_png(pictures.face(index)))


def settings(folder: Path, **changes: Any) -> Ingest:
    splits = SplitCounts(train="rest", valid=2, test=4)
    source = ArchiveSource(kind="archive", path=str(folder), splits=splits)
    values: dict[str, Any] = {"sources": [source], "seed": 1, "workers": 1, "min_size": 64, "near_duplicates": None}
    return Ingest(**values | changes)


def ingest(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return run.ingest(settings(tmp_path / "in", **changes), tmp_path / "data", tmp_path / "work")


def splits(tmp_path: Path) -> dict[str, str]:
    return {row["id"]: row["split"] for row in faces_of(tmp_path / "data/faces")}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every picture that is decoded."""
    seen: list[int] = []
    accept = worker.accept

    def counted(data: bytes, *arguments: Any) -> Any:
        seen.append(len(data))
        return accept(data, *arguments)

    monkeypatch.setattr(worker, "accept", counted)
    return seen


def test_added_faces_leave_every_old_split_shard_input_and_pair_as_it_was(tmp_path: Path, decoded: list[int]) -> None:
    draw(tmp_path / "in", range(0, 40, 2))
    ingest(tmp_path)
    pairs = Pairs(seed=1, draws=1, workers=1)
    make_pairs(tmp_path / "data/faces", tmp_path / "data", tmp_path / "reports", pairs, tmp_path / "work")
    before, files = splits(tmp_path), files_of(tmp_path / "data", "**/*.parquet")
    manifest = pq.read_table(tmp_path / "data/pairs.parquet").to_pylist()
    assert len(decoded) == 20
    decoded.clear()
    draw(tmp_path / "in", range(1, 40, 2))  # names between those that are there
    counts = ingest(tmp_path)
    make_pairs(tmp_path / "data/faces", tmp_path / "data", tmp_path / "reports", pairs, tmp_path / "work")
    after = splits(tmp_path)
    assert len(decoded) == 20, "only what is new is decoded"
    assert counts["splits"] == {"train": 34, "valid": 2, "test": 4}
    assert {face: after[face] for face in before} == before
    now = files_of(tmp_path / "data", "**/*.parquet")
    for name in ("faces/test-00000.parquet", "faces/valid-00000.parquet", "inputs/test/test-00000.parquet"):
        assert now[name] == files[name]
    rows = pq.read_table(tmp_path / "data/pairs.parquet").to_pylist()
    assert [row for row in rows if row["image_id"] in before] == manifest


def test_new_faces_go_into_new_shards_where_the_last_is_full(tmp_path: Path) -> None:
    draw(tmp_path / "in", range(6))
    for path in list((tmp_path / "in").glob("*.png")):  # a shard of 1 MB is full with one of these
        path.write_bytes(encode_png(pictures.face(int(path.stem), 640), 0))
    big = settings(tmp_path / "in", shard_mb=1, sources=[_all_train(tmp_path / "in")])
    run.ingest(big, tmp_path / "data", tmp_path / "work")
    before = files_of(tmp_path / "data/faces")
    assert len(before) == 6
    draw(tmp_path / "in", range(6, 9))
    run.ingest(big, tmp_path / "data", tmp_path / "work")
    after = files_of(tmp_path / "data/faces")
    changed = [name for name in before if after[name] != before[name]]
    assert changed in ([], ["train-00005.parquet"]), "at most the last one is filled up"
    assert len(faces_of(tmp_path / "data/faces")) == 9


def _all_train(folder: Path) -> ArchiveSource:
    return ArchiveSource(kind="archive", path=str(folder), splits=SplitCounts(train="rest"))


def test_what_was_added_is_the_same_as_if_all_had_been_decoded(tmp_path: Path) -> None:
    draw(tmp_path / "in", range(10))
    ingest(tmp_path)
    draw(tmp_path / "in", range(10, 20))
    ingest(tmp_path)
    first = {row["id"]: row | {"split": None} for row in faces_of(tmp_path / "data/faces")}
    shutil.rmtree(tmp_path / "data")
    ingest(tmp_path)
    again = {row["id"]: row | {"split": None} for row in faces_of(tmp_path / "data/faces")}
    assert first == again


def test_a_second_ingest_of_the_same_changes_no_byte(tmp_path: Path, decoded: list[int]) -> None:
    draw(tmp_path / "in", range(12))
    ingest(tmp_path)
    before = files_of(tmp_path / "data")
    decoded.clear()
    ingest(tmp_path)
    assert files_of(tmp_path / "data") == before
    assert decoded == []


def test_another_seed_or_size_is_done_anew(tmp_path: Path, decoded: list[int]) -> None:
    draw(tmp_path / "in", range(12))
    ingest(tmp_path)
    before = splits(tmp_path)
    ingest(tmp_path, seed=2)
    assert splits(tmp_path) != before
    assert len(decoded) == 12
    ingest(tmp_path, seed=2, size=128)
    assert len(decoded) == 24


def test_a_changed_picture_is_decoded_again(tmp_path: Path, decoded: list[int]) -> None:
    draw(tmp_path / "in", range(10))
    ingest(tmp_path)
    decoded.clear()
    (tmp_path / "in/003.png").write_bytes(encode_png(pictures.face(99)))
    ingest(tmp_path)
    assert len(decoded) == 1


def test_a_forgotten_picture_does_not_come_back_and_the_others_stay(tmp_path: Path) -> None:
    draw(tmp_path / "in", range(20))
    ingest(tmp_path)
    before = splits(tmp_path)
    gone = next(face for face, split in before.items() if split == "test")
    (tmp_path / "data" / FORGOTTEN).write_text(f"# why\n{gone.partition('-')[0]}\n")
    counts = ingest(tmp_path)
    after = splits(tmp_path)
    assert counts["forgotten"] == 1
    assert after == {face: split for face, split in before.items() if face != gone}
    for data in files_of(tmp_path / "data", "*.parquet").values():
        assert gone.partition("-")[0].encode() not in data


def test_a_damaged_list_of_forgotten_pictures_stops_the_ingest(tmp_path: Path) -> None:
    draw(tmp_path / "in", range(3))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FORGOTTEN).write_text("not a hash\n")
    with pytest.raises(ForgottenError, match="line 1: expected the 32 hex digits"):
        ingest(tmp_path)


def test_a_new_face_alike_to_old_ones_joins_them_or_is_left_out_and_moves_none() -> None:
    splits = SplitCounts(train="rest", test=1)
    persons = Persons(column="who")
    source = ArchiveSource(kind="archive", path="in", splits=splits, persons=persons)
    known = {"a-0": "test", "b-0": "train", "c-0": "train"}
    who = {"a-0": "A", "b-0": "B", "c-0": "C", "d-0": "A", "e-0": "B", "f-0": "F"}
    faces = [
        {"id": face, "hash": face[0], "source": 0, "name": face, "labels": {"who": person}, "fingerprint": b""}
        for face, person in who.items()
    ]
    found = assign(faces, [source], seed=1, near=None, known=known)
    # d shows the one of the test split, which is full; e one of train, which takes the rest
    assert dict(zip(who, found.splits, strict=True)) == known | {"d-0": None, "e-0": "train", "f-0": "train"}
    copies = [*faces[:2], faces[0] | {"id": "x-0", "hash": "a", "labels": {"who": "B"}}]  # links a and b
    found = assign(copies, [source], seed=1, near=None, known=known)
    assert found.splits == ["test", "train", None]


def test_faces_that_turn_out_to_be_linked_do_not_stay_in_two_splits() -> None:
    who = {"a-0": "A", "b-0": "A", "c-0": "C", "d-0": "D", "e-0": "D", "f-0": "F"}
    known = {"a-0": "train", "b-0": "test", "c-0": "train", "d-0": "valid", "e-0": "train", "f-0": "test"}
    prints = [fingerprint(pictures.face(index, 64)) for index in range(6)]
    prints[5] = prints[2]  # f repeats c
    faces = [
        {"id": name, "hash": name[0], "source": 0, "name": name, "labels": {"who": person}, "fingerprint": print_}
        for (name, person), print_ in zip(who.items(), prints, strict=True)
    ]
    splits = SplitCounts(train="rest", test=2, valid=1)
    source = ArchiveSource(kind="archive", path="in", splits=splits, persons=Persons(column="who"))
    found = assign(faces, [source], seed=1, near=16, known=known)
    assert dict(zip(who, found.splits, strict=True)) == {
        "a-0": None,
        "b-0": "test",
        "c-0": None,
        "d-0": "valid",
        "e-0": None,
        "f-0": "test",
    }
    assert found.rejections == [
        "shows a person of split test",
        None,
        "nearly identical to a picture of split test",
        None,
        "shows a person of split valid",
        None,
    ]


def test_where_a_split_asks_for_less_or_more_the_others_stay() -> None:
    faces = [
        {"id": f"{number}-0", "hash": f"{number}", "source": 0, "name": "", "labels": {}, "fingerprint": b""}
        for number in range(30)
    ]

    def drawn(known: dict[str, str] | None, **counts: int) -> dict[str, str]:
        source = ArchiveSource(kind="archive", path="in", splits=SplitCounts(**counts))
        splits = assign(faces, [source], seed=1, near=None, known=known).splits
        return {face["id"]: split for face, split in zip(faces, splits, strict=True) if split}

    first = drawn(None, train=10, test=10)
    more = drawn(first, train=20, test=10)
    assert more.items() > first.items()
    less = drawn(first, train=5, test=10)
    assert {face for face, split in less.items() if split == "test"} == {
        face for face, split in first.items() if split == "test"
    }


def test_damaged_shards_are_made_again_and_a_damaged_memory_is_one_line(tmp_path: Path) -> None:
    draw(tmp_path / "in", range(8))
    ingest(tmp_path)
    before = files_of(tmp_path / "data/faces")
    (tmp_path / "data/faces/train-00000.parquet").write_bytes(b"damaged")
    ingest(tmp_path)
    assert files_of(tmp_path / "data/faces") == before
    (tmp_path / "data/known.parquet").write_bytes(b"damaged")
    with pytest.raises(ShardError, match="restore it, or remove it to draw splits anew"):
        ingest(tmp_path)


def blacken(shard: Path) -> None:
    """Replace the first picture as somebody would by hand: names, ids and schema stay."""
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[0]["image"]["bytes"] = encode_png(np.zeros((rows[0]["height"], rows[0]["width"], 3), np.uint8))
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard)


def test_a_shard_that_was_edited_or_damaged_is_not_taken_for_what_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in", range(8))
    ingest(tmp_path)
    data = tmp_path / "data"
    drawn = Pairs(seed=1, draws=1, workers=1)
    make_pairs(data / "faces", data, tmp_path / "reports", drawn, tmp_path / "work")
    before = files_of(data)
    blacken(data / "faces/train-00000.parquet")
    ingest(tmp_path)
    assert "train-00000.parquet: not as written by this version" in capsys.readouterr().err
    blacken(data / "inputs/train/train-00000.parquet")
    damaged = bytearray((data / "inputs/test/test-00000.parquet").read_bytes())
    damaged[len(damaged) // 3] ^= 255
    (data / "inputs/test/test-00000.parquet").write_bytes(damaged)
    make_pairs(data / "faces", data, tmp_path / "reports", drawn, tmp_path / "work")
    assert files_of(data) == before
