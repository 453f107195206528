"""Parquet as others write it: every picture has a row with a usable name, and files that lie cost little."""

import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import face

from pipeline.core.images import encode_png
from pipeline.sources import parquet
from pipeline.sources.base import Reading, SourceError
from pipeline.sources.bounds import FREE_ENTRIES
from pipeline.sources.open import open_archive
from pipeline.sources.parquet import ParquetFiles

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PNG = [encode_png(face(index, 8)) for index in range(3)]


def write(path: Path, **options: Any) -> str:
    columns = {name: value for name, value in options.items() if not name.startswith("_")}
    pq.write_table(pa.table(columns), path, **{name[1:]: value for name, value in options.items() if name[0] == "_"})
    return str(path)


def contents(path: str, scratch: Path, column: str | None = None) -> list[tuple[str, bytes | str]]:
    source = open_archive(path, scratch, reading=Reading(column=column))
    found: list[tuple[str, bytes | str]] = []
    for entry in source.entries():
        try:
            found.append((entry.name, entry.problem or source.read(entry.key)))
        except SourceError as error:
            found.append((entry.name, str(error)))
    return found


def rows(*paths: str | None) -> pa.Array:
    return pa.array([{"bytes": PNG[n % 3], "path": path} for n, path in enumerate(paths)], IMAGE)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/home/me/set/a/1.png", "/home/me/set/b/1.png"], ["a/1.png", "b/1.png"]),
        (["/home/me/set/1.png"], ["1.png"]),
        (["C:\\set\\a\\1.png", "C:\\set\\b\\1.png"], ["a/1.png", "b/1.png"]),
        (["s3://key:secret@bucket/set/1.png", "s3://key:secret@bucket/set/2.png"], ["1.png", "2.png"]),
        (["../set/1.png", "../../2.png"], ["set/1.png", "2.png"]),
        ([".facesr/1.png", "a/.hidden.png"], ["facesr/1.png", "a/hidden.png"]),
        ([None, "", ".", "/", "..", "n" * 10**6], [f"x-{row:06d}" for row in range(6)]),
        (["./a//1.png", "new\nline\0.png"], ["a/1.png", "new\ufffdline\ufffd.png"]),
    ],
)
def test_a_path_in_parquet_is_only_a_name(paths: list[str | None], names: list[str], tmp_path: Path) -> None:
    found = contents(write(tmp_path / "x.parquet", image=rows(*paths)), tmp_path)
    assert [name for name, _ in found] == names
    assert [data for _, data in found] == [PNG[n % 3] for n in range(len(paths))]


def test_what_shards_written_on_another_machine_have_in_common_is_left_out_of_all_names(tmp_path: Path) -> None:
    for shard in "ab":
        write(tmp_path / f"{shard}.parquet", image=rows(f"/data/{shard}/1.png"))
    assert [name for name, _ in contents(str(tmp_path), tmp_path)] == ["a/1.png", "b/1.png"]


def test_shards_of_one_name_are_told_apart(tmp_path: Path) -> None:
    names = [os.fsdecode(b"x\xff.parquet"), os.fsdecode(b"x\xfe.parquet")]
    for number, name in enumerate(names):
        os.close(os.open(os.fsencode(tmp_path / name), os.O_CREAT))
        write(tmp_path / "t.parquet", image=pa.array([PNG[number]]))
        (tmp_path / "t.parquet").rename(tmp_path / name)
    found = contents(str(tmp_path), tmp_path)
    assert len({name for name, _ in found}) == 2
    assert {data for _, data in found} == set(PNG[:2])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.string_view()])
@pytest.mark.parametrize("stored", [True, False])
def test_every_type_of_bytes_and_text_is_read(
    kind: pa.DataType, text: pa.DataType, stored: bool, tmp_path: Path
) -> None:
    names = pa.array(["a.png", "b.png", "c.png"], text)
    path = write(tmp_path / "x.parquet", name=names, data=pa.array(PNG, kind), _store_schema=stored)
    assert contents(path, tmp_path) == list(zip(["a.png", "b.png", "c.png"], PNG, strict=True))
    struct = pa.StructArray.from_arrays([pa.array(PNG, kind), names], ["bytes", "path"])
    path = write(tmp_path / "x.parquet", image=struct, _store_schema=stored)
    assert contents(path, tmp_path) == list(zip(["a.png", "b.png", "c.png"], PNG, strict=True))


@pytest.mark.parametrize("inner", ["struct", "binary"])
def test_of_a_list_each_picture_is_a_row(inner: str, tmp_path: Path) -> None:
    one = (lambda data: {"bytes": data, "path": None}) if inner == "struct" else (lambda data: data)
    kind = pa.list_(IMAGE if inner == "struct" else pa.binary())
    lists = pa.array([[one(PNG[0])], [one(PNG[1]), one(PNG[2])], [], None, [one(None)]], kind)
    found = contents(write(tmp_path / "x.parquet", images=lists, id=["a", "b", "c", "d", "e"]), tmp_path)
    assert found[:3] == [("a", PNG[0]), ("b#1", PNG[1]), ("b#2", PNG[2])]
    assert found[3:] == [(name, "no bytes in its row") for name in "cde"]


def test_the_picture_column_is_the_one_that_holds_pictures_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    other = [b"\x00\x01embedding"] * 3
    path = write(tmp_path / "x.parquet", image=other, aaa=[None, b"hash", b"hash"], face=PNG, name=["1", "2", "3"])
    assert contents(path, tmp_path) == list(zip("123", PNG, strict=True))
    assert contents(path, tmp_path, "image") == [(name, other[0]) for name in "123"]
    with pytest.raises(SourceError, match=r"x\.parquet: no column 'nose'; there are: image, aaa, face, name"):
        contents(path, tmp_path, "nose")
    with pytest.raises(SourceError, match=r"x\.parquet: column 'name' holds string, not the bytes of pictures"):
        contents(path, tmp_path, "name")


