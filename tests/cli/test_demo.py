"""The demo needs no data: it draws a portrait, enlarges it and writes a page that shows both."""

from pathlib import Path

from PIL import Image
from support.stages import python
from typer.testing import CliRunner

from pipeline.cli import app

DEMO = """
import sys
from pipeline.cli import app
app(["demo", "--no-open", "--out", "demo"], standalone_mode=False)
print(" ".join(name for name in ("ray", "torchvision", "dvc", "scipy.stats") if name in sys.modules))
"""


def test_the_demo_shows_a_drawn_portrait_before_and_after_without_loading_what_it_does_not_need(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = python(DEMO, tmp_path)
    assert done.returncode == 0, done.stderr
    sizes = [Image.open(out / name).size for name in ("original.png", "portrait.png", "enlarged.png")]
    assert sizes == [(1024, 1024), (256, 256), (1024, 1024)]
    assert (out / "view.html").read_text().count('<div class="stage">') >= 1
    found = [float(line.split()[1]) for line in done.stderr.splitlines() if line.endswith("dB from the original")]
    assert found[1] > found[0]
    assert done.stdout.split() == []


def test_the_demo_writes_into_no_folder_that_holds_anything_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = CliRunner().invoke(app, ["demo", "--no-open", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
