"""facesr: self-supervised 4x face super-resolution as a reproducible pipeline."""

from typing import TYPE_CHECKING, Any

from pipeline.version import __version__

if TYPE_CHECKING:
    from pipeline.upscale.upscaler import Upscaler

__all__ = ["Upscaler", "__version__"]


def __getattr__(name: str) -> Any:
    # torch is imported when it is wanted, not by everything that wants a module of this package
    if name == "Upscaler":
        from importlib import import_module

        return import_module("pipeline.upscale.upscaler").Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
