"""What tests of `facesr upscale` share: small generators, pictures, archives, and running the command."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from pipeline.cli import app
from pipeline.models.checkpoint import save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from support.stages import ROOT

CONFIG = GeneratorConfig(widths=(8,), blocks=1, bottleneck=1)


def make_models(folder: Path, config: GeneratorConfig = CONFIG) -> Path:
    """A generator that is tiny and not bicubic, with a realism twin beside it."""
    for seed, name in enumerate(("fidelity", "realism")):
        torch.manual_seed(seed)
        generator = Generator(config)
        torch.nn.init.normal_(generator.to_rgb.weight, std=0.01)
        save_generator(folder / f"{name}.safetensors", generator, config, {}, torch.float16)
    return folder / "fidelity.safetensors"


def picture(seed: int, width: int = 40, height: int = 32) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(seed: int, kind: str = "PNG", **size: int) -> bytes:
    buffer = io.BytesIO()
    picture(seed, **size).save(buffer, kind)
    return buffer.getvalue()


def upscale(*arguments: Any, code: int | None = 0) -> Result:
    """Run the command here and expect its exit code, None: 0 or 1."""
    done = CliRunner().invoke(app, ["upscale", *map(str, arguments)])
    assert done.exit_code == code or (code is None and done.exit_code in (0, 1)), done.output + str(
        done.exception or ""
    )
    return done


def said(done: Result) -> str:
    return re.sub(r"\s+", " ", done.output)


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "pipeline.cli", "upscale", *map(str, arguments)]


def start(*arguments: Any, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """Run the command in a process of its own, one thread a worker."""
    values = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | dict(environment or {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command(*arguments), cwd=ROOT, env=values, text=True, **pipes)  # type: ignore[call-overload]


def manifest_rows(output: Path) -> list[dict[str, Any]]:
    """Rows of OUTPUT's manifest, in the order of INPUT."""
    beside = output.with_name(output.name + ".manifest.parquet")
    path = output / "manifest.parquet" if output.is_dir() else beside
    return pq.read_table(path).to_pylist()


def manifest(output: Path) -> dict[str, dict[str, Any]]:
    """Rows of OUTPUT's manifest by name."""
    return {row["name"]: row for row in manifest_rows(output)}


def pictures(folder: Path) -> dict[str, bytes]:
    """Results in a folder: relative path -> bytes."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("manifest"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
