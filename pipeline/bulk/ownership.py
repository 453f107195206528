"""What a run may write, replace and remove: nothing of INPUT, and nothing of other origin without `--overwrite`."""

import csv as csv_format
import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.bulk.outputs import Output, OutputError
from pipeline.bulk.record import JobError, is_ours, manifest_record, read_part
from pipeline.core.schema import UPSCALE_MANIFEST
from pipeline.storage.object_stores import scheme_of
from pipeline.storage.path import StoragePath

TARGETS = "targets.parquet"
"""Names of all results that runs at work on OUTPUT make or made: files that may be replaced."""

LOCK = "lock"
"""What the run at work on OUTPUT holds."""

KEPT = (LOCK, "unpacked")
"""What a run has there before it begins: the lock, and a compressed INPUT unpacked."""

WORK_FOLDERS = ("parts", "pictures", "incoming", "unpacked")
WORK_FILES = ("job.json", TARGETS, "marker", "assembled", "assembled.jsonl", "shard-*", LOCK, ".*.tmp")
"""What runs leave in their work folder; files of other names are not theirs."""


@contextmanager
def locked(output: Output) -> Iterator[None]:
    """Keep a second run off the same OUTPUT; the lock goes with the process, however that ends.

    Raises:
        JobError: another run is at work on it.
    """
    folder = output.work.local
    if folder is None:
        yield  # an object store has no locks
        return
    with locked_folder(folder, str(output.path)):
        yield


@contextmanager
def locked_folder(folder: Path, what: str) -> Iterator[None]:
    """Keep others off a folder of work, which is made; `what` is made in it.

    Raises:
        JobError: another run is at work on it.
    """
    import fcntl

    with ExitStack() as stack:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            # a run that ends removes its lock: one that was opened just before keeps nobody off, and is opened anew
            try:
                handle = stack.enter_context((folder / LOCK).open("w"))
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle.fileno()).st_ino == (folder / LOCK).stat().st_ino:
                    break
            except FileNotFoundError:
                pass
            except BlockingIOError as error:
                raise JobError(f"{what}: another run is at work on it") from error
        yield


