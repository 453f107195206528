"""Pages in a real browser, at any width, and the contrast of their colours."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

FRAME = """<!doctype html><title>frame</title><iframe src="page.html" width="{width}" height="900" style="border:0">
</iframe>
<script>addEventListener("message", (event) => {{ document.title = "CHECK " + event.data; }});</script>"""
SCRIPT = """
<script>
for (const image of document.images) image.loading = "eager";
addEventListener("error", (event) => parent.postMessage(JSON.stringify({{ error: event.message }}), "*"));
addEventListener("load", () => setTimeout(() => {{
  const out = {{}};
{check}
  out.images = [...document.images].filter((image) => image.complete && image.naturalWidth > 0).length;
  out.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  out.width = innerWidth;
  parent.postMessage(JSON.stringify(out), "*");
}}, 0));
</script>
"""
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --window-size=1400,1000 --virtual-time-budget=8000 --dump-dom --enable-logging=stderr"
)


def browse(page: str, check: str, folder: Path, width: int) -> dict[str, Any]:
    """Open a page in Chromium and say what a script finds there; skips the test where there is no browser.

    Args:
        page: HTML.
        check: JavaScript that puts what it finds into `out`, which also gets `images` (loaded ones), `overflow`
            (pixels by which the page is then too wide) and `width`.
        folder: for the page and the browser's profile.
        width: of the window, pixels.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on PATH")
    script = SCRIPT.format(check=check)
    whole = page.replace("</body>", script + "</body>")
    (folder / "page.html").write_text(whole, encoding="utf-8")
    # a window cannot be narrower than 500 pixels, a frame can
    (folder / "frame.html").write_text(FRAME.format(width=width))
    done = subprocess.run(
        [browser, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", (folder / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    told = re.search(r"<title>CHECK (.*?)</title>", done.stdout)
    assert told, done.stdout[:400]
    found: dict[str, Any] = json.loads(told[1])
    return found


def poor_contrasts(page: str, grounds: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of text and ground, by their names in the page's two themes, with a contrast under 4.5 (WCAG AA)."""
    themes = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    assert len(themes) == 2
    poor = []
    for theme in themes:
        colours = {name: _luminance(code) for name, code in re.findall(r"--([\w-]+): #([0-9a-f]{3,6});", theme)}
        for text, names in grounds.items():
            for ground in names.split():
                dark, light = sorted((colours[text], colours[ground]))
                if (light + 0.05) / (dark + 0.05) < 4.5:
                    poor.append((text, ground))
    return poor


def _luminance(colour: str) -> float:
    colour = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    parts = [int(colour[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
