"""The page of a result shows what a person should look at first, before and after, and works in a real browser."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from support.archives import ARCHIVES, as_folder, as_parquet, as_tar, as_zip
from support.pages import browse, poor_contrasts
from support.pictures import face, static
from typer.testing import CliRunner

from pipeline.bulk import gallery
from pipeline.bulk.checks import choose
from pipeline.cli.view import view
from pipeline.core.images import Pixels, encode_png, resize
from pipeline.sources.open import open_archive

SIDE = 128
"""Of the inputs: the results are 512, so that there is a detail to show."""
TEXT = dict.fromkeys(("id", "name", "status", "error", "model", "file", "note", "flags"), pa.string())
COUNTS = dict.fromkeys(("width", "height", "input_width", "input_height", "faces"), pa.int32())
COLUMNS = pa.schema(TEXT | COUNTS | dict.fromkeys(("seconds", "consistency", "identity"), pa.float64()))
app = typer.Typer()
app.command()(view)


def row(name: str, **changes: Any) -> dict[str, Any]:
    values = {"id": name, "name": name, "status": "ok", "error": "", "seconds": 0.1, "model": "ab12" * 16}
    values |= {"width": 4 * SIDE, "height": 4 * SIDE, "input_width": SIDE, "input_height": SIDE, "note": ""}
    return values | {"file": name, "faces": None, "consistency": 0.1, "identity": None, "flags": ""} | changes


def write_manifest(path: Path, rows: list[dict[str, Any]], source: str | None) -> None:
    facts = {"facesr": "1.0", "output": str(path), "settings": {"name": "adapted-to-mine", "tile": 512}}
    table = pa.Table.from_pylist(rows, schema=COLUMNS)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"facesr": json.dumps(facts | {"input": source})}), path)


def low(seed: int) -> Pixels:
    return face(seed, SIDE)


def high(seed: int) -> Pixels:
    """Not what bicubic makes of the input, so that before and after can be told apart."""
    return 255 - resize(low(seed), 4 * SIDE, 4 * SIDE)


def write_result(root: Path, rows: list[dict[str, Any]]) -> Path:
    """A folder of results and the folder of inputs that they were made of; the n-th row shows face n."""
    names = [one["name"] for one in rows]
    done = {one["file"]: encode_png(high(seed)) for seed, one in enumerate(rows) if one["status"] == "ok"}
    as_folder(root / "in", {name: encode_png(low(seed)) for seed, name in enumerate(names)})
    as_folder(root / "out", done)
    write_manifest(root / "out" / "manifest.parquet", rows, str(root / "in"))
    return root / "out"


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def page_of(output: Path, *options: Any) -> str:
    done = run(output, *options)
    assert done.exit_code == 0, done.output
    page = output / "view.html" if output.is_dir() else output.with_name(f"{output.name}.view.html")
    return page.read_text()


def names_on(page: str) -> list[str]:
    return re.findall(r'<article [^>]*data-name="([^"]*)"', page)


def pictures_on(page: str) -> list[Pixels]:
    """Before and after, then before and after of the detail, of every card."""
    uris = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))) for uri in uris]


def close(shown: Pixels, truth: Pixels) -> bool:
    return shown.shape == truth.shape and float(np.abs(shown.astype(int) - truth).mean()) < 4


def test_before_is_the_input_enlarged_and_after_the_result(tmp_path: Path) -> None:
    shown = pictures_on(page_of(write_result(tmp_path, [row("a.png")])))
    assert len(shown) == 4
    middle = slice(64, 448)
    for picture, truth in zip(shown[:2], (resize(low(0), 512, 512), high(0)), strict=True):
        assert close(picture, truth)
    for picture, truth in zip(shown[2:], (resize(low(0), 512, 512), high(0)), strict=True):
        assert close(picture, truth[middle, middle])


@pytest.mark.parametrize("kind", ["zip", "tar", "parquet"])
def test_results_in_an_archive_are_found_by_name_and_the_page_lies_beside_it(kind: str, tmp_path: Path) -> None:
    rows = [row("a/1.jpg", file="a/1.png"), row("bad.jpg", status="failed", error="empty file", file=None)]
    rows.append(row("2.jpg", file="2.png"))
    output = Path(ARCHIVES[kind](tmp_path, {"a/1.png": encode_png(high(0)), "2.png": encode_png(high(2))}))
    source = as_zip(tmp_path / "in.zip", {f: encode_png(low(n)) for n, f in enumerate(["a/1.jpg", "bad.jpg", "2.jpg"])})
    write_manifest(output.with_name(output.name + ".manifest.parquet"), rows, source)
    page = page_of(output)
    assert names_on(page) == ["a/1.jpg", "2.jpg"]
    shown = pictures_on(page)
    assert close(shown[0], resize(low(0), 512, 512))
    assert close(shown[5], high(2))


def test_results_in_a_folder_of_parquet_shards_are_found(tmp_path: Path) -> None:
    output = tmp_path / "out"
    ARCHIVES["parquet"](output, {"a.png": encode_png(high(0))})
    write_manifest(output / "manifest.parquet", [row("a.png", file="faces.parquet")], None)
    assert close(pictures_on(page_of(output))[1], high(0))


def test_tables_that_hold_no_results_do_not_keep_a_folder_from_being_shown(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row("a.png")])
    for place in ("notes.parquet", "sub/notes.parquet", ".facesr/parts/1/000000.parquet"):
        (output / place).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"note": ["none"]}), output / place)
    assert close(pictures_on(page_of(output))[1], high(0))


def test_one_picture_is_shown(tmp_path: Path) -> None:
    output = tmp_path / "big.png"
    output.write_bytes(encode_png(high(0)))
    (tmp_path / "small.png").write_bytes(encode_png(low(0)))
    rows = [row("small.png", file="big.png")]
    write_manifest(tmp_path / "big.png.manifest.parquet", rows, str(tmp_path / "small.png"))
    assert close(pictures_on(page_of(output))[0], resize(low(0), 512, 512))


def test_a_name_that_an_archive_holds_twice_is_paired_with_its_own_input(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row("a.png", file="first.png"), row("a.png", file="second.png")])
    source = as_parquet(tmp_path / "in.parquet", {"a.png": encode_png(low(0)), "b.png": encode_png(low(1))})
    table = pq.read_table(source)
    pq.write_table(table.append_column("name", pa.array(["a.png", "a.png"])), source)
    shown = pictures_on(page_of(output, "--before", source))
    assert close(shown[0], resize(low(0), 512, 512))
    assert close(shown[4], resize(low(1), 512, 512))


def test_flagged_pictures_come_first_and_the_worst_of_them_at_the_top(tmp_path: Path) -> None:
    rows = [row(f"{number}.png") for number in range(4)]
    rows[1] |= {"flags": "disagrees", "consistency": 1.5}
    rows[3] |= {"flags": "disagrees,identity", "consistency": 6.0, "identity": 0.2}
    page = page_of(write_result(tmp_path, rows))
    assert names_on(page) == ["3.png", "1.png", "0.png", "2.png"]
    assert ">disagrees</span>" in page


def test_a_limit_takes_the_flagged_and_then_an_even_sample(tmp_path: Path) -> None:
    rows = [row(f"{number:03}.png", flags="no-face" if number in (40, 41) else "") for number in range(100)]
    rows[7] |= {"status": "failed", "file": None}
    chosen = choose(rows, 10)
    assert chosen[:2] == [40, 41]
    assert len(set(chosen)) == 10
    assert chosen[2] == 0
    assert chosen[-1] == 99
    assert max(np.diff(chosen[2:])) <= 18
    assert choose(rows, 1) == [40]
    assert sorted(choose(rows, 500)) == [number for number in range(100) if number != 7]
    assert choose([], 5) == []


def test_the_page_says_how_many_of_how_many_are_shown(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row(f"{number}.png") for number in range(3)])
    page = page_of(output, "--limit", 2)
    assert len(names_on(page)) == 2
    assert "2 of 3 pictures" in page
    assert "even sample" in page
    assert "3 of 3 pictures" in page_of(output)


def test_failures_are_listed_with_their_reason_and_counted(tmp_path: Path) -> None:
    rows = [row("a.png"), row("cut.png", status="failed", error="truncated picture (7 bytes)", file=None)]
    rows.append(row("done.png", status="skipped", error="", note="there already", file=None))
    page = page_of(write_result(tmp_path, rows))
    assert names_on(page) == ["a.png"]
    assert "<b>1</b> failed" in page
    assert "<b>1</b> skipped" in page
    table = page[page.index("<table>") :]
    for part in ("cut.png", "truncated picture (7 bytes)", "there already"):
        assert part in table


def test_a_result_that_is_gone_or_damaged_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row("a.png"), row("b.png"), row("c.png")])
    (output / "a.png").unlink()
    (output / "b.png").write_bytes(b"no picture")
    page = page_of(output)
    assert names_on(page) == ["c.png"]
    assert page.count("the result cannot be shown") == 2


def test_a_manifest_cannot_name_a_file_outside_its_folder(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row("a.png", file="../secret.png")])
    assert (tmp_path / "secret.png").is_file()
    assert names_on(page_of(output)) == []


def test_inputs_that_are_gone_are_replaced_by_the_reduced_result_and_the_page_says_so(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row("a.png")])
    assert "invented detail is in it too" not in page_of(output)
    (tmp_path / "in").rename(tmp_path / "moved")
    page = page_of(output)
    assert "invented detail is in it too" in page
    assert ">result reduced 4×</span>" in page
    assert close(pictures_on(page)[0], high(0))
    page = page_of(output, "--before", tmp_path / "moved")
    assert ">input</span>" in page
    assert close(pictures_on(page)[0], resize(low(0), 512, 512))


def test_an_input_that_was_replaced_by_another_size_is_not_taken_for_the_before(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row("a.png"), row("b.png")])
    (tmp_path / "in" / "a.png").write_bytes(encode_png(face(9, 100)))
    page = page_of(output)
    assert "The input of 1 picture is not there any more" in page
    assert page.count(">result reduced 4×</span>") == 2
    assert page.count(">input</span>") == 2


def test_a_manifest_in_csv_is_read_and_names_stay_text(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row("001", file="001.png")])
    table = pq.read_table(output / "manifest.parquet")
    pyarrow.csv.write_csv(table, output / "manifest.csv")
    (output / "manifest.parquet").unlink()
    page = page_of(output, "--before", tmp_path / "in")
    assert names_on(page) == ["001"]
    assert close(pictures_on(page)[0], resize(low(0), 512, 512))


def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    as_tar(tmp_path / "x.tar", {"a.png": b""})
    other = tmp_path / "other"
    other.mkdir()
    pq.write_table(pa.table({"x": [1]}), other / "manifest.parquet")
    torn = tmp_path / "torn"
    as_folder(torn, {"manifest.parquet": b"PAR1 no more"})
    good = write_result(tmp_path, [row("a.png")])
    for arguments, reason in (
        ((empty,), "not a result of facesr upscale"),
        ((tmp_path / "x.tar",), "not a result of facesr upscale"),
        ((other,), "not a manifest of facesr upscale"),
        ((torn,), "not a readable manifest"),
        ((tmp_path / "nowhere",), "no such file or folder"),
        (("s3://bucket/out",), "copy the result here"),
        ((good, "--before", tmp_path / "nowhere"), "--before"),
        ((good, "--to", empty), "is a folder"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, arguments
        assert reason in done.output
        assert "Traceback" not in done.output
    assert not (good / "view.html").exists()


def test_nothing_that_a_manifest_names_is_opened_but_a_sibling_of_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = write_result(tmp_path / "a", [row("a.png")])
    elsewhere = as_folder(tmp_path / "elsewhere", {"a.png": encode_png(low(0))})
    opened: list[str] = []
    monkeypatch.setattr(
        gallery, "open_archive", lambda path, scratch: opened.append(path) or open_archive(path, scratch)
    )
    secret = "s3://KEY:SECRET@127.0.0.1/bucket/in?secret_key=SECRET&scheme=http"
    for recorded in (
        secret,
        "http://127.0.0.1/in",
        elsewhere,
        "../elsewhere",
        "..",
        ".",
        "/",
        "",
        "*",
        "x\0y",
        "hf://in",
        3,
    ):
        write_manifest(output / "manifest.parquet", [row("a.png", note=f"read {secret}")], recorded)  # type: ignore[arg-type]
        page = page_of(output)
        assert opened == [], recorded
        assert ">result reduced 4×</span>" in page
        assert "name their place with --before" in page
        for text in ("SECRET", "KEY", "127.0.0.1", str(tmp_path)):
            assert text not in page
        assert ">input</span>" in page_of(output, "--before", elsewhere)
        assert opened == [elsewhere]
        opened.clear()
    write_manifest(output / "manifest.parquet", [row("a.png")], "/data/of/somebody/in")
    assert ">input</span>" in page_of(output)
    assert opened == [str(output.parent / "in")]


def test_a_manifest_that_is_odd_is_refused_in_one_line_or_shown(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row("a.png")])
    path = output / "manifest.parquet"
    good = pq.read_table(path)
    names = good.column_names
    bad = [
        good.replace_schema_metadata({"facesr": text})
        for text in ("[]", "{", "3", '{"settings": [1]}', "\xff", "[" * 9999)
    ]
    bad += [good.set_column(names.index("width"), "width", pa.array(["wide"]))]
    bad += [good.set_column(names.index("name"), "name", pa.array([[1]])), good.append_column("name", good["name"])]
    bad += [pa.table({"name": ["a.png"]}), pa.table({"image": [b"x"]}), good.drop_columns("status")]
    for table in bad:
        pq.write_table(table, path)
        done = run(output)
        assert done.exit_code == 2, table.schema
        assert len(done.output.strip().splitlines()) == 1, done.output
        assert "manifest" in done.output
    odd = [row("a.png", file=file) for file in ("\0", "x" * 5000, "/etc/passwd", "..", "")]
    odd += [row("a.png") | {"name": None}, row("a.png") | {"status": None}, row("b.png", consistency=float("nan"))]
    write_manifest(path, odd, None)
    assert "name their place" in page_of(output)


def test_a_page_replaces_an_earlier_page_and_nothing_else(tmp_path: Path) -> None:
    output = write_result(tmp_path, [row("a.png")])
    page_of(output)
    page_of(output)
    (output / "view.html").write_text("mine")
    for options in (
        (),
        ("--overwrite",),
        ("--to", output / "a.png", "--overwrite"),
        ("--to", output / "manifest.parquet"),
    ):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert run(output, *options).exit_code == 2
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    other = tmp_path / "page.html"
    other.write_text("mine")
    assert run(output, "--to", other).exit_code == 2
    assert other.read_text() == "mine"
    assert run(output, "--to", other, "--overwrite").exit_code == 0
    assert run(output, "--to", other).exit_code == 0


def test_an_output_without_pictures_still_gives_a_page(tmp_path: Path) -> None:
    page = page_of(write_result(tmp_path, [row("a.png", status="failed", error="empty file", file=None)]))
    assert "There is no picture to show" in page
    assert "empty file" in page


def test_names_and_reasons_cannot_become_markup(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    output = write_result(tmp_path, [row("a.png")])
    rows = [row(evil, file="a.png", flags=f"disagrees,{evil}", note=evil)]
    rows.append(row("b.png", status="failed", error="<img src=x onerror=alert(2)>", file=None))
    write_manifest(output / "manifest.parquet", rows, evil)
    page = page_of(output)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_page_is_one_file_that_warns_and_tells_its_model(tmp_path: Path) -> None:
    page = page_of(write_result(tmp_path, [row("a.png")]))
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?\s*(https?:|//)""", page)
    assert "default-src 'none'" in page
    assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img[^>]*>", page))
    assert "must not serve to identify a person" in page
    assert "adapted-to-mine" in page
    assert "ab12ab12ab12" in page


