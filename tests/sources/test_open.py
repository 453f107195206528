"""A source lists the same names and gives the same bytes from any container, and says clearly what it cannot read."""

import gzip
import io
import json
import os
import pickle
import random
import shutil
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.archives import ARCHIVES, as_folder, as_parquet, as_tar, as_zip
from support.object_store import NO_SERVER, Store, s3_server

from pipeline.core.images import decode
from pipeline.core.schema import UPSCALED
from pipeline.core.shards import write_rows
from pipeline.sources.base import ARCHIVES as SUFFIXES
from pipeline.sources.base import SourceError
from pipeline.sources.folders import Synthetic
from pipeline.sources.names import SIDECARS
from pipeline.sources.open import open_archive
from pipeline.sources.tars import Tar
from pipeline.storage import object_stores
from pipeline.storage import path as storage
from pipeline.synthetic.portrait import portrait

# bytes are not decoded here, so any will do
FILES = {
    "a/001.png": b"first" * 500,
    "a/002.jpg": b"second" * 700,
    "b/c/003.png": b"third",
    "b/004.webp": b"fourth" * 900,
    "005.png": b"fifth" * 100,
}


def contents(path: str, scratch: Path) -> dict[str, bytes]:
    """What a source gives: name -> bytes, or the reason why there are none."""
    source = open_archive(path, scratch)
    found = {}
    for entry in list(source.entries()):
        try:
            found[entry.name] = entry.problem or source.read(entry.key)
        except SourceError as error:
            found[entry.name] = str(error)
    return found


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server() as running:
        yield running


