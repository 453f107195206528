"""Archives of every kind: each writer takes {name: bytes} and returns the path as params would name it."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from pipeline.core.images import Pixels, decode, resize


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


class _Unmarked(zipfile.ZipInfo):
    """A member whose name is written as these bytes, not marked as UTF-8."""

    raw = b""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802  # of zipfile
        return self.raw, self.flag_bits & ~0x800


def zip_of(path: Path, members: list[tuple[bytes | str, bytes]]) -> Path:
    """A zip whose names are these bytes, not marked as UTF-8; names of text are marked where they are not ASCII."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, data) in enumerate(members):
            info: zipfile.ZipInfo = zipfile.ZipInfo(str(name))
            if isinstance(name, bytes):
                info = _Unmarked(f"member {number}")
                info.raw = name
            archive.writestr(info, data)
    return path


def tar_of(path: Path, members: list[tuple[bytes, bytes]]) -> Path:
    """A tar whose names are these bytes."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name.decode("latin-1"))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
