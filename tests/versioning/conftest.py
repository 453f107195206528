"""One small pipeline under DVC, made by the lines of the README, for all tests here."""

import pytest
from support.dvc_project import TINY, Versioned, copy_project, write_archive
from support.stages import ROOT


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Versioned:
    """The README's first lines, run: an archive of four pictures, results of them as v1, all of it in a remote."""
    home = tmp_path_factory.mktemp("versioned")
    folder = copy_project(home / "faces", TINY)
    (folder / "profiles").mkdir()
    (folder / "profiles/archive.yaml").write_bytes((folder / "params.yaml").read_bytes())
    write_archive(home / "faces.zip", range(4))
    return Versioned(ROOT, home, folder).begin()