def test_pictures_that_do_not_compress_are_reduced_until_they_fit_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = write_result(tmp_path, [row("a.png", width=1024, height=1024)])
    (output / "a.png").write_bytes(encode_png(static(0, 1024)))
    free = page_of(output)
    assert pictures_on(free)[1].shape == (768, 768, 3)
    monkeypatch.setattr(gallery, "_SHARE", 2_000)
    page = page_of(output)
    assert len(page) < 500_000 < len(free)
    assert pictures_on(page)[3].shape == (384, 384, 3)
    assert "1 picture is shown smaller" in page


CHECK = """
  const cards = () => [...document.querySelectorAll(".pic")];
  const names = () => cards().filter((card) => !card.hidden).map((card) => card.dataset.name).join(" ");
  const set = (id, value, kind) => {
    const field = document.getElementById(id);
    field.value = value;
    field.dispatchEvent(new Event(kind));
  };
  const stage = document.querySelector(".stage"), range = stage.querySelector("input");
  const clip = () => getComputedStyle(stage.querySelectorAll("img")[1]).clipPath;
  const box = stage.getBoundingClientRect();
  const at = { clientX: box.left + box.width / 4, clientY: box.top + 9, bubbles: true, pointerId: 1, cancelable: true };
  stage.setPointerCapture = () => {};
  stage.dispatchEvent(new PointerEvent("pointerdown", { ...at, pointerType: "mouse" }));
  out.mouse = clip();
  out.focused = document.activeElement === range;
  stage.hasPointerCapture = () => true;
  stage.dispatchEvent(new PointerEvent("pointermove", { ...at, clientX: at.clientX + box.width / 4 }));
  out.touch = clip();
  range.stepUp(10);
  range.dispatchEvent(new Event("input"));
  out.keys = clip();
  out.first = names();
  for (const order of ["name", "consistency", "identity", "pixels"]) {
    set("sort", order, "change");
    out[order] = names();
  }
  set("sort", "rank", "change");
  set("filter", "DISAGREES", "input");
  out.filtered = names();
  set("filter", "nothing of the kind", "input");
  out.nothing = names() + document.getElementById("none").hidden;
  set("filter", "", "input");
  document.getElementById("only").click();
  out.only = names();
  document.getElementById("only").click();
  out.all = cards().filter((card) => !card.hidden).length;
  const toggle = document.querySelector(".toggle"), detail = document.querySelector(".detail");
  toggle.click();
  out.detail = getComputedStyle(detail).display + toggle.getAttribute("aria-pressed");
  out.side = detail.querySelector(".stage").clientWidth <= 384;
  document.querySelector("input[name=part][value=whole]").click();
  document.querySelector(".about").open = true;
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_slider_sorting_and_filter_work_in_a_browser(tmp_path: Path, width: int) -> None:
    long = "a-name-without-a-space-" * 12
    rows = [row("p10.png", consistency=0.3, identity=0.9), row("p9.png", consistency=0.2, width=99, identity=None)]
    rows.append(row("bad.png", consistency=2.5, identity=0.95, flags="disagrees", note=long))
    rows.append(row(f"{long}.png", status="failed", error=long, file=None))
    output = write_result(tmp_path, rows[:3])
    write_manifest(output / "manifest.parquet", rows, str(tmp_path / "in"))
    found = browse(page_of(output), CHECK, tmp_path, width)
    assert found == {
        "mouse": "inset(0px 0px 0px 25%)",
        "focused": True,
        "touch": "inset(0px 0px 0px 50%)",
        "keys": "inset(0px 0px 0px 60%)",
        "first": "bad.png p10.png p9.png",
        "name": "bad.png p9.png p10.png",
        "consistency": "bad.png p10.png p9.png",
        "identity": "p10.png bad.png p9.png",
        "pixels": "bad.png p10.png p9.png",
        "filtered": "bad.png",
        "nothing": "false",
        "only": "bad.png",
        "all": 3,
        "detail": "gridtrue",
        "side": True,
        "images": 12,
        "overflow": 0,
        "width": width,
    }


def test_text_has_contrast_in_light_and_in_dark(tmp_path: Path) -> None:
    page = page_of(write_result(tmp_path, [row("a.png")]))
    assert poor_contrasts(page, {"ink": "paper card tint warn", "soft": "paper card", "loss": "paper card"}) == []
