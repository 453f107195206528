"""Every error that a user can mend has one base, a name that says so, and its place in the tree."""

import ast
import re

from support.stages import ROOT

from pipeline.core.errors import FacesrError

CLASSES = {
    node.name: {ast.unparse(base) for base in node.bases}
    for path in (ROOT / "pipeline").rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ClassDef)
}
ERRORS = {name for name, bases in CLASSES.items() if any(base.endswith(("Error", "Exception")) for base in bases)}


def test_all_errors_have_one_base() -> None:
    def has_base(name: str) -> bool:
        return name == "FacesrError" or any(has_base(base) for base in CLASSES.get(name, ()))

    assert {name for name in ERRORS if not has_base(name)} == set()
    assert all(name.endswith("Error") for name in ERRORS)


def test_the_tree_names_each_error_once() -> None:
    tree = re.findall(r"\b\w+Error\b", (FacesrError.__doc__ or "").split("FacesrError\n")[-1])
    assert sorted(name for name in tree if name != "OSError") == sorted(ERRORS - {"FacesrError"})
