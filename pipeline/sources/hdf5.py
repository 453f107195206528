"""HDF5 files of pictures, as the legacy tool of CelebA-HQ writes them: `data1024x1024` down to `data1x1`.

Each dataset is uint8 (pictures, channels, height, width), in the order of CelebA-HQ's own numbers; the largest is read.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any

from pipeline.sources.base import (
    Entry,
    FileSource,
    SourceError,
    check_size,
    damaged,
    readable,
    refuse_other,
    rejection_reason,
)
from pipeline.sources.bounds import most_entries
from pipeline.sources.raw_pixels import png_of
from pipeline.storage.path import StoragePath


class Hdf5(FileSource):
    """One HDF5 file; pictures are named by their number, `00000.png` and on."""

    def entries(self) -> Iterator[Entry]:
        """Pictures of the largest dataset in its order; no pixel is read."""
        with readable(self.path):
            stamp = self.path.stamp()
            pictures = self._pictures()
        problem = rejection_reason(size=_picture_bytes(pictures))
        most = most_entries(stamp[0])
        for index in range(min(pictures.shape[0], most)):
            yield Entry(f"{index:05d}.png", index, problem, stamp)
        if pictures.shape[0] > most:
            yield self.overflow()

    def read(self, key: Any) -> bytes:
        """A picture as PNG."""
        # h5py raises OSError, RuntimeError, IndexError, ValueError …
        with readable(self.path), damaged("damaged in the file"):
            pictures = self._pictures()
            check_size(_picture_bytes(pictures))
            if not _is_written(pictures, key):
                raise SourceError("never written to its file")
            planes = pictures[key]
        return png_of(planes)

    def _pictures(self) -> Any:
        # an open file must not be used on both sides of a fork
        return _open(self.path, os.getpid(), *self.path.stamp())


def _picture_bytes(pictures: Any) -> int:
    """Bytes of memory that reading a picture takes: its own, or those of the chunk that it lies in."""
    return max(prod(pictures.shape[1:]), prod(pictures.chunks or ()))


def _is_written(pictures: Any, index: int) -> bool:
    """False where HDF5 would make up a picture, of its fill value."""
    if pictures.chunks is None:
        return bool(pictures.id.get_storage_size())
    start = (index // pictures.chunks[0] * pictures.chunks[0], 0, 0, 0)
    return pictures.id.get_chunk_info_by_coord(start).byte_offset is not None


@lru_cache(maxsize=4)
def _open(path: StoragePath, *version: Any) -> Any:
    """The dataset of the largest pictures; its file stays open as long as it is used."""
    import h5py  # only here: it takes a moment to load

    with damaged(f"{path}: not a readable HDF5 file", "; a download that broke off?"):
        try:
            file = h5py.File(path.local or path.open(), "r")
        except Exception:
            refuse_other(path, "h5")
            raise
        # what links lead to, or is stored, outside the file is not part of it
        inside = [file[name] for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    found = [item for item in inside if isinstance(item, h5py.Dataset) and item.ndim == 4 and item.dtype == "uint8"]
    found = [item for item in found if item.shape[1] in (1, 3) and not item.external and not item.is_virtual]
    if not found:
        raise SourceError(f"{path}: no pictures in it (a dataset of uint8, pictures x channels x height x width)")
    return max(found, key=lambda item: item.shape[2] * item.shape[3])
