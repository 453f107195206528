"""Evaluation measures the same faces for every method, says what is missing, and gives the same bytes every time."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.evaluation import CONFIG, METHODS, SIDE, FakeInception, build, change, face, image, measure

from pipeline.core.images import pixel_hash, psnr, resize
from pipeline.core.scales import UPSCALED_SCALES
from pipeline.core.schema import FACES, UPSCALED
from pipeline.core.shards import write_rows
from pipeline.evaluate import aggregate as aggregation
from pipeline.evaluate.aggregate import aggregate
from pipeline.evaluate.cases import EvaluationConfig, find_cases
from pipeline.evaluate.summary import headline
from pipeline.evaluate.worker import EvaluationWorker, plan_units
from pipeline.metrics import perceptual
from pipeline.metrics.fidelity import consistency, ssim
from pipeline.report.write import write


def test_every_method_is_measured_at_both_scales_against_the_right_truth(tmp_path: Path) -> None:
    config = build(tmp_path, {"train": 2, "test": 3})
    assert sum(found["images"] for found in measure(config, tmp_path / "parts")) == 10
    summary = aggregate(tmp_path / "parts", CONFIG)
    assert {split: list(scales) for split, scales in summary.items()} == {
        "train": ["64to256", "256to1024"],
        "test": ["64to256", "256to1024"],
    }
    assert list(summary["test"]["256to1024"]) == ["bicubic", "lanczos", *METHODS]
    truths = [face(100 + number) for number in range(3)]
    lows = [resize(truth, SIDE, SIDE) for truth in truths]
    large = summary["test"]["256to1024"]
    bicubic = [resize(low, 4 * SIDE, 4 * SIDE) for low in lows]
    pairs = list(zip(truths, bicubic, strict=True))
    assert large["bicubic"]["psnr"] == pytest.approx(np.mean([psnr(*pair) for pair in pairs]), abs=1e-5)
    assert large["bicubic"]["ssim"] == pytest.approx(np.mean([ssim(*pair) for pair in pairs]), abs=1e-5)
    strays = [consistency(result, low) for result, low in zip(bicubic, lows, strict=True)]
    assert large["bicubic"]["consistency"] == pytest.approx(np.mean(strays), abs=1e-5)
    small = summary["test"]["64to256"]
    expected = [psnr(low, resize(resize(low, 16, 16), SIDE, SIDE, lanczos=True)) for low in lows]
    assert small["lanczos"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-5)
    for scores in (large, small):
        assert scores["facesr"]["psnr"] > scores["bicubic"]["psnr"] > scores["facesr-realism"]["psnr"]
        assert scores["facesr"]["ssim"] > scores["facesr-realism"]["ssim"]
        assert scores["facesr-realism"]["consistency"] > scores["bicubic"]["consistency"]


def test_a_split_without_originals_has_no_large_scale(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 2}, originals=False)
    measure(config, tmp_path / "parts")
    assert list(aggregate(tmp_path / "parts", CONFIG)["test"]) == ["64to256"]


def test_a_face_that_one_method_failed_on_is_left_out_for_all_and_counted(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 4})
    shard = tmp_path / "upscaled" / "facesr" / "256to1024" / "test-00000.parquet"
    failed = {"status": "failed", "error": "out of memory", "image": image(None)}
    # one row says that it failed, one is not there at all
    change(shard, UPSCALED, lambda rows: [rows[0] | failed, *rows[2:]])
    damaged = {"bytes": b"not a picture", "path": ""}
    change(
        tmp_path / "inputs" / "test" / "test-00000.parquet",
        FACES,
        lambda rows: [*rows[:3], rows[3] | {"image": damaged}],
    )
    found = measure(config, tmp_path / "parts")
    assert sum(one["failed"] for one in found) == 4  # three faces at the large scale, the damaged one at the small too
    scores = aggregate(tmp_path / "parts", CONFIG)["test"]["256to1024"]
    assert {method: (score["count"], score["failed"]) for method, score in scores.items()} == {
        "bicubic": (1, 1),
        "lanczos": (1, 1),
        "facesr": (1, 3),
        "facesr-realism": (1, 1),
    }
    only = face(2)
    assert scores["bicubic"]["psnr"] == pytest.approx(
        psnr(only, resize(resize(only, SIDE, SIDE), *only.shape[:2])), abs=1e-5
    )


def test_a_method_without_any_result_is_null_and_leaves_the_others_alone(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 3})
    (tmp_path / "upscaled" / "facesr-realism" / "256to1024" / "test-00000.parquet").unlink()
    measure(config, tmp_path / "parts")
    scores = aggregate(tmp_path / "parts", CONFIG)["test"]["256to1024"]
    assert (scores["facesr-realism"]["psnr"], scores["facesr-realism"]["failed"]) == (None, 3)
    assert scores["facesr"]["count"] == scores["bicubic"]["count"] == 3


def test_reports_are_the_same_bytes_however_the_work_was_cut(tmp_path: Path) -> None:
    config = build(tmp_path, {"train": 2, "test": 5})
    outputs = []
    for size in (1, 3):
        parts, reports = tmp_path / f"parts{size}", tmp_path / f"reports{size}"
        units = plan_units(config, parts, size)
        worker = EvaluationWorker(config)
        for unit in reversed(units):
            worker(unit)
        write(parts, config, reports, {"versions": {"facesr": "0"}})
        outputs.append({str(path.relative_to(reports)): path.read_bytes() for path in reports.rglob("*.*")})
    assert outputs[0].keys() == outputs[1].keys()
    assert [name for name in outputs[0] if outputs[0][name] != outputs[1][name]] == []
    assert {"metrics.json", "per_image.parquet", "report.html", "plots/per_image.csv"} <= outputs[0].keys()
    assert "sheets/test-256to1024.png" in outputs[0]
    json.loads(outputs[0]["metrics.json"], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_units_cover_every_face_once_with_a_part_of_their_own(tmp_path: Path) -> None:
    config = build(tmp_path, {"train": 3, "test": 5})
    units = plan_units(config, tmp_path / "parts", 2)
    assert len({unit.part for unit in units}) == len(units)
    assert sum(unit.stop - unit.start for unit in units) == 2 * (3 + 5)
    assert max(unit.stop - unit.start for unit in units) <= 2


def test_results_are_joined_by_id_not_by_place(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 4})
    measure(config, tmp_path / "straight")
    for folder, schema in (("faces", FACES), ("upscaled/facesr/256to1024", UPSCALED)):
        change(tmp_path / folder / "test-00000.parquet", schema, lambda rows: rows[::-1])
    measure(config, tmp_path / "turned", size=3)
    assert aggregate(tmp_path / "straight", CONFIG) == aggregate(tmp_path / "turned", CONFIG)
    ids = [pixel_hash(face(number)) for number in (2, 0)]
    assert [case.id for case in find_cases(config, "test", "256to1024", ids)] == ids


def test_without_inception_weights_fid_is_null_with_the_way_to_get_it(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 2})
    measure(config, tmp_path / "parts")
    score = aggregate(tmp_path / "parts", CONFIG)["test"]["64to256"]["facesr"]
    assert score["fid"] is None
    assert "no inception weights" in score["fid_reason"]


def test_fid_is_taken_over_the_common_faces_and_warns_of_its_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptual, "InceptionFeatures", FakeInception)
    monkeypatch.setattr(aggregation, "_FEATURE_BLOCK", 2)
    config = replace(build(tmp_path, {"train": 1, "test": 5}), networks={"inception": "inception.pth"})
    for method in METHODS:
        change(
            tmp_path / "upscaled" / method / "64to256" / "test-00000.parquet",
            UPSCALED,
            lambda rows: [{**row, "image": image(resize(face(100 + i), SIDE, SIDE))} for i, row in enumerate(rows)],
        )
    shard = tmp_path / "upscaled" / "facesr" / "64to256" / "test-00000.parquet"
    change(shard, UPSCALED, lambda rows: rows[1:])
    summaries = []
    for size in (2, 5):
        measure(config, tmp_path / f"parts{size}", size)
        summaries.append(aggregate(tmp_path / f"parts{size}", config))
    assert summaries[0] == summaries[1]
    scores = summaries[0]["test"]["64to256"]
    assert scores["facesr"]["fid"] == pytest.approx(0, abs=1e-3)
    assert scores["bicubic"]["fid"] > 1
    assert "only 4 pictures" in scores["bicubic"]["fid_warning"]
    alone = summaries[0]["train"]["64to256"]["facesr"]
    assert alone["fid"] is None
    assert "at least 2 pictures" in alone["fid_reason"]


def test_the_headline_is_the_gain_on_unseen_faces_at_the_largest_scale():
    summary = {
        "train": {"256to1024": {"bicubic": {"psnr": 30.0}, "facesr": {"psnr": 33.0}}},
        "test": {
            "64to256": {"bicubic": {"psnr": 30.0}, "facesr": {"psnr": 32.0}},
            "256to1024": {"bicubic": {"psnr": 30.0}, "facesr": {"psnr": 31.25}, "other": {"psnr": None}},
        },
    }
    assert headline(summary) == "test, 256to1024, PSNR over bicubic: facesr +1.25 dB"
    assert headline({}) == "nothing could be measured: no face of 256x256 or more was enlarged"


def _with_small_faces(config: EvaluationConfig, split: str, count: int) -> None:
    """The first faces of a split become 128x128, which the upscale stage has enlarged at 256to1024 alone."""
    path = Path(config.inputs) / split / f"{split}-00000.parquet"
    rows = pq.read_table(path).to_pylist()
    small = {row["id"] for row in rows[:count]}
    for row in rows[:count]:
        row |= {"image": image(face(99)[:128, :128]), "width": 128, "height": 128}
    write_rows(path, rows, FACES)
    write_rows(Path(config.faces) / path.name, rows, FACES)
    for method in config.methods:
        done = Path(config.upscaled) / method / "64to256" / path.name
        change(done, UPSCALED, lambda rows: [row for row in rows if row["id"] not in small])


def test_faces_under_256_are_not_measured_and_the_report_says_how_many(tmp_path: Path) -> None:
    config = build(tmp_path, {"train": 3, "test": 4})
    _with_small_faces(config, "test", 2)
    measure(config, tmp_path / "parts", 1)
    summary = write(tmp_path / "parts", config, tmp_path / "reports", {})
    assert (summary["test"]["64to256"]["bicubic"]["count"], summary["train"]["64to256"]["bicubic"]["count"]) == (2, 3)
    assert all(score["failed"] == 0 for score in summary["test"]["64to256"].values())
    page = (tmp_path / "reports/report.html").read_text()
    assert "are not measured: 2 of test." in page


def test_faces_are_measured_whichever_before_them_were_not_to_be_enlarged(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 5})
    for method, scale in product(config.methods, UPSCALED_SCALES):
        # as the first ones would have no original
        change(Path(config.upscaled) / method / scale / "test-00000.parquet", UPSCALED, lambda rows: rows[3:4])
    measure(config, tmp_path / "parts", 2)
    summary = write(tmp_path / "parts", config, tmp_path / "reports", {})
    assert [summary["test"][scale]["facesr"]["count"] for scale in UPSCALED_SCALES] == [1, 1]


def test_when_no_face_reaches_256_the_evaluation_says_so_and_still_writes_a_report(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 2})
    _with_small_faces(config, "test", 2)
    measure(config, tmp_path / "parts")
    summary = write(tmp_path / "parts", config, tmp_path / "reports", {})
    assert summary == {}
    assert headline(summary).endswith("no face of 256x256 or more was enlarged")
    assert "are not measured: 2 of test." in (tmp_path / "reports/report.html").read_text()
