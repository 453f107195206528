"""What the sections of params.yaml are made of: the rules that all of them keep."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Common rules: no unknown key, no value silently converted, nothing changed after loading.

    They also hold for the dataclasses that a section consists of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
