"""What each part of the method is worth, on faces and a scale that no training saw: the tables of docs/training.md.

python benchmarks/ablation.py                             # every row that is not in the results yet
python benchmarks/ablation.py --row fidelity-blind        # one row
python benchmarks/ablation.py --kinds clean jpeg75 noise5 # on inputs of these kinds

Each row trains with the train section of params.yaml except for what the row changes, from the pairs of
`dvc repro pairs`, and is scored at 256 -> 1024 on the originals of the valid split, by kind of input, told what there
is to tell. How long 256 -> 1024 takes in float32 on all cores is measured in the same run, rows by turns. Rows called
`fidelity...` train for --steps steps, rows called `realism...` for --realism-steps steps from the row `fidelity`. What
was trained is kept in --work, results in --out; a row that is there is not trained again.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.compare.score import TextureFeatures, originals, score
from pipeline.core.chain import Chain
from pipeline.core.degradation import KINDS
from pipeline.core.files import write_json
from pipeline.core.scales import CHANCES, GROUND_TRUTH_SIDE
from pipeline.core.schema import PAIRS
from pipeline.core.shards import write_batches
from pipeline.pairs.manifest import draw_manifest
from pipeline.params.all_sections import Params, load_params
from pipeline.pretrained.registry import find_optional
from pipeline.runtime.console import progress
from pipeline.train.phases import TrainRun, train_phases
from pipeline.upscale.measured_inputs import enlarge_degraded
from pipeline.upscale.upscaler import Upscaler

BASE = "fidelity"
ROUNDS = 5
"""Times that each network is timed; the median counts."""


@dataclass(frozen=True)
class Row:
    """One line of a table: what differs from the row that its name begins with."""

    says: str
    changes: tuple[str, ...] = ()
    faces: int | None = None
    """Only so many training faces, drawn at random."""
    pairs: str = "own"
    """`own`: as params draw them; `clean`: no degradation; `one-of`: the paper's, one of noise, blur or JPEG."""
    back_projection: int = 0
    trained_as: str | None = None
    """The row whose weights are scored again."""


