"""Names are shown as they are, whatever they look like and wherever they are printed."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.archives import as_folder
from support.pictures import face
from support.upscaling import make_models
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.images import encode_png
from pipeline.runtime import console as module

ODD = ("[red]x.png", "[x].png", "[bold]bad.png", ":smile:.png", "[link=file:x]é日.png", "[/bold].png")


def call(*arguments: Any, charset: str = "utf-8") -> tuple[int, str]:
    done = CliRunner(charset=charset).invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})
    assert not done.exception or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("[") / "[x]"
    files = {name: encode_png(face(number, 64)) for number, name in enumerate(ODD)}
    as_folder(root, files | {ODD[2]: b"no picture", "[/].png": b"no picture either"})
    make_models(root.parent)
    return root


@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
def test_names_that_look_like_markup_are_printed_as_they_are(place: Path, tmp_path: Path, charset: str) -> None:
    code, said = call("inspect", place, charset=charset)
    assert code == 0
    assert ODD[2] in said
    assert "[/].png" in said
    assert str(place) in said
    against = ("--against", f"[/x]={place}", "--against", f"[red]y={place}")
    code, said = call("compare", place, place, *against, "--workers", 1, "--report", tmp_path / "[/]", charset=charset)
    assert code == 1
    for name in ("[/x]", "[red]y", ODD[2], "[/].png", str(tmp_path / "[/]")):
        assert name in said
    model = place.parent / "fidelity.safetensors"
    again = as_folder(tmp_path / "[/b]", {"[/bold].png": encode_png(face(1, 64))})
    code, said = call("score", model, "--faces", again, "--json", tmp_path / "[/].json", charset=charset)
    assert code == 0, said
    assert str(model) in json.loads((tmp_path / "[/].json").read_text())
    options = ("--size", 64, "--min-size", 64, "--workers", 1)
    code, said = call("ingest", place, "--out", tmp_path / "[/o]", *options, charset=charset)
    assert code == 0, said


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "[/x]"),
        ("compare", "[/x]", "[/x]"),
        ("pairs", "[/x]", "--out", "y"),
        ("view", "[/x]"),
        ("score", "[/x]"),
        ("adapt", "[/x]", "--out", "[/y].safetensors"),
        ("evaluate", "--method", "[/x]"),
        ("table", "[/x]"),
        ("table", "--format", "[/x]"),
        ("synth", "y.zip", "--to", "[/x]"),
        ("train", "--out", "y", "--phase", "[/x]", "--params", "[/x]"),
        ("weights", "add", "[/x]"),
        ("weights", "fetch", "[/x]"),
        ("upscale", "[/x]", "y"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_typed(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = call(*arguments)
    assert code in (1, 2)
    assert "[/x]" in said or arguments[0] in ("evaluate", "train")


def test_progress_shows_notes_and_titles_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    shown = Console(file=file, force_terminal=True, width=150, markup=False, emoji=False, color_system=None)
    monkeypatch.setattr(module, "console", shown)
    with module.progress("[/title]", 2) as advance:
        advance(2, "[/note] [red]")
    assert "[/title]" in file.getvalue()
    assert "[/note] [red]" in file.getvalue()


def test_what_standard_output_cannot_encode_is_escaped_as_json_would(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", "strict")
    monkeypatch.setattr("sys.stdout", stream)
    module.print_anything()
    value = {"é": "日 \udcff 😀"}
    stream.write(json.dumps(value, ensure_ascii=False))
    stream.flush()
    assert json.loads(stream.buffer.getvalue().decode("ascii")) == value  # type: ignore[attr-defined]
