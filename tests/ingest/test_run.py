"""Ingestion: the same faces from any container, bad pictures named with their reason, and never one in two splits."""

import io
import json
import re
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.archives import ARCHIVES, RASTERS, as_folder, as_parquet, as_zip
from support.pictures import face, jpeg, pixels_of, saved, static
from support.stages import KILL_AT_RENAME, KILLED, faces_of, files_of, run_stage, watch, write_params

from pipeline.core.images import ImageError, decode, encode_png, pixel_hash, resize
from pipeline.core.schema import FACES
from pipeline.ingest.run import IngestError, plan_units
from pipeline.ingest.run import ingest as run_ingest
from pipeline.ingest.split import SplitError
from pipeline.params.ingest import ArchiveSource, Ingest

CONFIG = {
    "size": 128,
    "min_size": 64,
    "larger": "reduce",
    "not_square": "reject",
    "align": {"recipe": "none", "several": "reject"},
    "near_duplicates": 16,
    "max_pixels": 256 * 256,
    "seed": 1,
    "shard_mb": 256,
    "max_failed": None,
    "workers": 1,
}


def source(path: str, **splits: int | str) -> dict[str, Any]:
    return {"kind": "archive", "path": path, "splits": splits or {"train": "rest"}}


def ingest(out: Path, sources: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """All in this process; the counts as written, the files lie in `out`."""
    settings = Ingest.model_validate({**CONFIG, **changes, "sources": sources})
    return run_ingest(settings, out, out / "work")


def rejected(out: Path) -> dict[str, str]:
    return {row["name"]: row["reason"] for row in pq.read_table(out / "rejected.parquet").to_pylist()}


def accepted(out: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in faces_of(out / "faces")}


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


GOOD = {f"{index:03d}.png": encode_png(face(index)) for index in range(12)}


# the same answer whatever the container


def test_200_faces_from_any_container_get_the_same_ids_pixels_and_splits(tmp_path: Path) -> None:
    portraits = {f"{index:05d}.png": encode_png(resize(face(index, 128), 64, 64)) for index in range(200)}
    answers = {}
    for kind, write in (ARCHIVES | RASTERS).items():
        out = tmp_path / "out" / kind
        path = write(tmp_path / kind, portraits)
        ingest(out, [source(path, train=120, valid=30, test="rest")])
        # containers that hold pixels alone know no names
        known = ("id", "split") if kind in RASTERS else ("id", "split", "name")
        rows = faces_of(out / "faces")
        answers[kind] = {tuple(row[name] for name in known) for row in rows}
        assert {row["id"]: pixel_hash(pixels_of(row)) for row in rows} == {
            row["id"]: row["id"].split("-")[0] for row in rows
        }
    whole = answers["folder"]
    assert Counter(split for _, split, _ in whole) == {"train": 120, "valid": 30, "test": 50}
    for kind, answer in answers.items():
        expected = {(one, split) for one, split, _ in whole} if kind in RASTERS else whole
        assert answer == expected, kind


def test_renaming_and_reordering_files_changes_no_id_and_no_split(tmp_path: Path) -> None:
    renamed = {f"x{99 - index:02d}.png": data for index, data in enumerate(GOOD.values())}
    for name, files in (("a", GOOD), ("b", renamed)):
        ingest(tmp_path / name, [source(as_zip(tmp_path / f"{name}.zip", files), train=6, test=6)])
    splits = [{row["id"]: row["split"] for row in faces_of(tmp_path / name / "faces")} for name in "ab"]
    assert splits[0] == splits[1]


def test_another_seed_splits_otherwise(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "x.zip", GOOD)
    for seed in (1, 2):
        ingest(tmp_path / str(seed), [source(path, train=6, test=6)], seed=seed)
    splits = [{row["id"]: row["split"] for row in faces_of(tmp_path / str(seed) / "faces")} for seed in (1, 2)]
    assert splits[0].keys() == splits[1].keys()
    assert splits[0] != splits[1]


def test_ingesting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "x.zip", {**GOOD, "bad.png": b"no picture"})
    for name in "ab":
        ingest(tmp_path / name, [source(path, train=6, test=6)])
    first, second = (files_of(tmp_path / name) for name in "ab")
    assert first == second
    assert {"faces/train-00000.parquet", "faces/test-00000.parquet", "rejected.parquet", "ingest.json"} <= first.keys()


