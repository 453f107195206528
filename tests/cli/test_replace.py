"""No command replaces what it did not write without --overwrite, nor an input at all."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.archives import as_folder, as_zip
from support.pictures import face, saved
from support.upscaling import make_models
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.images import encode_png, pixel_hash
from pipeline.core.schema import FACES
from pipeline.core.shards import write_rows
from pipeline.report.write import recorded

MINE = b"what somebody else wrote"


def call(*arguments: Any, code: int | None = 0) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert not done.exception or isinstance(done.exception, SystemExit), done.exception
    if code is not None:
        assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def hashes(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pictures(folder: Path, count: int = 3, side: int = 64) -> str:
    return as_folder(folder, {f"{number}.png": encode_png(face(number, side)) for number in range(count)})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    pictures(tmp_path / "photos/faces")
    return tmp_path / "photos"


SMALL = ("--size", 64, "--min-size", 64, "--workers", 1)


def test_ingest_never_removes_the_pictures_that_lie_where_faces_would(photos: Path) -> None:
    before = hashes(photos)
    for more in ((), ("--overwrite",)):
        said = call("ingest", photos / "faces", "--out", photos, *SMALL, *more, code=2)
        assert "what is to be read" in said
        assert hashes(photos) == before


def test_ingest_sees_an_input_through_links_in_either_direction(photos: Path, tmp_path: Path) -> None:
    before = hashes(photos)
    (tmp_path / "link").symlink_to(photos)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/faces").symlink_to(photos / "faces")
    for source, out in ((tmp_path / "link/faces", photos), (photos / "faces", tmp_path / "out")):
        call("ingest", source, "--out", out, *SMALL, "--overwrite", code=2)
        assert hashes(photos) == before


@pytest.mark.parametrize("name", ["faces/a.png", "faces/train-00000.parquet", "rejected.parquet", "ingest.json"])
def test_ingest_leaves_what_is_not_from_it(name: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    as_folder(out, {name: MINE, "notes.txt": MINE})
    before = hashes(out)
    assert "--overwrite" in call("ingest", photos, "--out", out, *SMALL, code=2)
    assert hashes(out) == before
    call("ingest", photos, "--out", out, *SMALL, "--overwrite")
    kept = {"notes.txt"} | ({name} if name.endswith(".png") else set())
    assert {key: value for key, value in hashes(out).items() if key in kept} == {key: before[key] for key in kept}
    call("ingest", photos, "--out", out, *SMALL, "--overwrite")


def test_ingest_takes_up_a_folder_that_it_had_half_published(photos: Path, tmp_path: Path) -> None:
    call("ingest", photos, "--out", tmp_path / "out", *SMALL)
    whole = hashes(tmp_path / "out")
    (tmp_path / "out/ingest.json").unlink()  # killed just before
    call("ingest", photos, "--out", tmp_path / "out", *SMALL)
    assert hashes(tmp_path / "out") == whole


@pytest.mark.parametrize(
    "name", ["tables/mine.csv", "plots/a.png", "sheets/holiday.png", "metrics.json", "report.html"]
)
def test_a_report_leaves_what_is_not_from_a_report(name: str, tmp_path: Path) -> None:
    place, out = pictures(tmp_path / "in"), tmp_path / "out"
    as_folder(out, {name: MINE})
    before = hashes(out)
    assert "--overwrite" in call("compare", place, place, "--report", out, "--workers", 1, code=2)
    assert hashes(out) == before
    call("compare", place, place, "--report", out, "--workers", 1, "--overwrite")
    assert "/" not in name or hashes(out)[name] == before[name]


def test_a_report_does_not_go_into_a_folder_that_it_is_of(tmp_path: Path) -> None:
    originals, results = pictures(tmp_path / "originals"), pictures(tmp_path / "results")
    before = hashes(tmp_path)
    for place in (originals, Path(results) / "report"):
        said = call("compare", originals, results, "--report", place, "--workers", 1, code=2)
        assert "which is read" in said
    assert hashes(tmp_path) == before


def test_a_report_replaces_the_one_before_and_nothing_beside_it(tmp_path: Path) -> None:
    place, out = pictures(tmp_path / "in"), tmp_path / "out"
    as_folder(out, {"tables2/mine.csv": MINE, "notes.txt": MINE})
    call("compare", place, place, "--report", out, "--against", "bicubic", "--workers", 1)
    first = recorded(out)
    assert first == set(hashes(out)) - {"tables2/mine.csv", "notes.txt"}
    (out / "plots/per_image.csv").unlink()
    call("compare", place, place, "--report", out, "--workers", 1)
    assert recorded(out) == set(hashes(out)) - {"tables2/mine.csv", "notes.txt"}
    as_folder(out, {"tables/mine.csv": MINE})
    before = hashes(out)
    call("compare", place, place, "--report", out, "--workers", 1, code=2)
    assert hashes(out) == before


def test_a_report_cannot_name_files_elsewhere_as_its_own(tmp_path: Path) -> None:
    names = '["../mine.txt", "tables/../../mine.txt", "/etc/passwd", "tables/a.csv", 3]'
    (tmp_path / "report.html").write_text(f"<p>\n<!-- facesr report: {names} -->\n")
    assert recorded(tmp_path) == {"tables/a.csv"}


def shards_of_faces(root: Path) -> Path:
    rows = []
    for number in range(2):
        pixels = face(number, 256)
        row = {"id": pixel_hash(pixels), "image": {"bytes": encode_png(pixels), "path": f"{number}.png"}}
        rows.append(row | {"name": f"{number}.png", "source": "x", "split": "train", "width": 256, "height": 256})
    write_rows(root / "train-00000.parquet", rows, FACES)
    return root


@pytest.mark.parametrize(
    "name",
    ["inputs/train/mine.png", "pairs.parquet", "pairs.json", "report/degradations.png", "report/augmentations.csv"],
)
def test_pairs_leave_what_is_not_from_them(name: str, tmp_path: Path) -> None:
    faces, out = shards_of_faces(tmp_path / "faces"), tmp_path / "out"
    as_folder(out, {name: MINE})
    before = hashes(out)
    assert "--overwrite" in call("pairs", faces, "--out", out, "--workers", 1, code=2)
    assert hashes(out) == before


def test_pairs_go_over_their_own_and_never_over_the_faces(tmp_path: Path) -> None:
    faces, out = shards_of_faces(tmp_path / "faces"), tmp_path / "out"
    call("pairs", faces, "--out", out, "--workers", 1)
    before = hashes(out)
    call("pairs", faces, "--out", out, "--workers", 1)
    assert hashes(out) == before
    call("pairs", out / "inputs/train", "--out", out, "--workers", 1, "--overwrite", code=2)
    assert hashes(out) == before


def test_synth_replaces_portraits_of_its_own_in_an_archive_and_no_other_file(tmp_path: Path) -> None:
    options = ("--count", 1, "--size", 32, "--workers", 1)
    for name in ("a.zip", "b.parquet", "c.dat", "shards"):
        more = {"c.dat": ("--to", "zip"), "shards": ("--to", "parquet")}.get(name, ())
        if name == "shards":
            as_folder(tmp_path / name, {"portraits-00000.parquet": MINE})
        else:
            (tmp_path / name).write_bytes(MINE)
        before = hashes(tmp_path)
        assert "--overwrite" in call("synth", tmp_path / name, *options, *more, code=2)
        assert hashes(tmp_path) == before
        call("synth", tmp_path / name, *options, *more, "--overwrite")
        assert hashes(tmp_path) != before
        call("synth", tmp_path / name, *options, *more, "--seed", 5)
    holiday = as_zip(tmp_path / "holiday.zip", {"a.png": MINE})
    call("synth", holiday, *options, code=2)
    call("synth", tmp_path / "shards", "--to", "zip", *options, "--overwrite", code=2)


def test_synth_writes_into_a_folder_and_over_no_picture_in_it(tmp_path: Path) -> None:
    options = ("--count", 2, "--size", 32, "--workers", 1)
    as_folder(tmp_path / "x", {"portrait-000001.png": MINE, "notes.txt": MINE})
    before = hashes(tmp_path)
    done = CliRunner().invoke(app, ["synth", str(tmp_path / "x"), *map(str, options)])
    assert done.exit_code
    after = hashes(tmp_path)
    assert {name: after[name] for name in before} == before
    call("synth", tmp_path / "x", *options, "--overwrite")
    whole = hashes(tmp_path)
    call("synth", tmp_path / "x", *options)
    assert hashes(tmp_path) == whole


def weights(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    return make_models(root)


def test_json_and_sheets_replace_only_their_own_kind(tmp_path: Path) -> None:
    place, model = pictures(tmp_path / "in", side=128), weights(tmp_path / "models")
    commands: dict[str, Callable[[Path], list[Any]]] = {
        "a.json": lambda to: ["compare", place, place, "--workers", 1, "--json", to],
        "b.json": lambda to: ["score", model, "--faces", place, "--json", to],
        "c.png": lambda to: ["inspect", place, "--sheet", to],
        "d.jpg": lambda to: ["inspect", place, "--sheet", to],
    }
    for name, arguments in commands.items():
        target = tmp_path / name
        other = saved(Image.fromarray(np.zeros((8, 8, 3), np.uint8)), "PNG") if name[0] > "b" else b'{"my": "data"}'
        target.write_bytes(other)
        assert "--overwrite" in call(*arguments(target), code=2)
        assert target.read_bytes() == other
        call(*arguments(target), "--overwrite")
        assert target.read_bytes() != other
        call(*arguments(target))
        # an input is no output, whatever is said
        before = hashes(tmp_path / "in")
        call(*arguments(tmp_path / "in/0.png"), "--overwrite", code=2)
        link = tmp_path / f"link-{name}"
        link.symlink_to(tmp_path / "in/0.png")
        call(*arguments(link), "--overwrite", code=2)
        hard = tmp_path / f"hard-{name}"
        os.link(model, hard)
        if name == "b.json":
            call(*arguments(hard), "--overwrite", code=2)
        assert hashes(tmp_path / "in") == before


def test_adapt_replaces_neither_an_input_nor_a_file_that_is_no_generator(tmp_path: Path) -> None:
    place, model = pictures(tmp_path / "in"), weights(tmp_path / "models")
    other = tmp_path / "mine.safetensors"
    other.write_bytes(MINE)
    before = hashes(tmp_path)
    assert "--overwrite" in call("adapt", place, "--out", other, code=2)
    assert "--overwrite" in call("adapt", place, "--out", tmp_path / "x.safetensors", "--json", other, code=2)
    call("adapt", place, "--out", tmp_path / "y.safetensors", "--model", model, "--json", model, "--overwrite", code=2)
    assert hashes(tmp_path) == before


def test_train_writes_into_no_folder_of_other_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.stages import write_params
    from support.training import write_inputs, write_manifest

    images = write_inputs(tmp_path / "data/inputs/train", [face(0, 256)], "train")
    images += write_inputs(tmp_path / "data/inputs/valid", [face(9, 256)], "valid")
    write_manifest(tmp_path / "data/pairs.parquet", images)
    write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    as_folder(tmp_path / "run", {"fidelity/mine.txt": MINE})
    as_folder(tmp_path / "other", {"run.json": b"{mine"})
    before = hashes(tmp_path)
    assert "not from a training" in call("train", "--out", "run", code=2)
    call("train", "--out", "other", code=2)
    assert hashes(tmp_path) == before
