"""Imports of pyarrow and torch without parts that take a process long and that it has no use for."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Hidden(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError(f"{fullname} is hidden", name=fullname)
        return None


def spare_pandas() -> None:
    """Let pyarrow make arrays without pandas, which it imports for the first one only to ask if values are a Series.

    It looks once, and again when a table becomes a frame or a frame a table. What asks for pandas itself, later, finds
    it; until then pyarrow takes a Series as it takes any sequence, which nothing here gives it.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(hidden)


_KERNELS = "torch._meta_registrations"


class _MetaKernels(ModuleType):
    """In the place of torch's module of that name, until something asks for one of its functions."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of the import system, which asks what kind of module it is
            raise AttributeError(name)
        return getattr(_all_kernels(), name)


class _BeforeCompiler(MetaPathFinder):
    """Brings them before torch's compiler, which computes with them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torch._dynamo":
            sys.meta_path.remove(self)
            _all_kernels()
        return None


def _all_kernels() -> ModuleType:
    if isinstance(sys.modules.get(_KERNELS), _MetaKernels):
        del sys.modules[_KERNELS]
    return import_module(_KERNELS)


def spare_meta_kernels() -> None:
    """Let torch be imported without what computes on its `meta` device, a quarter of its import: .4 s.

    For a process that enlarges pictures and ends. Tensors without data can still be made there and given other data;
    what compiles, exports or trains a network gets all of it when it begins. Where torch is imported already nothing
    changes.
    """
    if "torch" not in sys.modules:
        sys.modules[_KERNELS] = _MetaKernels(_KERNELS)
        sys.meta_path.insert(0, _BeforeCompiler())