# splits


def test_identical_files_get_ordinals_and_share_a_split(tmp_path: Path) -> None:
    # the same pixels in another encoding are identical too
    twins = {f"copy-{index}-{turn}.png": encode_png(face(index), turn) for index in range(6) for turn in range(3)}
    ingest(tmp_path, [source(as_folder(tmp_path / "in", {**GOOD, **twins}), train="rest", valid=5, test=5)])
    rows = faces_of(tmp_path / "faces")
    assert len({row["id"] for row in rows}) == len(rows) == 30
    where: dict[str, set[str]] = {}
    for row in rows:
        where.setdefault(row["id"].split("-")[0], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in where.values())
    ordinals = sorted(row["id"] for row in rows if row["id"].startswith(pixel_hash(face(0))))
    assert ordinals == [f"{pixel_hash(face(0))}-{ordinal}" for ordinal in range(4)]
    assert json.loads((tmp_path / "ingest.json").read_text())["identical"] == 18


def test_the_splits_have_the_sizes_asked_for_and_rest_takes_what_is_left(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "in", GOOD)
    counts = ingest(tmp_path / "a", [source(path, train=5, valid=1, test="rest")])
    assert counts["splits"] == {"train": 5, "valid": 1, "test": 6}
    assert counts["not_drawn"] == 0
    counts = ingest(tmp_path / "b", [source(path, train=5, test=2)])
    assert counts["splits"] == {"train": 5, "valid": 0, "test": 2}
    assert counts["not_drawn"] == 5
    assert Counter(row["split"] for row in faces_of(tmp_path / "b" / "faces")) == {"train": 5, "test": 2}


def test_asking_for_more_faces_than_there_are_says_both_counts(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "in", {**GOOD, **{f"bad-{index}.png": b"?" for index in range(3)}})
    with pytest.raises(SplitError, match="15 faces asked for, 12 usable ones found"):
        ingest(tmp_path, [source(path, train=10, test=5)])


def test_a_source_with_nothing_usable_is_an_error_that_says_why(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "in", {"a.png": b"", "b.jpg": b"text"})
    with pytest.raises(IngestError, match=r"no usable face among 2 files \(a\.png: empty file; b\.jpg: not a picture"):
        ingest(tmp_path, [source(path)])


def test_a_source_without_any_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = as_folder(tmp_path / "in", {"labels.csv": b"1,2"})
    with pytest.raises(IngestError, match="in: no pictures in it"):
        plan_units([ArchiveSource.model_validate(source(path))], tmp_path)


def test_a_picture_of_the_first_source_never_enters_another_split_from_the_second(tmp_path: Path) -> None:
    first = as_folder(tmp_path / "a", dict(list(GOOD.items())[:6]))
    second = as_zip(tmp_path / "b.zip", {f"other-{name}": data for name, data in list(GOOD.items())[4:]})
    ingest(tmp_path, [source(first, train="rest"), source(second, test="rest")])
    rows = faces_of(tmp_path / "faces")
    assert Counter(row["split"] for row in rows) == {"train": 6, "test": 6}
    assert len({row["id"].split("-")[0] for row in rows}) == 12
    refused = rejected(tmp_path)
    assert set(refused) == {"other-004.png", "other-005.png"}
    assert all("identical to a picture of split train" in reason for reason in refused.values())
    assert {row["source"] for row in rows} == {first, second}


# bad pictures