def test_bytes_that_are_text_are_an_error_that_says_so(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.string()), ("path", pa.string())])
    path = write(tmp_path / "x.parquet", image=pa.array([{"bytes": "iVBORw0K", "path": "a.png"}], kind))
    with pytest.raises(SourceError, match=r"x\.parquet: no picture column .*`bytes` of 'image' is text, not binary"):
        contents(path, tmp_path)


def test_names_that_are_no_utf_8_are_shown_as_text(tmp_path: Path) -> None:
    names = pa.array([b"caf\xe9.png", b"b.png", b"c.png"]).view(pa.string())
    path = write(tmp_path / "x.parquet", name=names, jpg=PNG)
    assert [name for name, _ in contents(path, tmp_path)] == ["caf\ufffd.png", "b.png", "c.png"]


def test_a_row_group_is_never_held_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = [os.urandom(1 << 19) for _ in range(64)]
    image = pa.array([{"bytes": value, "path": f"{n}.png"} for n, value in enumerate(data)], IMAGE)
    small = {"_data_page_size": 1, "_write_batch_size": 1, "_use_dictionary": False}
    source = open_archive(write(tmp_path / "x.parquet", image=image, **small), tmp_path)
    keys = [entry.key for entry in source.entries()]
    monkeypatch.setattr(parquet, "MAX_KEPT", 2 << 20)
    before, most = pa.total_allocated_bytes(), 0
    for key in (*keys, keys[3], keys[60], keys[59]):
        assert source.read(key) == data[key[1]]
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 8 << 20


def test_rows_that_were_just_read_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_archive(write(tmp_path / "x.parquet", image=rows(*"abcdef")), tmp_path)
    read, times = parquet._Table._read, []
    monkeypatch.setattr(parquet._Table, "_read", lambda table, row: times.append(row) or read(table, row))
    for row in (1, 0, 3, 2, 3, 1, 0, 5, 4):
        source.read([0, row, 0])
    assert times == [1, 0, 3, 2, 5, 4]


def test_one_name_of_many_megabytes_for_all_rows_costs_no_more_than_one(tmp_path: Path) -> None:
    count = 2000
    long = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["n" * 20_000_000]))
    path = write(tmp_path / "x.parquet", name=long, jpg=[PNG[0]] * count)
    before = pa.default_memory_pool().max_memory()
    tracemalloc.start()
    found = [entry.name for entry in open_archive(path, tmp_path).entries()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [f"x-{row:06d}" for row in range(count)]
    assert peak < 100 << 20
    assert pa.default_memory_pool().max_memory() - before < 300 << 20


def test_rows_without_bytes_are_named_by_the_listing_and_no_more_than_a_file_can_hold(tmp_path: Path) -> None:
    count = FREE_ENTRIES + 5
    path = write(tmp_path / "x.parquet", image=pa.nulls(count, IMAGE))
    entries = list(open_archive(path, tmp_path).entries())
    assert len(entries) == FREE_ENTRIES + 1
    assert {entry.problem for entry in entries[:-1]} == {"no bytes in its row"}
    assert "lists more pictures than a file of its size can hold; the first 100,000 are read" in str(
        entries[-1].problem
    )


def test_pictures_of_the_same_row_are_found_by_threads_and_after_pickling(tmp_path: Path) -> None:
    import pickle

    source = open_archive(write(tmp_path / "x.parquet", image=rows("a.png", "b.png")), tmp_path)
    assert isinstance(source, ParquetFiles)
    assert pickle.loads(pickle.dumps(source)).read([0, 1, 0]) == PNG[1]


def test_a_column_beside_one_whose_name_begins_with_its_own_is_told_from_it(tmp_path: Path) -> None:
    large, small = encode_png(face(1, 32)), encode_png(face(2, 16))
    dotted = tmp_path / "dotted.parquet"
    pq.write_table(pa.table({"img.thumb": [small], "img": [large], "name": ["a.png"]}), dotted)
    assert contents(str(dotted), tmp_path, "img") == [("a.png", large)]
    assert contents(str(dotted), tmp_path, "img.thumb") == [("a.png", small)]
    row = {"thumb": {"bytes": small, "path": "thumb.png"}, "bytes": large, "path": "b.png"}
    lists = pa.array([[row]])
    for name, column in (("nested", pa.array([row])), ("lists", lists)):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"tags": [[{"k": "v"}]], "image": column}), path)
        assert [data for _, data in contents(str(path), tmp_path)] == [large]
    assert contents(str(tmp_path / "nested.parquet"), tmp_path)[0][0] == "b.png"


def test_of_several_files_one_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    write(folder / "a.parquet", image=PNG[:1], name=["a.png"])
    write(folder / "c.parquet", image=PNG[1:2], name=["c.png"])
    (folder / "b.parquet").write_bytes((folder / "a.parquet").read_bytes()[:100])
    for mark in ("_SUCCESS", "_committed_1"):
        (folder / mark).touch()
    source = open_archive(str(folder), tmp_path)
    assert isinstance(source, ParquetFiles)
    found = [(entry.name, entry.problem) for entry in source.entries()]
    assert found[:2] == [("a.png", None), ("c.png", None)]
    ((name, problem),) = found[2:]
    assert name == "b"
    assert "b.parquet: not a readable Parquet file" in str(problem)
    # what none of them has is a mistake of whoever asked
    with pytest.raises(SourceError, match="no column 'nothing'"):
        list(open_archive(str(folder), tmp_path, ["nothing"]).entries())
