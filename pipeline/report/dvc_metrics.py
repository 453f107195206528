"""The figures of `dvc metrics show` and `diff`: few, and rows of one table, since DVC prints a row per file.

Everything else that was measured is in metrics.json, which no terminal holds.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.files import write_json
from pipeline.core.scales import BASELINE, UPSCALED_SCALES
from pipeline.evaluate.summary import Summary

METHODS = {"facesr": "", "facesr-realism": "-realism", BASELINE: f"-{BASELINE}"}
"""Methods whose figures are shown -> what stands behind the name of their row."""
SHOWN = ("psnr", "ssim", "consistency", "lpips", "fid")
"""Of them, as far as they were measured."""
_DIGITS = 4
"""Decimals: what a person compares, and what fits a terminal of 120 columns."""

Figures = dict[str, float]
"""Column -> value."""


def figures(
    summary: Summary, ingest: Mapping[str, Any], pairs: Mapping[str, Any], training: Mapping[str, Mapping[str, float]]
) -> dict[str, Figures]:
    """Row -> its figures, under names that rows share.

    `data-{split}` and `data-rejected` (faces, pairs), `valid-{phase}` (psnr in dB and ssim of the last validation),
    `{split}-{side of the result}` (facesr's `SHOWN`, clean inputs); those of the others end in `-realism`, `-bicubic`.

    Args:
        summary: what metrics.json holds.
        ingest: what ingest.json holds.
        pairs: what pairs.json holds.
        training: phase -> its last logged values.
    """
    rows: dict[str, Figures] = {
        f"data-{split}": {"faces": count} | ({"pairs": pairs["pairs"][split]} if split in pairs["pairs"] else {})
        for split, count in ingest["splits"].items()
    }
    rows["data-rejected"] = {"faces": ingest["rejected"]}
    for phase, logged in training.items():
        values = {key: logged.get(f"valid_{key}") for key in ("psnr", "ssim")}
        rows[f"valid-{phase}"] = _rounded(values)
    for split, scales in summary.items():
        for scale in UPSCALED_SCALES:
            for method, suffix in METHODS.items():
                score = scales.get(scale, {}).get(method, {})
                row = f"{split}-{scale.rpartition('to')[2]}{suffix}"
                rows[row] = _rounded({key: score.get(key) for key in SHOWN})
    return {name: row for name, row in rows.items() if row}


def write_figures(folder: Path, summary: Summary, data: Path, training: Path) -> None:
    """Write a JSON file of each row of `figures` into `folder`, which must be new.

    Args:
        folder: for `{row}.json`.
        summary: what metrics.json holds.
        data: folder of ingest.json and pairs.json.
        training: folder of `{phase}/metrics.json`.
    """
    ingest, pairs = (json.loads((data / name).read_bytes()) for name in ("ingest.json", "pairs.json"))
    logged = {path.parent.name: json.loads(path.read_bytes()) for path in sorted(training.glob("*/metrics.json"))}
    folder.mkdir(parents=True)
    for name, row in figures(summary, ingest, pairs, logged).items():
        write_json(folder / f"{name}.json", row)


def _rounded(values: Mapping[str, float | None]) -> Figures:
    return {key: round(value, _DIGITS) for key, value in values.items() if value is not None}
