"""`facesr pairs` and the pairs stage: inputs, manifest and report of faces of any size, the same after a kill."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support.pictures import face, pixels_of
from support.stages import KILL_AT_RENAME, KILLED, faces_of, files_of, python
from support.training import write_inputs
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.images import Pixels
from pipeline.core.scales import METHODS, SCALES
from pipeline.core.schema import PAIRS
from pipeline.core.shards import write_rows
from pipeline.models.checkpoint import save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.pairs.inputs import InputWorker
from pipeline.pairs.manifest import PairsError
from pipeline.pairs.report import degradations
from pipeline.params.pairs import Pairs
from pipeline.runtime.units import RowUnit
from pipeline.train.engine.batches import PairData
from pipeline.train.engine.config import BatchConfig
from pipeline.train.engine.validation import validate
from pipeline.upscale.measured_inputs import MeasuredInputs
from pipeline.upscale.stage import UpscaleWorker

SIDES = (64, 100, 128, 200, 256, 300)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairing") / "faces"
    write_inputs(folder, [face(index, SIDES[index % 6]) for index in range(12)], "train")
    write_inputs(folder, [face(20 + index, side) for index, side in enumerate((64, 300))], "valid")
    write_inputs(folder, [face(30, 256)], "test")
    return folder


@pytest.fixture(scope="module")
def made(faces: Path) -> Path:
    call(str(faces), "--out", str(faces.parent / "made"))
    return faces.parent / "made"


def call(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["pairs", *arguments, "--workers", "1"])
    assert done.exit_code == code, done.output
    return done.output


def manifest(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "pairs.parquet").to_pylist()


def test_inputs_are_256_pixels_at_most_and_smaller_faces_keep_their_bytes(faces: Path, made: Path) -> None:
    for split, count in (("train", 12), ("valid", 2), ("test", 1)):
        before = [row for row in faces_of(faces) if row["split"] == split]
        after = faces_of(made / "inputs" / split)
        assert [row["id"] for row in after] == [row["id"] for row in before]
        assert len(after) == count
        for old, new in zip(before, after, strict=True):
            side = min(256, old["width"])
            assert pixels_of(new).shape == (side, side, 3)
            assert (new["width"], new["height"]) == (side, side)
            assert (new["image"] == old["image"]) == (old["width"] <= 256)


def test_what_ingest_leaves_can_be_named_with_the_tables_beside_its_faces(
    faces: Path, made: Path, tmp_path: Path
) -> None:
    ingested = tmp_path / "ingested"
    ingested.mkdir()
    (ingested / "faces").symlink_to(faces)
    for name in ("known.parquet", "rejected.parquet"):
        pq.write_table(pa.table({"id": ["a"]}), ingested / name)
    call(str(ingested), "--out", str(tmp_path / "out"))
    assert (tmp_path / "out/pairs.parquet").read_bytes() == (made / "pairs.parquet").read_bytes()


def test_a_face_has_pairs_of_the_scales_that_fit_it_and_is_validated_at_the_largest(made: Path) -> None:
    sides = {row["id"]: row["width"] for split in ("train", "valid") for row in faces_of(made / "inputs" / split)}
    rows = manifest(made)
    for image_id, side in sides.items():
        mine = [row for row in rows if row["image_id"] == image_id]
        fitting = [scale for scale in SCALES if int(scale.split("to")[1]) <= side]
        if mine[0]["split"] == "valid":
            assert [row["scale"] for row in mine] == fitting[-1:]
        else:
            assert {row["scale"] for row in mine} == set(fitting)
            assert len(mine) == 4 * len(fitting)


def test_the_statistics_are_those_of_the_manifest(made: Path) -> None:
    said = json.loads((made / "pairs.json").read_text())
    rows = [row for row in manifest(made) if row["split"] == "train"]
    assert said["faces"] == {"train": 12, "valid": 2, "test": 1}
    assert said["sides"]["train"] == {"64": 2, "100": 2, "128": 2, "200": 2, "256": 4}
    assert said["pairs"] == {"train": len(rows), "valid": 2}
    assert said["scales"] == {scale: sum(row["scale"] == scale for row in rows) for scale in SCALES}
    assert said["valid_scales"] == {"16to64": 1, "64to256": 1}
    for name, values in said["augmentations"].items():
        mine = [row["strength"] for row in rows if row["augmentation"] == name]
        assert values["pairs"] == len(mine)
        assert values["share"] == pytest.approx(len(mine) / len(rows), abs=1e-6)
        if name in said["strengths"]:
            spread = said["strengths"][name]
            assert (spread["min"], spread["max"]) == (min(mine), max(mine))
            assert spread["mean"] == pytest.approx(np.mean(mine), abs=1e-4)
            assert spread["q1"] <= spread["median"] <= spread["q3"]
    asked = [values["asked"] for values in said["augmentations"].values()]
    assert sum(asked) == pytest.approx(1, abs=1e-5)


def test_the_report_shows_what_was_drawn_and_every_degradation(made: Path) -> None:
    said = json.loads((made / "pairs.json").read_text())
    for name in ("noise", "blur", "jpeg"):
        lines = (made / f"report/strengths-{name}.csv").read_text().splitlines()[1:]
        assert sum(int(line.split(",")[1]) for line in lines) == said["augmentations"][name]["pairs"]
    table = (made / "report/augmentations.csv").read_text()
    assert f'"none, asked",none,asked,{said["augmentations"]["none"]["asked"]:.6f}' in table
    with Image.open(made / "report/degradations.png") as picture:
        assert min(picture.size) > 300


def test_stronger_degradations_look_further_from_the_clean_input() -> None:
    sheet = degradations(face(3, 256), Pairs(seed=1)).astype(int)
    for line in range(3):  # noise, blur, jpeg: ground truth, clean, weak, middle, strong
        top = 8 + line * (256 + 24 + 8)
        cells = [sheet[top : top + 256, 88 + 264 * column :][:, :256] for column in range(5)]
        changes = [np.abs(cell - cells[1]).mean() for cell in cells[2:]]
        assert 0 < changes[0] < changes[1] < changes[2]


def test_options_change_the_draws_and_nothing_else(faces: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    call(str(faces), "--out", str(out), "--seed", "2", "--draws", "1", "--chance", "noise=1", "--noise", "2", "3")
    rows = manifest(out)
    assert {row["augmentation"] for row in rows if row["split"] == "train"} == {"noise"}
    assert all(2 <= row["strength"] <= 3 for row in rows if row["split"] == "train")
    assert files_of(out / "inputs") == files_of(made / "inputs")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--chance", "mirror=1"), "mirror"),
        (("--chance", "noise"), "expected AUGMENTATION=NUMBER"),
        (("--noise", "3", "2"), "upside down"),
    ],
)
def test_options_that_cannot_be_are_named(
    options: tuple[str, ...], complaint: str, faces: Path, tmp_path: Path
) -> None:
    assert complaint in " ".join(call(str(faces), "--out", str(tmp_path / "out"), *options, code=2).split())
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused_and_a_strangers_inputs_are_left_alone(
    faces: Path, tmp_path: Path
) -> None:
    (tmp_path / "inputs/train").mkdir(parents=True)
    (tmp_path / "inputs/train/mine.png").write_bytes(b"mine")
    call(str(faces), "--out", str(tmp_path), code=2)
    assert (tmp_path / "inputs/train/mine.png").read_bytes() == b"mine"
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(app, ["pairs", str(tmp_path / "empty"), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, PairsError)
    assert "holds no shards of faces" in str(done.exception)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(faces: Path, made: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.argv = ['facesr', 'pairs', {str(faces)!r}, '--out', 'out', '--workers', '1']\n"
    code += "from pipeline.cli import main; main()"
    # once in the second shard's reduction, once when the manifest would appear
    for suffix in ("train-0000000.parquet", "pairs.parquet"):
        killer = KILL_AT_RENAME.format(suffix=suffix.replace("train-", "train-00000-"))
        assert python(f"{killer}\n{code}", tmp_path).returncode == KILLED
        assert not (tmp_path / "out/pairs.json").exists()
    assert python(code, tmp_path).returncode == 0
    assert files_of(tmp_path / "out") == files_of(made)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_training_and_validation_take_faces_of_any_size_together(made: Path) -> None:
    data = PairData(made / "inputs/train", made / "pairs.parquet", "train")
    config = BatchConfig(1, 4, 96, {"16to64": 0.1, "32to128": 0.3, "64to256": 0.6}, smoother=0.3)
    assert {data.batch(config, step)[1].shape[1] for step in range(40)} == {64, 96}
    pairs = PairData(made / "inputs/valid", made / "pairs.parquet", "valid").shown(9)
    assert [truth.shape[0] for truth, _ in pairs] == [256, 64]

    def enlarge(low: Pixels) -> Pixels:
        return np.repeat(np.repeat(low, 4, 0), 4, 1)

    scores, sheet = validate(enlarge, pairs)
    assert 10 < scores["valid_psnr"] < 60
    assert sheet.shape == (256 + 64, 3 * 256, 3)


def test_a_unit_of_inputs_is_written_as_it_was_however_it_was_cut(faces: Path, made: Path, tmp_path: Path) -> None:
    for start in (0, 6):
        part = tmp_path / f"{start}.parquet"
        InputWorker(str(faces))(RowUnit(str(part), start, start + 6, "train-00000"))
    assert faces_of(tmp_path) == faces_of(made / "inputs/train")


def test_tables_without_pictures_have_large_row_groups(tmp_path: Path) -> None:
    values = {pa.string(): "x", pa.float64(): 1.0, pa.int32(): 1, pa.int64(): 1}
    row = {field.name: values[field.type] for field in PAIRS}
    write_rows(tmp_path / "table.parquet", [row] * 5000, PAIRS)
    assert pq.ParquetFile(tmp_path / "table.parquet").num_row_groups == 1


def test_faces_under_256_are_enlarged_but_have_no_row_at_64to256(made: Path, tmp_path: Path) -> None:
    config = GeneratorConfig((8,), blocks=0, bottleneck=1)
    models = {}
    for method, name in METHODS.items():
        save_generator(tmp_path / f"{name}.safetensors", Generator(config), config, {}, torch.float16)
        models[method] = str(tmp_path / f"{name}.safetensors")
    worker = UpscaleWorker(MeasuredInputs(str(made / "inputs"), degradations=Pairs(seed=1).degradation()), models, {})
    inputs = {row["id"]: row["width"] for row in faces_of(made / "inputs/valid")}
    for scale in ("64to256", "256to1024"):
        part = tmp_path / scale / "part.parquet"
        assert worker(RowUnit(str(part), 0, 2, "valid-00000", "valid", "facesr", scale)) == {"images": 2, "failed": 0}
        done = {row["id"]: row["width"] for row in faces_of(part.parent)}
        if scale == "64to256":
            assert done == {name: 256 for name, side in inputs.items() if side == 256}
        else:
            assert done == {name: 4 * side for name, side in inputs.items()}
    assert sorted(inputs.values()) == [64, 256]
