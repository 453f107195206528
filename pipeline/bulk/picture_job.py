"""One picture: read, enlarge, check, encode, write; and its row of the manifest.

One bad picture is a failed row, whatever its decoder raises. What would meet the next picture too, such as a full disk,
is raised.
"""

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar, cast

import numpy as np

from pipeline.bulk.face_restore import restore_faces
from pipeline.bulk.outputs import Output
from pipeline.bulk.plan import Item
from pipeline.bulk.settings import Engine, Settings
from pipeline.codecs.metadata import without_location
from pipeline.codecs.reader import Picture, read_picture
from pipeline.codecs.strict_jpeg import FORMATS, decode_warning
from pipeline.codecs.writer import loss_note, write_picture
from pipeline.core.errors import FacesrError, first_line
from pipeline.core.images import Planes, eight_bit_rgb, pixel_hash
from pipeline.core.scales import FACTOR
from pipeline.core.schema import UPSCALE_MANIFEST, Row
from pipeline.faces.detector import FaceFinder
from pipeline.metrics.identity import Identity
from pipeline.models.weights_file import ModelError
from pipeline.sources.base import Source, SourceError
from pipeline.storage.path import StorageError
from pipeline.upscale.array_upscaler import NotFiniteError
from pipeline.upscale.estimate import columns_of, find_degradation
from pipeline.upscale.generators import checksums
from pipeline.upscale.hidden import filled
from pipeline.upscale.jpeg_agreement import Stored
from pipeline.upscale.told import CLEAN, Told
from pipeline.upscale.upscaler import Upscaler

LARGE = 48 << 20
"""Pixels of a result above which it is made in a memory-mapped file and not in memory."""

OURS_ALONE = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EFBIG}
"""Errors of writing that are one picture's own; any other would meet the next one too."""


T = TypeVar("T")


class DecodeTimeError(FacesrError):
    """A picture that takes longer to decode than it may."""


class StrictError(FacesrError):
    """A picture failed where `--strict` was asked for."""


@dataclass
class Work:
    """A picture on its way through."""

    index: int
    item: Item
    row: Row
    picture: Picture | None = None
    steps: int = 0
    told: Told = CLEAN
    stored: Stored | None = None

    @property
    def pixels(self) -> Planes:
        """Of the picture, while there is one."""
        assert self.picture is not None  # noqa: S101
        return self.picture.pixels

    def alike(self, other: "Work") -> bool:
        """True if both can go through the network together."""
        return len({(work.pixels.shape, work.pixels.dtype, work.steps, type(work.told)) for work in (self, other)}) == 1


def load_upscaler(settings: Settings, engine: Engine) -> Upscaler:
    """The network that results come from."""
    weights = (settings.fidelity, settings.realism_model, settings.realism)
    return Upscaler.load(
        *weights,
        precision=engine.precision,
        tile=settings.tile,
        degradation=settings.degradation,
        denoise=settings.denoise,
        deblock=settings.deblock,
    )


def noted(work: Work, *remarks: str | None) -> None:
    """Add to what the row says of the picture, each thing once."""
    known = [remark for remark in work.row["note"].split("; ") if remark]
    work.row["note"] = "; ".join(dict.fromkeys([*known, *filter(None, remarks)]))


def within(seconds: float, decode: Callable[[], T]) -> T:
    """What `decode` returns or raises; it runs in a thread of its own, which costs a picture less than 0.1 ms.

    Raises:
        DecodeTimeError: it takes longer. No decoder can be stopped from outside: it is left to itself, and what it
            still gives is dropped. The thread ends with the process at the latest.
    """
    outcome: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((decode(), None))
        except BaseException as error:  # the caller's to handle
            outcome.put((None, error))

    Thread(target=run, name="decode", daemon=True).start()
    try:
        result, error = outcome.get(timeout=seconds)
    except Empty:
        raise DecodeTimeError(f"not decoded within {seconds:g} s (--decode-seconds)") from None
    if error is not None:
        raise error
    return cast(T, result)


