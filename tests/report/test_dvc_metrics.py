"""The few figures that DVC shows."""

import json
from pathlib import Path
from typing import Any

from dvc.compare import metrics_table

from pipeline.report.dvc_metrics import SHOWN, figures, write_figures

SCORE = {"psnr": 31.668311, "ssim": 0.827556, "consistency": 0.023711, "lpips": 0.31234, "fid": 112.34567, "kid": 0.1}
METHODS = ("bicubic", "lanczos", "facesr", "facesr-realism", "zssr")
SUMMARY: dict[str, Any] = {
    split: {scale: dict.fromkeys(METHODS, SCORE) for scale in ("64to256", "256to1024", "256to1024-augmented")}
    for split in ("train", "test")
}
INGEST = {"splits": {"train": 3998, "valid": 200, "test": 5000}, "rejected": 12, "sides": {"1024": 9198}}
PAIRS = {"pairs": {"train": 47976, "valid": 200}, "faces": {"train": 3998}}
TRAINING = {phase: {"step": 900, "valid_psnr": 30.12346, "valid_ssim": 0.81234} for phase in ("fidelity", "realism")}


def test_rows_are_data_validation_and_each_split_scale_and_method() -> None:
    rows = figures(SUMMARY, INGEST, PAIRS, TRAINING)
    assert rows["data-train"] == {"faces": 3998, "pairs": 47976}
    assert (rows["data-test"], rows["data-rejected"]) == ({"faces": 5000}, {"faces": 12})
    assert rows["valid-realism"] == {"psnr": 30.1235, "ssim": 0.8123}
    scored = {
        f"{split}-{side}{end}" for split in SUMMARY for side in (256, 1024) for end in ("", "-realism", "-bicubic")
    }
    assert rows.keys() == scored | {f"data-{name}" for name in (*INGEST["splits"], "rejected")} | {
        "valid-fidelity",
        "valid-realism",
    }
    assert rows["test-1024"].keys() == set(SHOWN)


def test_what_was_not_measured_has_no_figure_and_a_row_without_figures_is_none() -> None:
    unmeasured = SCORE | {"fid": None, "fid_reason": "no weights", "lpips": None}
    summary: dict[str, Any] = {"test": {"64to256": {"facesr": unmeasured, "bicubic": {"psnr": None, "ssim": None}}}}
    rows = figures(summary, INGEST, PAIRS, {"fidelity": {"step": 1}})
    assert rows["test-256"] == {"psnr": 31.6683, "ssim": 0.8276, "consistency": 0.0237}
    assert {name for name in rows if not name.startswith("data-")} == {"test-256"}


def test_all_rows_with_every_metric_measured_fit_a_terminal_of_120_columns(tmp_path: Path) -> None:
    for name, value in (("data/ingest.json", INGEST), ("data/pairs.json", PAIRS)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(value))
    for phase, logged in TRAINING.items():
        (tmp_path / "train" / phase).mkdir(parents=True)
        (tmp_path / "train" / phase / "metrics.json").write_text(json.dumps(logged))
    write_figures(tmp_path / "dvc", SUMMARY, tmp_path / "data", tmp_path / "train")
    rows = {
        f"reports/dvc/{path.name}": {"data": json.loads(path.read_bytes())} for path in (tmp_path / "dvc").iterdir()
    }
    table = metrics_table({"workspace": {"data": rows}}, precision=5, round_digits=True)
    # as DVC prints it: tabulate puts two spaces between columns, DVC two more behind each name
    widths = [max(len(name) + 2, *map(len, column)) + 2 for name, column in table.items()]
    assert sum(widths) <= 120
