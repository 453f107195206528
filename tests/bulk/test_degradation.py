"""`facesr upscale` tells a generator what each picture has suffered, and the manifest says what was found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.pictures import jpeg, saved
from support.upscaling import CONFIG, make_models, manifest, pictures, said, upscale

from pipeline.bulk.checks import flags_of
from pipeline.bulk.gallery import read_manifest
from pipeline.core.chain import TOLD, compress
from pipeline.core.images import Pixels, resize, rounded
from pipeline.core.schema import UPSCALE_MANIFEST
from pipeline.synthetic.portrait import portrait
from pipeline.upscale.upscaler import Upscaler

CLEAN = resize(portrait(5, 0), 96, 96)
NEW = {"jpeg_quality", "noise", "blocks"}
"""Columns of the manifest that earlier ones lack."""


def noisy(sigma: float) -> Pixels:
    return rounded(CLEAN + np.random.default_rng(int(sigma)).normal(0, sigma, CLEAN.shape))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one shape, each degraded in another way, one that cannot be read, and one that is turned."""
    folder = tmp_path_factory.mktemp("degraded") / "in"
    folder.mkdir()
    lossless = {"clean": CLEAN, "noise4": noisy(4), "noise8": noisy(8), "blocks": compress(CLEAN, 60, "4:2:0")}
    for name, pixels in lossless.items():
        (folder / f"{name}.png").write_bytes(saved(Image.fromarray(pixels), "PNG"))
    (folder / "jpeg.jpg").write_bytes(jpeg(CLEAN, 50))
    (folder / "grey.jpg").write_bytes(saved(Image.fromarray(CLEAN).convert("L"), "JPEG", quality=80))
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "turned.jpg").write_bytes(saved(Image.fromarray(CLEAN), "JPEG", quality=50, exif=exif))
    (folder / "words.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("told"), replace(CONFIG, told=TOLD))


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("blind"))


def results(folder: Path) -> dict[str, Pixels]:
    return {name: np.asarray(Image.open(folder / name)) for name in pictures(folder)}


@pytest.mark.parametrize("kind", ["told", "blind"])
def test_the_manifest_says_what_was_found_in_every_picture(
    kind: str, archive: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    upscale(archive, out, "--model", request.getfixturevalue(kind), "--workers", 1, "--manifest", "csv", code=1)
    rows = manifest(out)
    found = {name: tuple(row[column] for column in ("jpeg_quality", "noise", "blocks")) for name, row in rows.items()}
    assert found["words.png"] == (None, None, None)
    assert found["jpeg.jpg"] == found["turned.jpg"] == (pytest.approx(50, abs=1), None, None)
    assert found["grey.jpg"] == (pytest.approx(80, abs=1), None, None)
    assert found["blocks.png"] == (None, None, pytest.approx(60, abs=2))
    assert found["clean.png"][1] < 0.7
    for sigma in (4, 8):
        assert found[f"noise{sigma}.png"] == (None, pytest.approx(sigma, rel=0.2), None)
    assert len(read_manifest(out).rows) == len(rows)


def test_pictures_of_one_batch_get_what_each_gets_alone(archive: Path, told: Path, tmp_path: Path) -> None:
    upscale(archive, tmp_path / "out", "--model", told, "--workers", 1, "--precision", "fp32", code=1)
    upscaler = Upscaler.load(told, precision="fp32")
    made = results(tmp_path / "out")
    for name, result in made.items():
        alone = np.asarray(upscaler(next(archive.glob(f"{Path(name).stem}.*"))))
        assert np.abs(alone.astype(int) - result).max() <= 1, name


def test_what_is_told_decides_the_pictures(archive: Path, told: Path, tmp_path: Path) -> None:
    made = {}
    for number, options in enumerate([(), ("--degradation", "none"), ("--denoise", 0), ("--deblock", 0.5)]):
        out = tmp_path / str(number)
        upscale(archive, out, "--model", told, "--workers", 1, *options, code=1)
        made[number] = results(out)

    def differing(number: int) -> set[str]:
        return {name for name, result in made[number].items() if not (result == made[0][name]).all()}

    noise, compressed = {"noise4.png", "noise8.png"}, {"blocks.png", "grey.png", "jpeg.png", "turned.png"}
    assert differing(1) == noise | compressed
    assert differing(2) == noise
    assert differing(3) == compressed


def test_a_blind_generator_gives_the_same_bytes_whatever_it_would_be_told(
    archive: Path, blind: Path, tmp_path: Path
) -> None:
    upscale(archive, tmp_path / "auto", "--model", blind, "--workers", 1, code=1)
    options = ("--degradation", "jpeg=40", "--denoise", 0.5, "--deblock", 0)
    upscale(archive, tmp_path / "told", "--model", blind, "--workers", 1, *options, code=1)
    assert pictures(tmp_path / "auto") == pictures(tmp_path / "told")


def test_another_degradation_is_another_run_and_one_that_does_not_exist_is_refused(
    archive: Path, told: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    upscale(archive, out, "--model", told, "--workers", 1, "--degradation", "noise=4,jpeg=60", code=1)
    upscale(archive, out, "--model", told, "--workers", 1, "--degradation", "jpeg=60.0, noise=4", code=1)
    done = upscale(archive, out, "--model", told, "--workers", 1, code=2)
    assert "degradation was jpeg=60,noise=4, now auto" in said(done)
    done = upscale(archive, out, "--model", told, "--degradation", "rain=3", code=2)
    assert "--degradation rain=3: auto, none, or jpeg=1..100" in said(done)


def test_a_finished_run_of_before_is_gone_on_with_and_shown(archive: Path, blind: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    upscale(archive, out, "--model", blind, "--workers", 1, code=1)
    path = out / "manifest.parquet"
    table = pq.read_table(path)
    record = json.loads(table.schema.metadata[b"facesr"])
    assert not {"degradation", "denoise", "deblock"} & record["settings"].keys(), "records are as they were"
    pq.write_table(table.drop_columns(list(NEW)), path)
    assert len(read_manifest(out).rows) == 8
    before = pictures(out)
    (archive / "new.png").write_bytes((archive / "clean.png").read_bytes())
    try:
        upscale(archive, out, "--model", blind, "--workers", 1, code=1)
    finally:
        (archive / "new.png").unlink()
    rows = manifest(out)
    assert {name: rows[name]["blocks"] for name in ("blocks.png", "jpeg.jpg")} == {"blocks.png": None, "jpeg.jpg": None}
    assert rows["new.png"]["noise"] is not None
    assert pictures(out) == before | {"new.png": before["clean.png"]}


def test_noise_that_was_taken_away_is_no_disagreement() -> None:
    usual = dict.fromkeys(UPSCALE_MANIFEST.names)
    rows = [usual | {"name": str(number), "status": "ok", "consistency": 0.2, "flags": ""} for number in range(20)]
    rows += [usual | {"name": "denoised", "status": "ok", "consistency": 6.5, "noise": 8.0, "flags": ""}]
    rows += [usual | {"name": "wrong", "status": "ok", "consistency": 6.5, "noise": 0.0, "flags": ""}]
    found = zip(rows, flags_of(rows), strict=True)
    assert [row["name"] for row, flags in found if "disagrees" in flags] == ["wrong"]
