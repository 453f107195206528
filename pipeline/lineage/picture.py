"""In which splits, shards, pairs, results and models a picture is."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from pipeline.core.errors import FacesrError
from pipeline.core.files import shard_files
from pipeline.core.schema import Row
from pipeline.core.shards import read_rows
from pipeline.lineage.lock import LOCK, LineageError, Stage, maker, read_lock
from pipeline.lineage.trace import DATA_ELSEWHERE, DATA_HERE, git, learned_from_faces, training_data
from pipeline.models.checkpoint import load_generator

FACES, INPUTS, MANIFEST = "data/faces", "data/inputs", "data/pairs.parquet"
RESULTS = ("data/upscaled", "data/baselines")
TABLES = ("data/rejected.parquet", "reports/per_image.parquet")
SEEN_BY = ("train", "valid")
"""Splits that training reads: it learns from one and chooses its best weights by the other."""
_SHORTEST = 8
"""Digits of an id that find a picture."""


@dataclass
class Picture:
    """One picture, and all that is here of it."""

    id: str
    name: str
    source: str
    split: str | None
    """None: it was rejected."""
    person: str | None = None
    reason: str | None = None
    """Of a rejected one."""
    shards: list[str] = field(default_factory=list)
    pairs: dict[str, int] = field(default_factory=dict)
    """Scale and augmentation -> pairs in the manifest."""
    results: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """A model, and whether it learned from a picture."""

    model: str
    seen: bool | None
    """None: it cannot be told from what is here."""
    why: str


def find_pictures(
    wanted: Sequence[str], project: Path = Path(), forgotten: Collection[str] = (), *, go_on: bool = False
) -> list[Picture]:
    """Find pictures by id, pixel hash, the beginning of one, or name.

    All pictures of the same pixels are found together, also what is left of one where it was being forgotten.

    Args:
        wanted: ids, beginnings of ids of 8 digits and more, or names.
        project: folder with `data/`.
        forgotten: pixel hashes of pictures that `facesr forget` was told of.
        go_on: a name that is nowhere stands for what is forgotten and still here: where a `forget` was stopped, one of
            several pictures, or of several with the same pixels, may be gone.

    Raises:
        LineageError: one of them is nowhere, or there are no shards.
    """
    columns = ["id", "name", "source", "split", "person"]
    faces = list(_rows(project / FACES, project, columns))
    inputs = list(_rows(project / INPUTS, project, columns))
    rejected = [(TABLES[0], row) for row in _table(project / TABLES[0], ["id", "name", "source", "reason"])]
    if not faces and not inputs and not rejected:
        raise LineageError(f"{project / FACES}: no shards here (`dvc pull`, or `dvc repro ingest`)")
    hashes: set[str] = set()
    rows = [row for _, row in (*faces, *inputs, *rejected) if row["id"]]
    left = {_pixels(row["id"]) for row in rows} & set(forgotten) if go_on else set()
    for text in wanted:
        found = {_pixels(row["id"]) for row in rows if _is(row, text)}
        found = found or {known for known in forgotten if _begins(known, _pixels(text))} or left
        if not found:
            hint = "; what is forgotten is no longer known by its name" if forgotten else ""
            raise LineageError(f"{text}: no picture of that id or name is here{hint}")
        hashes |= found
    pictures: dict[str, Picture] = {}
    for shard, row in faces:
        if _pixels(row["id"]) in hashes:
            picture = Picture(row["id"], row["name"], row["source"], row["split"], row["person"], shards=[shard])
            pictures[row["id"]] = picture
    for _, row in rejected:
        if row["id"] and _pixels(row["id"]) in hashes and row["id"] not in pictures:
            pictures[row["id"]] = Picture(row["id"], row["name"], row["source"], None, reason=row["reason"])
    for _, row in inputs:
        if _pixels(row["id"]) in hashes and row["id"] not in pictures:
            pictures[row["id"]] = Picture(row["id"], row["name"], row["source"], row["split"], row["person"])
    if not pictures:
        raise LineageError(f"{', '.join(wanted)}: forgotten, and no longer here")
    _follow(pictures, project)
    return list(pictures.values())


def _is(row: Row, text: str) -> bool:
    if text in (row["id"], row["name"], Path(row["name"]).name):
        return True
    return _begins(row["id"], text)


def _begins(picture_id: str, text: str) -> bool:
    return len(text) >= _SHORTEST and picture_id.startswith(text)


def _pixels(picture_id: str) -> str:
    """The pixel hash in an id."""
    return picture_id.partition("-")[0]


def _follow(pictures: dict[str, Picture], project: Path) -> None:
    """Add inputs, pairs and results."""
    for shard, row in _rows(project / INPUTS, project, ["id"]):
        if row["id"] in pictures:
            pictures[row["id"]].shards.append(shard)
    counts: dict[str, Counter[str]] = {key: Counter() for key in pictures}
    for row in _table(project / MANIFEST, ["image_id", "scale", "augmentation"]):
        if row["image_id"] in counts:
            counts[row["image_id"]][f"{row['scale']} {row['augmentation']}"] += 1
    for key, count in counts.items():
        pictures[key].pairs = dict(sorted(count.items()))
    for folder in RESULTS:
        for shard, row in _rows(project / folder, project, ["id", "method", "scale"]):
            if row["id"] in pictures:
                pictures[row["id"]].results.append(f"{row['method']} {row['scale']} in {shard}")


def _rows(folder: Path, project: Path, columns: list[str]) -> Iterator[tuple[str, Row]]:
    for path in shard_files(folder, "**/*.parquet"):
        for row in read_rows(path, columns):
            yield path.relative_to(project).as_posix(), row


def _table(path: Path, columns: list[str]) -> Iterator[Row]:
    return read_rows(path, columns) if path.is_file() else iter(())


def models_that_saw(pictures: Sequence[Picture], project: Path = Path()) -> list[Seen]:
    """Say of every model of this checkout, and of every version that git knows, whether it learned from pictures.

    A model is known to have seen them where the hash of data in its file is that of the inputs and pairs that are here,
    and one of the pictures is in train or valid. Of tags, other branches and experiments their dvc.lock says which
    inputs and pairs their models had.
    """
    in_training = any(picture.split in SEEN_BY for picture in pictures)
    now = cache(partial(training_data, project))  # it reads all of the data
    seen = []
    for path in sorted((project / "models").rglob("*.safetensors")):
        name = path.relative_to(project).as_posix()
        try:
            provenance = load_generator(path)[1]["provenance"]
        except FacesrError as error:
            seen.append(Seen(name, None, str(error)))
            continue
        here = now(learned_from_faces(provenance))
        if here is None:
            seen.append(Seen(name, None, f"{MANIFEST} is not here: dvc pull it"))
        elif provenance.get("data_sha256") == here:
            why = f"trained on {DATA_HERE}"
            if provenance.get("earlier_data_sha256") and not in_training:
                seen.append(Seen(name, None, f"{why}, from weights trained on {DATA_ELSEWHERE}"))
                continue
            seen.append(
                Seen(name, in_training, why if in_training else f"{why}, where it is in neither train nor valid")
            )
        else:
            seen.append(Seen(name, None, f"trained on {DATA_ELSEWHERE}"))
    return seen + _elsewhere({picture.split for picture in pictures if picture.split in SEEN_BY}, project)


_TAGS, _EXPERIMENTS = "refs/tags/", "refs/exps/"
_REFS = (_TAGS, "refs/heads/", "refs/remotes/", _EXPERIMENTS)
_RUNNING = tuple(f"{_EXPERIMENTS}{name}" for name in ("exec/", "stash", "celery/", "temp/", "apply"))
"""DVC's own notes beside its experiments."""


