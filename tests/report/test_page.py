"""The report says what the numbers say, is one file that loads nothing, and works in a real browser."""

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.pages import browse, poor_contrasts

from pipeline.core.degradation import KINDS
from pipeline.core.images import Pixels, resize
from pipeline.evaluate.cases import Case, EvaluationConfig
from pipeline.metrics.registry import MEASURES, signed
from pipeline.report import sheets
from pipeline.report.dvc_plots import with_gains
from pipeline.report.findings import pick_extremes, verdict, warnings
from pipeline.report.kinds import Block, KindTable
from pipeline.report.page import render

CONFIG = EvaluationConfig(["facesr", "facesr-realism"], synthetic=True, random_vgg=True)
GROUP = ("test", "256to1024")
PROVENANCE = {"Data": {"faces": "ab" * 32}, "Versions": {"torch": "2.15.0"}}


def score(psnr: float, ssim: float, **more: Any) -> dict[str, Any]:
    found = {"psnr": psnr, "ssim": ssim, "consistency": 0.5, "count": 9, "failed": 0, "fid": None, "fid_reason": "none"}
    return found | more


def summary_of(**methods: dict[str, Any]) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in methods.items()}
    return {GROUP[0]: {GROUP[1]: named}}


def rows_of(gains: list[float], method: str = "facesr") -> list[dict[str, Any]]:
    rows = []
    for number, gain in enumerate(gains):
        row = {"id": f"{number:032x}", "name": f"face{number}.png", "split": GROUP[0], "scale": GROUP[1]}
        row |= {"ssim": 0.9, "consistency": 0.4}
        rows += [{**row, "method": "bicubic", "psnr": 30.0}, {**row, "method": method, "psnr": 30.0 + gain}]
    return with_gains(rows)


