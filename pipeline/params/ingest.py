"""The `ingest` section of params.yaml: sources, their splits, and which pictures are faces."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.core.limits import Count, Positive, Share
from pipeline.core.scales import SPLITS
from pipeline.params.base import Section


class SplitCounts(Section):
    """How many faces of a source go where; `rest` takes what the others leave. At most one split may say `rest`."""

    by: Literal["seed"] = "seed"
    train: Count | Literal["rest"] = 0
    valid: Count | Literal["rest"] = 0
    test: Count | Literal["rest"] = 0

    @model_validator(mode="after")
    def _one_rest(self) -> Self:
        if [self.train, self.valid, self.test].count("rest") > 1:
            raise ValueError("only one split can take the rest")
        return self

    @property
    def counts(self) -> dict[str, int | Literal["rest"]]:
        """Splits that want faces -> how many."""
        return {split: count for split in SPLITS if (count := getattr(self, split))}


class SplitByCelebA(Section):
    """CelebA's official partition."""

    by: Literal["celeba"]
    partition: str
    """Path of list_eval_partition.txt: `000001.jpg 0` lines."""
    mapping: str | None = None
    """Path of CelebA-HQ-to-CelebA-mapping.txt; null where files still have their names in CelebA."""


class SplitByColumn(Section):
    """A column of a Parquet source: train, valid (validation, val, dev) or test."""

    by: Literal["column"]
    column: str


class SplitByList(Section):
    """Text files with an id, a name inside the source, a file name or its stem on each line."""

    by: Literal["list"]
    train: str | None = None
    valid: str | None = None
    test: str | None = None

    @model_validator(mode="after")
    def _some_list(self) -> Self:
        if not self.files:
            raise ValueError("at least one of train, valid and test must name a file")
        return self

    @property
    def files(self) -> dict[str, str]:
        """Split -> path of its list."""
        return {split: file for split in SPLITS if (file := getattr(self, split))}


def _by(value: Any) -> str:
    return str(value.get("by", "seed") if isinstance(value, dict) else getattr(value, "by", "seed"))


Splits = Annotated[
    Annotated[SplitCounts, Tag("seed")]
    | Annotated[SplitByCelebA, Tag("celeba")]
    | Annotated[SplitByColumn, Tag("column")]
    | Annotated[SplitByList, Tag("list")],
    Discriminator(_by),
]


class Persons(Section):
    """Who is shown, so that nobody is in two splits: a column, or CelebA's identity list."""

    identities: str | None = None
    """Path of identity_CelebA.txt: `000001.jpg 2880` lines."""
    mapping: str | None = None
    """Path of CelebA-HQ-to-CelebA-mapping.txt; null where files still have their names in CelebA."""
    column: str | None = None
    """Of a Parquet source."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.identities) == bool(self.column):
            raise ValueError("either identities or column")
        return self


class SyntheticSource(Section):
    """Procedural portraits."""

    kind: Literal["synthetic"]
    count: Positive
    seed: Count = 0
    splits: SplitCounts
    persons: ClassVar[None] = None

    @property
    def label(self) -> str:
        """What it is called in columns and messages."""
        return f"synthetic (seed {self.seed})"


class ArchiveSource(Section):
    """Whatever `facesr inspect` can look at: docs/sources.md."""

    kind: Literal["archive"]
    path: str
    splits: Splits
    persons: Persons | None = None

    @property
    def label(self) -> str:
        """What it is called in columns and messages."""
        return self.path

    @property
    def columns(self) -> list[str]:
        """Columns of Parquet that splits and persons go by."""
        of_split = self.splits.column if self.splits.by == "column" else None
        of_person = self.persons.column if self.persons else None
        return [name for name in dict.fromkeys((of_split, of_person)) if name]


Source = SyntheticSource | ArchiveSource


class Align(Section):
    """Faces cut out of ordinary portraits as those of CelebA-HQ or FFHQ are."""

    recipe: Literal["none", "celebahq", "ffhq"] = "none"
    detector: str | None = None
    """YuNet's ONNX file; null: the places that `facesr weights list` shows."""
    several: Literal["reject", "largest", "each"] = "reject"
    """What happens to a picture of several faces."""
    max_padding: Share = 0.25
    """Share of a face that may lie beyond the picture's border and is made up; more is rejected."""


class Ingest(Section):
    """Source(s) to shards of faces, split into train, valid and test."""

    sources: list[Annotated[Source, Field(discriminator="kind")]] = Field(min_length=1)
    size: Annotated[int, Field(ge=64)] = 1024
    """Side of an original, pixels; smaller faces have no original at 4x."""
    min_size: Annotated[int, Field(ge=64)] = 256
    """Faces with a shorter side are rejected, pixels. Those under 256 train at the smaller scales only."""
    larger: Literal["reduce", "reject"] = "reduce"
    """What happens to faces larger than `size`."""
    not_square: Literal["reject", "crop"] = "reject"
    """What happens to pictures that are not square; `crop` takes the centre."""
    align: Align = Align()
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = 8192 * 8192
    """Pictures that claim more pixels are rejected before they are decoded."""
    near_duplicates: Annotated[int, Field(ge=0, le=128)] | None = 16
    """Bits of 256 in which the perceptual hashes of near-duplicates differ at most; null: not looked for."""
    seed: Count
    """Of the split."""
    shard_mb: Positive = 256
    """Size at which a shard is closed, megabytes."""
    max_failed: Count | None = 0
    """Rejected pictures with which the stage still succeeds; null: any number."""
    workers: Positive | None = None
    """Ray workers; null: one per core. 1 runs without Ray."""
    address: str | None = None
    """Ray cluster; null: a local one. `work/` must then lie on a disk that all its nodes see."""
