"""Keep freed memory for the next image or step, instead of giving it back to the system and asking for it anew."""

import ctypes
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them
_LARGEST_KEPT = 1 << 30
_MOST_KEPT = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep large blocks; elsewhere nothing happens.

    By default every tensor of more than some megabytes is mapped for itself, and the kernel clears its pages anew each
    time: a tenth of the CPU time of enlarging a face, a twentieth of a training step's. The peak stays what it is, but
    is kept until the process ends.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