ROWS = {
    "fidelity": Row("the released recipe, short"),
    "fidelity-norm": Row("instance norm in every block", ("generator.norm=instance",)),
    "fidelity-resize": Row("tail: nearest and a convolution, twice", ("generator.tail=resize",)),
    "fidelity-encoder-wide": Row(
        "encoder and decoder, 48 and 96 channels",
        ("generator.widths=[48,96]", "generator.blocks=1", "generator.bottleneck=5"),
    ),
    "fidelity-encoder-deep": Row(
        "encoder and decoder, 32 and 64 channels",
        ("generator.widths=[32,64]", "generator.blocks=2", "generator.bottleneck=8"),
    ),
    "fidelity-32x32": Row("32 blocks of 32 channels", ("generator.widths=[32]", "generator.bottleneck=32")),
    "fidelity-48x14": Row("14 blocks of 48 channels", ("generator.widths=[48]", "generator.bottleneck=14")),
    "fidelity-96x4": Row("4 blocks of 96 channels", ("generator.widths=[96]", "generator.bottleneck=4")),
    "fidelity-64x4": Row("4 blocks of 64 channels", ("generator.bottleneck=4",)),
    "fidelity-64x16": Row("16 blocks of 64 channels", ("generator.bottleneck=16",)),
    "fidelity-fast": Row("learning rate 0.003 for 0.001", ("fidelity.learning_rate=0.003",)),
    "fidelity-zero": Row("residual branches start at zero, plain sums", ("generator.residual=zero",)),
    "fidelity-zero-fast": Row("both of these", ("generator.residual=zero", "fidelity.learning_rate=0.003")),
    "fidelity-zero-muon": Row(
        "branches start at zero, Muon for Adam, learning rate 0.002",
        ("generator.residual=zero", "fidelity.optimizer=muon", "fidelity.learning_rate=0.002"),
    ),
    "fidelity-zero-muon-drawn": Row(
        "the same, things drawn on two fifths of the ground truths",
        (
            "generator.residual=zero",
            "fidelity.optimizer=muon",
            "fidelity.learning_rate=0.002",
            "fidelity.drawn=0.4",
        ),
    ),
    "fidelity-zero-64x16": Row(
        "16 blocks of 64 channels, branches start at zero", ("generator.residual=zero", "generator.bottleneck=16")
    ),
    "fidelity-wide": Row("10 blocks of 96 channels", ("generator.widths=[96]", "generator.bottleneck=10")),
    "fidelity-blind": Row("told nothing", ("generator.told=[]",)),
    "fidelity-not-of-use": Row("no pairs at the scale of use", ("scales={32to128: 0.15, 64to256: 0.5}",)),
    "fidelity-one-of": Row("the paper's degradations: one of noise, blur, JPEG", pairs="one-of"),
    "fidelity-one-scale": Row("64 to 256 alone", ("scales={64to256: 1}",)),
    "fidelity-clean": Row("clean inputs alone", pairs="clean"),
    "fidelity-sharp": Row("no smoother ground truths", ("fidelity.smoother=0.0",)),
    "fidelity-crop-64": Row("crops of 64, batch x 4", ("crop=64", "batch=32")),
    "fidelity-crop-256": Row("whole faces, batch / 4", ("crop=256", "batch=2")),
    "fidelity-back-projection": Row("3 steps of back-projection", back_projection=3, trained_as="fidelity"),
    "fidelity-250": Row("250 training faces", faces=250),
    "fidelity-1000": Row("1,000 training faces", faces=1000),
    "realism": Row("all terms, from the row fidelity"),
    "realism-no-perceptual": Row("without VGG-19", ("realism.perceptual=0.0",)),
    "realism-random-vgg": Row("VGG-19 of random weights", ("perceptual.network=random", "perceptual.file=null")),
    "realism-no-adversarial": Row("without the discriminator", ("realism.adversarial=0.0",)),
    "realism-no-consistency": Row("without the consistency term", ("realism.consistency=0.0",)),
    "realism-no-isotropy": Row("without the isotropy term", ("realism.isotropy=0.0",)),
    "realism-one-size": Row("discriminator sees one size", ("discriminator.scales=1",)),
    "realism-r1": Row("R1, gamma 1", ("realism.r1=1.0",)),
    "realism-spectral": Row("spectral norm in the discriminator", ("discriminator.spectral_norm=true",)),
    "realism-back-projection": Row("3 steps of back-projection", back_projection=3, trained_as="realism"),
}


def phase_of(name: str) -> str:
    """The training that a row's name begins with."""
    return name.split("-")[0]


def settings_of(name: str, options: argparse.Namespace) -> Params:
    """params.yaml with the row's changes."""
    steps = options.steps if phase_of(name) == "fidelity" else options.realism_steps
    changes = [*ROWS[name].changes, f"{phase_of(name)}.steps={steps}", f"validate_every={steps}"]
    return load_params(options.params, [f"train.{change}" for change in changes])


def manifest_of(row: Row, params: Params, options: argparse.Namespace, folder: Path) -> Path:
    """The pipeline's manifest, or one of fewer faces or of other degradations."""
    if row.faces is None and row.pairs == "own":
        return Path(options.pairs)
    table = pq.read_table(options.pairs, columns=["image_id", "split", "scale"]).to_pylist()
    sides: dict[tuple[str, str], int] = {}
    for entry in table:
        image = entry["image_id"], entry["split"]
        sides[image] = max(sides.get(image, 0), GROUND_TRUTH_SIDE.get(entry["scale"], 0))
    images = list(sides)
    train = sorted(image for image in images if image[1] == "train")
    chosen = train[: row.faces] + [image for image in images if image[1] == "valid"]  # ids are hashes: any are random
    degradations = params.pairs.degradation()
    if row.pairs != "own":
        chances = CHANCES if row.pairs == "one-of" else {"none": 1.0}
        degradations = replace(degradations, chances=chances, chain=None)
    path = folder / "pairs.parquet"
    chosen_sides = [(*image, sides[image]) for image in chosen]
    write_batches(path, draw_manifest(chosen_sides, params.pairs.draws, degradations, params.pairs.of_use), PAIRS)
    return path


