"""What the sections of params.yaml are made of: kinds of numbers, and the rules that all sections keep."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
# YAML has lists only; everything else must have the very type that is asked for: "500" is no number
Range = Annotated[tuple[Weight, Weight], Field(strict=False)]
Quality = Annotated[int, Field(ge=1, le=100)]


class Section(BaseModel):
    """Common rules: no unknown key, no value silently converted, nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
