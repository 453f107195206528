"""ZSSR and the supervised twin beside our generators at 256 -> 1024, as a table and a sheet: docs/baselines.md.

python benchmarks/baselines_table.py --originals data/raw/test.parquet --judge 24 --steps 1000 --sheet sheet.png

Of a folder or archive of 1024x1024 faces the first --judge are judged on. The others train two generators of the same
architecture, batches and steps (train.fidelity of params.yaml): `twin` on the originals, `self-supervised` on their
256x256 inputs alone. What was trained or enlarged by ZSSR is kept in --work and not done again.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from pipeline import Upscaler
from pipeline.baselines.spandrel_network import load_network
from pipeline.baselines.supervised_twin import train_twin
from pipeline.baselines.zssr import zssr
from pipeline.baselines.zssr_training import ZssrConfig
from pipeline.compare.score import TextureFeatures, originals, score
from pipeline.core.degradation import reduce
from pipeline.core.files import write_bytes
from pipeline.core.images import Pixels, decode, encode_png, pixel_hash, resize
from pipeline.core.schema import FACES, PAIRS
from pipeline.core.shards import write_batches, write_rows
from pipeline.models.allocator import keep_freed_memory
from pipeline.pairs.manifest import draw_manifest
from pipeline.params.all_sections import Params, load_params
from pipeline.pretrained import registry as weights
from pipeline.runtime.console import progress
from pipeline.train.phases import TrainRun

Enlarge = Callable[[Pixels], Pixels]
CROPS = ((0.29, 0.40), (0.41, 0.64))
"""Left and top of the shown crops, shares of the side: an eye and the mouth of an aligned face."""
SIDE, GAP, HEAD = 208, 4, 22


def learned(options: argparse.Namespace, params: Params) -> dict[str, Path]:
    """Train both generators on the faces that are not judged on."""
    work = options.work
    if not (work / "pairs.parquet").exists():
        lists: dict[bool, list[dict]] = {False: [], True: []}
        for index, pixels in enumerate(islice(faces(options), options.judge, None)):
            for small, rows in lists.items():
                shown = reduce(pixels) if small else pixels
                rows.append(
                    {"id": f"{pixel_hash(pixels)}-0", "image": {"bytes": encode_png(shown), "path": f"{index}.png"},
                     "name": f"{index}.png", "source": "benchmark", "split": "train",
                     "width": shown.shape[1], "height": shown.shape[0]}
                )  # fmt: skip
        write_rows(work / "faces/train-00000.parquet", lists[False], FACES)
        write_rows(work / "inputs/train/train-00000.parquet", lists[True], FACES)
        images = [(row["id"], "train", row["width"]) for row in lists[True]]
        manifest = draw_manifest(images, params.pairs.draws, params.pairs.degradation())
        write_batches(work / "pairs.parquet", manifest, PAIRS)
    steps = params.train.fidelity.steps
    twin = train_twin(
        params.train, params.baselines.twin, work / "faces", work / "pairs.parquet", work / f"twin{steps}"
    )
    run = TrainRun(params.train, work / "inputs", work / "pairs.parquet", work / f"self{steps}", {})
    alone = run.results["fidelity"]
    if not alone.exists():
        training = run.training("fidelity")
        with progress("self-supervised", steps) as advance:
            training.run(lambda step, values: advance(training.config.log_every))
    assert twin is not None
    return {"self-supervised": alone, "twin": twin}


def faces(options: argparse.Namespace) -> Iterator[Pixels]:
    """All originals, in the archive's order."""
    with tempfile.TemporaryDirectory() as scratch:
        yield from originals(options.originals, "test", Path(scratch))


def zssr_kept(options: argparse.Namespace, config: ZssrConfig) -> Enlarge:
    """ZSSR of one picture; each result is kept as a PNG."""
    name = f"zssr-{'-'.join(f'{scale:g}' for scale in config.scales)}-{config.steps}-{config.crop}"
    name += "" if config.ensemble else "-plain"

    def enlarge(low: Pixels) -> Pixels:
        path = options.work / name / f"{pixel_hash(low)}.png"
        if not path.exists():
            write_bytes(path, encode_png(zssr([low], [path.stem], config)[0]))
        return decode(path.read_bytes())

    return enlarge


