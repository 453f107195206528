"""The results table on the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

_ORDER = ("train", "test", "64to256", "256to1024", "bicubic", "lanczos", "facesr", "facesr-realism")


def print_table(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Print reports/metrics.json: one row per split, scale and method, the gain over bicubic beside each PSNR."""
    table = Table(title="8-bit RGB, whole image; clean inputs")
    for name in ("split", "scale", "method", "PSNR dB", "vs bicubic", "SSIM", "FID"):
        table.add_column(name, justify="left" if name in ("split", "scale", "method") else "right")
    reasons = set()
    for split in sorted(metrics, key=_place):
        for scale in sorted(metrics[split], key=_place):
            methods = metrics[split][scale]
            reference = methods["bicubic"]["psnr"]
            for method in sorted(methods, key=_place):
                values = methods[method]
                if values["psnr"] is None:
                    table.add_row(split, scale, method, "-", "-", "-", "-")
                    continue
                gain = f"{values['psnr'] - reference:+.2f}" if reference is not None else "-"
                fid = "-" if values["fid"] is None else f"{values['fid']:.2f}"
                reasons.add(values.get("fid_reason") or "")
                table.add_row(split, scale, method, f"{values['psnr']:.2f}", gain, f"{values['ssim']:.4f}", fid)
            table.add_section()
    console = console or Console()
    console.print(table)
    for reason in sorted(reasons - {""}):
        console.print(f"FID -: {reason}", markup=False)


def _place(name: str) -> tuple[int, str]:
    """Names in the order that people expect, unknown ones after them."""
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)
