"""Who may import whom: wings import downwards only."""

import sys
from pathlib import Path

import pytest
from support.imports import modules, names
from support.stages import ROOT

MAY_IMPORT = {
    "core": "",
    "codecs": "core",
    "storage": "core",
    "models": "core",
    "pretrained": "core",
    "html": "core",
    "params": "core pretrained train.engine",
    "faces": "core pretrained",
    "runtime": "core params",
    "metrics": "core faces pretrained",
    "synthetic": "core runtime",
    "pairs": "core params runtime",
    "train.engine": "core models pretrained",
    "train": "core models params pretrained runtime train.engine",
    "upscale": "codecs core models runtime",
    "sources": "core storage synthetic",
    "evaluate": "core faces metrics models pretrained runtime",
    "report": "core evaluate faces html metrics",
    "baselines": "core models params runtime train train.engine upscale",
    "ingest": "codecs core faces pretrained runtime sources storage",
    "adapt": "core models pairs train.engine upscale",
    "inspect": "codecs core ingest sources",
    "compare": "core evaluate metrics models report runtime sources train.engine",
    "bulk": "codecs core faces html metrics models pretrained runtime sources storage upscale",
    "registry": "core models pretrained synthetic upscale",
    "lineage": "core models",
    "forget": "core ingest lineage",
}
"""Wing -> wings that it imports, now and then or always. `cli`, the `commands.py` of a wing, which are part of it, and
`stages` import anything; nothing imports them."""

BARE = ("core", "models", "pretrained", "train.engine", "upscale.upscaler", "upscale.array_upscaler", "upscale.tiles")
"""What also runs on a machine that has only the libraries below."""
LIBRARIES = {"torch", "numpy", "PIL", "pyarrow", "safetensors", "pipeline"}

FILES = sorted((ROOT / "pipeline").rglob("*.py"))


def wing(path: Path) -> str:
    """`core`, `train`, `train.engine` …; empty for the project's own `__init__` and version."""
    parts = path.relative_to(ROOT / "pipeline").parts[:-1]
    return "cli" if path.name == "commands.py" else ".".join(parts)


def imported(name: str) -> set[str]:
    """Wings that the modules of a wing import."""
    return {wing(file) for path in FILES if wing(path) == name for file in modules(path)} - {name, ""}


def test_every_wing_is_in_the_table() -> None:
    assert {wing(path) for path in FILES} - {"", "cli"} == set(MAY_IMPORT)


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_wing_imports_what_it_may_and_all_of_that(name: str) -> None:
    # a permission that nobody uses is a hole
    assert imported(name) == set(MAY_IMPORT[name].split())


def test_wings_import_downwards_only() -> None:
    above: dict[str, set[str]] = {name: set(allowed.split()) for name, allowed in MAY_IMPORT.items()}
    while above:
        ground = [name for name, below in above.items() if not below]
        assert ground, f"a circle among {', '.join(above)}"
        above = {name: below - set(ground) for name, below in above.items() if name not in ground}


@pytest.mark.parametrize("name", BARE)
def test_bare_wings_import_nothing_that_a_bare_machine_lacks(name: str) -> None:
    chosen = [p for p in FILES if f"{wing(p)}.{p.stem}" == name or wing(p) == name]
    assert chosen
    tops = {top: path for path in chosen for other in _at_import(path) if (top := other.split(".")[0])}
    assert {top for top in tops if top not in sys.stdlib_module_names} <= LIBRARIES


def _at_import(path: Path) -> set[str]:
    """What a file imports as soon as it is imported itself: what a function imports for itself is its own business."""
    import ast

    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_the_package_is_two_files_and_folders_of_a_size_one_can_survey() -> None:
    root = ROOT / "pipeline"
    assert {path.name for path in root.iterdir() if path.is_file()} == {"__init__.py", "version.py"}
    for folder in (path for path in root.rglob("*") if path.is_dir() and path.name != "__pycache__"):
        assert sum(path.is_file() for path in folder.iterdir()) <= 17, folder
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 300, path


def test_nothing_below_imports_the_commands_or_the_stages() -> None:
    for path in FILES:
        if wing(path) != "cli":
            above = [name for name in names(path) if name.startswith(("pipeline.cli", "stages")) or ".commands" in name]
            assert not above, path
