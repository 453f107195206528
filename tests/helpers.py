"""What several tests need: small pictures, archives that hold them, training data, and stages run in their own folder.

Everything here is made on the spot, a few milliseconds each; nothing is read from outside the checkout.
"""

import ctypes
import io
import os
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

from pipeline.core.images import Pixels, decode, encode_png, pixel_hash, resize
from pipeline.core.schema import FACES, PAIRS
from pipeline.core.shards import write_batches, write_rows
from pipeline.models.networks import DiscriminatorConfig, GeneratorConfig
from pipeline.pairs.manifest import draw_manifest
from pipeline.train.engine.batches import BatchConfig
from pipeline.train.engine.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]

CHANCES = {"none": 1.0, "rot90": 1.0, "rot180": 1.0, "rot270": 1.0, "noise": 1.0, "blur": 1.0, "jpeg": 1.0}
STRENGTHS = {"noise": (1.0, 6.0), "blur": (0.2, 0.6), "jpeg": (75, 95)}


# pictures


def face(seed: int, side: int = 64) -> Pixels:
    """Discs with hard edges on a gradient, and a little noise: detail that bicubic loses and a network can learn."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    slope = random.uniform(-60, 60, (2, 3))
    image = random.uniform(80, 170, 3) + x[..., None] * slope[0] + y[..., None] * slope[1]
    for _ in range(12):
        cx, cy, radius = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.05, 0.2)
        image[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = random.uniform(0, 255, 3)
    return np.clip(np.rint(image + random.normal(0, 1.5, image.shape)), 0, 255).astype(np.uint8)


def static(seed: int, side: int = 64) -> Pixels:
    """Pure noise: nothing compresses it, so that its size in bytes is known."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def jpeg(pixels: Pixels, quality: int = 95, **options: Any) -> bytes:
    return saved(Image.fromarray(pixels), "JPEG", quality=quality, **options)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def psnr(a: Pixels, b: Pixels) -> float:
    error = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


# archives: each writer takes {name: bytes} and returns the path as params would name it


def as_folder(path: Path, files: Mapping[str, bytes]) -> str:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return str(path)