class PictureJob:
    """All that pictures of one job have in common.

    Raises:
        ModelError: the weights are not those that the run was started with.
    """

    def __init__(
        self, output: Output, settings: Settings, engine: Engine, source: Source, strict: bool, decode_seconds: float
    ):
        self.output, self.settings, self.source, self.strict = output, settings, source, strict
        self.decode_seconds = decode_seconds
        self.upscaler = load_upscaler(settings, engine)
        if checksums(self.upscaler.metadata) != settings.model:
            raise ModelError(f"{settings.fidelity}: these are not the weights that the run was started with")
        self.finder = FaceFinder(Path(settings.detector)) if settings.detector else None
        self.identity = Identity(Path(settings.embedding), self.finder) if settings.embedding else None

    def work(self, index: int, item: Item) -> Work:
        """An entry, before anything is done to it."""
        row: Row = dict.fromkeys(UPSCALE_MANIFEST.names)
        row |= dict.fromkeys(("width", "height", "bytes", "input_width", "input_height"), 0)
        row |= dict.fromkeys(("error", "note", "flags"), "")
        row |= {"name": item.name, "stamp": item.stamp, "target": item.target}
        row |= {"model": self.settings.model, "status": "failed", "seconds": 0.0}
        return Work(index, item, row)

    def read(self, work: Work) -> None:
        """Decode; `work.picture` stays None where that fails."""
        start = time.perf_counter()
        try:
            data = self.source.read(work.item.key)
            picture, damage = within(self.decode_seconds, lambda: _decoded(data))
            height, width, channels = picture.pixels.shape
            result_format = self.settings.format_of(work.item.target)
            depth = 8 * picture.pixels.itemsize
            loss = loss_note(result_format, FACTOR * width, FACTOR * height, channels, depth)
            noted(work, damage, *picture.remarks, loss)
            work.row |= {"input_width": width, "input_height": height}
            found = find_degradation(picture.pixels, data)
            work.row |= columns_of(found)
            work.told = self.upscaler.told_of(picture.pixels, found=found, lossless=picture.lossless)
            work.row["model"] = self.upscaler.weights_of(work.told)
            steps = self.settings.back_projection
            work.stored = self.upscaler.stored_of(data, picture.orientation, steps)
            # neither a lossy nor a noisy picture is a clean one: agreeing with it would draw what is wrong with it
            work.steps = self.upscaler.steps(work.told, picture.lossless, work.stored) if steps is None else steps
            work.picture = picture
        except StorageError:
            raise  # the store is gone, for the next picture too
        except Exception as error:  # one bad picture never stops a run, whatever a decoder raises
            if isinstance(error, SourceError) and isinstance(error.__cause__, StorageError):
                raise error.__cause__ from error
            self.failed(work, first_line(error))
        work.row["seconds"] += time.perf_counter() - start

    def enlarged(self, works: Sequence[Work], slots: int = 1) -> Iterator[tuple[Work, Planes, float]]:
        """Results of pictures of one shape, which go through the network together, filled up to `slots`, and what each
        took, seconds; those that fail are left out.
        """
        start = time.perf_counter()
        height, width = works[0].pixels.shape[:2]
        large = FACTOR * FACTOR * height * width > LARGE
        results: Sequence[Planes] = ()
        if not large and max(height, width) <= self.upscaler.tile:
            padded = [*works, *[works[0]] * (slots - len(works))]
            # one by one, and in tiles, they need less memory, and only those fail that have no result
            with suppress(MemoryError, NotFiniteError):
                results = self.upscaler.at_once(
                    [work.pixels for work in padded],
                    works[0].steps,
                    [work.told for work in padded],
                    [work.stored for work in padded],
                )
        shared = (time.perf_counter() - start) / len(works)
        for index, work in enumerate(works):
            start = time.perf_counter()
            result = results[index] if results else self._tiled(work, large)
            if result is not None and self._faces_restored(work, result):
                yield work, result, shared + time.perf_counter() - start

    def _tiled(self, work: Work, large: bool) -> Planes | None:
        height, width, channels = work.pixels.shape
        shape = (FACTOR * height, FACTOR * width, channels)
        try:
            canvas = self._canvas(shape, work.pixels.dtype) if large else None
            result, tile = self.upscaler.into(work.pixels, canvas, work.steps, told=work.told, stored=work.stored)
        except (MemoryError, NotFiniteError) as error:
            self.failed(work, first_line(error))
            return None
        if tile != self.upscaler.tile:
            noted(work, f"tiles of {tile}: memory was short")
        return result

    def _canvas(self, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Planes:
        """An array in a file without a name: whatever happens, nothing of it stays on the disk."""
        folder = self.output.work.local
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # a sparse file would end the process with a bus error where the disk fills up
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) * dtype.itemsize)
            return np.memmap(file, dtype, "r+", shape=shape)

    def write(self, work: Work, result: Planes, seconds: float) -> None:
        """Check, encode and write a result that took `seconds` so far.

        Raises:
            OSError: nothing can be written any more.
        """
        start = time.perf_counter()
        row, item = work.row, work.item
        try:
            assert work.picture is not None  # noqa: S101
            if self.settings.check:
                self._check(work, result)
            with self.output.writing(item.target) as path:
                result_format = self.settings.format_of(item.target)
                tag = self.settings.provenance_tag(row["model"])
                metadata = work.picture.metadata
                metadata = without_location(metadata) if self.settings.strip_location else metadata
                noted(work, *write_picture(path, result, metadata, result_format, self.settings.quality, tag))
                row["bytes"] = path.stat().st_size
            row |= {"status": "ok", "file": item.target, "id": pixel_hash(work.pixels)}
            row |= {"width": result.shape[1], "height": result.shape[0]}
        except OSError as error:
            if error.errno not in OURS_ALONE:
                raise
            self.failed(work, f"cannot be written as {item.target} ({error.strerror})")
        except Exception as error:  # as in reading
            self.failed(work, first_line(error))
        finally:
            work.picture = None
        row["seconds"] += seconds + time.perf_counter() - start

    def _faces_restored(self, work: Work, result: Planes) -> bool:
        """Do faces of the result in the frame that the network was trained on, if asked for; False if that failed."""
        if not self.settings.faces or self.finder is None:
            return True
        try:
            low = filled(work.pixels)
            found = self.finder.find(eight_bit_rgb(low))
            work.row["faces"] = restore_faces(
                lambda planes: self.upscaler.batch([planes], work.steps, [work.told])[0], low, result, found
            )
        except Exception as error:  # OpenCV's errors have no base but this
            self.failed(work, f"faces: {first_line(error)}")
            return False
        return True

    def _check(self, work: Work, result: Planes) -> None:
        from pipeline.metrics.fidelity import consistency  # and OpenCV, which a single picture need not wait for

        low = filled(work.pixels)
        work.row["consistency"] = consistency(result, low)
        if self.identity is not None and not isinstance(result, np.memmap):
            work.row["identity"] = self.identity.similarity(eight_bit_rgb(low), eight_bit_rgb(result))

    def failed(self, work: Work, reason: str) -> None:
        """Note why there is no result."""
        work.row |= {"status": "failed", "error": reason, "width": 0, "height": 0, "bytes": 0}
        work.picture = None
        if self.strict:
            raise StrictError(f"{work.item.name}: {reason}; stopped, because --strict was asked for")


def _decoded(data: bytes) -> tuple[Picture, str | None]:
    """A picture, and what is wrong with it: what can still be seen of a damaged one is enlarged, but not silently."""
    picture = read_picture(data)
    return picture, decode_warning(data, picture.mode) if picture.format in FORMATS and not picture.repaired else None
