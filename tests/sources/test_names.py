"""Names that containers give: every entry is a row with a usable name, or passed over, whatever its name is."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from support.archives import as_folder, as_tar, as_zip, tar_of, zip_of

from pipeline.bulk.plan import items_of
from pipeline.bulk.settings import Settings
from pipeline.sources.base import Reading, SourceError
from pipeline.sources.bounds import MAX_NAME
from pipeline.sources.names import only_name
from pipeline.sources.open import open_archive
from pipeline.storage.path import StoragePath

GOOD = {"good.png": b"good"}


def contents(path: str, scratch: Path, reading: Reading | None = None) -> dict[str, bytes | str]:
    """What a source gives: name -> bytes, or the reason why there are none."""
    source = open_archive(path, scratch, reading=reading or Reading())
    return {entry.name: entry.problem or source.read(entry.key) for entry in source.entries()}


ODD = [".", "/", "./", "", "..", "a/..", "nul\0.png", "\n.png", "/abs.png", "../up.png", "C:\\x.png", "x/", "n" * 10**6]
ODD += [".facesr/x.png", "a/.facesr/x.png", "./good.png", "a//b.png", "[red]x.png", "\u202e.png", "a/" * 3000 + "x.png"]


@pytest.mark.parametrize("kind", [zip_of, tar_of])
@pytest.mark.parametrize("name", ODD, ids=lambda name: name[:12].encode().hex() or "empty")
def test_an_odd_name_in_an_archive_is_a_row_or_passed_over_and_the_others_are_read(
    kind: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    path = kind(
        tmp_path / "x.bin", [(name.encode()[: 1 << 15 if kind is zip_of else None], b"odd"), (b"good.png", b"good")]
    )
    path = path.rename(path.with_suffix(".zip" if kind is zip_of else ".tar"))
    entries = list(open_archive(str(path), tmp_path).entries())
    assert len(entries) <= 2
    assert [entry.name for entry in entries][-1] == "good.png"
    items = items_of(entries, Settings())
    for entry, item in zip(entries, items, strict=True):
        assert len(entry.name.encode()) <= MAX_NAME
        assert entry.name.isprintable() or "\u202e" in entry.name
        if entry.problem is None:
            StoragePath.of(tmp_path) / item.target  # inside OUTPUT
            assert not any(part.startswith(".") for part in PurePosixPath(entry.name).parts)


@pytest.mark.parametrize("kind", [as_zip, as_tar])
def test_a_name_of_a_megabyte_is_shortened_and_named_as_too_long(kind: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / ("x.zip" if kind is as_zip else "x.tar")
    long = "n" * (60_000 if kind is as_zip else 1_000_000)
    found = contents(kind(path, {long: b"long", **GOOD}), tmp_path)
    assert found.pop("good.png") == b"good"
    [(name, problem)] = found.items()
    assert len(name) < 120
    assert "its name is too long" in str(problem)


def test_dots_and_double_slashes_are_no_part_of_a_name(tmp_path: Path) -> None:
    for path in (as_zip(tmp_path / "x.zip", {"./a//b.png": b"b"}), as_tar(tmp_path / "x.tar", {"./a//b.png": b"b"})):
        assert contents(path, tmp_path) == {"a/b.png": b"b"}


def test_backslashes_in_a_zip_separate_folders(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", [(b"set\\", b""), (b"set\\a.png", b"a"), (b"set\\.hidden\\b.png", b"b")])
    assert contents(str(path), tmp_path) == {"set/a.png": b"a"}


def test_zip_names_that_are_not_marked_are_utf_8_where_all_are_that(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", [("a/Jürgen.png".encode(), b"1"), ("顔.png".encode(), b"2"), (b"a.png", b"3")])
    assert contents(str(path), tmp_path) == {"a/Jürgen.png": b"1", "顔.png": b"2", "a.png": b"3"}
    path = zip_of(tmp_path / "y.zip", [("é.png".encode("cp437"), b"1"), (b"a.png", b"2")])
    assert contents(str(path), tmp_path) == {"é.png": b"1", "a.png": b"2"}


@pytest.mark.parametrize(
    ("encoding", "name"), [("cp932", "表/ソ十.png"), ("gbk", "图片\\人像.png"), ("big5", "功能.png")]
)
def test_zip_names_are_decoded_as_asked_for_before_anything_looks_at_slashes(
    encoding: str, name: str, tmp_path: Path
) -> None:
    assert encoding == "gbk" or b"\\" in name.encode(encoding)
    path = zip_of(tmp_path / "x.zip", [(name.encode(encoding), b"1"), ("marked ü.png", b"2")])
    found = contents(str(path), tmp_path, Reading(zip_encoding=encoding))
    assert found == {name.replace("\\", "/"): b"1", "marked ü.png": b"2"}


def test_an_encoding_that_does_not_exist_is_an_error_that_names_it(tmp_path: Path) -> None:
    for name in ("klingon", "hex", "rot13"):
        with pytest.raises(SourceError, match=f"--zip-encoding {name}: no encoding of text"):
            contents(as_zip(tmp_path / "x.zip", GOOD), tmp_path, Reading(zip_encoding=name))


def test_the_unicode_name_that_info_zip_writes_beside_another_is_taken(tmp_path: Path) -> None:
    raw, name = "é.png".encode("latin-1"), "é.png"
    data = name.encode()
    field = struct.pack("<2HBI", 0x7075, 5 + len(data), 1, zlib.crc32(raw)) + data
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("_.png")
        info.extra = field
        archive.writestr(info, b"1")
    path.write_bytes(path.read_bytes().replace(b"_.png", raw))
    assert contents(str(path), tmp_path) == {name: b"1"}


def test_names_of_a_folder_go_through_the_same_door(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "set", {"..\\up.png": b"up", "a\nb.png": b"line", ".facesr/x.png": b"work", **GOOD})
    found = contents(path, tmp_path)
    assert "points outside" in str(found.pop("..\\up.png"))
    assert found == {"a\ufffdb.png": b"line", **GOOD}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/set/a.png", "data/set/a.png"),
        ("../../set/a.png", "set/a.png"),
        ("C:\\Users\\me\\a.png", "Users/me/a.png"),
        ("\\\\server\\share\\a.png", "server/share/a.png"),
        ("file:///data/a.png", "data/a.png"),
        (".facesr/x.png", "facesr/x.png"),
        ("./a//b.png", "a/b.png"),
        ("a/..", ""),
        ("/", ""),
        ("n" * 10**6, ""),
    ],
)
def test_a_path_in_a_table_is_only_a_name(path: str, name: str) -> None:
    assert only_name(path) == name


# members of a tar that are no plain files


def linked_tar(path: Path) -> Path:
    """A file, a hard link to it and one to that, a link to nothing, a symbolic link, a FIFO, a device and a folder."""
    with tarfile.open(path, "w") as archive:
        for name, kind, target in (
            ("./real.png", tarfile.REGTYPE, ""),
            ("hard.png", tarfile.LNKTYPE, "./real.png"),
            ("hard2.png", tarfile.LNKTYPE, "hard.png"),
            ("dangling.png", tarfile.LNKTYPE, "later.png"),
            ("soft.png", tarfile.SYMTYPE, "real.png"),
            ("fifo", tarfile.FIFOTYPE, ""),
            ("device", tarfile.CHRTYPE, ""),
            ("block", tarfile.BLKTYPE, ""),
            ("folder", tarfile.DIRTYPE, ""),
            ("later.png", tarfile.REGTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            data = name.encode() if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_a_hard_link_is_its_targets_picture_and_other_members_are_named_as_what_they_are(tmp_path: Path) -> None:
    assert contents(str(linked_tar(tmp_path / "x.tar")), tmp_path) == {
        "real.png": b"./real.png",
        "hard.png": b"./real.png",
        "hard2.png": b"./real.png",
        "dangling.png": "a hard link to nothing that comes before it",
        "soft.png": "a symbolic link, not followed",
        "fifo": "a FIFO, no file",
        "device": "a device, no file",
        "block": "a device, no file",
        "later.png": b"later.png",
    }
