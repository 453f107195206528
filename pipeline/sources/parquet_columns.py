"""Which column of a Parquet file holds the pictures, and which name them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from pipeline.sources.base import SourceError
from pipeline.sources.content import HEAD, is_picture
from pipeline.storage.path import StoragePath

PREFERRED = ("image", "img", "jpg", "png")
"""Picture columns by their names, where several could be."""
LOOK = 16
"""Rows of a column that are looked at to see if it holds pictures."""


@dataclass(frozen=True)
class Pictures:
    """The picture column of a file: binary, a struct with `bytes`, or a list of these."""

    column: str
    leaf: str
    """What of it holds the bytes, as Parquet names it."""
    path: str | None = None
    """What of it holds the paths."""
    several: bool = False
    """True if each row has a list of pictures."""


def picture_column(path: StoragePath, file: pq.ParquetFile, asked: str | None = None) -> Pictures:
    """Find the picture column: by what its values are, and only then by its name and place.

    Args:
        path: the file's, for messages.
        file: the file.
        asked: name of the column to take.

    Raises:
        SourceError: there is none, or the one that was asked for holds no bytes.
    """
    leaves = [file.schema.column(index).path for index in range(len(file.schema))]
    found: list[Pictures] = []
    texts: list[str] = []
    following = 0
    for field in file.schema_arrow:
        # by place: names may have dots in them
        first, following = following, following + _leaf_count(field.type)
        kind, several = _of_list(_stored(field.type))
        inner = _stored(kind)
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            inner = _stored(kind.field("bytes").type)
        if types.is_struct(kind) and _is_text(inner):
            texts.append(field.name)
        if not is_bytes(inner):
            continue
        inside = {}
        if types.is_struct(kind):
            counts = accumulate((_leaf_count(part.type) for part in kind), initial=first)
            inside = {part.name: leaves[place] for part, place in zip(kind, counts, strict=False)}
        found.append(Pictures(field.name, inside.get("bytes", leaves[first]), inside.get("path"), several))
    if asked is not None:
        found = [pictures for pictures in found if pictures.column == asked]
        if asked not in file.schema_arrow.names:
            raise SourceError(f"{path}: no column {asked!r}; there are: {', '.join(file.schema_arrow.names)[:500]}")
        if not found:
            kind = str(file.schema_arrow.field(asked).type)[:80]
            raise SourceError(f"{path}: column {asked!r} holds {kind}, not the bytes of pictures")
    if not found:
        text = f"; `bytes` of {texts[0]!r} is text, not binary: decode it (base64?) first" if texts else ""
        raise SourceError(f"{path}: no picture column (a struct with `bytes`, or binary){text}")
    found.sort(key=lambda pictures: (*PREFERRED, pictures.column).index(pictures.column))
    if len(found) == 1:
        return found[0]
    return next((pictures for pictures in found if _holds_pictures(file, pictures)), found[0])


def name_columns(file: pq.ParquetFile, pictures: Pictures) -> list[str]:
    """What names the rows of a file, as Parquet names it, the best first; never the pictures themselves."""
    inner = [pictures.path] if pictures.path and not pictures.several else []
    plain = set(plain_columns(file.schema_arrow)) - {pictures.column}
    return [column for column in ("name", *inner, "path", "id") if column in plain or column in inner]


def plain_columns(schema: pa.Schema) -> list[str]:
    """Columns of text or numbers."""
    kinds = [(item.name, _stored(item.type)) for item in schema]
    return [name for name, kind in kinds if not types.is_nested(kind) and not is_bytes(kind)]


def pictures_in(value: Any) -> list[Any]:
    """Bytes of the pictures in a row's value; None for each that has none."""
    values = value if isinstance(value, list) else [value]
    return [item.get("bytes") if isinstance(item, dict) else item for item in values]


def is_bytes(kind: pa.DataType) -> bool:
    """True if values of that type are bytes."""
    return (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _of_list(kind: pa.DataType) -> tuple[pa.DataType, bool]:
    """Type of a list's values and True, or the type and False."""
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _stored(kind.value_type), True
    return kind, False


def _stored(kind: pa.DataType) -> pa.DataType:
    """The type without what is only a way to store or call it."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif types.is_dictionary(kind):
            kind = kind.value_type
        else:
            return kind


def _leaf_count(kind: pa.DataType) -> int:
    """How many columns of a Parquet file hold values of that type."""
    kind, _ = _of_list(_stored(kind))
    if types.is_map(kind):
        return _leaf_count(kind.key_type) + _leaf_count(kind.item_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _leaf_count(kind)
    return sum(_leaf_count(part.type) for part in kind) if types.is_struct(kind) else 1


def _holds_pictures(file: pq.ParquetFile, pictures: Pictures) -> bool:
    def values() -> Iterator[bytes]:
        batches = file.iter_batches(batch_size=1, columns=[pictures.leaf])
        for batch in islice(batches, LOOK):
            yield from (
                value
                for value in pictures_in(batch.column(pictures.column)[0].as_py() or [])
                if isinstance(value, bytes)
            )

    return any(is_picture(value[:HEAD]) for value in values())
