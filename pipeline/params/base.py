"""What the sections of params.yaml are made of: the rules that all of them keep."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from pipeline.core.limits import Limits, Positive, Weight

Unit = Annotated[int, Limits(ge=1, le=64)]
"""Faces in a work unit: what a killed worker loses at most."""


class Section(BaseModel):
    """Common rules: no unknown key, no value silently converted, no infinite one, nothing changed after loading.

    They also hold for the dataclasses that a section consists of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Workers(Section):
    """Processes that share the work units of a stage."""

    workers: Positive | None = None
    """Ray workers; null: as many as there is room for. 1 runs without Ray."""
    cpus_per_worker: Positive = 1
    address: str | None = None
    """Ray cluster; null: a local one."""

    @property
    def on_ray(self) -> bool:
        """False where one worker does everything in the stage's own process."""
        return self.workers != 1 or self.address is not None


class GpuWorkers(Workers):
    """Processes that may use a GPU."""

    gpus_per_worker: Weight | None = None
    """Share of a GPU for each worker; null: a whole one where there are any."""
