"""TFRecord files of pictures, as Progressive GAN's and StyleGAN's dataset tools write them (`celebahq-r10.tfrecords`).

A file is a run of records: length (uint64, little endian), its masked CRC-32C, that many bytes, their masked CRC-32C.
The bytes are a `tf.train.Example` whose feature `data` holds raw pixels of `shape` (channels, height, width), or whose
feature `image/encoded` holds an encoded file. Records are found by seeking over their lengths: listing reads 12 bytes
of each, and never the pixels.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from pipeline.sources.base import Entry, FileSource, SourceError, check_size, readable, refuse_other, rejection_reason
from pipeline.sources.names import printable
from pipeline.sources.raw_pixels import png_of
from pipeline.storage.path import StoragePath

HEAD, TAIL = 12, 4
"""Bytes of a record before and after what it holds."""
CELEBAHQ = 30_000
"""Pictures of CelebA-HQ."""


class TFRecords(FileSource):
    """One TFRecord file.

    Entries are named by their position in the file (`record-000000.png`), but for `celebahq*-rNN.tfrecords` of exactly
    30,000 records: Progressive GAN's tool wrote those in the order of `RandomState(123).shuffle(arange(30000))`, which
    is undone, so that `00000.png` is picture 0 of CelebA-HQ's own numbering.
    """

    def entries(self) -> Iterator[Entry]:
        """Records in file order; where the file breaks off, what came before is kept and the break is named."""
        with readable(self.path):
            stamp, records, order = self.path.stamp(), self._records(), None
            if self.path.name.lower().startswith("celebahq"):
                held = list(records)
                whole = len(held) == CELEBAHQ and not isinstance(held[-1], Entry)
                records, order = iter(held), celebahq_order() if whole else None
            for index, record in enumerate(records):
                if isinstance(record, Entry):
                    yield record
                else:
                    name = f"{order[index]:05d}.png" if order else f"record-{index:06d}.png"
                    yield Entry(name, list(record), rejection_reason(size=record[1]), stamp, record[1])

    def read(self, key: Any) -> bytes:
        """The picture of a record, its checksums verified: raw pixels as PNG, encoded files as they are."""
        offset, length = key
        check_size(length)
        with readable():
            data = self.path.read_at(offset, HEAD + length + TAIL)
        if len(data) != HEAD + length + TAIL:
            raise SourceError("cut off in the file")
        if _length(data[:HEAD]) != length or masked_crc(data[HEAD:-TAIL]) != struct.unpack("<I", data[-TAIL:])[0]:
            raise SourceError("damaged in the file (its checksum is wrong)")
        return _picture(data[HEAD:-TAIL])

    def _records(self) -> Iterator["tuple[int, int] | Entry"]:
        """Where each record begins and how long its content is; last, where there is one, an entry for the break."""
        size, offset, first = self.path.size(), 0, 0
        broken = None
        with self.path.open() as handle:
            while offset < size and not broken:
                handle.seek(offset)
                head = handle.read(HEAD)
                length = _length(head) if len(head) == HEAD else None
                if length is None:
                    broken = "a damaged length" if len(head) == HEAD else "cut off"
                elif offset + HEAD + length + TAIL > size:
                    broken = "cut off"
                else:
                    yield offset, length
                    first = first or HEAD + length + TAIL
                    offset += HEAD + length + TAIL
                    if self.path.local is None and offset == first and size % first == 0:
                        # Pictures of one shape make records of one length. On a store a look at each would be a
                        # request; a record that is not where it should be is named when it is read.
                        yield from ((start, length) for start in range(first, size, first))
                        return
        if broken:
            if offset == 0:
                refuse_other(self.path, "tfrecords")
            yield self.truncated(f"{broken} at byte {offset}")


def celebahq_order() -> list[int]:
    """CelebA-HQ's own number of each record of Progressive GAN's `celebahq-rNN.tfrecords`."""
    order = np.arange(CELEBAHQ)
    np.random.RandomState(123).shuffle(order)
    return [int(number) for number in order]


def largest(paths: Sequence[StoragePath]) -> list[StoragePath]:
    """Of files that differ in their `-rNN` alone (one set of pictures at several sizes), the one with the largest."""
    best: dict[str, tuple[int, StoragePath]] = {}
    for path in paths:
        found = re.fullmatch(r"(?i)(.*)-r(\d{2})(\.tfrecords?)", path.uri.partition("?")[0])
        key, level = (found[1] + found[3], int(found[2])) if found else (path.uri, 0)
        if key not in best or level > best[key][0]:
            best[key] = (level, path)
    return [path for _, path in best.values()]


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated right by 15 bits plus 0xA282EAD8: what TFRecord files store."""
    import google_crc32c  # only here: most sources have no need of it

    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _length(head: bytes) -> int | None:
    """Length that a record states; None where its checksum says that it is wrong."""
    length, crc = struct.unpack("<QI", head)
    return int(length) if masked_crc(head[:8]) == crc else None


def _picture(data: bytes) -> bytes:
    from google.protobuf.message import DecodeError

    example = _example_class()()
    try:
        example.ParseFromString(data)
    except DecodeError as error:
        raise SourceError("not a tf.train.Example") from error
    if not example.HasField("features"):
        raise SourceError("not a tf.train.Example")
    features = example.features.feature
    if "data" in features and "shape" in features:
        shape = tuple(features["shape"].int64_list.value)
        pixels = np.frombuffer(b"".join(features["data"].bytes_list.value), np.uint8)
        if len(shape) != 3 or any(side < 0 for side in shape) or prod(shape) != pixels.size:
            raise SourceError(f"damaged (shape {shape} does not fit its {pixels.size:,} bytes of pixels)")
        return png_of(pixels.reshape(shape))
    if "image/encoded" in features:
        return b"".join(features["image/encoded"].bytes_list.value)
    raise SourceError(f"no picture in it: its features are {printable(', '.join(sorted(features)))[:200] or 'none'}")


@cache
def _example_class() -> Any:
    """The class of `tf.train.Example`, from its definition (without lists of floats, which nothing here reads)."""
    # only here: most sources have no need of it
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_EXAMPLE, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


_EXAMPLE = """
name: "example.proto" package: "tf" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature" field { name: "bytes_list" number: 1 type: TYPE_MESSAGE type_name: ".tf.BytesList" }
               field { name: "int64_list" number: 3 type: TYPE_MESSAGE type_name: ".tf.Int64List" } }
message_type { name: "Features" field { name: "feature" number: 1 label: LABEL_REPEATED
                                         type: TYPE_MESSAGE type_name: ".tf.Features.FeatureEntry" }
               nested_type { name: "FeatureEntry" options { map_entry: true }
                             field { name: "key" number: 1 type: TYPE_STRING }
                             field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".tf.Feature" } } }
message_type { name: "Example" field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".tf.Features" } }
"""
