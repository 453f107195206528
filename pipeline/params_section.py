"""What every class of params.yaml's sections shares: its rules, and the kinds of numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Common rules: no unknown key, no value silently converted, nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
