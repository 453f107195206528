"""The tables that DVC plots."""

from pathlib import Path

import pytest
from support.evaluation import build, measure

from pipeline.report.dvc_plots import histogram
from pipeline.report.write import write


def test_plot_tables_carry_the_gain_over_bicubic(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 3})
    measure(config, tmp_path / "parts")
    write(tmp_path / "parts", config, tmp_path / "reports", {})
    lines = (tmp_path / "reports" / "plots" / "per_image.csv").read_text().splitlines()
    assert lines[0].startswith("id,name,split,scale,method,psnr,ssim,ms_ssim,consistency,")
    assert lines[0].endswith(",gain_psnr")
    assert len(lines) == 1 + 3 * 2 * 4
    for line in lines[1:]:
        cells = dict(zip(lines[0].split(","), line.split(","), strict=True))
        assert (float(cells["gain_psnr"]) > 0) == (cells["method"] in ("facesr", "lanczos"))
    curve = (tmp_path / "reports" / "plots" / "gain-test-256to1024.csv").read_text().splitlines()
    assert curve[0] == "rank,lanczos,facesr,facesr-realism"
    assert len(curve) == 4


def test_histogram_edges_include_zero_and_every_value_is_counted() -> None:
    bins = histogram([-0.31, -0.02, 0.4, 0.41, 1.73])
    assert sum(bins.counts) == 5
    assert bins.low <= -0.31
    assert bins.high >= 1.73
    assert (bins.low / bins.width) == pytest.approx(round(bins.low / bins.width))
    assert sum(histogram([0.0, 0.0]).counts) == 2
    with pytest.raises(ValueError, match="no values"):
        histogram([])
