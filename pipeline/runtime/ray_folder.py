"""A temporary folder for a local Ray, which would leave logs and sockets of each run behind in one of its own.

It goes with its run. One that was killed, or whose machine went down, cannot take its folder along: the next run does.
"""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_LONGEST_SOCKET = 107
"""Bytes of a socket's path, at most."""
_SOCKET = len("/facesr-12345678/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1234567")
"""What Ray adds to its temporary folder."""
_PREFIX = "facesr-"
_OWNER = "in-use"
"""A file in it that its run holds locked; other temporary folders have none."""
_held: dict[str, int] = {}
"""Folder of this process -> handle of that file."""


def make_folder() -> str | None:
    """Make one, and remove those of dead runs beside it; None: every place has too long a path for sockets."""
    for place in (usual_place(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108
        if len(os.fsencode(place)) + _SOCKET <= _LONGEST_SOCKET:
            with suppress(OSError):
                folder = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
                # not every file system can lock; there a killed run's folder stays, and no run is refused for it
                with suppress(OSError):
                    _held[folder] = _hold(Path(folder))
                    _remove_abandoned(Path(place))
                return folder
    return None


def usual_place() -> str:
    """The folder for temporary files, or the one that Ray is told to use."""
    return os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()


def remove_folder(folder: str) -> None:
    """Remove it, as far as possible within a second."""
    if folder in _held:
        os.close(_held.pop(folder))
    for _ in range(20):  # somebody who is about to end may write meanwhile
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return  # at once: where a run is told to end, Ray's library would soon complain of its processes' death
        time.sleep(0.05)


def _hold(folder: Path) -> int:
    """Lock a file in it for as long as this process lives and keeps the handle; those that it starts do not get it."""
    unnamed = folder / f"{_OWNER}.tmp"
    handle = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    unnamed.rename(folder / _OWNER)  # only now, so that nobody finds it unlocked
    return handle


def _remove_abandoned(place: Path) -> None:
    """Remove this user's folders there whose runs have ended."""
    for owner in place.glob(f"{_PREFIX}*/{_OWNER}"):
        with suppress(OSError):  # its run lives, or ends and removes it at the same time
            if owner.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            handle = os.open(owner, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(owner.parent, ignore_errors=True)
            finally:
                os.close(handle)
