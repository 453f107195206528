"""The curves of a training as one SVG, for model cards: validation, loss, and the discriminator's verdicts.

python benchmarks/curves.py runs/a --out curves.svg      # a folder that `facesr train` left
"""

import argparse
import csv
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 270, 170, 52, 30, 70
COLOURS = ("#1f5f8b", "#c2571a")

Points = list[tuple[float, float]]

PANELS = (
    ("Validation PSNR, 64 to 256, dB", (("fidelity", "valid_psnr"), ("realism", "valid_psnr"))),
    ("Training L1 (smoothed)", (("fidelity", "pixel"), ("realism", "pixel"))),
    ("Verdicts: 1 is real, 0 is generated", (("realism", "d_real"), ("realism", "d_fake"))),
)


def read(folder: Path, phase: str, name: str) -> Points:
    """(step, value) of one quantity; realism's steps go on where fidelity's ended, except for the verdicts."""
    path = folder / phase / "log/plots/metrics" / f"{name}.tsv"
    if not path.is_file():
        return []
    with path.open() as file:
        points = [(float(row["step"]), float(row[name])) for row in csv.DictReader(file, delimiter="\t")]
    if phase == "realism" and not name.startswith("d_"):
        before = read(folder, "fidelity", name)
        shift = before[-1][0] if before else 0.0
        points = [(step + shift, value) for step, value in points]
    return smoothed(points) if len(points) > 60 else points


def smoothed(points: Points) -> Points:
    """Means over about sixty stretches: single batches differ too much to be read."""
    size = -(-len(points) // 60)
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def panel(title: str, lines: list[tuple[str, Points]], left: float) -> str:
    """One set of axes with its lines, labelled at their ends' height in the corner."""
    every = [point for _, points in lines for point in points]
    low, high = min(value for _, value in every), max(value for _, value in every)
    pad = (high - low or 1) * 0.08
    low, high, last = low - pad, high + pad, max(step for step, _ in every)
    parts = [
        f'<text x="{left}" y="{TOP - 12}" class="title">{escape(title)}</text>',
        f'<path d="M{left} {TOP}V{TOP + HEIGHT}H{left + WIDTH}" class="axis"/>',
        f'<text x="{left + WIDTH}" y="{TOP + HEIGHT + 18}" text-anchor="end">{last:,.0f} steps</text>',
    ]
    for share in (0.1, 0.5, 0.9):
        y = TOP + HEIGHT * (1 - share)
        parts.append(f'<path d="M{left} {y}h{WIDTH}" class="grid"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{low + (high - low) * share:.3g}</text>')
    for index, (name, points) in enumerate(lines):
        path = " ".join(
            f"{left + WIDTH * step / last:.1f},{TOP + HEIGHT * (high - value) / (high - low):.1f}"
            for step, value in points
        )
        parts.append(f'<polyline points="{path}" stroke="{COLOURS[index]}"/>')
        y = TOP + HEIGHT - 10 - 16 * (len(lines) - 1 - index)
        parts.append(f'<text x="{left + WIDTH - 4}" y="{y}" text-anchor="end" fill="{COLOURS[index]}">{name}</text>')
    return "\n".join(parts)


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("curves.svg"))
    options = parser.parse_args()
    drawn = []
    for title, wanted in PANELS:
        lines = [(phase if name[:2] != "d_" else name, read(options.run, phase, name)) for phase, name in wanted]
        lines = [(name, points) for name, points in lines if points]
        if lines:
            drawn.append(panel(title, lines, LEFT + len(drawn) * (WIDTH + GAP)))
    width = LEFT + len(drawn) * (WIDTH + GAP) - GAP + 16
    style = (
        "text{font:11px sans-serif}.title{font-weight:600;fill:#222}polyline{fill:none;stroke-width:1.8}"
        ".axis{fill:none;stroke:#888}.grid{stroke:#e4e4e4}"
    )
    options.out.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + 30}" role="img">'
        f'<title>Training curves</title><style>{style}</style><rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()