def sheet(methods: dict[str, Enlarge], truths: list[Pixels]) -> Image.Image:
    """Rows: eye and mouth of each face. Columns: methods, 1:1."""
    font = ImageFont.load_default(14)
    width = (len(methods) + 2) * (SIDE + GAP)
    image = Image.new("RGB", (width, HEAD + len(truths) * len(CROPS) * (SIDE + GAP)), "white")
    draw = ImageDraw.Draw(image)
    for index, truth in enumerate(truths):
        low = reduce(truth)
        shown = {"bicubic": resize(low, *truth.shape[:2])} | {name: one(low) for name, one in methods.items()}
        for column, (name, pixels) in enumerate((shown | {"original": truth}).items()):
            draw.text((column * (SIDE + GAP) + SIDE / 2, HEAD / 2), name, fill="#222", font=font, anchor="mm")
            for row, (x, y) in enumerate(CROPS):
                left, top = int(x * truth.shape[1]), int(y * truth.shape[0])
                crop = Image.fromarray(np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE]))
                image.paste(crop, (column * (SIDE + GAP), HEAD + (index * len(CROPS) + row) * (SIDE + GAP)))
    return image


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--originals", type=Path, required=True, help="folder or archive of 1024x1024 faces")
    parser.add_argument(
        "--judge", type=int, default=24, help="the first so many are judged on, the others learned from"
    )
    parser.add_argument("--score", type=int, help="only the first so many of them, since ZSSR takes a minute for each")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--steps", type=int, default=1000, help="of both trainings; 0: neither")
    parser.add_argument("--zssr-steps", type=int, default=600, help="for each factor; 0: no ZSSR")
    parser.add_argument("--zssr-crop", type=int, default=64)
    parser.add_argument("--zssr-scales", type=float, nargs="+", default=[4.0])
    parser.add_argument("--no-ensemble", action="store_true", help="ZSSR without turns and reflections")
    parser.add_argument("--method", action="append", default=[], metavar="NAME=FILE", help="weights of others")
    parser.add_argument("--vgg", help="VGG-19 weights for fd; without them it is left out")
    parser.add_argument("--sheet", type=Path, help="write a picture of the first two faces")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--work", type=Path, default=Path("work/benchmark-baselines"))
    options = parser.parse_args()
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    changes = [f"train.fidelity.steps={options.steps or 1}", "train.validate_every=1000000"]
    params = load_params(options.params, changes)
    released = Upscaler.load(realism=0), Upscaler.load(realism=1)
    methods: dict[str, Enlarge] = {"facesr, released": released[0], "facesr-realism, released": released[1]}
    if options.steps:
        back_projection = params.upscale.back_projection
        for name, path in learned(options, params).items():
            methods[f"{name}, {options.steps} steps"] = Upscaler.load(path, back_projection=back_projection)
    for named in options.method:
        name, _, file = named.partition("=")
        methods[name] = load_network(Path(file))
    vgg = weights.find_optional("vgg19", options.vgg)
    textures = TextureFeatures(vgg) if vgg else None
    config = ZssrConfig(
        scales=tuple(options.zssr_scales),
        steps=options.zssr_steps,
        crop=options.zssr_crop,
        ensemble=not options.no_ensemble,
    )  # at_once changes nothing: each face is done alone, so that what is finished is kept
    if options.zssr_steps:
        methods = {"zssr": zssr_kept(options, config), **methods}
    truths = list(islice(faces(options), options.score or options.judge))
    with progress("scoring", len(truths)) as advance:
        scores = score(methods, truths, textures, lambda: advance(1))
    print(f"\n| {len(truths)} faces | PSNR, dB | gain | SSIM | fd | off by |\n| --- | --- | --- | --- | --- | --- |")
    for name, one in scores.items():
        fd = "" if one["fd"] is None else f"{one['fd']:.3f}"
        print(
            f"| {name} | {one['psnr']:.2f} | {one['gain']:+.2f} | {one['ssim']:.4f} | {fd} | {one['consistency']:.2f} |"
        )
    if options.sheet:
        sheet(methods, truths[:2]).save(options.sheet)


if __name__ == "__main__":
    main()
