"""TFRecord files of pictures, as Progressive GAN's and StyleGAN's dataset tools write them (`celebahq-r10.tfrecords`).

A file is a run of records: length (uint64, little endian), its masked CRC-32C, that many bytes, their masked CRC-32C.
The bytes are a `tf.train.Example` whose feature `data` holds raw pixels of `shape` (channels, height, width), or whose
feature `image/encoded` holds an encoded file. Records are found by seeking over their lengths: listing reads 12 bytes
of each, and never the pixels.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.sources.base import Entry, SourceError, oversize, printable, readable, reason
from pipeline.sources.raw_pixels import png_of
from pipeline.storage.path import StoragePath

HEAD, TAIL = 12, 4
"""Bytes of a record before and after what it holds."""
CELEBAHQ = 30_000
"""Pictures of CelebA-HQ."""


class TFRecords:
    """One TFRecord file.

    Entries are named by their place in the file (`record-000000.png`), but for `celebahq*-rNN.tfrecords` of exactly
    30,000 records: Progressive GAN's tool wrote those in the order of `RandomState(123).shuffle(arange(30000))`, which
    is undone, so that `00000.png` is picture 0 of CelebA-HQ's own numbering.
    """

    def __init__(self, place: StoragePath):
        self.place = place

    def entries(self) -> Iterator[Entry]:
        """Records in file order; where the file breaks off, what came before is kept and the break is named."""
        with readable(self.place):
            stamp, records = self.place.stamp(), self._records()
            if not self.place.name.lower().startswith("celebahq"):
                yield from _entries(records, stamp, None)
                return
            held = list(records)
            whole = len(held) == CELEBAHQ and not isinstance(held[-1], Entry)
            yield from _entries(iter(held), stamp, celebahq_order() if whole else None)

    def read(self, key: Any) -> bytes:
        """The picture of a record, its checksums verified: raw pixels as PNG, encoded files as they are."""
        offset, length = key
        if oversize(length):
            raise SourceError(oversize(length))
        try:
            data = self.place.read_at(offset, HEAD + length + TAIL)
        except OSError as error:
            raise SourceError(f"cannot be read ({reason(error)})") from error
        if len(data) != HEAD + length + TAIL:
            raise SourceError("cut off in the file")
        if _length(data[:HEAD]) != length or masked_crc(data[HEAD:-TAIL]) != struct.unpack("<I", data[-TAIL:])[0]:
            raise SourceError("damaged in the file (its checksum is wrong)")
        return _picture(memoryview(data)[HEAD:-TAIL])

    def _records(self) -> Iterator["tuple[int, int] | Entry"]:
        """Where each record begins and how long its content is; last, where there is one, an entry for the break."""
        size, offset, first = self.place.size(), 0, 0
        broken = ""
        with self.place.open() as handle:
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
                    if self.place.local is None and offset == first and size % first == 0:
                        # Pictures of one shape make records of one length. On a store a look at each would be a
                        # request; a record that is not where it should be is named when it is read.
                        yield from ((start, length) for start in range(first, size, first))
                        return
        if broken:
            text = f"truncated archive ({broken} at byte {offset}); what came before it was read"
            yield Entry(printable(self.place.name), None, text)


def celebahq_order() -> list[int]:
    """CelebA-HQ's own number of each record of Progressive GAN's `celebahq-rNN.tfrecords`."""
    order = np.arange(CELEBAHQ)
    np.random.RandomState(123).shuffle(order)
    return [int(number) for number in order]


def largest(places: Sequence[StoragePath]) -> list[StoragePath]:
    """Of files that differ in their `-rNN` alone (one set of pictures at several sizes), the one with the largest."""
    best: dict[str, tuple[int, StoragePath]] = {}
    for place in places:
        found = re.fullmatch(r"(?i)(.*)-r(\d{2})(\.tfrecords?)", place.uri.partition("?")[0])
        key, level = (found[1] + found[3], int(found[2])) if found else (place.uri, 0)
        if key not in best or level > best[key][0]:
            best[key] = (level, place)
    return [place for _, place in best.values()]


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated right by 15 bits plus 0xA282EAD8: what TFRecord files store."""
    import google_crc32c  # only here: most sources have no need of it

    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _length(head: bytes) -> int | None:
    """Length that a record states; None where its checksum says that it is wrong."""
    length, crc = struct.unpack("<QI", head)
    return int(length) if masked_crc(head[:8]) == crc else None


def _entries(records: Iterator["tuple[int, int] | Entry"], stamp: Any, order: list[int] | None) -> Iterator[Entry]:
    for index, record in enumerate(records):
        if isinstance(record, Entry):
            yield record
            continue
        name = f"record-{index:06d}.png" if order is None else f"{order[index]:05d}.png"
        yield Entry(name, list(record), oversize(record[1]), stamp, record[1])


def _picture(example: memoryview) -> bytes:
    try:
        features = _features(example)
        if "data" in features and "shape" in features:
            shape = tuple(_integers(features["shape"]))
            pixels = np.frombuffer(_one(features["data"], 1), np.uint8)
            if len(shape) != 3 or any(side < 0 for side in shape) or int(np.prod(shape, dtype=object)) != pixels.size:
                raise SourceError(f"damaged (shape {shape} does not fit its {pixels.size:,} bytes of pixels)")
            return png_of(pixels.reshape(shape))
        if "image/encoded" in features:
            return bytes(_one(features["image/encoded"], 1))
    except (IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise SourceError("not a tf.train.Example") from error
    raise SourceError(f"no picture in it: its features are {printable(', '.join(sorted(features)))[:200] or 'none'}")


# Protocol buffers: https://protobuf.dev/programming-guides/encoding. Example { Features features = 1 },
# Features { map<string, Feature> feature = 1 }, Feature { BytesList = 1, FloatList = 2, Int64List = 3 }, lists { 1 }.


def _features(example: memoryview) -> dict[str, memoryview]:
    """Name -> the list inside each Feature of an Example."""
    found = {}
    for feature in (item for number, item in _fields(_one(example, 1)) if number == 1):
        pair = dict(_fields(feature))
        for _, values in _fields(pair[2]):
            found[bytes(pair[1]).decode()] = values
    return found


def _one(message: memoryview, number: int) -> memoryview:
    """The field of a message with that number; KeyError."""
    return dict(_fields(message))[number]


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of each field; IndexError where it ends too soon."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind not in (1, 2, 5):
            raise IndexError("no such kind of field")
        length, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + length > len(message):
            raise IndexError("a field is longer than its message")
        yield tag >> 3, message[at : at + length]
        at += length


def _integers(message: memoryview) -> Iterator[int]:
    """Values of an Int64List, packed or not."""
    for _, value in _fields(message):
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            yield number


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError("a number that is too long")
