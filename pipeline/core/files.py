"""Files that appear whole or not at all, and what identifies them: atomic writes, hashes, publishing."""

import csv
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, remove it on any error.

    The rename is the completion mark: whoever sees the final name sees a complete file, also after kill -9 or power
    loss (the data are flushed to disk before the rename).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # shortened, so that a name as long as the file system allows can be written; the token keeps threads and the
    # nodes of a shared disk apart
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically: the same value gives the same bytes."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def shard_files(folder: Path, pattern: str = "*.parquet") -> list[Path]:
    """Complete shards of a folder in name order."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def csv_text(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A table as CSV; floats have six decimals, None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in line] for line in lines)
    return text.getvalue()


def file_hash(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def content_hash(*parts: Path | Any) -> str:
    """One sha256 over files, folders (names and contents, in order) and JSON values: the key of a piece of work."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for path in shard_files(part, "**/*") if part.is_dir() else [part]:
                if path.is_file():
                    digest.update(f"{path.name}:{file_hash(path)};".encode())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def code_hash(*wings: str) -> str:
    """One sha256 over the modules of wings of the package: what was made by other code is made again."""
    package = Path(__file__).parent.parent
    return content_hash(*(path for wing in wings for path in sorted((package / wing).rglob("*.py"))))


def publish(work: Path, out: Path) -> None:
    """Move a finished work folder into place as `out`, a folder of a stage alone, replacing what was there.

    DVC deletes a stage's outs before it runs, so partial work lives elsewhere and arrives here in one rename.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        shutil.rmtree(out)
    shutil.move(work, out)


def publish_file(finished: Path, out: Path) -> None:
    """Copy a finished file to `out` in one rename, also from another disk; `finished` stays.

    What lies there is replaced, never written into: it may be a link into DVC's cache.
    """
    with atomic(out) as temporary:
        shutil.copyfile(finished, temporary)


def publish_shards(work: Path, out: Path) -> None:
    """Move a finished work folder of shards into place as `out`, which people name: what it holds beside shards stays.

    Shards of an earlier run (`NAME-NNNNN.parquet`) are replaced, also those that the new run has none of.
    """
    if not out.exists():
        publish(work, out)
        return
    for old in out.iterdir():
        if re.fullmatch(r"[^.].*-\d{5}\.parquet", old.name) and old.is_file():
            old.unlink()
    for shard in sorted(work.iterdir()):
        shutil.move(shard, out / shard.name)
    work.rmdir()
