"""Kilobytes that claim gigabytes: they are listed and read within bounds that have a reason."""

import gzip
import io
import lzma
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from support.archives import as_tar
from support.pictures import face

from pipeline.core.images import decode
from pipeline.sources import bounds
from pipeline.sources.bounds import FREE_ENTRIES, UNPACKED_VARIABLE, most_entries, most_unpacked
from pipeline.sources.open import open_archive
from pipeline.sources.tars import Tar

MB = 1 << 20


def problems(path: Path, scratch: Path) -> dict[str, str | None]:
    return {entry.name: entry.problem for entry in open_archive(str(path), scratch).entries()}


def test_an_hdf5_file_lists_no_more_pictures_than_it_can_hold(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("data", (10**10, 3, 8, 8), np.uint8, chunks=(1, 3, 8, 8))
        data[1] = face(0, 8).transpose(2, 0, 1)
    assert (tmp_path / "x.h5").stat().st_size < 1 << 16
    source = open_archive(str(tmp_path / "x.h5"), tmp_path)
    entries = list(source.entries())
    assert len(entries) == FREE_ENTRIES + 1
    assert "lists more pictures than a file of its size can hold" in str(entries[-1].problem)
    assert (decode(source.read(1)) == face(0, 8)).all()


def test_a_picture_that_was_never_written_to_an_hdf5_file_is_named_and_not_black(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("data", (3, 3, 8, 8), np.uint8, chunks=(1, 3, 8, 8))[2] = 7
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_dataset("data", (3, 3, 8, 8), np.uint8)
    for name in ("x.h5", "y.h5"):
        with pytest.raises(Exception, match=r"^never written to its file$"):
            open_archive(str(tmp_path / name), tmp_path).read(0)


def test_a_chunk_of_an_hdf5_file_that_is_too_large_to_be_read_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("data", (10**6, 3, 32, 32), np.uint8, chunks=(10**6, 3, 32, 32), compression="gzip")
    assert "too large (3,072,000,000 bytes" in str(problems(tmp_path / "x.h5", tmp_path)["00000.png"])


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FREE_UNPACKED", 4 * MB)
    monkeypatch.setattr(bounds, "MAX_RATIO", 3)


def bomb(path: Path) -> Path:
    """A picture, and then 64 MB of zeros in some kilobytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in (("a.png", b"a picture"), ("b.png", bytes(64 * MB)), ("c.png", b"last")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    packers: dict[str, Any] = {
        ".gz": lambda data: gzip.compress(data, 1),
        ".xz": lambda data: lzma.compress(data, preset=0),
        ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    }
    path.write_bytes(packers[path.suffix](plain.getvalue()))
    return path


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_compressed_tar_is_not_unpacked_without_bound(suffix: str, tmp_path: Path) -> None:
    path = bomb(tmp_path / f"x.tar{suffix}")
    source = open_archive(str(path), tmp_path / "scratch")
    found = {entry.name: entry.problem for entry in source.entries()}
    assert found["a.png"] is None
    assert "unpacks to more than 4,194,304 bytes: if it is to be trusted, set the environment" in str(found[path.name])
    assert sum(file.stat().st_size for file in (tmp_path / "scratch").iterdir()) < 5 * MB
    assert isinstance(source, Tar)
    streamed = {entry.name: entry.problem for entry, _ in source.stream()}
    assert "unpacks to more than" in str(streamed[path.name])


@pytest.mark.usefixtures("tight")
def test_who_trusts_a_compressed_tar_can_raise_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bomb(tmp_path / "x.tar.gz")
    assert len(problems(path, tmp_path / "scratch")) == 2
    monkeypatch.setenv(UNPACKED_VARIABLE, str(80 * MB))
    assert problems(path, tmp_path / "scratch") == {"a.png": None, "b.png": None, "c.png": None}


def test_the_bound_leaves_room_for_what_compresses_well() -> None:
    assert most_unpacked(1000) == 1 << 30
    assert most_unpacked(1 << 30) == 100 << 30
    assert most_entries(1000) == 100_000
    assert most_entries(1 << 30) > 60_000_000


def test_a_header_of_a_tar_that_would_fill_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sources.tars.MAX_HEADER", 1 << 16)
    path = Path(as_tar(tmp_path / "x.tar", {"a.png": b"a", "n" * 100_000: b"long", "b.png": b"b"}))
    found = problems(path, tmp_path)
    assert found["a.png"] is None
    assert "truncated archive (a header of 100,0" in str(found["x.tar"])
    assert len(found) == 2


def raw_member(name: bytes, kind: bytes, size: int, data: bytes = b"") -> bytes:
    """A member whose header states any size, also a negative one."""
    field = b"%011o\0" % size if size >= 0 else b"\xff" * 4 + size.to_bytes(8, "big", signed=True)
    header = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"%011o\0" % 0)
    header += b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(247)
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data.ljust(-len(data) // 512 * -512, b"\0")


@pytest.mark.parametrize("kind", [b"0", b"5", b"L", b"x", b"g", b"Z"])
def test_a_tar_that_leads_back_to_its_beginning_ends(kind: bytes, tmp_path: Path) -> None:
    first, last = raw_member(b"a.png", b"0", 1, b"a"), raw_member(b"c.png", b"0", 1, b"c")
    (tmp_path / "x.tar").write_bytes(first + raw_member(b"b.png", kind, -1536) + last + bytes(1024))
    found = problems(tmp_path / "x.tar", tmp_path)
    assert found["a.png"] is None
    assert len(found) <= 3


def test_a_tar_of_headers_that_each_stand_for_the_next_ends(tmp_path: Path) -> None:
    first = raw_member(b"a.png", b"0", 1, b"a")
    (tmp_path / "x.tar").write_bytes(first + raw_member(b"././@LongLink", b"L", 5, b"name") * 3000 + bytes(1024))
    found = problems(tmp_path / "x.tar", tmp_path)
    assert found["a.png"] is None
    assert "truncated archive" in str(found["x.tar"])


def test_a_pax_header_with_a_negative_size_ends(tmp_path: Path) -> None:
    first, last = raw_member(b"a.png", b"0", 1, b"a"), raw_member(b"c.png", b"0", 1, b"c")
    pax = raw_member(b"pax", b"x", 14, b"14 size=-2048\n")
    (tmp_path / "x.tar").write_bytes(first + pax + last + bytes(1024))
    found = problems(tmp_path / "x.tar", tmp_path)
    assert found["a.png"] is None
    assert len(found) == 2