def case_of(number: int, side: int = 256, *, grain: int = 4, name: str | None = None) -> Case:
    random = np.random.default_rng(number)
    coarse: Pixels = resize(random.integers(0, 256, (12, 12, 3), dtype=np.uint8), side, side)
    truth = np.clip(coarse.astype(int) + random.integers(-grain, grain + 1, coarse.shape), 0, 255).astype(np.uint8)
    low = resize(truth, side // 4, side // 4)
    results = {method: resize(low, side, side) for method in ("bicubic", "lanczos", "facesr", "facesr-realism")}
    return Case(f"{number:032x}", name or f"face{number}.png", low, truth, results)


def by_kind() -> KindTable:
    """All kinds, whose table is wider than a telephone."""
    gains = {"lanczos": [0.2] * 8, "facesr": [0.8, 0.5, 0.3, -0.4, 0.1, 0.9, 0.6, 0.2]}
    identity = {"bicubic": [0.9] * 8, "facesr": [None, *[0.95] * 7]}
    blocks = [
        Block("PSNR gain over bicubic", "dB", 1, 2, gains, gain=True),
        Block("Identity", "", 1, 4, identity),
    ]
    return KindTable(GROUP, ["clean", *KINDS], 9, blocks, "facesr gains least on jpeg50.", "0" * 32)


def page_of(gains: list[float], **changes: Any) -> str:
    mean = 30 + sum(gains) / len(gains)
    cases = changes.get("cases", [case_of(number) for number in range(len(gains))])
    summary = changes.get("summary", summary_of(bicubic=score(30, 0.8), facesr=score(mean, 0.8 + sum(gains) / 100)))
    shown = {GROUP: cases[:3]}
    return render(summary, rows_of(gains), shown, cases, CONFIG, PROVENANCE, degraded=[(by_kind(), cases[:2])])


GAINS = [0.5, 0.9, -0.2, 1.4, 0.1, 0.7, 0.8, 1.1, 0.3]


@pytest.mark.parametrize(
    ("psnr", "ssim", "fids", "outcome"),
    [
        (31, 0.85, (None, None), "beats"),
        (29, 0.75, (None, None), "does not beat"),
        (30, 0.80, (None, None), "does not beat"),
        (31, 0.75, (None, None), "only partly beats"),
        (29, 0.75, (20.0, 4.0), "only partly beats"),
        (31, 0.85, (20.0, 25.0), "only partly beats"),
    ],
)
def test_the_verdict_follows_from_the_numbers(
    psnr: float, ssim: float, fids: tuple[float | None, float | None], outcome: str
) -> None:
    summary = summary_of(bicubic=score(30, 0.80, fid=fids[0]), facesr=score(psnr, ssim, fid=fids[1]))
    found = verdict(summary, rows_of([psnr - 30]), GROUP, "facesr")
    assert found is not None
    assert found.outcome == outcome
    assert found.won == int(psnr > 30)


def test_the_headline_tells_a_loss_as_plainly_as_a_win() -> None:
    assert "facesr beats bicubic" in page_of(GAINS)
    page = page_of([-gain for gain in GAINS])
    assert "<h1>facesr does not beat bicubic on unseen test faces, 256 → 1024</h1>" in page
    assert "<b>−0.62 dB</b>" in page
    assert "facesr beats" not in page


def test_a_report_without_the_subject_or_without_anything_still_renders() -> None:
    page = render(summary_of(bicubic=score(30, 0.8)), rows_of([]), {}, [], CONFIG, {})
    assert "facesr has no results" in page
    assert "Nothing was measured" in render({}, [], {}, [], CONFIG, {})


def test_warnings_name_what_weakens_the_numbers() -> None:
    summary = summary_of(
        bicubic=score(30, 0.8, fid_reason="no Inception weights: `facesr weights add inception FILE`"),
        facesr=score(31, 0.9, failed=2, fid=3.0, fid_reason="", fid_warning="only 9 pictures"),
    )
    text = " ".join(warnings(summary, CONFIG))
    for part in ("drawn by a program", "random weights", "Few faces: 9", "weights add inception", "only 9 pictures"):
        assert part in text
    assert "facesr 2 (test, 256 → 1024)" in text
    many = summary_of(bicubic=score(30, 0.8, count=5000, fid=1.0, fid_reason=""))
    assert warnings(many, EvaluationConfig([])) == []


def test_a_split_without_originals_is_said_to_be_measured_at_64_to_256_alone() -> None:
    config = EvaluationConfig([])
    both = {
        scale: {"bicubic": score(30, 0.8, count=5000, fid=1.0, fid_reason="")} for scale in ("64to256", "256to1024")
    }
    small = {"64to256": both["64to256"]}
    (note,) = warnings({"train": small, "test": both}, config)
    assert note == "No face of train has an original of four times its input: only 64 → 256 is measured there."
    (note,) = warnings({"train": small, "test": small}, config)
    assert note.startswith("No face of train and test has")


def test_the_page_tells_of_broken_methods_intervals_tests_and_definitions() -> None:
    gone = {"lpips": None, "lpips_reason": "no alexnet weights: `facesr weights fetch alexnet`"}
    tint = {"bias_r": 2.0, "bias_g": 2.1, "bias_b": 1.9, "shift_x": 0.0, "shift_y": -0.01, "mirror_gain": -20.0}
    test = {"mean": 1.0, "ci95": [0.8, 1.2], "p": 0.001, "p_holm": 0.004, "won": 9, "count": 9}
    doubt = test | {"mean": 0.001, "ci95": [-0.001, 0.003], "p_holm": 0.3, "won": 5}
    summary = summary_of(
        bicubic=score(30, 0.8, against={"facesr": {"psnr": test, "ssim": doubt}}, **gone),
        facesr=score(31, 0.801, psnr_ci95=[30.5, 31.5], **tint, **gone),
    )
    page = render(summary, rows_of([1.0]), {}, [], CONFIG, {})
    assert "facesr: its reduction differs from the input by a constant colour of +2.0 levels" in page
    assert "95 % of resamples between +0.80 and +1.20 dB" in page
    assert "30.50 to 31.50" in page
    assert re.search(r"bicubic</th><td class=\"left\">PSNR</td>.*?.004</td>.*?better</td>", page)
    assert re.search(r"bicubic</th><td class=\"left\">SSIM</td>.*?no difference shown</td>", page)
    assert "LPIPS Alex: no alexnet weights: <code>facesr weights fetch alexnet</code>" in page
    for measure in MEASURES.values():
        assert html.escape(measure.definition, quote=False).replace("'", "&#39;") in page


def test_the_page_has_one_table_of_methods_by_kind_with_the_best_marked() -> None:
    page = page_of(GAINS)
    section = page[page.index('<h2 id="kinds">') :]
    section = section[: section.index("</section>")]
    assert "facesr gains least on jpeg50." in section
    assert "thumbnail: reduced by box, JPEG 85 4:2:0" in section
    assert section.count("<table>") == 1
    heads = re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', section)
    assert heads == ["Method", "clean", *KINDS]
    line = re.search(r'<tr class="subject">.*?</tr>', section)
    assert line
    assert re.findall(r'<span class="v">(.*?)</span>', line[0])[:4] == ["+0.80", "+0.50", "+0.30", "−0.40"]
    best = re.findall(r'<td( class="best")?>', line[0])
    assert [bool(one) for one in best] == [True, True, True, False, False, True, True, True]
    assert "Identity ↑" in section
    assert "One face under every kind" in section
    assert 'id="kinds"' not in render(summary_of(bicubic=score(30, 0.8)), rows_of([]), {}, [], CONFIG, {})


def test_worst_median_and_best_cases_are_picked_and_none_twice() -> None:
    picked = pick_extremes(rows_of(GAINS), GROUP, "facesr", each=1)
    assert [(row["kind"], round(row["gain_psnr"], 2)) for row in picked] == [
        ("worst", -0.2),
        ("median", 0.7),
        ("best", 1.4),
    ]
    few = pick_extremes(rows_of([0.1, 0.2]), GROUP, "facesr")
    assert len({row["id"] for row in few}) == len(few) == 2


def test_numbers_carry_a_true_minus_sign() -> None:
    assert (signed(0.774), signed(-0.1), signed(0, 1)) == ("+0.77", "−0.10", "+0.0")


def test_names_from_the_source_cannot_become_markup() -> None:
    evil = '"><script>alert(1)</script>'
    cases = [case_of(0, name=evil)]
    rows = rows_of([0.5])
    for row in rows:
        row["name"] = evil
    summary = summary_of(bicubic=score(30, 0.8), facesr=score(31, 0.9))
    page = render(summary, rows, {GROUP: cases}, cases, CONFIG, {"Params": {"<i>x</i>": evil}})
    assert "<script>alert" not in page
    assert "<i>x</i>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_page_is_one_file_with_the_papers_figures_apart() -> None:
    page = page_of(GAINS)
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?\s*(https?:|//)""", page)
    assert "default-src 'none'" in page
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'<img[^>]* src="([^"]*)', page))
    assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img[^>]*>", page))
    aside = page[page.index("The paper's own figures") :]
    assert "33.32" in aside
    assert "augmented inputs" in aside
    assert "33.32" not in page[: page.index("The paper's own figures")]


