"""`facesr inspect` says what an archive holds, in bounded time, without unpacking it and whatever is damaged in it."""

import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.archives import ARCHIVES, RASTERS, as_folder, as_tar, as_zip
from support.pictures import face, jpeg, saved, static
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.images import encode_png
from pipeline.inspect import contact_sheet
from pipeline.inspect.survey import Findings, examine, look_at, spread, survey, use_of
from pipeline.sources.base import Entry, SourceError
from pipeline.sources.folders import Folder
from pipeline.sources.open import open_archive

PLAIN = {f"{index:03d}.png": encode_png(face(index, 64)) for index in range(6)}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["inspect", *arguments])


def found_in(path: str, *arguments: str) -> dict[str, Any]:
    done = run(path, "--json", *arguments)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("zip", "zip"),
        ("tar.zst", "compressed tar"),
        ("parquet", "Parquet"),
        ("hdf5", "HDF5"),
        ("tfrecords", "TFRecord"),
    ],
)
def test_the_kind_the_number_and_the_sizes_are_told(kind: str, named: str, tmp_path: Path) -> None:
    path = (ARCHIVES | RASTERS)[kind](tmp_path, PLAIN)
    found = found_in(path)
    assert (found["kind"], found["pictures"], found["complete"], found["sampled"]) == (named, 6, True, 6)
    assert found["sizes"] == [{"width": 64, "height": 64, "count": 6}]
    assert found["problems"] == []
    assert found["bytes"] > 0


def test_formats_modes_turns_and_profiles_are_told(tmp_path: Path) -> None:
    image = Image.fromarray(face(0, 80))
    clear = Image.fromarray(np.dstack([face(0, 80), np.full((80, 80), 99, np.uint8)]))
    turned = Image.Exif()
    turned[274] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    files = {
        "turned.jpg": saved(image.crop((0, 0, 80, 70)), "JPEG", exif=turned),
        "profile.png": saved(image, "PNG", icc_profile=profile),
        "grey.png": saved(image.convert("L"), "PNG"),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "palette.png": saved(image.convert("P"), "PNG"),
        "alpha.webp": saved(clear, "WEBP", lossless=True),
        "deep.png": saved(Image.fromarray(np.full((80, 80), 40_000, np.uint16)), "PNG"),
    }
    looks = {name: look_at(name, io.BytesIO(data).read) for name, data in files.items()}
    assert {name: look.mode for name, look in looks.items()} == {
        "turned.jpg": "RGB",
        "profile.png": "RGB",
        "grey.png": "grey",
        "cmyk.jpg": "CMYK",
        "palette.png": "palette",
        "alpha.webp": "alpha",
        "deep.png": "grey, 16 bit",
    }
    found = found_in(as_folder(tmp_path / "set", files))
    assert (found["turned"], found["profiles"], found["not_square"]) == (1, 1, 1)
    assert {"width": 70, "height": 80, "count": 1} in found["sizes"]
    assert found["formats"] == {"PNG": 4, "JPEG": 2, "WEBP": 1}


@pytest.mark.parametrize(
    ("size", "use"),
    [
        ((1024, 1024), "originals"),
        ((2000, 1023), "inputs"),
        ((256, 256), "inputs"),
        ((255, 900), "small"),
        ((64, 64), "small"),
        ((63, 63), "unusable"),
    ],
)
def test_the_shorter_side_says_what_a_picture_can_serve_for(size: tuple[int, int], use: str) -> None:
    assert use_of(size) == use


def test_what_is_damaged_is_told_with_its_reason_and_names(tmp_path: Path) -> None:
    broken = {"cut.jpg": jpeg(static(1, 64))[:900], "cut2.jpg": jpeg(static(2, 64))[:950], "none.png": b"no picture"}
    found = found_in(as_zip(tmp_path / "x.zip", {**PLAIN, **broken, "../out.png": b"x"}))
    problems = {problem["reason"]: (problem["count"], problem["names"]) for problem in found["problems"]}
    assert problems == {
        "truncated picture": (2, ["cut.jpg", "cut2.jpg"]),
        "not a picture of a known format": (1, ["none.png"]),
        "its path points outside the archive": (1, ["../out.png"]),
    }
    assert found["pictures"] == 9


def test_an_archive_that_broke_off_is_told(tmp_path: Path) -> None:
    for name in ("x.tar", "x.tar.gz"):
        path = Path(as_tar(tmp_path / name, {f"{n}.bmp": saved(Image.fromarray(static(n)), "BMP") for n in range(9)}))
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        found = found_in(str(path))
        assert [problem["reason"] for problem in found["problems"]] == ["truncated archive"]
        assert 3 <= found["pictures"] < 9


