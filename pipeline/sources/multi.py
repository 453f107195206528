"""Several archives or pictures as one source."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.sources.base import Entry, Source, SourceError
from pipeline.sources.folders import Single


class Several:
    """Sources one after the other, such as the tars of a WebDataset.

    Args:
        parts: what each is called, and the source. Entries are named `label/name`, of a single picture just `label`.
    """

    def __init__(self, parts: Sequence[tuple[str, Source]]):
        self.parts = list(parts)

    @property
    def passed_over(self) -> int:
        """Of all parts."""
        return sum(part.passed_over for _, part in self.parts)

    def entries(self) -> Iterator[Entry]:
        """All entries, part by part; a part that cannot be read is named and the others are read."""
        for number, (label, part) in enumerate(self.parts):
            try:
                for entry in part.entries():
                    name = label if isinstance(part, Single) else f"{label}/{entry.name}"
                    yield replace(entry, name=name, key=[number, entry.key])
            except (SourceError, OSError) as error:
                yield Entry(label, None, str(error))

    def read(self, key: Any) -> bytes:
        """Bytes of an entry."""
        number, inner = key
        return self.parts[number][1].read(inner)
