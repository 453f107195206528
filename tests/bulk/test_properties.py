"""Whatever an archive's entries are called and however its files are damaged: a row each, inside OUTPUT, in time."""

import hashlib
import io
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.upscaling import encoded, make_models, manifest_rows, upscale

from pipeline.bulk.plan import items_of
from pipeline.bulk.settings import Settings
from pipeline.codecs.reader import read_picture
from pipeline.core.images import ImageError, decode
from pipeline.sources.base import Entry

QUICK = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,  # the same names in every run of the suite
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

BYTES = st.binary(min_size=1, max_size=8).map(lambda data: data.replace(b"\0", b"_").decode("utf-8", "surrogateescape"))
"""Names that are no text, as old disks and tars hold them."""
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
SPECIAL = st.sampled_from(
    [".", "..", "/", "", "a", "A", "é", "e\u0301", "COM1", ".facesr", "manifest.parquet", "x" * 240, "[red]", "[/]"]
)
NAMES = st.lists(
    st.lists(st.one_of(WORDS, SPECIAL), min_size=1, max_size=3).map("/".join), min_size=1, max_size=6, unique=True
).map(lambda names: [f"{name}{suffix}" for name, suffix in zip(names, (".png", ".jpg", ".PNG", "") * 2, strict=False)])


def as_zip(path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for index, name in enumerate(names):
            archive.writestr(zipfile.ZipInfo(name or "empty"), encoded(index, width=16, height=16))


def as_tar(path: Path, names: list[str]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for index, name in enumerate(names):
            data = encoded(index, width=16, height=16)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def as_parquet(path: Path, names: list[str]) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": encoded(index, width=16, height=16), "path": name} for index, name in enumerate(names)]
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), path)


def as_folder(path: Path, names: list[str]) -> None:
    path.mkdir()
    for index, name in enumerate(names):
        with suppress(OSError, ValueError):  # a disk takes fewer names than an archive, and no two for one file
            target = path / name.strip("/")
            if target.resolve().is_relative_to(path.resolve()):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(encoded(index, width=16, height=16))


def same_path(name: str) -> str:
    """What a disk that knows neither case nor composition would take a name for."""
    return unicodedata.normalize("NFC", PurePosixPath(name).as_posix()).casefold()


def hashes(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(names=NAMES, suffix=st.sampled_from(["png", "jpeg", "same"]))
def test_every_result_has_a_path_of_its_own_on_any_disk(names: list[str], suffix: str) -> None:
    targets = [item.target for item in items_of([Entry(name, name) for name in names], Settings(format=suffix))]
    assert len({same_path(target) for target in targets}) == len(names)
    assert all(not PurePosixPath(target).is_absolute() for target in targets)


@pytest.mark.parametrize(
    ("kind", "write"), [("zip", as_zip), ("tar", as_tar), ("parquet", as_parquet), ("folder", as_folder)]
)
@pytest.mark.parametrize("to", ["folder", "zip"])
def test_any_names_go_through_a_container_completely_and_stay_inside(
    kind: str, write: Callable[[Path, list[str]], None], to: str, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @QUICK
    @given(names=NAMES)
    def check(names: list[str]) -> None:
        root = tmp_path_factory.mktemp("names")
        (root / "neighbour.txt").write_text("not ours")
        write(root / f"in.{kind}", [*names, "always/good.png"])
        before = hashes(root)
        output = root / ("out" if to == "folder" else "out.zip")
        upscale(root / f"in.{kind}", output, "--model", model, "--workers", 1, code=None)
        after = hashes(root)
        assert {path: after.get(path) for path in before} == before
        rows = manifest_rows(output)
        results = [row["file"] for row in rows if row["status"] == "ok"]
        assert all(row["error"] for row in rows if row["status"] != "ok")
        assert len({same_path(name) for name in results}) == len(results)
        if to == "zip":
            with zipfile.ZipFile(output) as archive:
                assert sorted(archive.namelist()) == sorted(results)
            return
        for row in rows:
            if row["status"] == "ok":
                path = (output / row["file"]).resolve()
                assert path.is_relative_to(output.resolve())
                assert path.stat().st_size == row["bytes"]
        left = {path for path in after if path.startswith(str(output))} - {str(output / "manifest.parquet")}
        assert {Path(path).relative_to(output).as_posix() for path in left} == set(results)

    check()


FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM")


def small(kind: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGB", (24, 20), (200, 120, 40))
    image.putpixel((3, 4), (1, 2, 3))
    image.save(buffer, kind)
    return buffer.getvalue()


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> bytes:
    """A small file with some bytes of its beginning or anywhere replaced, doubled, or cut off."""
    data = bytearray(small(kind))
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.booleans())
        place = draw(st.integers(0, min(len(data) - 1, 64 if near else len(data) - 1)))
        data[place : place + 1] = draw(st.binary(min_size=0, max_size=4))
        if not data:
            break
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 3)) == 0 else data)


def reason_of(read: Callable[[bytes], object], data: bytes) -> str | None:
    try:
        read(data)
    except ImageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_gives_a_picture_or_a_reason_in_time(kind: str) -> None:
    @settings(max_examples=60, deadline=2000, derandomize=True, database=None)
    @given(data=damaged(kind))
    def check(data: bytes) -> None:
        for read in (read_picture, decode):
            reason = reason_of(read, data)
            assert reason is None or (reason and "\n" not in reason)

    check()


def test_a_folder_of_damaged_files_gets_a_row_each(model: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    names = []
    for index in range(56):
        kind = FORMATS[index % len(FORMATS)]
        data = bytearray(small(kind))
        for place in random.integers(0, min(len(data), 80), 3):
            data[place] = random.integers(256)
        names.append(f"{index:02d}.{kind.lower()}")
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / names[-1]).write_bytes(data[: len(data) // (1 + index % 3)])
    before = hashes(tmp_path / "in")
    upscale(tmp_path / "in", tmp_path / "out", "--model", model, "--workers", 1, code=None)
    rows = manifest_rows(tmp_path / "out")
    assert sorted(row["name"] for row in rows) == sorted(names)
    assert all(row["error"] for row in rows if row["status"] != "ok")
    assert {row["status"] for row in rows} == {"ok", "failed"}
    assert hashes(tmp_path / "in") == before


@pytest.mark.parametrize(("kind", "write"), [("tar", as_tar), ("folder", as_folder)])
def test_names_that_are_no_text_go_through(
    kind: str, write: Callable[[Path, list[str]], None], model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @QUICK
    @given(names=st.lists(BYTES, min_size=1, max_size=5, unique=True))
    def check(names: list[str]) -> None:
        root = tmp_path_factory.mktemp("bytes")
        write(root / f"in.{kind}", [*(f"{name}.png" for name in names), "always/good.png"])
        before = hashes(root)
        upscale(root / f"in.{kind}", root / "out", "--model", model, "--workers", 1, code=None)
        rows = manifest_rows(root / "out")
        results = [row["file"] for row in rows if row["status"] == "ok"]
        assert len({same_path(name) for name in results}) == len(results) > 0
        assert all((root / "out" / name).is_file() for name in results)
        assert all(row["error"] for row in rows if row["status"] != "ok")
        assert {path: found for path, found in hashes(root).items() if path in before} == before

    check()
