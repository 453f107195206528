"""Large blocks lie on huge pages where the kernel has them, and no memory is taken before it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")

PROGRAM = """
import ctypes, resource, sys
from pipeline.models.allocator import keep_freed_memory

def kilobytes(key, file="smaps_rollup"):
    return next(int(line.split()[1]) for line in open(f"/proc/self/{file}") if line.startswith(key + ":"))

if sys.argv[1] == "limited":
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))
before, addresses = kilobytes("Rss"), kilobytes("VmSize", "status")
keep_freed_memory()
keep_freed_memory()
taken, addresses = kilobytes("Rss") - before, kilobytes("VmSize", "status") - addresses
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
for _ in range(2):
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
print(taken, addresses, kilobytes("AnonHugePages"), kilobytes("Rss") - before)
"""


def run(limited: str = "not") -> list[int]:
    """Kilobytes: memory and addresses taken by asking; on huge pages, and resident, after 64 MB were used twice."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, limited], capture_output=True, text=True, check=True)
    return [int(value) for value in done.stdout.split()]


@pytest.mark.skipif(not MODE.exists() or "[never]" in MODE.read_text(), reason="the kernel gives no huge pages")
def test_large_blocks_lie_on_huge_pages_and_are_kept_when_freed():
    taken, addresses, huge, resident = run()
    assert taken < 2000, "asking takes no memory"
    assert addresses < 800 << 10, "asking again takes nothing more"
    assert huge >= 48 << 10
    assert 60 << 10 < resident < 90 << 10, "freed and used again, not taken twice"


@pytest.mark.skipif(sys.platform != "linux", reason="another allocator")
def test_where_addresses_are_limited_none_are_set_aside():
    taken, addresses, _, resident = run("limited")
    assert taken < 2000
    assert addresses < 20 << 10
    assert 60 << 10 < resident < 90 << 10
