"""Tables are written in every format, the paper's beside ours."""

from pathlib import Path

import pytest
from support.evaluation import build, change, image, measure

from pipeline.core.schema import UPSCALED
from pipeline.evaluate.aggregate import aggregate
from pipeline.report.tables import FORMATS, render, results


def test_tables_are_written_in_every_format_with_their_definitions(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 2})
    shard = tmp_path / "upscaled" / "facesr-realism" / "256to1024" / "test-00000.parquet"
    change(shard, UPSCALED, lambda rows: [rows[0], rows[1] | {"image": image(None), "status": "failed"}])
    measure(config, tmp_path / "parts")
    table = results(aggregate(tmp_path / "parts", config))
    texts = {form: render(table, form) for form in FORMATS}
    lines = texts["csv"].splitlines()
    assert lines[0].startswith('split,scale,method,"PSNR, dB",SSIM,MS-SSIM,')
    assert len(lines) == 1 + 2 * 4
    assert texts["markdown"].count("\n|") == len(lines) + 1
    assert "255²" in texts["markdown"]
    assert r"\begin{tabular}{lllrrrrr}" in texts["latex"]
    assert texts["latex"].count(r" \\") == len(lines)
    assert "Not measured: " in texts["markdown"]
    with pytest.raises(ValueError, match="pdf"):
        render(table, "pdf")
