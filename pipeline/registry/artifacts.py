"""Models as DVC artifacts: versions and stages are git tags as GTO writes them, in this repository or another one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import FacesrError, first_line, without_secrets
from pipeline.core.files import content_hash
from pipeline.pretrained.registry import cache_folder

_REFERENCE = re.compile(r"(?P<repo>[^#]*)#(?P<name>[^@#]+)(?:@(?P<version>[^@#]+))?")
_VERSION = re.compile(r"v?\d+\.\d+\.\d+.*")


class RegistryError(FacesrError):
    """A repository, artifact or version that cannot be had; the message says which."""


@dataclass(frozen=True)
class Reference:
    """`REPO#ARTIFACT@VERSION`: REPO a path or address, empty for this one; VERSION as v1.2.0, a stage, or none for the
    latest.
    """

    repo: str | None
    name: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference | None":
        """Read a reference; None where a text is none. A file whose name has a # in it is a file."""
        match = _REFERENCE.fullmatch(text)
        if match is None or Path(text).exists():
            return None
        return cls(match["repo"] or None, match["name"], match["version"])

    def __str__(self) -> str:
        return without_secrets(f"{self.repo or ''}#{self.name}" + (f"@{self.version}" if self.version else ""))


@dataclass
class Artifact:
    """An entry of `artifacts:` in dvc.yaml, with its tags."""

    name: str
    path: str
    type: str | None
    description: str | None
    labels: list[str]
    versions: dict[str, str] = field(default_factory=dict)
    """Version -> commit, oldest first."""
    stages: dict[str, str] = field(default_factory=dict)
    """Stage (dev, prod …) -> the version that is in it."""


def list_artifacts(repo: str | None = None) -> list[Artifact]:
    """List the artifacts of a repository; none where the current folder is in no DVC repository.

    Args:
        repo: path or address; None: the one around the current folder.

    Raises:
        RegistryError: it cannot be opened.
    """
    found = []
    with _opened(repo) as opened:
        for name, path, entry in _entries(opened):
            shown = Artifact(name, path, entry.type, entry.desc, list(entry.labels or []))
            if opened.artifacts.scm is not None:  # without git there are no tags
                _add_tags(shown, opened.artifacts.scm)
            found.append(shown)
    return found


def _entries(opened: Any) -> Iterator[tuple[str, str, Any]]:
    """Name (`folder:name` below the root), path from the root, and entry of each artifact."""
    for file, entries in opened.artifacts.read().items():
        folder = Path(file).parent.as_posix()
        for name, entry in entries.items():
            at_root = folder == "."
            yield name if at_root else f"{folder}:{name}", entry.path if at_root else f"{folder}/{entry.path}", entry


def _add_tags(artifact: Artifact, scm: Any) -> None:
    """Add versions and stages, by annotated tags in the order of time: `name@v1.0.0`, `name#prod#1`; `!` takes back."""
    from gto.constants import Action
    from gto.tag import find, parse_tag

    commits: dict[str, str] = {}
    for tag in find(name=artifact.name, scm=scm):
        parsed = parse_tag(tag)
        if parsed.action == Action.REGISTER:
            artifact.versions[parsed.version] = str(tag.target)
        elif parsed.action == Action.DEREGISTER:
            artifact.versions.pop(parsed.version, None)
        elif parsed.action == Action.ASSIGN:
            commits[parsed.stage] = str(tag.target)
        elif parsed.action == Action.UNASSIGN:
            commits.pop(parsed.stage, None)
    artifact.versions = dict(sorted(artifact.versions.items(), key=lambda item: _order(item[0])))
    names = {commit: version for version, commit in artifact.versions.items()}
    artifact.stages = {stage: names.get(commit, commit[:7]) for stage, commit in sorted(commits.items())}


def _order(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"[.+-]", version.lstrip("v"))]


def fetch(reference: Reference, partner: str | None = None) -> Path:
    """Bring the file of an artifact's version into the cache, if it is not there, and return its path.

    Args:
        reference: what is wanted.
        partner: name of another artifact that is put beside it, of the same commit, where the repository has it.

    Raises:
        RegistryError: no such repository, artifact, version or file.
    """
    version, stage = reference.version, None
    if version is not None and not _VERSION.fullmatch(version):
        version, stage = None, version
    with _opened(reference.repo) as opened:
        try:
            rev = opened.artifacts.get_rev(reference.name, version=version, stage=stage)
        except _errors() as error:
            raise RegistryError(f"{reference}: {_known(reference, first_line(error))}") from error
    with _opened(reference.repo, rev) as opened:
        paths = {name: path for name, path, _ in _entries(opened)}
        if reference.name not in paths:
            raise RegistryError(f"{reference}: not in dvc.yaml of commit {rev[:7]}")
        folder = cache_folder().parent / "facesr-models" / content_hash(reference.repo or str(Path.cwd()), rev)[:16]
        for name in filter(None, (partner, reference.name)):
            if name in paths and not (target := folder / Path(paths[name]).name).is_file():
                try:
                    _copy(opened, paths[name], target)
                except _errors(OSError) as error:
                    if name == reference.name:
                        raise RegistryError(f"{reference}: {paths[name]}: {first_line(error)}") from error
    return folder / Path(paths[reference.name]).name


def _copy(opened: Any, path: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    opened.dvcfs.get_file(f"/{path}", str(temporary))
    temporary.replace(target)


def _known(reference: Reference, message: str) -> str:
    """A message, and which versions there are."""
    for artifact in list_artifacts(reference.repo):
        if artifact.name == reference.name:
            tags = [*artifact.versions, *artifact.stages]
            none = f"none yet (`gto register {artifact.name}`, or name its file, {artifact.path})"
            return f"{message}; tagged: {', '.join(tags) or none}"
    return f"no such artifact; there are {', '.join(a.name for a in list_artifacts(reference.repo)) or 'none'}"


def _errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from gto.exceptions import GTOException

    return DvcException, SCMError, GTOException, *more


@contextmanager
def _opened(repo: str | None, rev: str | None = None) -> Iterator[Any]:
    """A repository, opened by DVC: a clone in its cache where it is elsewhere."""
    from dvc.repo import Repo

    try:
        opened = Repo.open(repo, rev=rev, subrepos=True, uninitialized=True)
    except _errors(OSError) as error:
        raise RegistryError(f"{without_secrets(repo or '.')}: {first_line(error)}") from error
    with opened:
        yield opened