def test_noisy_pictures_are_compressed_until_the_page_stays_small() -> None:
    cases = [case_of(number, 1024, grain=120) for number in range(3)]
    assert len(page_of(GAINS[:3], cases=cases).encode()) < 6_000_000


def test_text_has_contrast_in_light_and_in_dark() -> None:
    page = page_of(GAINS[:1])
    grounds = {"ink": "paper card tint", "soft": "paper card tint", "accent": "paper card", "loss": "paper card"}
    assert poor_contrasts(page, grounds) == []


def test_a_sheet_has_a_column_per_method_and_marks_a_missing_result() -> None:
    cases = [case_of(0), case_of(1)]
    full = sheets.draw(cases, ["facesr", "facesr-realism"])
    assert full.shape[1] == 64 + 5 * 264
    assert sheets.draw(cases, ["facesr"]).shape[1] == 64 + 4 * 264
    assert sheets.draw(cases[:1], ["facesr"]).shape[0] < sheets.draw(cases, ["facesr"]).shape[0]
    del cases[0].results["facesr"]
    changed = sheets.draw(cases, ["facesr", "facesr-realism"])
    different = np.any(full != changed, axis=(0, 2)).nonzero()[0]
    assert different.min() >= 64 + 2 * 264
    assert different.max() < 64 + 3 * 264


