"""Kinds of settings and their limits, said once in annotations: params.yaml is checked by them where pydantic reads it.

A bare machine has no pydantic, so nothing here imports it: pydantic itself asks the annotations.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal


class Limits:
    """Limits of a value for `Annotated`, in pydantic's words: ge, gt, le, lt, multiple_of, min_length, max_length."""

    def __init__(self, **limits: float):
        self.limits = limits

    def __get_pydantic_core_schema__(self, kind: Any, handler: Callable[[Any], Any]) -> Any:
        """Schema that pydantic validates by: that of the kind with the limits added."""
        return {**handler(kind), **self.limits}


Count = Annotated[int, Limits(ge=0)]
Positive = Annotated[int, Limits(ge=1)]
Share = Annotated[float, Limits(ge=0, le=1)]
Weight = Annotated[float, Limits(ge=0)]
LearningRate = Annotated[float, Limits(gt=0, le=0.1)]
Quality = Annotated[int, Limits(ge=1, le=100)]
Noise = Annotated[float, Limits(ge=0, le=255)]
"""Sigma in grey levels."""
Blur = Annotated[float, Limits(ge=0, le=16)]
"""Sigma in pixels of an input, of which the smallest has 16."""
Precision = Literal["auto", "bf16", "fp32"]
"""`auto` is bf16 where the hardware computes in it."""
