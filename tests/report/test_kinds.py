"""The table of methods by kind of input is over the same faces everywhere, and says what it shows."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.evaluation import METHODS, build, measure

from pipeline.cli.table import print_table
from pipeline.core.degradation import draw_kind
from pipeline.core.schema import UPSCALED
from pipeline.core.shards import read_rows, write_rows
from pipeline.evaluate.cases import EvaluationConfig
from pipeline.report.dvc_plots import with_gains
from pipeline.report.kinds import kind_tables
from pipeline.report.write import write

CONFIG = EvaluationConfig(METHODS, references=["theirs"])


def rows_of(gains: dict[str, dict[str, list[float]]], **more: Any) -> list[dict[str, Any]]:
    """By scale and method: the gain on face 0, 1, …; bicubic has 30 dB."""
    rows = []
    for scale, methods in gains.items():
        for method, values in {"bicubic": [0.0] * 9, **methods}.items():
            for number, gain in enumerate(values):
                row = {"id": f"{number:032x}", "name": f"{number}.png", "split": "test", "scale": scale}
                rows.append(row | {"method": method, "psnr": 30.0 + gain, "identity": None} | more)
    return with_gains(rows)


def test_columns_are_over_the_faces_that_all_kinds_have_and_a_method_with_fewer_has_no_figure() -> None:
    rows = rows_of(
        {
            "256to1024": {"facesr": [1.0, 2.0, 9.0], "facesr-realism": [0.5] * 3, "theirs": [0.1] * 3},
            "256to1024-jpeg75": {"facesr": [0.2, 0.4], "facesr-realism": [0.5, 0.5], "theirs": [0.9]},
            "256to1024-noise5": {"facesr": [-0.3, -0.1], "facesr-realism": [-0.9, -0.9]},
        }
    )
    (table,) = kind_tables({}, rows, CONFIG)
    assert (table.group, table.kinds, table.faces) == (("test", "256to1024"), ["clean", "jpeg75", "noise5"], 2)
    (gains,) = table.blocks
    assert gains.lines["facesr"] == pytest.approx([1.5, 0.3, -0.2])
    assert gains.lines["theirs"] == pytest.approx([0.1, None, None], nan_ok=True)
    assert [gains.is_best("facesr", column) for column in range(3)] == [True, False, True]
    assert [gains.is_best("facesr-realism", column) for column in range(3)] == [False, True, False]
    assert [gains.text(value) for value in gains.lines["facesr"]] == ["+1.50", "+0.30", "−0.20"]
    assert gains.text(None) == "–"
    assert table.finding == (
        "facesr gains +1.50 dB over bicubic on clean inputs and from −0.20 dB (noise5) to +0.30 dB (jpeg75) on "
        "degraded ones; it is above bicubic on 1 of 2 kinds. Most gain: facesr (noise5); facesr-realism (jpeg75)."
    )


def test_identity_and_distances_of_sets_stand_below_where_they_were_measured() -> None:
    gains = {"256to1024": {"facesr": [1.0, 2.0]}, "256to1024-mixed": {"facesr": [0.2, 0.4]}}
    rows = rows_of(gains, identity=0.9)
    rows = [row for row in rows if row["id"] < f"{2:032x}"]
    rows[0]["identity"] = None  # a face that is not found
    summary = {
        "test": {
            "256to1024": {"facesr": {"fid": 4.0, "count": 50}, "bicubic": {"fid": 9.0, "count": 50}},
            "256to1024-mixed": {"facesr": {"fid": 6.0, "count": 2}, "bicubic": {"fid": 12.0, "count": 2}},
        }
    }
    (table,) = kind_tables(summary, rows, CONFIG)
    assert [block.heading for block in table.blocks] == ["PSNR gain over bicubic", "Identity", "FID"]
    identity, fid = table.blocks[1:]
    assert identity.lines["bicubic"] == pytest.approx([0.9, 0.9])
    # over other faces it could not be compared
    assert fid.lines == {"bicubic": [None, 12.0], "facesr": [None, 6.0]}
    assert fid.is_best("facesr", 1)
    assert not fid.is_best("bicubic", 1)


def test_a_single_kind_is_told_without_a_span_and_no_kinds_give_no_table() -> None:
    gains = {"256to1024": {"facesr": [1.0]}, "256to1024-blur1": {"facesr": [0.25]}}
    (table,) = kind_tables({}, rows_of(gains), CONFIG)
    assert table.finding.startswith(
        "facesr gains +1.00 dB over bicubic on clean inputs and +0.25 dB (blur1) on degraded"
    )
    assert kind_tables({}, rows_of({"256to1024": {"facesr": [1.0]}}), CONFIG) == []
    (table,) = kind_tables({}, rows_of({"256to1024-blur1": {"lanczos": [0.25]}}), EvaluationConfig(["facesr"]))
    assert table.finding == "facesr has no results on degraded inputs."


def test_the_report_writes_the_table_its_plot_and_one_sheet_of_all_kinds(tmp_path: Path) -> None:
    config = build(tmp_path, {"test": 3})
    for kind in ("jpeg75", "thumbnail"):
        scale = f"256to1024-{kind}"
        for method in METHODS:
            rows = list(read_rows(tmp_path / "upscaled" / method / "256to1024" / "test-00000.parquet"))[:2]
            for row in rows:
                row |= {"scale": scale, "degradation": json.dumps(draw_kind(row["id"], scale, 1))}
            write_rows(tmp_path / "upscaled" / method / scale / "test-00000.parquet", rows, UPSCALED)
    measure(config, tmp_path / "parts")
    reports = tmp_path / "reports"
    summary = write(tmp_path / "parts", config, reports, {})
    assert list(summary["test"]) == ["64to256", "256to1024", "256to1024-jpeg75", "256to1024-thumbnail"]
    lines = (reports / "tables/kinds-1.csv").read_text().splitlines()
    assert lines[0] == "metric,method,clean,jpeg75,thumbnail"
    assert "test, 256to1024, 2 faces, the same in every column." in (reports / "tables/kinds-1.md").read_text()
    plot = (reports / "plots/kinds.csv").read_text().splitlines()
    assert plot[0] == "label,split,scale,kind,method,gain_psnr"
    assert any(line.startswith("test 256to1024 jpeg75 facesr,test,256to1024,jpeg75,facesr,") for line in plot)
    assert (reports / "sheets/kinds-test-256to1024.png").is_file()
    assert not (reports / "sheets/test-256to1024-jpeg75.png").exists()
    page = (reports / "report.html").read_text()
    assert page.count("thumbnail inputs") == 0, "kinds have no cards and tables of their own"
    assert page.count('<h2 id="kinds">') == 1
    # without kinds the plot's table is there, and empty
    plain = build(tmp_path / "plain", {"test": 1})
    measure(plain, tmp_path / "plain/parts")
    write(tmp_path / "plain/parts", plain, tmp_path / "plain/reports", {})
    assert len((tmp_path / "plain/reports/plots/kinds.csv").read_text().splitlines()) == 1
    assert not list((tmp_path / "plain/reports/tables").glob("kinds-*"))


def test_on_the_terminal_kinds_share_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    def scores(gain: float) -> dict[str, Any]:
        return {"bicubic": {"psnr": 30.0, "count": 2}, "facesr": {"psnr": 30.0 + gain, "count": 2}}

    scales = {"256to1024": scores(1.0), "256to1024-noise5": scores(-0.25), "256to1024-jpeg90": scores(0.5)}
    scales["256to1024-noise5"]["theirs"] = {"psnr": None, "count": 0}
    print_table({"test": scales})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["method", "jpeg90", "noise5"] in lines
    assert ["facesr", "+0.50", "-0.25"] in lines
    assert ["theirs", "–", "–"] in lines
    assert sum("noise5" in line for line in lines) == 1
