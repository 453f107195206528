"""Result tables as CSV, Markdown and LaTeX, and the paper's Tables 1 and 2 with our figures beside its own.

Each table is a heading and lines of text cells; how it is written is the format's business alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.core.files import csv_text, write_bytes
from pipeline.core.scales import AUGMENTED, BASELINE, UPSCALED_SCALES
from pipeline.evaluate.summary import Score, Summary, scores_of
from pipeline.metrics.registry import MAIN, MEASURES, VARIANTS

FORMATS: Final = {"csv": "csv", "markdown": "md", "latex": "tex"}
"""Format -> suffix of its files."""
PAPER: Final = {
    "train": {"psnr": ("32.51", "31.65"), "ssim": ("0.8535", "0.8347"), "fid": ("19.17", "4.31")},
    "test": {"psnr": ("36.96", "33.32"), "ssim": ("0.9514", "0.8974"), "fid": ("9.30", "3.29")},
}
"""Jo and Park's figures by split and metric: bicubic, their network. CelebA-HQ, 256 to 1024."""
NUMBERS: Final = {"train": 1, "test": 2}
"""Which table of the paper."""
_FACES: Final = {"train": "training images", "test": "unseen images"}
_NONE: Final = "–"


@dataclass(frozen=True)
class TextTable:
    """A table ready to be written."""

    caption: str
    head: list[str]
    lines: list[list[str]]
    notes: list[str]
    """What each column is, below the table."""


def cell(score: Score, key: str, interval: bool = False) -> str:
    """A score's figure as it is shown; – for null."""
    value = score.get(key)
    if value is None:
        return _NONE
    text = MEASURES[key].text(value)
    if key == "kid" and "kid_std" in score:
        return f"{text} ± {score['kid_std']:.5f}"
    bounds = score.get(f"{key}_ci95") if interval else None
    return f"{text} [{', '.join(map(MEASURES[key].text, bounds))}]" if bounds else text


def measured_keys(summary: Summary, keys: Sequence[str]) -> list[str]:
    """Those of `keys` that some method has a figure of."""
    return [key for key in keys if any(score.get(key) is not None for *_, score in scores_of(summary))]


def results(summary: Summary, keys: Sequence[str] = MAIN, *, interval: bool = False) -> TextTable:
    """Every split, scale and method, one line each."""
    shown = measured_keys(summary, keys)
    head = ["split", "scale", "method", *(MEASURES[key].title for key in shown), "faces"]
    lines = [
        [split, scale, method, *(cell(score, key, interval) for key in shown), str(score["count"])]
        for split, scale, method, score in scores_of(summary)
    ]
    notes = [f"{MEASURES[key].heading}: {MEASURES[key].definition} ({MEASURES[key].source})." for key in shown]
    missing = [MEASURES[key].heading for key in keys if key not in shown]
    if missing:
        notes.append(f"Not measured: {', '.join(missing)}.")
    return TextTable("Means over faces", head, lines, notes)


def paper_table(summary: Summary, split: str, subject: str) -> TextTable | None:
    """Table 1 (train) or 2 (test) of the paper with our figures beside its own; None where we have none of the split.

    Ours are at 256to1024, or at 64to256 where the split has no originals at 1024, clean and augmented inputs apart.
    """
    scales = summary.get(split, {})
    base = next((scale for scale in reversed(UPSCALED_SCALES) if scale in scales), None)
    if base is None:
        return None
    head, columns = ["metric", "paper: bicubic", "paper: theirs"], []
    notes = [
        f"Paper: Jo and Park, CelebA-HQ, {_FACES[split]}, 256 to 1024; whether inputs were clean or augmented, and how "
        "SSIM and FID were computed, it does not say.",
    ]
    for scale in (base, base + AUGMENTED):
        if scale not in scales:
            continue
        kind = "augmented" if scale.endswith(AUGMENTED) else "clean"
        for method in (BASELINE, subject):
            if method in scales[scale]:
                head.append(f"{kind}: {method}")
                columns.append(scales[scale][method])
        counts = next(iter(scales[scale].values()))["count"]
        size = base.replace("to", " to ")
        notes.append(
            f"{kind.capitalize()}: our {counts} {_FACES[split]}, {size}, {kind} inputs, 8-bit RGB, whole picture."
        )
    lines = [
        [MEASURES[key].heading, *PAPER[split][key], *(cell(score, key) for score in columns)] for key in PAPER[split]
    ]
    notes.append("Other faces and another protocol: the columns of the paper and ours must not be subtracted.")
    return TextTable(f"Table {NUMBERS[split]} of the paper: {_FACES[split]}", head, lines, notes)


def render(table: TextTable, form: str) -> str:
    """A table as text.

    Args:
        table: what to write.
        form: one of FORMATS.

    Raises:
        ValueError: another form.
    """
    if form == "csv":
        return csv_text(table.head, [["" if text == _NONE else text for text in line] for line in table.lines])
    if form == "markdown":
        rows = [table.head, ["---"] * len(table.head), *table.lines]
        body = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)
        return f"**{table.caption}**\n\n{body}\n\n" + "\n".join(f"- {note}" for note in table.notes) + "\n"
    if form == "latex":
        kinds = "".join("r" if _numeric(table, column) else "l" for column in range(len(table.head)))
        cells = [" & ".join(map(_tex, line)) + r" \\" for line in table.lines]
        top = [rf"\begin{{tabular}}{{{kinds}}}", r"\hline", " & ".join(map(_tex, table.head)) + r" \\", r"\hline"]
        notes = [f"% {note}" for note in table.notes]
        return "\n".join([f"% {table.caption}", *notes, *top, *cells, r"\hline", r"\end{tabular}", ""])
    raise ValueError(f"{form!r}: one of {', '.join(FORMATS)}")


def _numeric(table: TextTable, column: int) -> bool:
    return all(re.fullmatch(r"–|[-−]?[\d.]+( .*)?", line[column]) for line in table.lines)


def _tex(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("±", r"$\pm$").replace("–", "--").replace("−", "$-$").replace("²", "$^2$")


def write(folder: Path, summary: Summary, subject: str, by_kind: Sequence[TextTable] = ()) -> None:
    """Write `results`, `variants` (other conventions of PSNR and SSIM), `table1`, `table2` and `kinds-1` … of the
    methods by kind of input, in every format.
    """
    tables = {f"table{number}": paper_table(summary, split, subject) for split, number in NUMBERS.items()}
    tables["results"] = results(summary, interval=True)
    tables |= {f"kinds-{number}": table for number, table in enumerate(by_kind, 1)}
    tables["variants"] = results(summary, ("psnr", "ssim", *VARIANTS))
    for name, table in tables.items():
        for form, suffix in FORMATS.items():
            if table is not None:
                write_bytes(folder / f"{name}.{suffix}", render(table, form).encode())