CHECK = """
const stage = document.querySelector(".stage"), range = stage.querySelector("input[type=range]");
range.value = 20; range.dispatchEvent(new Event("input"));
range.focus();
out.cut = stage.style.getPropertyValue("--cut");
out.clip = getComputedStyle(stage.querySelectorAll("img")[1]).clipPath;
out.focused = document.activeElement === range;
const table = document.querySelector("table.sortable");
const gains = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.value));
const before = gains();
table.tHead.rows[0].cells[1].querySelector("button").click();
out.sorted = JSON.stringify(gains()) === JSON.stringify([...before].sort((a, b) => b - a));
out.aria = table.tHead.rows[0].cells[1].getAttribute("aria-sort");
const figures = document.querySelector("#figures").closest("section").querySelector("table");
figures.tHead.rows[0].cells[1].querySelector("button").click();
const psnr = [...figures.tBodies[0].rows].map((row) => Number(row.cells[1].dataset.value));
out.figures = psnr.length > 1 && psnr.every((value, place) => !place || value >= psnr[place - 1]);
out.complete = [...document.images].every((image) => image.complete && image.naturalWidth > 0);
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_slider_sorting_and_layout_work_in_a_browser(tmp_path: Path, width: int) -> None:
    found = browse(page_of(GAINS), CHECK, tmp_path, width)
    del found["images"]
    assert found == {
        "cut": "20%",
        "clip": "inset(0px 0px 0px 20%)",
        "focused": True,
        "sorted": True,
        "aria": "descending",
        "figures": True,
        "complete": True,
        "overflow": 0,
        "width": width,
    }


TABLES = """
for (const fold of document.querySelectorAll("details")) fold.open = true;
const boxes = [...document.querySelectorAll(".scroll")];
out.tables = boxes.filter((box) => box.querySelector("table")).length;
out.wide = boxes.filter((box) => box.scrollWidth > box.clientWidth).map((box) => box.ariaLabel);
const above = [...document.querySelectorAll(".figures")].map((box) => box.getBoundingClientRect());
out.beside = above.some((box, i) => above.some((other, j) => j > i && other.top < box.bottom));
// the dot has no box of its own: what holds it must not be the page, and what scrolls must not grow by it
const best = document.querySelector("td.best"), value = best.querySelector(".v");
const dot = getComputedStyle(value, "::after");
out.dot = dot.content;
const room = best.getBoundingClientRect().right - value.getBoundingClientRect().right;
const taken = parseFloat(dot.width) + parseFloat(dot.paddingLeft);
out.inside = getComputedStyle(value).position === "relative" && taken <= room;
"""


def every_metric() -> dict[str, Any]:
    """Eight methods with all that can be measured, in all splits and scales."""
    whole = {key: 0.98765 if measure.digits > 2 else 98.76 for key, measure in MEASURES.items()}
    spans = {f"{key}_ci95": [value, value] for key, value in whole.items() if MEASURES[key].per_face}
    names = ("bicubic", "lanczos", "facesr", "facesr-realism", "supervised-twin", "real-esrgan-x4plus")
    scores = {name: score(30, 0.9) | whole | spans | {"fid_reason": "", "kid_std": 0.00123} for name in names}
    scores["facesr"] = scores["facesr"] | {"psnr": 31.0}
    return {split: {scale: dict(scores) for scale in ("256to1024", "64to256")} for split in ("test", "train")}


@pytest.mark.parametrize("width", [1280, 390])
def test_every_table_of_figures_fits_a_laptop_and_the_marks_of_the_best_stay_in_their_cells(
    tmp_path: Path, width: int
) -> None:
    found = browse(page_of(GAINS, summary=every_metric()), TABLES, tmp_path, width)
    assert found["tables"] > 8
    assert found["dot"] == '"●"'
    assert found["inside"]
    assert not found["beside"]
    assert found["overflow"] == 0
    if width == 1280:
        assert found["wide"] == []
