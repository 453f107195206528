"""One small pipeline under DVC, made by the lines of the README, for all tests here."""

import fcntl
import os
import shutil

import pytest
from support.dvc_project import TINY, Versioned, copy_project, write_archive
from support.stages import ROOT


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Versioned:
    """The README's first lines, run: an archive of four pictures, results of them as v1, all of it in a remote.

    Tests clone it, so that the processes that share the suite out make it once.
    """
    top = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent
    home = top / "versioned"
    versioned = Versioned(ROOT, home, home / "faces")
    with (top / "versioned.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "made").exists():
            shutil.rmtree(home, ignore_errors=True)
            copy_project(versioned.folder, TINY)
            (versioned.folder / "profiles").mkdir()
            shutil.copyfile(versioned.folder / "params.yaml", versioned.folder / "profiles/archive.yaml")
            write_archive(home / "faces.zip", range(4))
            versioned.begin()
            (home / "made").touch()
    return versioned