def weights_of(name: str, options: argparse.Namespace) -> tuple[Path, float | None]:
    """Train a row, or find it trained; its weights and seconds per step (None where they were there)."""
    row = ROWS[name]
    if row.trained_as:
        return weights_of(row.trained_as, options)
    folder = options.work / name
    phase = phase_of(name)
    path = folder / phase / "generator.safetensors"
    if path.exists():
        return path, None
    params = settings_of(name, options)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = manifest_of(row, params, options, folder)
    start = None if phase == "fidelity" else weights_of(BASE, options)[0]
    began = time.monotonic()
    run = TrainRun(params.train, options.inputs, manifest, folder, {"row": name}, (phase,), start)
    train_phases(run, lambda: False)
    return path, (time.monotonic() - began) / getattr(params.train, phase).steps


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", action="append", choices=ROWS, help="repeatable; all by default")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--inputs", type=Path, default=Path("data/inputs"))
    parser.add_argument("--pairs", type=Path, default=Path("data/pairs.parquet"))
    parser.add_argument("--faces", type=Path, default=Path("data/faces"))
    parser.add_argument("--kinds", nargs="*", default=["clean", "jpeg75", "noise5", "blur1", "mixed"])
    parser.add_argument("--limit", type=int, default=10, help="faces to score on")
    parser.add_argument("--work", type=Path, default=Path("work/ablation"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--realism-steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("work/ablation/results.json"))
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        faces = list(originals(options.faces, "valid", Path(scratch), options.limit))
    vgg = find_optional("vgg19", load_params(options.params).train.perceptual.file)
    textures = TextureFeatures(vgg) if vgg else None
    waiting = [name for name in options.row or ROWS if name not in results]
    trained = {name: weights_of(name, options) for name in waiting}
    # scored together, so that the originals and the baselines are measured once
    methods = {
        name: Upscaler.load(path, back_projection=ROWS[name].back_projection, clean_only=True)
        for name, (path, _) in trained.items()
    }
    seconds = timed({name: path for name, (path, _) in trained.items()})
    for name in waiting:
        results[name] = {"seconds": seconds[name], "seconds_per_step": trained[name][1], "kinds": {}}
    with progress("score", len(faces) * len(options.kinds) * bool(waiting)) as advance:
        for kind in options.kinds if waiting else ():
            calls = {
                name: partial(enlarge_degraded, upscaler, chain=KINDS.get(kind, Chain()))
                for name, upscaler in methods.items()
            }
            scores = score(calls, faces, textures, lambda: advance(1), kind)
            for name in waiting:
                results[name]["kinds"][kind] = scores[name]
    write_json(options.out, results)
    print(f"\n| row | what differs | {' | '.join(options.kinds)} | fd, clean | s |")
    print("\n".join(line(name, row, options.kinds) for name, row in results.items()))


def timed(paths: dict[str, Path]) -> dict[str, float]:
    """Median seconds of 256 -> 1024 in float32 on all cores, networks by turns."""
    upscalers = {name: Upscaler.load(path, precision="fp32") for name, path in paths.items()}
    low = np.random.default_rng(1).integers(0, 255, (256, 256, 3), np.uint8)
    taken: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(ROUNDS):
        for name, upscaler in upscalers.items():
            start = time.perf_counter()
            upscaler.at_once([low], 0)
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def line(name: str, row: dict[str, Any], kinds: list[str]) -> str:
    """One row of a Markdown table: gain over bicubic of the same input, dB."""
    gains = " | ".join(f"{row['kinds'][kind]['gain']:+.3f}" if kind in row["kinds"] else "-" for kind in kinds)
    fd = row["kinds"].get("clean", {}).get("fd")
    return f"| `{name}` | {ROWS[name].says} | {gains} | {'-' if fd is None else f'{fd:.3f}'} | {row['seconds']:.2f} |"


if __name__ == "__main__":
    main()