def _elsewhere(splits: Collection[str | None], project: Path) -> list[Seen]:
    """Models of tags, branches and experiments, by the inputs and pairs that their dvc.lock names.

    Args:
        splits: of the pictures, as far as training reads them.
        project: root of the checkout.
    """
    try:
        text = (project / LOCK).read_bytes()
        here = read_lock(text)
    except (OSError, LineageError):
        return []
    own = git(project, "symbolic-ref", "--quiet", "HEAD").strip()
    # a line for each tag; branches and experiments of the same results share one
    versions: dict[tuple[str, str], list[str]] = {}
    for ref in git(project, "for-each-ref", "--format=%(refname)", *_REFS).split():
        then = git(project, "show", f"{ref}:./{LOCK}")
        if ref.startswith(_RUNNING) or ref.endswith("/HEAD") or (ref == own and then.encode() == text):
            continue
        name = ref.split("/", 4 if ref.startswith(_EXPERIMENTS) else 2)[-1]
        versions.setdefault((then, ref if ref.startswith(_TAGS) else ""), []).append(name)
    found = [(tag, ", ".join(names), _seen_by(then, here, splits)) for (then, tag), names in versions.items()]
    # a tag of somebody's own, or a branch, on a commit without results is no version of ours
    return [
        Seen(name, *(seen or (None, f"its commit has no {LOCK}")))
        for tag, name, seen in found
        if seen is not None or (tag and "@" in name)
    ]


def _seen_by(text: str, here: dict[str, Stage], splits: Collection[str | None]) -> tuple[bool | None, str] | None:
    """Whether models of another dvc.lock learned from pictures of these splits, and why; None where it is none."""
    try:
        then = read_lock(text.encode())
    except LineageError:
        return None
    if _md5(then, MANIFEST) is None:
        return None, f"its {LOCK} names no pairs"
    if _md5(then, MANIFEST) == _md5(here, MANIFEST):
        return bool(splits), "made from the pairs that are here"
    if any(_same(then, here, f"{INPUTS}/{split}") for split in splits):
        return True, "made from the inputs that are here"
    if not splits and all(_same(then, here, f"{INPUTS}/{split}") for split in SEEN_BY):
        return False, "made from the inputs that are here"
    return None, "made from other data: git checkout or dvc exp apply it, dvc pull, and ask there"


def _same(then: dict[str, Stage], here: dict[str, Stage], path: str) -> bool:
    return _md5(here, path) is not None and _md5(then, path) == _md5(here, path)


def _md5(stages: dict[str, Stage], path: str) -> str | None:
    """Hash of what a stage wrote; None where none did."""
    found = maker(stages, path)
    return None if found is None else found[1].md5
