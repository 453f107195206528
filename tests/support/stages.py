"""Stages, each in a folder of its own, and which files a process touches."""

import ctypes
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


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