def as_zip(path: Path, files: Mapping[str, bytes]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def as_tar(path: Path, files: Mapping[str, bytes]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    compression = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, compression) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def as_zstd(path: Path, files: Mapping[str, bytes]) -> str:
    plain = Path(as_tar(path.with_suffix(""), files))
    with pa.CompressedOutputStream(str(path), "zstd") as packed:
        packed.write(plain.read_bytes())
    plain.unlink()
    return str(path)


def as_webdataset(path: Path, files: Mapping[str, bytes]) -> str:
    """A folder with one tar of samples, each a picture and what the webdataset library writes beside it."""
    beside = {f"{Path(name).stem}.json": b"{}" for name in files}
    as_tar(path / "shard-000000.tar", {**files, **beside})
    return str(path)


def as_celebamask(path: Path, files: Mapping[str, bytes]) -> str:
    """CelebAMask-HQ.zip as it is distributed: masks and lists lie beside the pictures."""
    root = "CelebAMask-HQ"
    beside = {f"{root}/CelebAMask-HQ-mask-anno/0/{n:05d}_hair.png": b"a mask" for n in range(3)}
    lists = {f"{root}/CelebA-HQ-to-CelebA-mapping.txt": b"0 1 2"}
    return as_zip(path, {**lists, **{f"{root}/CelebA-HQ-img/{name}": data for name, data in files.items()}, **beside})


def as_plain_parquet(path: Path, files: Mapping[str, bytes]) -> str:
    """A column of plain bytes, named by another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"name": list(files), "jpg": list(files.values())}), path, row_group_size=3)
    return str(path)


def as_tfrecords(path: Path, files: Mapping[str, bytes]) -> str:
    """Progressive GAN's layout of raw pixels; a smaller one of 4x4 beside it, as its tool writes."""
    for target, side in ((path, 0), (path.with_name(path.name.replace("-r10", "-r02")), 4)):
        target.parent.mkdir(parents=True, exist_ok=True)
        pictures = [decode(data) for data in files.values()]
        pictures = [resize(pixels, 4, 4) for pixels in pictures] if side else pictures
        target.write_bytes(b"".join(tf_record(tf_example(pixels)) for pixels in pictures))
    return str(path)


def tf_example(pixels: Pixels) -> bytes:
    """A `tf.train.Example` with `shape` and `data`, by Google's own protocol buffers."""
    planes = pixels.transpose(2, 0, 1)
    example = _example_class()()
    example.features.feature["shape"].int64_list.value.extend(planes.shape)
    example.features.feature["data"].bytes_list.value.append(planes.tobytes())
    return example.SerializeToString()


def tf_record(data: bytes) -> bytes:
    def masked(part: bytes) -> bytes:
        crc = google_crc32c.value(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


@cache
def _example_class() -> Any:
    """tf.train.Example, from its definition."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, str, bool]) -> Any:
        made = file.message_type.add(name=name)
        for field, number, kind, of, repeated in fields:
            made.field.add(name=field, number=number, type=kind, type_name=of or None, label=3 if repeated else 1)
        return made

    message("BytesList", ("value", 1, 12, "", True))
    message("Int64List", ("value", 1, 3, "", True))
    message("Feature", ("bytes_list", 1, 11, ".tf.BytesList", False), ("int64_list", 3, 11, ".tf.Int64List", False))
    features = message("Features", ("feature", 1, 11, ".tf.Features.FeatureEntry", True))
    entry = features.nested_type.add(name="FeatureEntry", options={"map_entry": True})
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, type_name=".tf.Feature", label=1)
    message("Example", ("features", 1, 11, ".tf.Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


def as_hdf5(path: Path, files: Mapping[str, bytes]) -> str:
    """The legacy layout of CelebA-HQ: gzipped (count, 3, side, side), one picture a chunk, and its smaller levels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.stack([decode(data) for data in files.values()]).transpose(0, 3, 1, 2)
    with h5py.File(path, "w") as file:
        for side in (4, pictures.shape[2]):
            level = pictures[:, :, :side, :side]
            chunks = (1, *level.shape[1:])
            file.create_dataset(f"data{side}x{side}", data=level, chunks=chunks, compression="gzip")
    return str(path)


def as_parquet(path: Path, files: Mapping[str, bytes]) -> str:
    """The struct that the Hugging Face `datasets` library writes for an image column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"image": {"bytes": data, "path": name}} for name, data in files.items()]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([("image", kind)])), path, row_group_size=3)
    return str(path)


ARCHIVES = {
    "folder": lambda root, files: as_folder(root / "faces", files),
    "zip": lambda root, files: as_zip(root / "faces.zip", files),
    "tar": lambda root, files: as_tar(root / "faces.tar", files),
    "tar.gz": lambda root, files: as_tar(root / "faces.tar.gz", files),
    "tar.bz2": lambda root, files: as_tar(root / "faces.tar.bz2", files),
    "tar.xz": lambda root, files: as_tar(root / "faces.tar.xz", files),
    "tar.zst": lambda root, files: as_zstd(root / "faces.tar.zst", files),
    "webdataset": lambda root, files: as_webdataset(root / "webdataset", files),
    "CelebAMask-HQ": lambda root, files: as_celebamask(root / "CelebAMask-HQ.zip", files),
    "parquet": lambda root, files: as_parquet(root / "faces.parquet", files),
    "parquet of bytes": lambda root, files: as_plain_parquet(root / "plain.parquet", files),
}
"""Kind of container -> what writes one: (folder, {name: bytes}) -> path."""
RASTERS = {
    "tfrecords": lambda root, files: as_tfrecords(root / "faces-r10.tfrecords", files),
    "hdf5": lambda root, files: as_hdf5(root / "faces.h5", files),
}
"""The same for containers that hold pixels instead of files, without their names; pictures must be of one size."""


# training data


def write_inputs(folder: Path, pictures: Sequence[Pixels], split: str) -> list[tuple[str, str, int]]:
    """One shard of inputs; returns (id, split, side) of each, as the manifest wants them."""
    rows = [
        {
            "id": f"{pixel_hash(pixels)}-0",
            "image": {"bytes": encode_png(pixels), "path": f"{index}.png"},
            "name": f"{index}.png",
            "source": "test",
            "split": split,
            "width": pixels.shape[1],
            "height": pixels.shape[0],
        }
        for index, pixels in enumerate(pictures)
    ]
    write_rows(folder / f"{split}-00000.parquet", rows, FACES)
    return [(row["id"], split, row["width"]) for row in rows]


def write_manifest(
    path: Path, images: Iterable[tuple[str, str, int]], chances: Mapping[str, float] | None = None, draws: int = 2
) -> None:
    drawn = draw_manifest(images, seed=1, draws=draws, chances=chances or {"none": 1.0}, **STRENGTHS)
    write_batches(path, drawn, PAIRS)


def tiny_config(**changes: Any) -> TrainConfig:
    """A training that takes milliseconds a step: 64-pixel ground truths, a generator of some 2,000 parameters."""
    batches = BatchConfig(seed=3, batch=2, crop=64, scale_chances={"16to64": 1.0})
    values: dict[str, Any] = {
        "generator": GeneratorConfig((8,), blocks=0, bottleneck=1),
        "discriminator": DiscriminatorConfig((4, 8), scales=2),
        "batches": batches,
        "steps": 4,
        "learning_rate": 2e-3,
        "warmup": 1,
        "precision": "fp32",
        "checkpoint_seconds": 0.0,
    }
    return TrainConfig(**values | changes)


# stages, each in a folder of its own


def write_params(folder: Path, **sections: Mapping[str, Any]) -> None:
    """params.yaml of the checkout with some keys of some sections changed."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, values in sections.items():
        params[name] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def python(code: str, cwd: Path, *, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that finds the checkout's modules."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, env=_env(environment), capture_output=True, text=True, timeout=timeout)


def run_stage(name: str, cwd: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a stage as DVC does; `before` is code that runs first in its process."""
    return python(f"{before}\nimport runpy; runpy.run_module('stages.{name}', run_name='__main__')", cwd, **environment)


def _env(changes: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]))
    # what a session of Ray in this process has left there is not for others
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**inherited, "PYTHONPATH": path, "DVC_NO_ANALYTICS": "1", **changes}


KILLED = -signal.SIGKILL

KILL_AT_RENAME = """
import os, signal
def killer(source, target, rename=os.replace):
    # between the complete temporary file and its final name: the worst moment
    if str(target).endswith({suffix!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = killer
"""
"""Code for `before`: kill -9 at the moment when a file whose path ends with `suffix` would get its name."""


def files_of(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """All files below a folder: relative path -> bytes."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.glob(pattern)) if p.is_file()}


def faces_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def pixels_of(row: Mapping[str, Any]) -> Pixels:
    return decode(row["image"]["bytes"])


# which files a process touches, as the kernel sees it: Python's audit hooks are blind to Arrow and safetensors


class Watch:
    """Names of files opened in, and moved into, the watched folders by any process."""

    def __init__(self) -> None:
        self.opened: set[str] = set()
        self.arrived: set[str] = set()


@contextmanager
def watch(*folders: Path) -> Iterator[Watch]:
    """Watch folders (not their sub-folders) until the block ends; paths in the answer are absolute."""
    if sys.platform != "linux":
        pytest.skip("asks the Linux kernel which files are touched")
    opened, moved_to = 0x20, 0x80
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    assert handle >= 0, os.strerror(ctypes.get_errno())
    seen = Watch()
    names = {libc.inotify_add_watch(handle, os.fsencode(folder), opened | moved_to): folder for folder in folders}
    try:
        assert min(names) > 0, os.strerror(ctypes.get_errno())
        yield seen
        try:
            while data := os.read(handle, 1 << 16):
                while data:
                    number, mask, _, length = struct.unpack_from("iIII", data)
                    name = data[16 : 16 + length].rstrip(b"\0").decode()
                    if name:
                        (seen.arrived if mask & moved_to else seen.opened).add(str(names[number] / name))
                    data = data[16 + length :]
        except BlockingIOError:
            pass
    finally:
        os.close(handle)