def refuse_overlap(roots: Sequence[StoragePath], output: Output) -> None:
    """Refuse an OUTPUT that is INPUT, under whatever name, or holds files of INPUT: no option allows that; also one
    that cannot be made.

    Raises:
        OutputError: it is, does, or cannot.
    """
    local = output.path.local
    if local is not None and not local.exists():
        above = next(folder for folder in local.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise OutputError(f"{output.path}: nothing can be written into {above}")
    if output.work.local is not None and output.work.local.is_symlink():
        raise OutputError(f"{output.work} is a link, and partial work lies there: remove it")
    written = (output.path, output.manifest, output.csv_manifest, output.work)
    for root in roots:
        for path in written:
            if _same(root, path):
                raise OutputError(f"{path} is INPUT too: results would mix with what they are made from")
        result = output.path.local
        if root.local is None or result is None or not root.local.is_dir():
            continue
        if not result.resolve().is_relative_to(root.local.resolve()):
            continue
        if not result.is_relative_to(root.local) or result.is_symlink():
            raise OutputError(f"{result} leads into INPUT by a link: name another OUTPUT")
        if not is_ours(output) and _holds_files(output):
            raise OutputError(f"{result} lies inside INPUT and was not written by facesr: name another OUTPUT")


def _same(one: StoragePath, other: StoragePath) -> bool:
    """True if both are one file or folder, by whatever links and spellings."""
    here, there = one.local, other.local
    if here is None or there is None:
        return here is there and below(one, other) == "."
    with suppress(OSError):
        return here.samefile(there)
    return here.resolve() == there.resolve()  # one of them is not there


def below(path: StoragePath, folder: StoragePath) -> str | None:
    """Path inside `folder`, `.` for itself; None where it lies elsewhere. Links are not followed."""
    kinds = {scheme_of(place.uri).replace("gcs", "gs") for place in (path, folder)}
    if len(kinds) > 1 or not path.path.is_relative_to(folder.path):
        return None
    return path.path.relative_to(folder.path).as_posix()


def _holds_files(output: Output) -> bool:
    if not output.path.is_dir():
        return output.path.exists()
    return any(not name.startswith(f"{output.work.name}/") for name, _, _ in output.path.files())


def refuse_inputs(output: Output, targets: Iterable[str], roots: Sequence[StoragePath], overwrite: bool) -> None:
    """Refuse to write or remove what INPUT consists of, whatever the options.

    Args:
        output: OUTPUT.
        targets: names of results.
        roots: what INPUT consists of.
        overwrite: results of an earlier run are removed.

    Raises:
        OutputError: a result lies in or over INPUT.
    """
    folder = output.path.local
    places = {root.local.resolve() for root in roots if root.local is not None}
    if not output.is_folder or folder is None or not places:
        return
    whole = folder.resolve()
    names = set(targets) if output.kind == "folder" else set(_shards(output))
    if overwrite:
        names |= _earlier_results(output)
    parents: dict[str, Path] = {}
    for name in names:
        above, _, last = name.rpartition("/")
        if above not in parents:
            parents[above] = (folder / above).resolve()
        path = parents[above] / last
        # an INPUT that OUTPUT lies inside of is another matter: its results are passed over
        hit = {path, *path.parents} & places - {whole, *whole.parents}
        if hit or (not path.is_relative_to(whole) and {path, *path.parents} & places):
            raise OutputError(f"{output.path / name} would be written or removed, and is INPUT: name another OUTPUT")


def _earlier_results(output: Output) -> set[str]:
    """Files that a finished run left in a folder, by its manifest, where there is one of ours."""
    if manifest_record(output) is None or output.kind != "folder":
        return set()
    names = set(filter(None, read_part(output.manifest).column("file")))
    return {name for name in names if not name.startswith("/") and ".." not in name.split("/")}


def refuse_foreign_manifests(output: Output, csv: bool) -> None:
    """Refuse to replace a manifest of other origin; JobError."""
    foreign = output.manifest.exists() and manifest_record(output) is None
    if foreign or (csv and not csv_is_ours(output)):
        path = output.manifest if foreign else output.csv_manifest
        raise JobError(f"{path} was not written by facesr: name another OUTPUT, or `--overwrite` it")


def refuse_foreign_results(output: Output, targets: Iterable[str], ours: Iterable[str] | None, fresh: bool) -> None:
    """Refuse to replace files of other origin.

    Args:
        output: OUTPUT.
        targets: names of results that are to be made.
        ours: those of them that earlier runs made or were to make; None: not known.
        fresh: nothing of an earlier run is gone on with.

    Raises:
        JobError: there are some.
    """
    path = output.path
    if not output.is_folder:
        if fresh and path.exists():
            raise JobError(f"{path} exists already: name another OUTPUT, or `--overwrite` it")
        return
    if path.is_file():
        raise JobError(f"{path} is a file, not a folder")
    if ours is None or not path.exists():
        return
    taken = set(_shards(output)) if output.kind == "shards" and fresh else set()
    if output.kind == "folder":
        names = set(targets) - set(ours)
        if path.local is None:
            taken = names & {name for name, _, _ in path.files()}
        else:  # whatever is there under a name, also a link that leads nowhere
            taken = {name for name in names if os.path.lexists(path.local / name)}
    if taken:
        raise JobError(
            f"{path} holds files that would be replaced, {min(taken)} and {len(taken) - 1} more: name another "
            "OUTPUT, or `--overwrite` them"
        )


def clear(output: Output) -> None:
    """Remove the work and results of a run before, and nothing else."""
    for name in _earlier_results(output):
        (output.path / name).remove()
    if output.kind == "shards" and manifest_record(output) is not None:
        for name in _shards(output):
            (output.path / name).remove()
    output.manifest.remove()
    remove_work(output, keep=KEPT)


def csv_is_ours(output: Output) -> bool:
    """True if the CSV manifest is one of this program, by its columns, or there is none."""
    if not output.csv_manifest.exists():
        return True
    with output.csv_manifest.open() as handle:
        line = handle.readline(1 << 16).decode(errors="replace")
    return {"name", "status", "file"} <= set(next(csv_format.reader([line]), ())) <= set(UPSCALE_MANIFEST.names)


def write_targets(output: Output, names: Iterable[str]) -> None:
    """Put on record which results the run makes, besides those that are on record already."""
    table = pa.table({"target": pa.array(sorted({*names, *(read_targets(output) or ())}), pa.string())})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    (output.work / TARGETS).write_bytes(sink.getvalue().to_pybytes())


def read_targets(output: Output) -> Set[str] | None:
    """Names of results that runs at work on OUTPUT make; None where they are not on record."""
    path = output.work / TARGETS
    if not path.is_file():
        return None
    try:
        with path.open() as handle:
            return set(pq.read_table(handle)["target"].to_pylist())
    except (pa.ArrowException, KeyError) as error:
        raise JobError(f"{path}: cannot be read: `--overwrite` starts anew") from error


def remove_work(output: Output, keep: Sequence[str] = ()) -> None:
    """Remove what runs left in their work folder, and the folder where nothing else is in it.

    The record goes first: where this is cut short, there is no unfinished run. The lock goes last.
    """
    output.job.remove()
    for folder in WORK_FOLDERS:
        if folder not in keep:
            (output.work / folder).remove_tree()
    names = [name for name, _, _ in output.work.files(recursive=False)]
    for name in sorted(names, key=lambda name: name == LOCK):
        if name not in keep and any(fnmatch.fnmatch(name, pattern) for pattern in WORK_FILES):
            (output.work / name).remove()
    if output.work.local is not None:
        with suppress(OSError):  # not empty: another run may have begun
            output.work.local.rmdir()
    elif not any(output.work.files()):
        output.work.remove_tree()


def archive_exists(output: Output) -> bool:
    """True if there is a result, or of shards any."""
    return output.path.is_file() if output.kind != "shards" else bool(_shards(output))


def archive_size(output: Output) -> int:
    """Bytes of the result, of shards all together."""
    return output.path.size() if output.kind != "shards" else sum(_shards(output).values())


def _shards(output: Output) -> dict[str, int]:
    """Parquet shards in OUTPUT and their sizes."""
    return {
        name: size
        for name, size, _ in output.path.files(recursive=False)
        if fnmatch.fnmatch(name, "pictures-*.parquet")
    }