NOISE = static(1)
BAD = {
    "cut.jpg": (jpeg(NOISE)[: len(jpeg(NOISE)) // 2], "truncated picture"),
    "cut.png": (encode_png(NOISE)[: len(encode_png(NOISE)) // 2], "truncated picture"),
    "flipped.png": (encode_png(NOISE)[:5000] + b"\0" * 50 + encode_png(NOISE)[5050:], "damaged picture"),
    "text.jpg": (b"This is not a picture.", "not a picture of a known format"),
    "empty.png": (b"", "empty file"),
    "no-width.png": (png_header(0, 64), "not a picture of a known format"),
    "no-pixels.png": (png_header(64, 64), "truncated picture"),
    "small.png": (encode_png(face(1, 63)), r"too small \(63x63, at least 64 are needed\)"),
    "one.png": (encode_png(face(1, 1)), "too small"),
    "wide.png": (encode_png(face(1, 96)[:80]), r"not square \(96x80\)"),
    "large.png": (
        encode_png(np.zeros((257, 256, 3), np.uint8)),
        r"more pixels than allowed \(256x257, at most 65536\)",
    ),
    "bomb.png": (png_header(2**31 - 1, 2**31 - 1), "more pixels than allowed"),
}


def test_every_kind_of_bad_picture_is_reported_with_its_reason_and_the_rest_is_ingested(tmp_path: Path) -> None:
    files = {**{name: data for name, (data, _) in BAD.items()}, **GOOD}
    counts = ingest(tmp_path, [source(as_folder(tmp_path / "in", files))])
    refused = rejected(tmp_path)
    assert set(refused) == set(BAD)
    for name, (_, reason) in BAD.items():
        assert re.match(reason, refused[name]), f"{name}: {refused[name]}"
    assert set(accepted(tmp_path)) == set(GOOD)
    assert (counts["files"], counts["usable"], counts["rejected"]) == (len(files), len(GOOD), len(BAD))
    assert sum(counts["reasons"].values()) == len(BAD)


def test_a_damaged_archive_member_is_reported_and_the_rest_is_ingested(tmp_path: Path) -> None:
    path = Path(as_zip(tmp_path / "x.zip", GOOD))
    data = bytearray(path.read_bytes())
    data[data.index(GOOD["003.png"]) + 100] ^= 0xFF
    path.write_bytes(data)
    ingest(tmp_path, [source(str(path))])
    assert "damaged in the archive" in rejected(tmp_path)["003.png"]
    assert set(accepted(tmp_path)) == set(GOOD) - {"003.png"}


def test_a_picture_that_is_not_square_gives_its_centre_where_params_say_so(tmp_path: Path) -> None:
    wide, tall = face(1, 128)[:90], face(2, 128)[:, :91]
    files = {"wide.png": encode_png(wide), "tall.png": encode_png(tall)}
    ingest(tmp_path, [source(as_folder(tmp_path / "in", files))], not_square="crop")
    rows = accepted(tmp_path)
    assert (pixels_of(rows["wide.png"]) == wide[:, 19:109]).all()
    assert (pixels_of(rows["tall.png"]) == tall[18:109]).all()
    assert rows["wide.png"]["id"] == f"{pixel_hash(wide[:, 19:109])}-0"
    assert (rows["tall.png"]["width"], rows["tall.png"]["height"]) == (91, 91)


def test_a_face_larger_than_an_original_is_reduced_and_a_smaller_one_is_kept(tmp_path: Path) -> None:
    files = {"large.png": encode_png(face(1, 200)), "small.png": encode_png(face(2, 100))}
    ingest(tmp_path, [source(as_folder(tmp_path / "in", files))])
    rows = accepted(tmp_path)
    assert (pixels_of(rows["large.png"]) == resize(face(1, 200), 128, 128)).all()
    assert rows["small.png"]["image"]["bytes"] == files["small.png"]


def test_accepted_bytes_are_kept_untouched(tmp_path: Path) -> None:
    files = {
        "a.png": encode_png(face(1)),
        "b.jpg": jpeg(face(2)),
        "c.webp": saved(Image.fromarray(face(3)), "WEBP", lossless=True),
        "d.bmp": saved(Image.fromarray(face(4)), "BMP"),
    }
    ingest(tmp_path, [source(as_folder(tmp_path / "in", files))])
    assert {name: row["image"]["bytes"] for name, row in accepted(tmp_path).items()} == files


def conversions() -> dict[str, tuple[bytes, np.ndarray]]:
    """Pictures that other decoders could read otherwise: bytes, and the RGB that the rules make of them."""
    grey, deep = face(1)[..., 0], face(6)[..., 0]
    palette = Image.fromarray(face(2)).quantize(32)
    cmyk = Image.fromarray(face(3)).convert("CMYK")
    alpha = np.dstack([face(4), np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))])
    on_white = np.rint(alpha[..., :3] * (alpha[..., 3:] / 255) + 255 * (1 - alpha[..., 3:] / 255)).astype(np.uint8)
    turned = Image.Exif()
    turned[274] = 6  # to be shown after a quarter turn clockwise
    return {
        "grey.png": (saved(Image.fromarray(grey), "PNG"), np.dstack([grey] * 3)),
        "grey16.png": (saved(Image.fromarray(deep.astype(np.uint16) * 257), "PNG"), np.dstack([deep] * 3)),
        "palette.png": (saved(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "cmyk.tiff": (saved(cmyk, "TIFF"), np.asarray(cmyk.convert("RGB"))),
        "alpha.png": (saved(Image.fromarray(alpha), "PNG"), on_white),
        "turned.png": (saved(Image.fromarray(face(5)), "PNG", exif=turned), np.rot90(face(5), -1)),
    }


def test_unusual_pictures_are_converted_to_rgb_png_by_the_stated_rules(tmp_path: Path) -> None:
    expected = conversions()
    files = {name: data for name, (data, _) in expected.items()}
    ingest(tmp_path, [source(as_folder(tmp_path / "in", files))])
    assert rejected(tmp_path) == {}
    rows = accepted(tmp_path)
    for name, (_, pixels) in expected.items():
        stored = Image.open(io.BytesIO(rows[name]["image"]["bytes"]))
        # any decoder now sees the same: no orientation, alpha, palette or depth is left to interpret
        assert (stored.format, stored.mode, 274 in stored.getexif()) == ("PNG", "RGB", False), name
        difference = np.abs(np.asarray(stored).astype(int) - pixels).max()
        assert difference <= (1 if name == "alpha.png" else 0), name
        assert rows[name]["id"] == f"{pixel_hash(np.asarray(stored))}-0"


def test_a_picture_whose_exif_cannot_be_read_is_taken_without_it(tmp_path: Path) -> None:
    files = {"odd.png": saved(Image.fromarray(face(1)), "PNG", exif=b"Exif\0\0no exif at all"), **GOOD}
    ingest(tmp_path, [source(as_folder(tmp_path / "in", files))])
    assert (pixels_of(accepted(tmp_path)["odd.png"]) == face(1)).all()


# shards


def test_shards_close_at_the_size_asked_for_and_hold_every_face_in_order(tmp_path: Path) -> None:
    files = {f"{index:02d}.png": encode_png(static(index, 256)) for index in range(12)}
    ingest(tmp_path, [source(as_folder(tmp_path / "in", files))], shard_mb=1, size=256)
    shards = sorted((tmp_path / "faces").glob("*.parquet"))
    assert [shard.name for shard in shards] == [f"train-{index:05d}.parquet" for index in range(3)]
    sizes = [sum(len(row["image"]["bytes"]) for row in pq.read_table(shard).to_pylist()) for shard in shards]
    assert max(sizes) <= 1 << 20
    # closed because the next face would not have fitted, not before
    assert all(size + len(files["00.png"]) > 1 << 20 for size in sizes[:-1])
    assert [row["name"] for row in faces_of(tmp_path / "faces")] == sorted(files)


def test_shards_tell_hugging_face_datasets_which_column_is_an_image(tmp_path: Path) -> None:
    ingest(tmp_path, [source(as_folder(tmp_path / "in", GOOD))])
    schema = pq.read_schema(tmp_path / "faces" / "train-00000.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert set(features) == set(schema.names) == set(FACES.names)
    assert schema.field("image").type == FACES.field("image").type


# the stage itself

SPLITS = {"train": "rest", "valid": 4, "test": 4}


def project(folder: Path, path: str, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    sources = [{"kind": "archive", "path": path, "splits": SPLITS}]
    write_params(folder, ingest={"sources": sources, "workers": 1, "size": 256, **changes})
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three work units."""
    files = {f"{index:03d}.jpg": jpeg(face(index, 256)) for index in range(80)}
    return as_zip(tmp_path_factory.mktemp("many") / "faces.zip", files)


def test_ingest_killed_midway_takes_up_where_it_was_and_gives_the_same_bytes(many: str, tmp_path: Path) -> None:
    whole, broken = project(tmp_path / "whole", many), project(tmp_path / "broken", many)
    assert run_stage("ingest", whole).returncode == 0
    killed = run_stage("ingest", broken, KILL_AT_RENAME.format(suffix="000001.parquet"))
    assert killed.returncode == KILLED
    (parts,) = (broken / "work" / "ingest").glob("*/parts")
    assert [part.name for part in parts.glob("0*.parquet")] == ["000000.parquet"]
    assert not (broken / "data").exists()
    with watch(parts) as seen:
        done = run_stage("ingest", broken)
    assert done.returncode == 0, done.stderr
    assert {Path(path).name for path in seen.arrived} == {"000001.parquet", "000002.parquet"}
    assert files_of(broken / "data") == files_of(whole / "data")
    assert {"faces/train-00000.parquet", "ingest.json", "rejected.parquet"} <= files_of(whole / "data").keys()
    assert not list((broken / "work").rglob("*.parquet"))


def test_a_broken_picture_fails_the_stage_until_it_is_replaced_or_allowed(tmp_path: Path) -> None:
    files = {f"{index:03d}.png": encode_png(face(index, 256)) for index in range(10)}
    path = as_folder(tmp_path / "in", {**files, "bad.png": encode_png(face(99, 256))[:999]})
    folder = project(tmp_path / "project", path)
    failed = run_stage("ingest", folder)
    assert failed.returncode == 1
    assert "1 pictures rejected, max_failed allows 0" in " ".join(failed.stderr.split())
    assert not (folder / "data").exists()
    project(folder, path, max_failed=1)
    assert run_stage("ingest", folder).returncode == 0
    assert set(rejected(folder / "data")) == {"bad.png"}
    assert len(faces_of(folder / "data" / "faces")) == 10
    # repaired in place: what was found out about the old file no longer counts
    project(folder, path)
    assert run_stage("ingest", folder).returncode == 1
    as_folder(tmp_path / "in", {"bad.png": encode_png(face(99, 256))})
    repaired = run_stage("ingest", folder)
    assert repaired.returncode == 0, repaired.stderr
    assert len(faces_of(folder / "data" / "faces")) == 11


def test_a_folder_of_parquet_shards_is_a_source_of_the_stage(tmp_path: Path) -> None:
    for index in range(3):
        files = {f"{index}-{face_index}.png": encode_png(face(10 * index + face_index, 256)) for face_index in range(4)}
        as_parquet(tmp_path / "in" / f"{index}.parquet", files)
    folder = project(tmp_path / "project", str(tmp_path / "in"))
    done = run_stage("ingest", folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "data" / "ingest.json").read_text())["splits"] == {"train": 4, "valid": 4, "test": 4}


def test_floating_point_pixels_are_refused_since_their_range_is_unknown() -> None:
    values = Image.fromarray(np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64))
    with pytest.raises(ImageError, match="floating-point"):
        decode(saved(values, "TIFF"))
