"""What an ingest remembers of earlier ones: faces, their splits and shards; and which pictures must not come back."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import FacesrError, first_line
from pipeline.core.files import code_hash, content_hash, shard_files, write_bytes
from pipeline.core.schema import FACES, Row
from pipeline.core.seal import is_sealed
from pipeline.core.shards import ShardError, read_folder, write_table
from pipeline.runtime.console import console

if TYPE_CHECKING:
    from pipeline.params import ingest as params

FORGOTTEN = "forgotten.txt"
"""Beside the faces: pixel hashes, a line each."""
KNOWN = "known.parquet"
"""Beside the faces: KNOWN_FACES."""

_DECODING = {"size", "min_size", "larger", "not_square", "align", "max_pixels"}
"""Params on which the pixels of a face depend."""
_HEAD = "# Pixel hashes of pictures that `facesr forget` took out; they are never ingested again. Commit this file.\n"

KNOWN_FACES = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),  # file name; null where it is in none any more
        ("source", pa.string()),  # its label
        ("entry", pa.string()),  # JSON: name and stamp of its entry; null where not all faces of that are in a split
        ("fingerprint", pa.binary()),
        ("bytes", pa.int64()),
    ]
)
"""Every face that an ingest put into a split, in the order of the shards; then those that are in none any more."""


class ForgottenError(FacesrError):
    """A list of forgotten pictures that cannot be read."""


def read_forgotten(path: Path) -> set[str]:
    """Read pixel hashes, 32 hex digits a line; none where there is no file.

    Raises:
        ForgottenError: a line is no hash: nothing is ingested by a list that may be damaged.
    """
    if not path.is_file():
        return set()
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines, 1):
        if line and not re.fullmatch("[0-9a-f]{32}", line):
            raise ForgottenError(
                f"{path}, line {number}: expected the 32 hex digits of a pixel hash, found {line[:40]!r}"
            )
    return {line for line in lines if line}


def write_forgotten(path: Path, hashes: set[str]) -> None:
    """Write the list, sorted, so that git shows what was added."""
    write_bytes(path, (_HEAD + "".join(f"{value}\n" for value in sorted(hashes))).encode())


@dataclass(frozen=True)
class Known:
    """What is remembered, as far as it still holds."""

    splits: dict[str, str] = field(default_factory=dict)
    """Id -> split; empty where the seed was another."""
    shards: dict[str, str] = field(default_factory=dict)
    """Id -> file name of its shard, in the order of the shards."""
    rows: dict[tuple[str, str], list[Row]] = field(default_factory=dict)
    """(source, entry) -> rows of CANDIDATES, whose pictures lie in an earlier shard: they need not be decoded again."""
    whole: dict[tuple[tuple[str, str | None], ...], str] = field(default_factory=dict)
    """(id, person) of all rows of an earlier shard -> its path."""
    remembered: list[Row] = field(default_factory=list)
    """As they were read."""
    seed: str | None = None
    """Of the split that is remembered."""

    def same(self, name: str, held: tuple[tuple[str, str | None], ...]) -> str | None:
        """Path of the earlier shard of this name, where it holds just these faces (id and person of each)."""
        path = self.whole.get(held)
        return path if path is not None and Path(path).name == name else None


def read_known(out: Path, seed: int, shard_mb: int, decoding: str, forgotten: set[str]) -> Known:
    """Read what earlier ingests left in `out`.

    Args:
        out: folder with `known.parquet` and `faces/`.
        seed: of the split; of another seed no split is kept.
        shard_mb: of another size no shard is kept.
        decoding: hash of the params that pictures were decoded by; of others no picture is kept.
        forgotten: pixel hashes of pictures that are not remembered.

    Raises:
        ShardError: `known.parquet` is damaged.
    """
    path = out / KNOWN
    if not path.is_file():
        return Known()
    try:
        table = pq.read_table(path)
        table.select(KNOWN_FACES.names)
    except (pa.ArrowException, ValueError, KeyError) as error:
        hint = "restore it, or remove it to draw splits anew"
        raise ShardError(f"{path}: not readable ({first_line(error)}): {hint}") from error
    said = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    rows = [row for row in table.to_pylist() if row["id"].partition("-")[0] not in forgotten]
    same_size, same_pixels = said.get("shard_mb") == str(shard_mb), said.get("decoding") == decoding
    stored, whole = _stored(out / "faces", same_size) if same_size or same_pixels else ({}, {})
    splits = {row["id"]: row["split"] for row in rows} if said.get("seed") == str(seed) else {}
    shards = {row["id"]: row["shard"] for row in rows if row["shard"]} if same_size else {}
    found: dict[tuple[str, str], list[Row]] = {}
    if same_pixels:
        incomplete = {_key(row) for row in rows if row["entry"] and row["id"] not in stored}
        for row in rows:
            if row["entry"] and _key(row) not in incomplete:
                own = {"hash": row["id"].partition("-")[0], "fingerprint": row["fingerprint"], "bytes": row["bytes"]}
                found.setdefault(_key(row), []).append(stored[row["id"]] | own | {"entry": row["entry"], "reason": ""})
    return Known(splits, shards, found, whole, rows, said.get("seed"))


def _key(row: Row) -> tuple[str, str]:
    return row["source"], row["entry"]


def _stored(faces: Path, same_size: bool) -> tuple[dict[str, Row], dict[tuple[tuple[str, str | None], ...], str]]:
    """Faces of the shards that are there, without pictures, by id; and what is in each shard."""
    stored: dict[str, Row] = {}
    whole = {}
    columns = ["id", "name", "person", "conversion", "transform", "width", "height"]
    changed = []
    for path in shard_files(faces):
        if not is_sealed(path):
            changed.append(path.name)
            continue
        try:
            rows = list(read_folder(faces, columns, path.name))
        except (ShardError, pa.ArrowException, ValueError):
            continue  # not from here
        if same_size and pq.read_schema(path).equals(FACES, check_metadata=True):
            whole[tuple((row["id"], row["person"]) for row in rows)] = str(path)
        for index, row in enumerate(rows):
            stored[row["id"]] = {key: row[key] for key in columns[1:]} | {"part": str(path), "row": index}
    if changed:
        names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        console.print(f"{names}: not as written by this version: their faces are decoded again", markup=False)
    return stored, whole


def decoding_hash(settings: "params.Ingest") -> str:
    """Hash of all that makes pixels of a file, but the file: params and code."""
    return content_hash(code_hash("core", "codecs", "faces", "ingest"), settings.model_dump(include=_DECODING))


def entry_key(name: str, stamp: Any) -> str | None:
    """What says that an entry is the same as before; None where its source cannot tell."""
    return None if stamp is None else json.dumps([name, stamp])


def write_known(
    path: Path,
    usable: Sequence[Row],
    planned: Mapping[str, Iterable[Row]],
    labels: Sequence[str],
    known: Known,
    **said: Any,
) -> None:
    """Remember the faces of this ingest, and of earlier ones those that are not in it.

    Args:
        path: file to write.
        usable: faces found, in a split or not.
        planned: name of each shard -> its rows.
        labels: of the sources.
        known: what was remembered before.
        said: what it holds for: `seed`, `shard_mb`, `decoding`.
    """
    by_id = {row["id"]: row for row in usable}
    drawn = {row["id"] for rows in planned.values() for row in rows}
    # an entry of which a face is in no split is looked at again, since that face is kept nowhere
    partial = {(row["source"], row["entry"]) for row in usable if row["id"] not in drawn}
    rows = []
    for shard, members in planned.items():
        for member in members:
            row = by_id[member["id"]]
            entry = None if (row["source"], row["entry"]) in partial else row["entry"]
            own = {"id": row["id"], "split": shard.rpartition("-")[0], "shard": shard, "entry": entry}
            rows.append(
                own | {"source": labels[row["source"]], "fingerprint": row["fingerprint"], "bytes": row["bytes"]}
            )
    if str(said["seed"]) == known.seed:
        gone = {"shard": None, "entry": None, "fingerprint": None}
        rows += [row | gone for row in known.remembered if row["id"] not in drawn]
    metadata = {key: str(value) for key, value in said.items()}
    write_table(path, pa.Table.from_pylist(rows, schema=KNOWN_FACES.with_metadata(metadata)))
