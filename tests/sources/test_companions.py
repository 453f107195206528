"""What lies beside pictures is no picture that failed: it is passed over, counted, and changes no other file's name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.archives import ARCHIVES, as_folder, as_tar

from pipeline.bulk.plan import items_of
from pipeline.bulk.settings import Settings
from pipeline.sources.open import open_archive

PICTURES = {"a/IMG_1.jpg": b"one", "a/IMG_2.heic": b"two", "b.png": b"three"}
BESIDE = ["a/IMG_1.xmp", "a/IMG_1.aae", "a/IMG_1.mov", "a/IMG_1.MP4", "a/IMG_1.THM", "Catalog.lrcat", "Thumbs.db"]
BESIDE += ["desktop.ini", "a/to b.lnk", "letter.pdf", "LICENSE.txt", "labels.json"]
HIDDEN = ["@eaDir/b.png/SYNOPHOTO_THUMB_M.jpg", "a/._IMG_1.jpg", ".DS_Store", "__MACOSX/a/._IMG_1.jpg", ".facesr/x.png"]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_companions_are_passed_over_and_counted_and_change_no_name(kind: str, tmp_path: Path) -> None:
    path = ARCHIVES[kind](tmp_path, {**PICTURES, **dict.fromkeys([*BESIDE, *HIDDEN], b"?")})
    source = open_archive(path, tmp_path / "scratch")
    for _ in range(2):
        entries = list(source.entries())
        assert {entry.name: source.read(entry.key) for entry in entries} == PICTURES
        assert source.passed_over == len(BESIDE)
    assert {item.target for item in items_of(entries, Settings())} == {"a/IMG_1.png", "a/IMG_2.png", "b.png"}


def img2dataset(root: Path) -> Path:
    """Two shards as img2dataset writes them, of its layout `webdataset`."""
    for shard in range(2):
        stem = f"{shard:05d}"
        files = {f"{stem}{n:04d}.{end}": f"{shard} {n}".encode() for n in range(2) for end in ("jpg", "json", "txt")}
        as_tar(root / f"{stem}.tar", files)
        pq.write_table(pa.table({"key": ["0", "1"], "status": ["success"] * 2}), root / f"{stem}.parquet")
        (root / f"{stem}_stats.json").write_text("{}")
    return root


@pytest.mark.parametrize("name", ["", "/*", "/*.tar", "/{00000..00001}.tar"])
def test_a_folder_as_img2dataset_writes_it_is_the_webdataset_that_it_is(name: str, tmp_path: Path) -> None:
    source = open_archive(f"{img2dataset(tmp_path / 'set')}{name}", tmp_path / "scratch")
    found = {entry.name: entry.problem or source.read(entry.key) for entry in source.entries()}
    assert found == {f"{s:05d}/{s:05d}{n:04d}.jpg": f"{s} {n}".encode() for s in range(2) for n in range(2)}


def test_the_tables_beside_img2datasets_folders_of_files_are_passed_over(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "set", {"00000/0.jpg": b"one", "00000/0.json": b"{}", "00000.parquet": b"?"})
    source = open_archive(path, tmp_path)
    assert [entry.name for entry in source.entries()] == ["00000/0.jpg"]
    assert source.passed_over == 2


def test_a_table_that_belongs_to_no_tar_is_named(tmp_path: Path) -> None:
    root = img2dataset(tmp_path / "set")
    (root / "00001.tar").unlink()
    found = {entry.name: entry.problem for entry in open_archive(str(root), tmp_path).entries()}
    assert "an archive inside the folder" in str(found["00001.parquet"])
