"""The folder of a local Ray goes with its run, or with the next one where that run was killed."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stages import KILLED, ROOT

from pipeline.runtime.ray_folder import make_folder, remove_folder

KILL_SELF = """
import os, signal
from pathlib import Path
from pipeline.runtime.ray_folder import make_folder
folder = make_folder()
(Path(folder) / "session").mkdir()
print(folder, flush=True)
{then}
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made; pytest's own have too long a path for sockets."""
    with tempfile.TemporaryDirectory(prefix="place-", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def start(then: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILL_SELF.format(then=then)]
    return subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_the_folder_of_a_killed_run_is_removed_by_the_next_one(place: Path) -> None:
    killed = start("os.kill(os.getpid(), signal.SIGKILL)")
    left = Path(killed.communicate()[0].strip())
    assert killed.returncode == KILLED
    assert (left / "session").is_dir()
    mine = make_folder()
    assert [path.name for path in place.iterdir()] == [Path(str(mine)).name] != [left.name]


def test_folders_of_runs_that_live_and_of_others_stay(place: Path) -> None:
    alive = start("input()")
    theirs = Path(str(alive.stdout.readline()).strip()) if alive.stdout else place
    other = place / "facesr-other"
    other.mkdir()
    target = place / "target"
    target.mkdir()
    (target / "in-use").touch()
    (place / "facesr-link").symlink_to(target)
    mine = Path(str(make_folder()))
    assert {path.name for path in place.iterdir()} == {theirs.name, other.name, "target", "facesr-link", mine.name}
    assert (theirs / "session").is_dir()
    assert (target / "in-use").exists()
    remove_folder(str(mine))
    assert not mine.exists()
    alive.communicate("\n")
    (place / "facesr-link").unlink()


def test_where_files_cannot_be_locked_a_run_gets_its_folder_all_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    mine = Path(str(make_folder()))
    assert mine.parent == place
    remove_folder(str(mine))
    assert not mine.exists()
