"""`facesr ingest` on whole archives: from any container and store, by any number of workers, through kills."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.archives import as_folder, as_zip
from support.object_store import NO_SERVER, Store, s3_server
from support.pictures import face, jpeg, saved, static
from support.stages import KILL_AT_RENAME, KILLED, ROOT, faces_of, files_of, python, watch
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.images import decode, encode_png
from pipeline.synthetic.portrait import portrait

COMMAND = "from pipeline.cli import app; app({arguments!r})"
SMALL = ("--min-size", "64", "--size", "64")


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["ingest", *map(str, arguments)])
    assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
    return done.output if done.exception is None or done.exit_code == 2 else f"{done.output}{done.exception}"


def files(count: int, side: int = 64, first: int = 0) -> dict[str, bytes]:
    return {f"{index:04d}.jpg": jpeg(face(index, side)) for index in range(first, first + count)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    """100 faces, some of them broken: four work units, and two shards of a megabyte."""
    good = {f"{index:04d}.png": encode_png(static(index, 96)) for index in range(100)}
    bad = {"0050.png": b"", "0051.png": good["0051.png"][:500], "../out.png": good["0001.png"]}
    return as_zip(tmp_path_factory.mktemp("archive") / "faces.zip", good | bad)


OPTIONS = ("--min-size", "64", "--size", "96", "--train", "70", "--test", "rest", "--shard-mb", "1")


@pytest.fixture(scope="module")
def undisturbed(archive: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(archive, "--out", out, *OPTIONS, "--workers", "1")
    return files_of(out)


def test_out_holds_faces_rejected_and_counts_and_nothing_else(undisturbed: dict[str, bytes]) -> None:
    assert set(undisturbed) == {
        "faces/test-00000.parquet",
        "faces/train-00000.parquet",
        "faces/train-00001.parquet",
        "ingest.json",
        "known.parquet",
        "rejected.parquet",
    }
    counts = json.loads(undisturbed["ingest.json"])
    assert counts["splits"] == {"train": 70, "valid": 0, "test": 28}
    assert counts["reasons"] == {"empty file": 1, "truncated picture": 1, "its path points outside the archive": 1}


def test_two_workers_give_the_same_bytes_as_one(archive: str, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    run(archive, "--out", tmp_path / "out", *OPTIONS, "--workers", "2")
    assert files_of(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("suffix", ["000002.parquet", "train-00001.parquet", "rejected.parquet"])
def test_a_kill_costs_the_unit_in_flight_and_no_byte(
    suffix: str, archive: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["ingest", archive, "--out", str(out), *OPTIONS, "--workers", "1"]
    command = COMMAND.format(arguments=arguments)
    killed = python(KILL_AT_RENAME.format(suffix=suffix) + command, tmp_path)
    assert killed.returncode == KILLED, killed.stderr
    assert not (out / "ingest.json").exists()
    (parts,) = (tmp_path / ".out.facesr").glob("*/parts")
    shards = parts.parent / "out" / "faces"
    finished = {path.name for folder in (parts, shards) for path in folder.glob("*.parquet")}
    watched = [folder for folder in (parts, shards) if folder.exists()]
    with watch(*watched) as seen:
        done = python(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not {Path(path).name for path in seen.arrived} & finished
    assert files_of(out) == undisturbed
    assert not (tmp_path / ".out.facesr").exists()


def test_a_source_that_changed_after_a_kill_is_read_anew(tmp_path: Path) -> None:
    source, out = as_folder(tmp_path / "in", files(40)), tmp_path / "out"
    command = COMMAND.format(arguments=["ingest", source, "--out", str(out), *SMALL, "--workers", "1"])
    assert python(KILL_AT_RENAME.format(suffix="000001.parquet") + command, tmp_path).returncode == KILLED
    as_folder(tmp_path / "in", {"0003.jpg": jpeg(face(999))})
    assert python(command, tmp_path).returncode == 0
    row = next(row for row in faces_of(out / "faces") if row["name"] == "0003.jpg")
    assert (decode(row["image"]["bytes"]) == decode(jpeg(face(999)))).all()


def test_a_list_that_changed_after_a_kill_is_followed(tmp_path: Path) -> None:
    source, out, listed = as_folder(tmp_path / "in", files(6)), tmp_path / "out", tmp_path / "train.txt"
    options = ("--train-list", str(listed), "--workers", "1")
    command = COMMAND.format(arguments=["ingest", source, "--out", str(out), *SMALL, *options])
    listed.write_text("0001\n0002\n")
    assert python(KILL_AT_RENAME.format(suffix="ingest.json") + command, tmp_path).returncode == KILLED
    listed.write_text("0003\n")
    assert python(command, tmp_path).returncode == 0
    assert [row["name"] for row in faces_of(out / "faces")] == ["0003.jpg"]


def test_faces_that_out_holds_are_not_replaced_unless_asked(tmp_path: Path) -> None:
    source, out = as_folder(tmp_path / "in", files(3)), tmp_path / "out"
    run(source, "--out", out, *SMALL, "--workers", "1")
    assert "holds faces already" in run(source, "--out", out, *SMALL, code=2)
    as_folder(tmp_path / "in", files(1, first=3))
    run(source, "--out", out, *SMALL, "--workers", "1", "--overwrite")
    assert len(faces_of(out / "faces")) == 4


def test_several_sources_keep_their_names_and_folders_apart(tmp_path: Path) -> None:
    first = as_folder(tmp_path / "a", {"x/1.jpg": jpeg(face(1)), "y/1.jpg": jpeg(face(2))})
    second = as_zip(tmp_path / "b.zip", {"1.jpg": jpeg(face(3))})
    run(first, second, "--out", tmp_path / "out", *SMALL, "--workers", "1")
    rows = faces_of(tmp_path / "out" / "faces")
    assert {(row["source"], row["name"]) for row in rows} == {(first, "x/1.jpg"), (first, "y/1.jpg"), (second, "1.jpg")}
    assert len({row["id"] for row in rows}) == 3


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--train", "many"), "--train many: a number, or `rest`"),
        (("--train", "1", "--column", "split"), "only one of"),
        (("--train", "rest", "--test", "rest"), "only one split can take the rest"),
        (("--larger", "crop"), "facesr ingest: larger: "),
        (("--identities", "a.txt", "--person-column", "who"), "either identities or column"),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(
    options: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    source = as_folder(tmp_path / "in", files(2))
    said = run(source, "--out", tmp_path / "out", *options, code=2)
    assert complaint in " ".join(said.split())


def test_more_faces_than_files_is_an_error_before_anything_is_decoded(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "in", files(5))
    said = run(source, "--out", tmp_path / "out", *SMALL, "--train", "4", "--test", "3", "--workers", "1", code=1)
    assert "7 faces asked for, 5 files found" in said
    assert not list(tmp_path.rglob("*.parquet"))


def test_too_many_rejected_ones_fail_where_a_limit_was_named(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "in", files(3) | {"bad.jpg": b"?"})
    said = run(source, "--out", tmp_path / "out", *SMALL, "--max-failed", "0", "--workers", "1", code=1)
    assert "1 pictures rejected, max_failed allows 0" in said
    run(source, "--out", tmp_path / "out", *SMALL, "--max-failed", "1", "--workers", "1")


def test_lists_that_fit_no_face_are_an_error(tmp_path: Path) -> None:
    source, listed = as_folder(tmp_path / "in", files(3)), tmp_path / "test.txt"
    listed.write_text("nobody\n")
    said = run(source, "--out", tmp_path / "out", *SMALL, "--test-list", listed, "--workers", "1", code=1)
    assert "none of 3 usable faces belongs to a split" in said


def test_a_parquet_source_says_split_and_person_in_columns(tmp_path: Path) -> None:
    rows = [
        {"image": jpeg(face(index)), "part": ("train", "test")[index % 2], "who": f"person {index // 2}"}
        for index in range(8)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "faces.parquet")
    source, options = tmp_path / "faces.parquet", (*SMALL, "--workers", "1")
    run(source, "--out", tmp_path / "parts", *options, "--column", "part")
    assert Counter(row["split"] for row in faces_of(tmp_path / "parts" / "faces")) == {"train": 4, "test": 4}
    run(source, "--out", tmp_path / "persons", *options, "--person-column", "who", "--train", "4", "--test", "4")
    split_of: dict[str, set[str]] = {}
    for row in faces_of(tmp_path / "persons" / "faces"):
        split_of.setdefault(row["person"], set()).add(row["split"])
    assert len(split_of) == 4
    assert all(len(splits) == 1 for splits in split_of.values())
    said = run(source, "--out", tmp_path / "none", *options, "--column", "fold", code=1)
    assert "fold" in said
    assert "part" in said


def test_portraits_become_aligned_faces_whose_transform_is_kept(tmp_path: Path) -> None:
    detector = ROOT.parent / "shared" / "weights" / "yunet_n_320_320.onnx"
    if not detector.exists():
        pytest.skip("no detector at hand")
    canvas = Image.new("RGB", (900, 700), (90, 110, 130))
    canvas.paste(Image.fromarray(portrait(3, 5, 480)).rotate(20, Image.Resampling.BICUBIC), (250, 100))
    source = as_folder(tmp_path / "in", {"one.png": saved(canvas, "PNG"), "none.png": encode_png(static(1, 400))})
    options = ("--align", "ffhq", "--detector", detector, "--min-size", "64", "--size", "256", "--workers", "1")
    run(source, "--out", tmp_path / "out", *options)
    (row,) = faces_of(tmp_path / "out" / "faces")
    assert (row["name"], row["width"], row["height"], row["conversion"]) == ("one.png", 256, 256, "aligned")
    (a, b, _), (c, d, _) = json.loads(row["transform"])
    # turned back by what it was turned
    assert abs(np.degrees(np.arctan2(c, a)) - 20) < 4
    assert abs(a - d) + abs(b + c) < 1e-6
    (refused,) = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert (refused["name"], refused["reason"]) == ("none.png", "no face found")


def test_inputs_that_have_no_originals_are_taken_and_it_is_said(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "in", files(4, 128) | files(2, 256, first=10))
    said = run(source, "--out", tmp_path / "out", "--min-size", "64", "--workers", "1")
    assert "6 of 6 faces have no original at full size" in " ".join(said.split())
    counts = json.loads((tmp_path / "out" / "ingest.json").read_text())
    assert (counts["with_original"], counts["input_only"], counts["sides"]) == (0, 6, {"128": 4, "256": 2})


# elsewhere


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server() as running:
        yield running


@pytest.mark.parametrize("container", [as_zip, as_folder], ids=["zip", "folder"])
def test_a_bucket_gives_the_same_faces_as_a_disk(container: Any, tmp_path: Path, store: Store) -> None:
    path = container(tmp_path / ("in.zip" if container is as_zip else "in"), files(5) | {"bad.jpg": b"?"})
    run(path, "--out", tmp_path / "local", *SMALL, "--workers", "1")
    run(store.put(path, tmp_path.name), "--out", tmp_path / "remote", *SMALL, "--workers", "1")
    kept = ("id", "name", "split", "image")
    local, remote = (
        [[row[name] for name in kept] for row in faces_of(tmp_path / out / "faces")] for out in ("local", "remote")
    )
    assert local == remote
    rejected = pq.read_table(tmp_path / "remote" / "rejected.parquet").to_pylist()
    assert [row["name"] for row in rejected] == ["bad.jpg"]
    assert "anything" not in rejected[0]["source"]  # the secret key


def test_a_store_that_cannot_be_reached_is_an_error_that_says_so(tmp_path: Path, store: Store) -> None:
    uri = f"s3://bucket/faces?endpoint_override={NO_SERVER}&scheme=http&region=us-east-1"
    assert "the store cannot be reached" in run(uri, "--out", tmp_path / "out", code=1)


def test_hugging_face_datasets_shows_the_faces_as_images(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="pip install -e '.[datasets]'")
    source = as_folder(tmp_path / "in", files(5))
    run(source, "--out", tmp_path / "out", *SMALL, "--workers", "1")
    pattern = str(tmp_path / "out" / "faces" / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=pattern, cache_dir=str(tmp_path / "cache"))["train"]
    rows = faces_of(tmp_path / "out" / "faces")
    assert loaded["id"] == [row["id"] for row in rows]
    assert (np.asarray(loaded[0]["image"]) == decode(rows[0]["image"]["bytes"])).all()
