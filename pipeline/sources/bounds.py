"""Bounds on what a container may claim, each with its reason: a few kilobytes can claim anything.

What lies beyond one is an entry with that reason (names, sizes) or the entry that says where listing stopped (counts).
"""

import os

MAX_BYTES = 1 << 30
"""Largest entry that is read; the encoded pictures that are decoded at all are smaller."""
MAX_NAME = 4096
"""Bytes of an entry's name: PATH_MAX of Linux, so that no file on a disk has a longer one."""
MAX_HEADER = 16 << 20
"""Bytes of a tar's extended header, which is read whole; true ones hold a name and some numbers."""
MAX_BATCH = 8 << 20
"""Bytes of a table's columns of text that are listed at once."""
MAX_KEPT = 64 << 20
"""Bytes of a table's pictures that a reader keeps, for others that ask for rows beside the last one."""
FREE_ENTRIES, BYTES_PER_ENTRY = 100_000, 16
"""Pictures that any file may list, and bytes of the file for each further one: less than any picture takes."""
FREE_UNPACKED, MAX_RATIO = 1 << 30, 100
"""Bytes that any compressed tar may unpack to, and times its own size: pictures hardly compress, and even bitmaps
less than this."""
UNPACKED_VARIABLE = "FACESR_MAX_UNPACKED"
"""Environment variable that sets the bytes a compressed tar may unpack to, whatever its size."""


def most_entries(file_bytes: int) -> int:
    """Pictures that a file of that size may list."""
    return max(FREE_ENTRIES, file_bytes // BYTES_PER_ENTRY)


def most_unpacked(file_bytes: int) -> int:
    """Bytes that a compressed tar of that size may unpack to."""
    own = os.environ.get(UNPACKED_VARIABLE, "")
    return int(own) if own.isascii() and own.isdigit() else max(FREE_UNPACKED, MAX_RATIO * file_bytes)