def test_a_compressed_tar_is_not_unpacked_and_its_first_pictures_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    source = open_archive(as_tar(tmp_path / "x.tar.gz", PLAIN), tmp_path / "scratch")
    found, rest = survey(source, 3, 60)
    assert [look.name for look in found.looks] == list(PLAIN)[:3]
    assert (found.sampled_first, found.pictures, found.complete, rest) == (True, 6, True, [])
    assert not (tmp_path / "scratch").exists()
    assert not any((tmp_path / "tmp").iterdir())


class Endless:
    """A source that never stops listing."""

    passed_over = 0

    def entries(self) -> Iterator[Entry]:
        number = 0
        while True:
            yield Entry(f"{number}.png", number, size=1)
            number += 1

    def read(self, key: Any) -> bytes:
        return PLAIN["000.png"]


def test_a_look_ends_when_its_time_is_up_and_the_sample_is_spread_over_what_was_listed() -> None:
    found, chosen = survey(Endless(), 20, 0.2)
    assert not found.complete
    keys = sorted(entry.key for entry in chosen)
    assert len(keys) == 20
    assert max(keys) > found.pictures * 0.8
    assert np.diff(keys).max() < found.pictures / 8
    examine(found, Endless(), chosen, 0.0, lambda _: None)
    assert len(found.looks) == 1


def test_any_number_of_the_first_of_a_sample_is_spread_over_all() -> None:
    entries = [Entry(str(number), number) for number in range(1000)]
    sample = [entry.key for entry in spread(entries, 100)]
    assert sorted(sample) == list(range(0, 1000, 10))
    for first in (4, 8, 16):
        assert np.diff(sorted(sample[:first])).max() <= 2 * 1000 / first
    assert [entry.key for entry in spread(entries[:3], 100)] != []
    assert spread([], 5) == []


def test_the_sample_is_the_same_every_time(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "x.zip", PLAIN)
    assert found_in(path, "--sample", "3") == found_in(path, "--sample", "3")
    assert found_in(path, "--sample", "3")["sampled"] == 3


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_contact_sheet_shows_the_pictures_and_marks_the_damaged(suffix: str, tmp_path: Path) -> None:
    path = as_zip(tmp_path / "x.zip", {**PLAIN, "cut.jpg": jpeg(static(1, 64))[:900]})
    assert run(path, "--sheet", str(tmp_path / f"sheet.{suffix}")).exit_code == 0
    with Image.open(tmp_path / f"sheet.{suffix}") as sheet:
        assert sheet.format == {"png": "PNG", "jpg": "JPEG"}[suffix]
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert pixels.shape[1] > 6 * contact_sheet.THUMB
    # the first tile shows the first picture, in its middle
    assert np.abs(pixels[16 + 32 : 16 + 96, 16 + 32 : 16 + 96] - face(0, 64)).mean() < (1 if suffix == "png" else 12)
    last = pixels[20:30, 16 + 6 * 140 + 4 : 16 + 6 * 140 + 100].reshape(-1, 3).mean(axis=0)
    assert last[0] > last[2] + 15  # reddish


def test_a_sheet_of_many_has_48_tiles_and_shows_damaged_ones() -> None:
    looks = [look_at(f"{n:03d}", (lambda n=n: PLAIN["000.png"] if n % 2 else b"?")) for n in range(120)]
    chosen = contact_sheet.choose(looks)
    assert len(chosen) == contact_sheet.TILES
    assert sum(bool(look.problem) for look in chosen) == 8
    assert contact_sheet.draw([]).shape[2] == 3


def test_the_table_names_what_to_do_next_and_nothing_is_taken_for_markup(tmp_path: Path) -> None:
    done = run(as_zip(tmp_path / "[bold]x.zip", PLAIN))
    assert done.exit_code == 0
    assert "[bold]x.zip" in done.output
    assert "64 x 64" in done.output
    assert "training at the smaller scales only" in done.output
    assert "next: " in done.output


def test_what_cannot_be_opened_is_a_usage_error_and_one_without_usable_pictures_fails(tmp_path: Path) -> None:
    assert run(str(tmp_path / "gone.zip")).exit_code == 2
    assert run(as_zip(tmp_path / "x.zip", PLAIN), "--sheet", "x.gif").exit_code == 2
    assert run(as_zip(tmp_path / "y.zip", {"a.png": b"no picture"})).exit_code == 1
    assert Findings("zip").summary()["sizes"] == []


def test_where_the_rest_cannot_be_read_that_is_said_and_not_that_time_was_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BreaksOff(Folder):
        def entries(self) -> Iterator[Entry]:
            yield from islice(super().entries(), 4)
            raise SourceError("the archive broke off")

    path = as_folder(tmp_path / "in", PLAIN)
    monkeypatch.setattr("pipeline.sources.open.Folder", BreaksOff)
    found = found_in(path)
    assert (found["pictures"], found["complete"], found["damaged"]) == (4, False, True)
    said = run(path).output
    assert "4 or more (the rest cannot be read)" in said
    assert "time was up" not in said
