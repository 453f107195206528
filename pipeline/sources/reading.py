"""How a source is to be read where it does not say so itself."""

from dataclasses import dataclass

from pipeline.sources.base import SourceError


@dataclass(frozen=True)
class Reading:
    """What a user says of a source.

    Raises:
        SourceError: there is no such encoding.
    """

    zip_encoding: str | None = None
    """Encoding of a zip's names that are not marked as UTF-8."""
    column: str | None = None
    """Parquet's column of pictures."""
    columns: tuple[str, ...] = ()
    """Parquet's columns of text or numbers that entries carry as their labels."""

    def __post_init__(self) -> None:
        if self.zip_encoding is not None:
            try:
                # what is no encoding of text, such as hex, raises too
                b"name".decode(self.zip_encoding, "replace")
            except LookupError as error:
                raise SourceError(
                    f"--zip-encoding {self.zip_encoding}: no encoding of text; such as cp932 (Japanese), gbk (Chinese),"
                    " cp437 or utf-8"
                ) from error
