"""A source lists the same names and gives the same bytes from any container, and says clearly what it cannot read."""

import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ARCHIVES, as_folder, as_parquet, as_tar, as_zip

from pipeline.images import decode
from pipeline.sources import SourceError, open_archive, open_source
from pipeline.synthetic import portrait

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


@pytest.mark.parametrize("kind", ARCHIVES)
def test_every_container_gives_the_same_names_and_bytes(kind: str, tmp_path: Path) -> None:
    assert contents(ARCHIVES[kind](tmp_path, FILES), tmp_path / "scratch") == FILES


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


def test_a_zip_that_broke_off_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = Path(as_zip(tmp_path / "broken.zip", FILES))
    path.write_bytes(path.read_bytes()[:-40])
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
    assert contents(str(path), tmp_path) == {"real.png": b"real"}


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


def test_several_files_that_are_not_parquet_are_refused_together(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        as_zip(tmp_path / name, FILES)
    with pytest.raises(SourceError, match="only where all are Parquet"):
        contents(str(tmp_path / "*.zip"), tmp_path)


def test_a_zip_is_known_by_its_content_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "download", "w") as archive:
        archive.writestr("x.png", b"x")
    assert contents(str(tmp_path / "download"), tmp_path) == {"x.png": b"x"}


def test_the_synthetic_source_draws_the_portraits_it_lists(tmp_path: Path) -> None:
    source = open_source({"kind": "synthetic", "count": 3, "seed": 5}, tmp_path)
    entries = list(source.entries())
    assert [entry.name for entry in entries] == [f"portrait-{index:06d}.png" for index in range(3)]
    assert (decode(source.read(entries[2].key)) == portrait(5, 2)).all()