@pytest.fixture(params=["local", "s3"])
def placed(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Where a container lies: on the disk where it was written, or copied to an object store."""
    if request.param == "local":
        return lambda path: path
    store = request.getfixturevalue("store")
    return lambda path: store.put(path, tmp_path.name)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_every_container_gives_the_same_names_and_bytes(
    kind: str, placed: Callable[[str], str], tmp_path: Path
) -> None:
    path = placed(ARCHIVES[kind](tmp_path, FILES))
    assert contents(path, tmp_path / "scratch") == FILES
    sizes = {entry.name: entry.size for entry in open_archive(path, tmp_path / "scratch").entries()}
    assert sizes == {name: 0 if "parquet" in kind else len(data) for name, data in FILES.items()}


def test_one_picture_is_a_source_of_its_own(placed: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    assert contents(placed(str(tmp_path / "x.png")), tmp_path) == {"x.png": b"x"}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_source_reads_in_another_process_on_a_machine_where_nothing_is_unpacked(kind: str, tmp_path: Path) -> None:
    source = open_archive(ARCHIVES[kind](tmp_path, FILES), tmp_path / "scratch")
    listed = json.loads(json.dumps([[entry.name, entry.key] for entry in source.entries()]))
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
    elsewhere = pickle.loads(pickle.dumps(source))
    assert {name: elsewhere.read(key) for name, key in listed} == FILES


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_source_is_read_by_several_threads_at_once(kind: str, placed: Callable[[str], str], tmp_path: Path) -> None:
    files = {f"{index}.png": random.Random(index).randbytes(20_000 + index) for index in range(30)}
    source = open_archive(placed(ARCHIVES[kind](tmp_path, files)), tmp_path / "scratch")
    entries = list(source.entries()) * 3
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
    random.Random(0).shuffle(entries)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda entry: source.read(entry.key), entries))
    assert [hash(data) for data in found] == [hash(files[entry.name]) for entry in entries]


@pytest.mark.parametrize("kind", ["zip", "tar", "parquet"])
def test_of_a_remote_archive_only_what_is_needed_is_fetched(
    kind: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{index}.png": random.Random(index).randbytes(1 << 20) for index in range(8)}
    path = store.put(ARCHIVES[kind](tmp_path, files), tmp_path.name)
    fetched = []
    native = object_stores.open_native

    class Counting(io.RawIOBase):
        def __init__(self, uri: str):
            self.file = native(uri)
            self.seek, self.tell, self.size = self.file.seek, self.file.tell, self.file.size

        def readable(self) -> bool:
            return True

        seekable = readable

        def readinto(self, buffer: Any) -> int:
            fetched.append(self.file.readinto(buffer))
            return fetched[-1]

        def read_at(self, size: int, offset: int) -> bytes:
            fetched.append(size)
            return self.file.read_at(size, offset)

        def read(self, size: int = -1) -> bytes:
            data = self.file.read(None if size < 0 else size)
            fetched.append(len(data))
            return data

    for module in (object_stores, storage):
        monkeypatch.setattr(module, "open_native", Counting)
    source = open_archive(path, tmp_path / "scratch")
    entries = list(source.entries())
    assert sum(fetched) < 2 << 20
    fetched.clear()
    assert source.read(entries[4].key) == files["4.png"]
    assert 1 << 20 <= sum(fetched) < (5 << 20 if "parquet" in kind else 2 << 20)  # row groups of 3


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_side_cars_and_hidden_files_are_passed_over(kind: str, tmp_path: Path) -> None:
    beside = dict.fromkeys(("labels.csv", "a/readme.TXT", ".DS_Store", "__MACOSX/a/001.png", ".git/x.png"), b"?")
    path = ARCHIVES[kind](tmp_path, {**beside, **FILES})
    assert contents(path, tmp_path / "scratch") == FILES


def test_listing_a_source_twice_gives_the_same_order(tmp_path: Path) -> None:
    for write in ARCHIVES.values():
        path = write(tmp_path, FILES)
        first, second = (list(open_archive(path, tmp_path / "scratch").entries()) for _ in range(2))
        assert first == second


def test_a_link_that_leads_out_of_the_folder_is_named_and_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"not part of the source")
    path = as_folder(tmp_path / "faces", FILES)
    (tmp_path / "faces" / "outside.png").symlink_to(secret)
    (tmp_path / "faces" / "inside.png").symlink_to(tmp_path / "faces" / "005.png")
    found = contents(path, tmp_path)
    assert "points outside" in found.pop("outside.png")
    assert found.pop("inside.png") == FILES["005.png"]
    assert found == FILES


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "faces", FILES)
    (tmp_path / "faces" / "gone.png").symlink_to(tmp_path / "faces" / "no-such-file.png")
    assert "leads nowhere" in contents(path, tmp_path)["gone.png"]


@pytest.mark.parametrize("name", ["../escape.png", "/absolute.png", "a/../../escape.png", "..\\windows.png"])
def test_an_archive_member_whose_path_points_outside_is_named(name: str, tmp_path: Path) -> None:
    files = {name: b"evil", **FILES}
    for path in (as_zip(tmp_path / "x.zip", files), as_tar(tmp_path / "x.tar", files)):
        found = contents(path, tmp_path)
        problems = [value for value in found.values() if isinstance(value, str)]
        assert len(problems) == 1
        assert "outside" in problems[0]
        assert {key: value for key, value in found.items() if isinstance(value, bytes)} == FILES


def test_an_encrypted_zip_member_is_named(tmp_path: Path) -> None:
    path = Path(as_zip(tmp_path / "x.zip", FILES))
    data = bytearray(path.read_bytes())
    # the flag in the central directory's record of the first member
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    found = contents(str(path), tmp_path)
    assert found.pop("a/001.png") == "encrypted"
    assert found == {name: data for name, data in FILES.items() if name != "a/001.png"}


def test_a_damaged_zip_member_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = Path(as_zip(tmp_path / "x.zip", FILES))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"secondsecond", b"sEcondsecond", 1))
    found = contents(str(path), tmp_path)
    assert "damaged" in found.pop("a/002.jpg")
    assert found == {name: data for name, data in FILES.items() if name != "a/002.jpg"}


def test_of_a_zip_that_lost_its_first_bytes_the_other_members_are_read(tmp_path: Path) -> None:
    path = Path(as_zip(tmp_path / "x.zip", FILES))
    path.write_bytes(path.read_bytes()[5:])
    found = contents(str(path), tmp_path)
    first = next(iter(FILES))
    assert "cannot be read" in str(found.pop(first))
    assert found == {name: data for name, data in FILES.items() if name != first}


@pytest.mark.parametrize("cut", ["in a member", "in a header", "between members", "in the directory", "at its end"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_of_a_zip_that_broke_off_complete_members_are_read_and_the_break_is_named(
    cut: str, method: int, placed: Callable[[str], str], tmp_path: Path
) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
        third, directory = archive.infolist()[2].header_offset, archive.start_dir
    data = path.read_bytes()
    ends = {"in a member": third - 2, "in a header": third + 10, "between members": third}
    path.write_bytes(data[: ends.get(cut, directory + 60 if "directory" in cut else len(data) - 5)])
    found = contents(placed(str(path)), tmp_path)
    assert "truncated archive (" in str(found.pop("x.zip"))
    kept = {"in a member": 1, "in a header": 2, "between members": 2}.get(cut, 5)
    assert found == dict(list(FILES.items())[:kept])


def test_of_a_broken_zip_what_is_damaged_unsafe_encrypted_or_streamed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(Path(as_zip(tmp_path / "y.zip", {"../out.png": b"evil", **FILES})).read_bytes()[:-30])
    data = bytearray(path.read_bytes().replace(b"firstfirst", b"fIrstfirst", 1))
    second = data.index(b"PK\x03\x04", data.index(b"a/001.png"))
    data[second + 6] |= 1  # the flag that says encrypted
    path.write_bytes(data)
    found = contents(str(path), tmp_path)
    assert "outside" in str(found.pop("../out.png"))
    assert "damaged in the archive" in str(found.pop("a/001.png"))
    assert found.pop("a/002.jpg") == "encrypted"
    assert "its directory is damaged" in str(found.pop("x.zip"))
    assert found == {name: FILES[name] for name in ("b/c/003.png", "b/004.webp", "005.png")}
    last = data.rindex(b"PK\x03\x04")
    data[last + 6] |= 8  # streamed: no sizes in its header
    data[last + 18 : last + 26] = bytes(8)
    path.write_bytes(data)
    assert "a streamed member" in str(contents(str(path), tmp_path)["x.zip"])


def test_of_a_broken_zip_of_64_bit_sizes_members_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, content in FILES.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    (tmp_path / "x.zip").write_bytes((tmp_path / "x.zip").read_bytes()[:-10])
    found = contents(str(tmp_path / "x.zip"), tmp_path)
    assert "truncated" in str(found.pop("x.zip"))
    assert found == FILES


def test_a_zip_without_one_complete_member_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = Path(as_zip(tmp_path / "broken.zip", FILES))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SourceError, match=r"broken\.zip: not a readable zip"):
        contents(str(path), tmp_path)


@pytest.mark.parametrize("cut", ["in a member", "in a header", "between members"])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_what_came_before_the_break_of_a_tar_is_kept_and_the_break_is_named(
    cut: str, suffix: str, tmp_path: Path
) -> None:
    whole = Path(as_tar(tmp_path / "whole.tar", FILES))
    with tarfile.open(whole) as archive:
        third = archive.getmembers()[2]
    ends = {"in a member": third.offset_data + 2, "in a header": third.offset + 100, "between members": third.offset}
    data = whole.read_bytes()[: ends[cut]]
    path = tmp_path / f"cut{suffix}"
    if suffix == ".tar":
        path.write_bytes(data)
    else:
        path.write_bytes(gzip.compress(data))
    found = contents(str(path), tmp_path / "scratch")
    assert "truncated" in found.pop(path.name)
    assert found == {name: FILES[name] for name in ("a/001.png", "a/002.jpg")}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_tars_that_were_put_one_behind_the_other_are_read_to_the_end(suffix: str, tmp_path: Path) -> None:
    names = sorted(FILES)
    first = as_tar(tmp_path / f"1{suffix}", {name: FILES[name] for name in names[:1]})
    second = as_tar(tmp_path / f"2{suffix}", {name: FILES[name] for name in names[1:]})
    path = tmp_path / f"both{suffix}"
    path.write_bytes(Path(first).read_bytes() + Path(second).read_bytes())
    assert contents(str(path), tmp_path / "scratch") == FILES
    source = open_archive(str(path), tmp_path / "scratch")
    assert isinstance(source, Tar)
    assert {entry.name: data for entry, data in source.stream()} == FILES


def test_what_follows_the_end_of_a_tar_and_is_none_is_said(tmp_path: Path) -> None:
    path = Path(as_tar(tmp_path / "x.tar", FILES))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"something else" * 100)
    found = contents(str(path), tmp_path)
    assert f"what follows the end mark, at byte {size}, is no tar" in found.pop("x.tar")
    assert found == FILES


def test_a_tar_header_that_is_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    path = Path(as_tar(tmp_path / "x.tar", FILES))
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2]
    data = bytearray(path.read_bytes())
    data[third.offset : third.offset + 256] = b"\xff" * 256
    path.write_bytes(data)
    found = contents(str(path), tmp_path)
    assert isinstance(found.pop("x.tar"), str)
    assert found == {name: FILES[name] for name in ("a/001.png", "a/002.jpg")}


@pytest.mark.parametrize("harm", ["cut", "scrambled"])
def test_what_a_compressed_tar_gives_before_its_stream_breaks_is_kept(harm: str, tmp_path: Path) -> None:
    source = random.Random(0)
    files = {f"{index}.png": source.randbytes(30_000).hex().encode() for index in range(5)}
    path = Path(as_tar(tmp_path / "x.tar.gz", files))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    if harm == "cut":
        data = data[:middle]
    else:
        data[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(data)
    for _ in range(2):  # the second time it lies unpacked already, and is still known to be broken
        found = contents(str(path), tmp_path / "scratch")
        assert "truncated" in found.pop("x.tar.gz")
        assert found["0.png"] == files["0.png"]
        assert len(found) < 5


def test_two_compressed_tars_of_one_name_are_not_taken_for_each_other(tmp_path: Path) -> None:
    first = as_tar(tmp_path / "a" / "faces.tar.gz", {"1.png": b"one"})
    second = as_tar(tmp_path / "b" / "faces.tar.gz", {"2.png": b"two"})
    assert contents(first, tmp_path / "scratch") == {"1.png": b"one"}
    assert contents(second, tmp_path / "scratch") == {"2.png": b"two"}


def test_links_in_a_tar_never_give_the_bytes_of_another_file(tmp_path: Path) -> None:
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("real.png")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"real"))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert contents(str(path), tmp_path) == {"real.png": b"real", "link.png": "a symbolic link, not followed"}


def test_parquet_with_a_plain_bytes_column_is_read_by_name_or_by_row(tmp_path: Path) -> None:
    data = list(FILES.values())
    pq.write_table(pa.table({"jpg": data, "name": list(FILES)}), tmp_path / "named.parquet")
    pq.write_table(pa.table({"picture": data}), tmp_path / "bare.parquet")
    assert contents(str(tmp_path / "named.parquet"), tmp_path) == FILES
    by_row = contents(str(tmp_path / "bare.parquet"), tmp_path)
    assert by_row == {f"bare-{row:06d}": value for row, value in enumerate(data)}


def test_parquet_shards_are_read_together_from_a_folder_or_by_an_asterisk(tmp_path: Path) -> None:
    halves = [dict(list(FILES.items())[:2]), dict(list(FILES.items())[2:])]
    for index, half in enumerate(halves):
        as_parquet(tmp_path / "shards" / f"train-{index}.parquet", half)
    as_parquet(tmp_path / "shards" / "other-0.parquet", {"other.png": b"other"})
    assert contents(str(tmp_path / "shards" / "train-*.parquet"), tmp_path) == FILES
    assert contents(str(tmp_path / "shards"), tmp_path) == {**FILES, "other.png": b"other"}


def test_a_parquet_row_without_bytes_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": b"one", "path": "1.png"}, {"bytes": None, "path": "2.png"}, None, {"bytes": b"", "path": "4.png"}]
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "x.parquet")
    found = contents(str(tmp_path / "x.parquet"), tmp_path)
    assert found.pop("1.png") == b"one"
    assert set(found) == {"2.png", "x-000002", "4.png"}
    assert set(found.values()) == {"no bytes in its row"}


def test_parquet_rows_can_be_read_in_any_order_across_row_groups(tmp_path: Path) -> None:
    source = open_archive(as_parquet(tmp_path / "x.parquet", FILES), tmp_path)
    entries = list(source.entries())
    assert {entry.name: source.read(entry.key) for entry in reversed(entries)} == FILES


@pytest.mark.parametrize("path", ["missing", "missing.zip", "missing.tar.gz", "missing-*.parquet", "no/such.tar"])
def test_a_missing_path_is_an_error_that_names_it(path: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file") as raised:
        contents(str(tmp_path / path), tmp_path)
    assert path in str(raised.value)


def test_a_parquet_file_without_pictures_or_that_is_none_is_an_error_that_names_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"age": [1, 2]}), tmp_path / "ages.parquet")
    with pytest.raises(SourceError, match=r"ages\.parquet: no picture column"):
        contents(str(tmp_path / "ages.parquet"), tmp_path)
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(SourceError, match=r"text\.parquet: not a readable Parquet file"):
        contents(str(tmp_path / "text.parquet"), tmp_path)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_several_archives_are_read_together_by_an_asterisk(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        as_zip(tmp_path / f"{name}.zip", FILES) if suffix == ".zip" else as_tar(tmp_path / f"{name}{suffix}", FILES)
    both = {f"{stem}/{name}": data for stem in ("a", "b") for name, data in FILES.items()}
    assert contents(str(tmp_path / f"*{suffix}"), tmp_path / "scratch") == both


def test_a_zip_is_known_by_its_content_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "download", "w") as archive:
        archive.writestr("x.png", b"x")
    assert contents(str(tmp_path / "download"), tmp_path) == {"x.png": b"x"}


def test_the_synthetic_source_draws_the_portraits_it_lists() -> None:
    source = Synthetic(3, 5)
    entries = list(source.entries())
    assert [entry.name for entry in entries] == [f"portrait-{index:06d}.png" for index in range(3)]
    assert (decode(source.read(entries[2].key)) == portrait(5, 2)).all()


# WebDataset


def shards(root: Path, count: int = 3) -> dict[str, bytes]:
    """Tars of samples as the webdataset library writes them; returns what they give as one source."""
    expected = {}
    for shard in range(count):
        pictures = {f"{shard}{index}.input.jpg": f"picture {shard} {index}".encode() for index in range(2)}
        beside = {f"{shard}0{suffix}": b"\x80never unpickled" for suffix in (".cls", ".json", ".pyd", ".pkl", ".pth")}
        as_tar(root / f"shard-{shard:06d}.tar", {**pictures, **beside})
        expected |= {f"shard-{shard:06d}/{name}": data for name, data in pictures.items()}
    return expected


@pytest.mark.parametrize(
    "named", ["", "/shard-*.tar", "/shard-{000000..000002}.tar", "/shard-{000000,000001,000002}.tar"]
)
def test_a_webdataset_is_one_source_by_its_folder_an_asterisk_or_a_brace_pattern(
    named: str, placed: Callable[[str], str], tmp_path: Path
) -> None:
    expected = shards(tmp_path / "set")
    (tmp_path / "set" / "README.md").write_text("labels")
    folder, mark, query = placed(str(tmp_path / "set")).partition("?")
    found = contents(f"{folder}{named}{mark}{query}", tmp_path / "scratch")
    assert found == expected
    assert list(found) == list(expected)


def test_one_tar_alone_keeps_the_names_of_its_members(tmp_path: Path) -> None:
    shards(tmp_path / "set", count=1)
    for path in ("set", "set/*.tar", "set/shard-{000000..000000}.tar", "set/shard-000000.tar"):
        assert list(contents(str(tmp_path / path), tmp_path)) == ["00.input.jpg", "01.input.jpg"]


def test_tars_of_one_name_in_several_folders_do_not_collide(tmp_path: Path) -> None:
    for folder, name in (("a", "0.tar"), ("b", "0.tar"), ("b", "1.tar"), ("b", "1.tar.gz")):
        as_tar(tmp_path / "set" / folder / name, {"x.png": f"{folder}{name}".encode()})
    expected = {
        "a/0/x.png": b"a0.tar",
        "b/0/x.png": b"b0.tar",
        "b/1.tar/x.png": b"b1.tar",
        "b/1.tar.gz/x.png": b"b1.tar.gz",
    }
    assert contents(str(tmp_path / "set"), tmp_path / "scratch") == expected


def test_shards_whose_names_differ_only_in_what_is_no_text_or_in_their_suffix_are_all_read_once(tmp_path: Path) -> None:
    for number, name in enumerate((b"x\xff.tar", b"x\xfe.tar", b"x.tar", b"x.tar.gz", b"x.tar.tar")):
        as_tar(tmp_path / "set" / os.fsdecode(name), {f"{number}.png": b"%d" % number})
    found = contents(str(tmp_path / "set"), tmp_path / "scratch")
    assert len(found) == 5
    assert sorted(found.values()) == [b"0", b"1", b"2", b"3", b"4"]
    as_zip(tmp_path / "two" / "a.zip", {"1.png": b"zip"})
    as_tar(tmp_path / "two" / "a.tar", {"1.png": b"tar"})
    found = contents(str(tmp_path / "two" / "a.*"), tmp_path / "scratch")
    assert found == {"a.tar/1.png": b"tar", "a.zip/1.png": b"zip"}


def test_a_damaged_shard_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    for name in ("0.zip", "1.zip", "2.zip"):
        as_zip(tmp_path / name, {"x.png": name.encode()})
    (tmp_path / "1.zip").write_bytes(b"no zip")
    found = contents(str(tmp_path / "{0..2}.zip"), tmp_path)
    assert "1.zip: not a readable zip" in str(found.pop("1"))
    assert found == {"0/x.png": b"0.zip", "2/x.png": b"2.zip"}


def test_a_missing_shard_of_a_brace_pattern_is_an_error_that_names_it(tmp_path: Path) -> None:
    shards(tmp_path)
    with pytest.raises(SourceError, match=r"shard-000003\.tar: no such file"):
        open_archive(str(tmp_path / "shard-{000000..000003}.tar"), tmp_path)


def test_a_brace_pattern_for_too_many_files_is_refused(tmp_path: Path) -> None:
    for pattern in ("{0..99999999999}.tar", "{0..9999}{0..9999}.tar"):
        with pytest.raises(SourceError, match="more than 1,000,000 files"):
            open_archive(str(tmp_path / pattern), tmp_path)


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    (tmp_path / "{0..2}*.png").write_bytes(b"x")
    assert contents(str(tmp_path / "{0..2}*.png"), tmp_path) == {"{0..2}*.png": b"x"}


def test_pictures_are_read_by_an_asterisk_without_what_lies_beside_them(
    placed: Callable[[str], str], tmp_path: Path
) -> None:
    files = {"1.png": b"one", "2.jpg": b"two", "labels.csv": b"?", ".hidden.png": b"?"}
    folder, mark, query = placed(as_folder(tmp_path / "set", files)).partition("?")
    assert contents(f"{folder}/*{mark}{query}", tmp_path) == {"1.png": b"one", "2.jpg": b"two"}


# folders


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_among_pictures_is_named_and_the_pictures_are_read(
    suffix: str, placed: Callable[[str], str], tmp_path: Path
) -> None:
    path = placed(as_folder(tmp_path / "set", {**FILES, f"more{suffix.upper()}": b"?"}))
    found = contents(path, tmp_path)
    assert found.pop(f"more{suffix.upper()}") == "an archive inside the folder: name it as the input itself"
    assert found == FILES


def test_an_archive_of_a_kind_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    as_folder(tmp_path / "set", {"a.png": b"a", "b.7z": b"?"})
    assert "cannot be read: unpack it" in str(contents(str(tmp_path / "set"), tmp_path)["b.7z"])
    with pytest.raises(SourceError, match=r"b\.7z: archives of this kind cannot be read"):
        open_archive(str(tmp_path / "set" / "b.7z"), tmp_path)


def test_our_own_reports_in_a_folder_are_passed_over_and_in_an_archive_are_named(tmp_path: Path) -> None:
    names = ("manifest.parquet", "manifest.csv", "out.zip.manifest.parquet", "a/x.manifest.csv")
    files = {**FILES, **dict.fromkeys(names, b"?")}
    assert contents(ARCHIVES["folder"](tmp_path, files), tmp_path) == FILES
    for kind in ("zip", "tar"):
        found = contents(ARCHIVES[kind](tmp_path, files), tmp_path)
        assert f"an archive inside the {kind}" in str(found.pop("manifest.parquet"))
        assert f"an archive inside the {kind}" in str(found.pop("out.zip.manifest.parquet"))
        assert found == FILES


def test_parquet_shards_that_were_written_by_upscale_are_a_source(placed: Callable[[str], str], tmp_path: Path) -> None:
    for shard in range(2):
        image = {"bytes": f"data {shard}".encode(), "path": f"{shard}.png"}
        rest = {"split": "", "scale": "", "method": "", "status": "ok", "error": "", "model": ""}
        row = {"id": str(shard), "image": image, "name": f"a/{shard}.jpg", "width": 8, "height": 8, **rest}
        write_rows(tmp_path / "out" / f"upscaled-{shard:05d}.parquet", [row], UPSCALED)
    pq.write_table(pa.table({"id": ["0"], "status": ["ok"]}), tmp_path / "out" / "manifest.parquet")
    path = placed(str(tmp_path / "out"))
    assert contents(path, tmp_path) == {"a/0.jpg": b"data 0", "a/1.jpg": b"data 1"}


def test_a_linked_folder_is_named_and_not_followed(tmp_path: Path) -> None:
    as_folder(tmp_path / "elsewhere", FILES)
    path = as_folder(tmp_path / "set", {"1.png": b"one"})
    (tmp_path / "set" / "link").symlink_to(tmp_path / "elsewhere")
    assert contents(path, tmp_path) == {"1.png": b"one", "link": "a linked folder, not followed"}


def test_a_folder_that_is_itself_a_link_is_read(tmp_path: Path) -> None:
    as_folder(tmp_path / "elsewhere", FILES)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert contents(str(tmp_path / "link"), tmp_path) == FILES


def test_a_file_too_large_to_be_a_picture_is_named_and_never_read(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "set", {"1.png": b"one"})
    with (tmp_path / "set" / "huge.bin").open("wb") as handle:
        handle.truncate(2 << 30)
    found = contents(path, tmp_path)
    assert "too large (2,147,483,648 bytes" in str(found.pop("huge.bin"))
    assert found == {"1.png": b"one"}
    assert "too large" in str(contents(str(tmp_path / "set" / "huge.bin"), tmp_path)["huge.bin"])


# names

ODD = {os.fsdecode(b"caf\xe9.png"): b"first", os.fsdecode(b"caf\xe8.png"): b"second", "new\nline\x1b.png": b"third"}


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_names_that_are_no_text_are_shown_as_text_and_still_find_their_files(kind: str, tmp_path: Path) -> None:
    source = open_archive(ARCHIVES[kind](tmp_path, ODD), tmp_path)
    entries = list(source.entries())
    names = sorted(entry.name for entry in entries)
    assert names == ["caf\ufffd.png", "caf\ufffd.png", "new\ufffdline\ufffd.png"]
    assert "".join(names).encode().decode().isprintable()
    keys = [json.loads(json.dumps(entry.key)) for entry in entries]
    assert sorted(source.read(key) for key in keys) == sorted(ODD.values())


def test_a_picture_whose_name_is_no_text_is_read_alone(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "set", ODD)
    for name, data in ODD.items():
        [found] = contents(f"{path}/{name}", tmp_path).values()
        assert found == data


def test_a_zip_whose_names_are_no_text_is_read(tmp_path: Path) -> None:
    path = Path(as_zip(tmp_path / "x.zip", {"caf\xe9.png": b"first", "caf\xe8.png": b"second", "plain.png": b"third"}))
    # both say that their names are UTF-8
    path.write_bytes(path.read_bytes().replace("\xe9".encode(), b"\xe9\xe9").replace("\xe8".encode(), b"\xe8\xe8"))
    source = open_archive(str(path), tmp_path)
    entries = list(source.entries())
    assert [entry.name for entry in entries] == ["caf\ufffd\ufffd.png"] * 2 + ["plain.png"]
    assert [source.read(entry.key) for entry in entries] == [b"first", b"second", b"third"]


# archives that change, break or lie


def test_a_zip_that_has_grown_keeps_the_stamps_of_its_old_members_and_is_read_anew(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "x.zip", {"1.png": b"one", "2.png": b"two"})
    source = open_archive(path, tmp_path)
    before = {entry.name: entry.stamp for entry in source.entries()}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("3.png", b"three")
    entries = list(source.entries())
    assert [source.read(entry.key) for entry in entries] == [b"one", b"two", b"three"]
    assert {entry.name: entry.stamp for entry in entries[:2]} == before


def test_a_replaced_zip_is_read_anew_and_has_other_stamps(placed: Callable[[str], str], tmp_path: Path) -> None:
    path = placed(as_zip(tmp_path / "x.zip", {"1.png": b"one"}))
    source = open_archive(path, tmp_path)
    [before] = source.entries()
    assert source.read(before.key) == b"one"
    as_zip(tmp_path / "other" / "x.zip", {"1.png": b"other"})
    storage.StoragePath.of(path).write_bytes((tmp_path / "other" / "x.zip").read_bytes())
    assert source.read(before.key) == b"other"
    assert next(iter(source.entries())).stamp != before.stamp


def test_a_zip_member_that_states_a_huge_size_is_not_inflated(tmp_path: Path) -> None:
    path = Path(as_zip(tmp_path / "x.zip", FILES))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 3 << 30)
    path.write_bytes(data)
    source = open_archive(str(path), tmp_path)
    first = next(iter(source.entries()))
    assert first.problem.startswith("too large (3,221,225,472 bytes, at most 1,073,741,824")
    with pytest.raises(SourceError, match="too large"):
        source.read(first.key)


def test_a_zip_member_that_states_too_small_a_size_is_not_inflated_beyond_it(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(64 << 20))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 30_000)
    path.write_bytes(data)
    source = open_archive(str(path), tmp_path)
    [entry] = source.entries()
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="damaged in the archive"):
            source.read(entry.key)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
def test_a_compressed_tar_that_broke_off_gives_what_came_before(suffix: str, tmp_path: Path) -> None:
    files = {f"{index}.png": random.Random(index).randbytes(150_000) for index in range(12)}
    path = Path(ARCHIVES[f"tar.{suffix}"](tmp_path, files))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    for _ in range(2):
        found = contents(str(path), tmp_path / "scratch")
        assert "truncated" in str(found.pop(path.name))
        whole = {name: data for name, data in found.items() if isinstance(data, bytes)}
        assert whole == {name: files[name] for name in whole}
        assert 2 <= len(whole) < 12


def test_a_compressed_tar_whose_store_fails_meanwhile_is_not_taken_for_a_broken_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.put(as_tar(tmp_path / "x.tar.gz", FILES), tmp_path.name)

    def fail(self: object, buffer: object) -> int:
        raise storage.StorageError("the store cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(object_stores.RemoteFile, "readinto", fail)
        with pytest.raises(SourceError, match="cannot be reached"):
            contents(path, tmp_path / "scratch")
    assert contents(path, tmp_path / "scratch") == FILES


def test_a_tar_that_was_cut_after_it_was_listed_gives_no_half_a_picture(tmp_path: Path) -> None:
    path = Path(as_tar(tmp_path / "x.tar", FILES))
    source = open_archive(str(path), tmp_path)
    first = next(iter(source.entries()))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(SourceError, match="cut off"):
        source.read(first.key)


def test_a_parquet_file_whose_pages_are_damaged_is_named(tmp_path: Path) -> None:
    path = Path(as_parquet(tmp_path / "x.parquet", FILES))
    source = open_archive(str(path), tmp_path)
    entry = next(iter(source.entries()))
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - struct.unpack_from("<I", data, len(data) - 8)[0]
    data[4:footer] = b"\xff" * (footer - 4)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"cannot be read from .*x\.parquet"):
        source.read(entry.key)
    with pytest.raises(SourceError, match=r"x\.parquet: not a readable Parquet"):
        list(source.entries())


def test_a_store_that_cannot_be_reached_is_an_error_that_says_so(store: Store, tmp_path: Path) -> None:
    for key in ("x", "x.zip", "x.tar", "x-*.parquet", "x-{0..3}.tar"):
        with pytest.raises(SourceError, match="cannot be reached") as raised:
            contents(f"s3://KEY:SECRET@bucket/{key}?endpoint_override={NO_SERVER}&scheme=http", tmp_path)
        assert "SECRET" not in str(raised.value)


def test_a_missing_remote_path_is_an_error_that_names_it(store: Store, tmp_path: Path) -> None:
    for key in ("missing", "missing.zip", "missing-*.tar", "missing-{0..3}.tar"):
        with pytest.raises(SourceError, match="no such file") as raised:
            contents(store.uri(key), tmp_path)
        assert "missing" in str(raised.value)


def test_what_webdataset_writes_beside_pictures_is_no_picture() -> None:
    assert {".cls", ".pyd", ".pkl", ".pth", ".npz", ".mp", ".ten", ".json", ".txt"} <= SIDECARS
    assert not {".png", ".jpg", ".jpeg", ".webp"} & SIDECARS
