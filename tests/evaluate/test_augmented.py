"""Results on augmented inputs stand apart from those on clean ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.evaluation import METHODS, SIDE, build, face, measure
from support.training import write_inputs
from support.upscaling import make_models

from pipeline.core.degradation import MEASURED_SCALES, Degradations, degrade, draw_degradation
from pipeline.core.images import decode, psnr, resize
from pipeline.core.scales import AUGMENTED
from pipeline.core.scales import METHODS as GENERATORS
from pipeline.core.schema import UPSCALED
from pipeline.core.shards import read_rows, write_rows
from pipeline.evaluate.aggregate import aggregate
from pipeline.evaluate.cases import find_cases
from pipeline.report.tables import paper_table
from pipeline.runtime.units import RowUnit
from pipeline.upscale.measured_inputs import MeasuredInputs
from pipeline.upscale.stage import UpscaleWorker
from pipeline.upscale.upscaler import Upscaler

DRAW = Degradations(3, {"none": 5.0, "noise": 1.0}, noise=(4.0, 8.0), blur=(0.5, 1.0), jpeg=(40, 60))


def lows(count: int) -> list[np.ndarray]:
    return [resize(face(number), SIDE, SIDE) for number in range(count)]


def test_augmented_inputs_are_degraded_alike_for_every_method_and_stand_apart(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 3})
    scale = f"256to1024{AUGMENTED}"
    drawn = {}
    for method in METHODS:
        rows = list(read_rows(tmp_path / "upscaled" / method / "256to1024" / "test-00000.parquet"))[:2]
        for row in rows:
            drawn[row["id"]] = draw_degradation(row["id"], scale, DRAW)
            row |= {"scale": scale, "degradation": json.dumps(drawn[row["id"]])}
        write_rows(tmp_path / "upscaled" / method / scale / "test-00000.parquet", rows, UPSCALED)
    measure(config, tmp_path / "parts")
    summary = aggregate(tmp_path / "parts", config)["test"]
    assert list(summary) == [*MEASURED_SCALES[:2], scale]
    assert (summary[scale]["bicubic"]["count"], summary["256to1024"]["bicubic"]["count"]) == (2, 3)
    ids = list(drawn)
    expected = []
    for case, low in zip(find_cases(config, "test", scale, ids), lows(2), strict=True):
        worse = degrade(low, **drawn[case.id])
        assert case.low is not None
        assert (case.low == worse).all()
        assert not (case.low == low).all()
        expected.append(psnr(case.truth, resize(worse, 4 * SIDE, 4 * SIDE)))
    assert summary[scale]["bicubic"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-5)
    table = paper_table({"test": summary}, "test", "facesr")
    assert table is not None
    assert table.head[3:] == ["clean: bicubic", "clean: facesr", "augmented: bicubic", "augmented: facesr"]
    assert table.lines[0][1:3] == ["36.96", "33.32"]
    assert table.lines[2][3:] == ["–"] * 4


def test_the_upscale_worker_records_what_an_augmented_input_suffered_and_enlarges_that(tmp_path: Path) -> None:
    build(tmp_path, {"test": 2})
    make_models(tmp_path)
    options = {"tile": 64, "precision": "fp32", "back_projection": 2}
    models = {method: str(tmp_path / f"{name}.safetensors") for method, name in GENERATORS.items()}
    worker = UpscaleWorker(MeasuredInputs(str(tmp_path / "inputs"), degradations=DRAW), models, options)
    # inputs of this side are large enough to be reduced themselves
    write_inputs(tmp_path / "whole" / "test", [face(number) for number in range(2)], "test")
    reducing = UpscaleWorker(MeasuredInputs(str(tmp_path / "whole"), degradations=DRAW), models, options)
    rows = {}
    for scale in ("256to1024", f"256to1024{AUGMENTED}", f"64to256{AUGMENTED}"):
        part = tmp_path / "parts" / f"{scale}.parquet"
        done = (reducing if scale.startswith("64") else worker)(
            RowUnit(str(part), 0, 2, "test-00000", "test", "facesr", scale)
        )
        assert done == {"images": 2, "failed": 0}
        rows[scale] = list(read_rows(part))
    clean, large, small = rows.values()
    assert [row["degradation"] for row in clean] == [None, None]
    plain = Upscaler.load(Path(models["facesr"]), **options | {"back_projection": 0})
    for low, row in zip(lows(2), large, strict=True):
        drawn = json.loads(row["degradation"])
        assert drawn == draw_degradation(row["id"], row["scale"], DRAW)
        assert (decode(row["image"]["bytes"]) == plain([degrade(low, **drawn)])[0]).all()
    for low, row in zip(lows(2), small, strict=True):
        assert (decode(row["image"]["bytes"]) == plain([degrade(low, **json.loads(row["degradation"]))])[0]).all()


def test_a_degradation_depends_on_the_face_alone_and_is_never_none_or_a_turn() -> None:
    drawn = [draw_degradation(f"{number:032x}", "64to256", DRAW) for number in range(40)]
    assert {one["augmentation"] for one in drawn} == {"noise"}
    assert all(4 <= one["strength"] <= 8 for one in drawn)
    assert len({one["seed"] for one in drawn}) == 40
    assert drawn[3] == draw_degradation(f"{3:032x}", "64to256", DRAW)
    alike = [
        draw_degradation(f"{number:032x}", "64to256", replace(DRAW, chances={"rot90": 1.0})) for number in range(60)
    ]
    assert {one["augmentation"] for one in alike} == {"noise", "blur", "jpeg"}
