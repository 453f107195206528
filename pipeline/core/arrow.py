"""pyarrow without pandas, whose import takes a process a fifth of a second and which nothing here is made of."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Hidden(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError(f"{fullname} is hidden", name=fullname)
        return None


def spare_pandas() -> None:
    """Let pyarrow make arrays without pandas, which it imports for the first one only to ask if values are a Series.

    It looks once. What asks for pandas itself, later, finds it, and pyarrow then takes its objects as ever.
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
