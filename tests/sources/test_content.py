"""A file that is not what its name says is named as what it is; a path that exists is never a pattern."""

import bz2
import gzip
import io
from pathlib import Path

import pytest
from support.archives import as_hdf5, as_parquet, as_tar, as_zip
from support.pictures import face

from pipeline.core.images import encode_png
from pipeline.sources.base import SourceError
from pipeline.sources.open import open_archive

PNG = encode_png(face(0, 16))
NAMES = ["x.zip", "x.tar", "x.tar.gz", "x.tar.zst", "x.parquet", "x.h5", "x.tfrecords"]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"
FOUND = {
    POINTER: "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
    b"\n<!DOCTYPE html>\n<html><body>404</body></html>": "an HTML page, not an archive: the download failed",
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>': "a store's error, not an archive: the download",
    b'{"error": "unauthorized"}': "JSON, not an archive: the download failed",
    PNG: "a picture, not an archive: name it as one",
    b"7z\xbc\xaf\x27\x1c" + bytes(600): "a 7z archive by its content, which cannot be read: unpack it",
}


def listed(path: Path, scratch: Path) -> list[str | None]:
    return [entry.problem for entry in open_archive(str(path), scratch).entries()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", FOUND, ids=lambda content: repr(content[:10]))
def test_what_is_called_an_archive_and_is_none_is_named_as_what_it_is(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as raised:
        listed(tmp_path / name, tmp_path / "scratch")
    assert str(raised.value).startswith(f"{tmp_path / name}: {FOUND[content]}")


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_of_another_kind_than_its_name_says_is_named_with_the_name_it_needs(
    name: str, tmp_path: Path
) -> None:
    files = {"a.png": PNG}
    tar = Path(as_tar(tmp_path / "t" / "t.tar", files)).read_bytes()
    made = {
        "zip": Path(as_zip(tmp_path / "t" / "t.zip", files)).read_bytes(),
        "tar": tar,
        "tar.gz": gzip.compress(tar),
        "tar.bz2": bz2.compress(tar),
        "parquet": Path(as_parquet(tmp_path / "t" / "t.parquet", files)).read_bytes(),
        "h5": Path(as_hdf5(tmp_path / "t" / "t.h5", files)).read_bytes(),
    }
    for kind, content in made.items():
        if not name.endswith(kind):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(SourceError, match=rf"a {kind} file by its content: rename it to end in \.{kind}$"):
                listed(tmp_path / name, tmp_path / "scratch")


def test_an_archive_of_the_right_kind_that_is_damaged_is_still_called_damaged(tmp_path: Path) -> None:

    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04" + bytes(10))
    with pytest.raises(SourceError, match=r"not a readable zip archive .*a download that broke off\?"):
        listed(tmp_path / "x.zip", tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_inside_an_archive_is_named_as_that(kind: str, tmp_path: Path) -> None:
    inner = io.BytesIO()
    inner.write(Path(as_zip(tmp_path / "inner.zip", {"a.png": PNG})).read_bytes())
    write = as_zip if kind == "zip" else as_tar
    path = write(tmp_path / f"x.{kind}", {"inner.zip": inner.getvalue(), "b.7z": b"7z", "a.png": PNG})
    assert listed(Path(path), tmp_path) == [
        f"an archive inside the {kind}: unpack it, and name it as the input itself",
        f"an archive inside the {kind}, of a kind that cannot be read: unpack it",
        None,
    ]


# paths that look like patterns


@pytest.mark.parametrize("folder", ["set [1]", "{a,b}", "a*b", "{01..03}", "[ab]/{x,y}"])
@pytest.mark.parametrize("pattern", ["*.png", "{1,2}.png", "{1..2}.png", "", "[12].png"])
def test_a_pattern_under_a_folder_that_looks_like_one_is_read(folder: str, pattern: str, tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_bytes(PNG)
    if pattern == "[12].png":
        pattern = "[12].p*"
    entries = open_archive(f"{tmp_path / folder}/{pattern}", tmp_path).entries()
    assert [entry.name.rpartition("/")[2].removesuffix(".png") for entry in entries] == ["1", "2"]


def test_an_address_with_an_odd_query_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^s3://bucket: an option behind the \? that is not known"):
        open_archive("s3://bucket/a.zip?endpoint_override=127.0.0.1:1&x=*", tmp_path)


def test_a_relative_pattern_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "[x]").mkdir()
    (tmp_path / "[x]" / "1.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    for pattern in ("[x]/*.png", "./[x]/{1,1}.png", "*/1.png", "[x]/1.png"):
        assert next(iter(open_archive(pattern, tmp_path).entries())).problem is None
