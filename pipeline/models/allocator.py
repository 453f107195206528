"""Keep freed memory for the next image or step, on large pages, instead of giving it back and asking for it anew."""

import ctypes
import mmap
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them
_LARGEST_KEPT = 1 << 30
_MOST_KEPT = (1 << 31) - 1
_ON_HUGE_PAGES = 768 << 20
"""Bytes: more than one 256→1024 pass holds at once, and less than `_LARGEST_KEPT`, so that they are of the heap."""
_HUGE_PAGE = 2 << 20


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep large blocks; elsewhere nothing happens.

    By default every tensor of more than some megabytes is mapped for itself, and the kernel clears its pages anew each
    time: a tenth of the CPU time of enlarging a face, a twentieth of a training step's. The peak stays what it is, but
    is kept until the process ends. What the heap grows by next lies on huge pages where the kernel gives them to who
    asks: a 3x3 convolution reads 64 channels that are a quarter of a megabyte apart, each from a page of its own.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
        if _addresses_are_free():
            _ask_for_huge_pages(libc)


def _addresses_are_free() -> bool:
    """Whether this process may take as many addresses as it likes (`ulimit -v`): the heap keeps those it has had."""
    import resource  # Windows has none

    return resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
    """Of addresses that the heap has not used yet: taken and freed, they are its own again, and no memory is touched.

    glibc asks for them itself (`glibc.malloc.hugetlb`), but reads that from the environment before a process begins.
    """
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = libc.malloc(_ON_HUGE_PAGES)
    if start is None:
        return
    first = -(-start // _HUGE_PAGE) * _HUGE_PAGE
    libc.madvise(first, start + _ON_HUGE_PAGES - first, mmap.MADV_HUGEPAGE)  # a kernel without them refuses
    libc.free(start)
