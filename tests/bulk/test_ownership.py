"""What `facesr upscale` never touches: INPUT, whatever it is called, and what it did not write."""

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.archives import as_tar, as_zip
from support.upscaling import encoded, make_models, manifest, pictures, said, upscale

from pipeline.bulk import assembly


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


def hashes(folder: Path) -> dict[str, str]:
    """All files below a folder, hidden ones too, and links as such."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def faces(folder: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(index))
    return folder


def same_file(root: Path) -> tuple[Path, Path]:
    as_zip(root / "s.zip", {"a.png": encoded(1)})
    return root / "s.zip", root / "s.zip"


def same_picture(root: Path) -> tuple[Path, Path]:
    return faces(root, "p.png") / "p.png", root / "p.png"


def link_to_the_folder(root: Path) -> tuple[Path, Path]:
    (root / "out").symlink_to(faces(root / "in", "a.png"))
    return root / "in", root / "out"


def link_from_the_folder(root: Path) -> tuple[Path, Path]:
    (root / "link").symlink_to(faces(root / "in", "a.png"))
    return root / "link", root / "in"


def link_into_input(root: Path) -> tuple[Path, Path]:
    (root / "out").symlink_to(faces(root / "in", "a.png", "deep/b.png") / "deep")
    return root / "in", root / "out"


def link_to_the_archive(root: Path) -> tuple[Path, Path]:
    as_zip(root / "s.zip", {"a.png": encoded(1)})
    (root / "t.zip").symlink_to(root / "s.zip")
    return root / "s.zip", root / "t.zip"


def another_name_of_the_archive(root: Path) -> tuple[Path, Path]:
    as_zip(root / "s.zip", {"a.png": encoded(1)})
    os.link(root / "s.zip", root / "t.zip")
    return root / "s.zip", root / "t.zip"


def a_folder_of_input_that_is_not_ours(root: Path) -> tuple[Path, Path]:
    return faces(root / "in", "a.png", "deep/a.png"), root / "in/deep"


def input_inside_output_under_a_result(root: Path) -> tuple[Path, Path]:
    return faces(root / "out/faces", "a.png", "faces/a.png"), root / "out"


def a_link_inside_output_to_input(root: Path) -> tuple[Path, Path]:
    faces(root / "in", "deep/a.png")
    (root / "out").mkdir()
    (root / "out/deep").symlink_to(root / "in/deep")
    return root / "in", root / "out"


def a_picture_in_output(root: Path) -> tuple[Path, Path]:
    return faces(root / "out", "a.png") / "a.png", root / "out"


def the_manifest(root: Path) -> tuple[Path, Path]:
    table = pa.table({"image": [encoded(1)], "name": ["a.png"]})
    pq.write_table(table, root / "x.zip.manifest.parquet")
    return root / "x.zip.manifest.parquet", root / "x.zip"


def a_pattern_with_output(root: Path) -> tuple[Path, Path]:
    for name in ("a.tar", "b.tar"):
        as_tar(root / name, {"a.png": encoded(1)})
    return root / "*.tar", root / "b.tar"


@pytest.mark.parametrize(
    "made",
    [
        same_file, same_picture, link_to_the_folder, link_from_the_folder, link_into_input, link_to_the_archive,
        another_name_of_the_archive, a_folder_of_input_that_is_not_ours, input_inside_output_under_a_result,
        a_link_inside_output_to_input, a_picture_in_output, the_manifest, a_pattern_with_output,
    ],
)  # fmt: skip
def test_input_is_never_written_over_whatever_it_is_called(
    made: Callable[[Path], tuple[Path, Path]], model: Path, tmp_path: Path
) -> None:
    source, out = made(tmp_path)
    before = hashes(tmp_path)
    for options in ((), ("--overwrite",), ("--overwrite", "--dry-run")):
        done = upscale(source, out, "--model", model, "--workers", 1, *options, code=2)
        assert hashes(tmp_path) == before, said(done)
    assert "INPUT" in said(done)


def test_results_of_a_run_before_are_not_removed_where_they_are_input_now(model: Path, tmp_path: Path) -> None:
    upscale(faces(tmp_path / "in", "deep/a.png", "b.png"), tmp_path / "out", "--model", model, "--workers", 1)
    before = hashes(tmp_path)
    options = ("--model", model, "--workers", 1, "--overwrite")
    done = upscale(tmp_path / "out/deep", tmp_path / "out", *options, code=2)
    assert "is INPUT" in said(done)
    assert hashes(tmp_path) == before


@pytest.mark.parametrize("name", ["manifest.parquet", "manifest.csv", "a.png"])
def test_what_we_did_not_write_is_replaced_with_overwrite_alone(name: str, model: Path, tmp_path: Path) -> None:
    source = faces(tmp_path / "in", "b.png")
    upscale(source, tmp_path / "out", "--model", model, "--workers", 1)
    (source / "a.png").write_bytes(encoded(5))
    for out in (tmp_path / "new", tmp_path / "out"):
        out.mkdir(exist_ok=True)
        (out / name).write_bytes(b"mine")
        options = ("--model", model, "--workers", 1, "--manifest", "csv")
        for extra in ((), ("--dry-run",), ("--resume",)):
            done = upscale(source, out, *options, *extra, code=2)
            assert name in said(done)
            assert "--overwrite" in said(done)
            assert (out / name).read_bytes() == b"mine"
        upscale(source, out, *options, "--overwrite")
        assert (out / name).read_bytes() != b"mine"


def test_a_manifest_beside_an_archive_that_is_not_ours_is_kept(model: Path, tmp_path: Path) -> None:
    source = faces(tmp_path / "in", "a.png")
    mine = tmp_path / "x.zip.manifest.parquet"
    pq.write_table(pa.table({"mine": [1]}), mine)
    before = mine.read_bytes()
    done = upscale(source, tmp_path / "x.zip", "--model", model, "--workers", 1, code=2)
    assert "x.zip.manifest.parquet was not written by facesr" in said(done)
    assert mine.read_bytes() == before
    assert not (tmp_path / "x.zip").exists()


def test_files_of_others_in_the_work_folder_stay(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out/.facesr").mkdir(parents=True)
    (tmp_path / "out/.facesr/notes.txt").write_text("mine")
    upscale(faces(tmp_path / "in", "a.png"), tmp_path / "out", "--model", model, "--workers", 1)
    assert [path.name for path in (tmp_path / "out/.facesr").iterdir()] == ["notes.txt"]


def test_results_of_earlier_runs_inside_input_are_passed_over_by_name(model: Path, tmp_path: Path) -> None:
    source = faces(tmp_path / "in", "a.png", "b.png")
    options = ("--model", model, "--workers", 1)
    upscale(source, source / "large", *options)
    upscale(source / "a.png", source / "p.png", *options)
    done = upscale(source, tmp_path / "out", *options)
    assert "large: made by facesr upscale, passed over (2 files)" in said(done)
    assert "p.png: made by facesr upscale, passed over" in said(done)
    assert set(manifest(tmp_path / "out")) == {"a.png", "b.png"}


# archives half assembled


def change(source: Path, files: dict[str, bytes]) -> None:
    source.unlink()
    as_zip(source, files)


@pytest.mark.parametrize(
    ("kind", "stop"),
    [
        *(("zip", "add"), ("zip", "rename"), ("zip", "manifest"), ("tar", "note")),
        *(("shards", "add"), ("shards", "manifest")),
    ],
)
def test_input_changed_after_a_kill_while_assembling_gives_what_a_fresh_run_gives(
    kind: str, stop: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "STEP", 2)
    monkeypatch.setattr(assembly, "SHARD_BYTES", 40_000)
    source = tmp_path / "in.zip"
    files = {f"{index:02d}.png": encoded(index) for index in range(10)}
    as_zip(source, files)
    out = tmp_path / ("out" if kind == "shards" else f"out.{kind}")
    options = ("--model", model, "--workers", 1, *(("--to", "parquet") if kind == "shards" else ()))

    def broken_after(count: int, function: Callable[..., object]) -> Callable[..., object]:
        calls = []

        def broken(*arguments: object, **named: object) -> object:
            calls.append(1)
            if len(calls) > count:
                raise OSError("power loss")
            return function(*arguments, **named)

        return broken

    with monkeypatch.context() as patch:
        if stop == "manifest":
            patch.setattr("pipeline.bulk.run.write_manifest", broken_after(0, lambda: None))
        elif kind == "shards":
            patch.setattr(assembly, "_stream_parquet", broken_after(1, assembly._stream_parquet))
        elif stop == "add":
            for archive in (assembly._Zip, assembly._Tar):
                patch.setattr(archive, "add", broken_after(7, archive.add))
        elif stop == "note":
            patch.setattr(assembly, "json_line", broken_after(3, assembly.json_line))
        else:
            place = Path.replace

            def broken(self: Path, target: Path) -> Path:
                if self.name == "assembled":
                    raise OSError("power loss")
                return place(self, target)

            patch.setattr(Path, "replace", broken)
        upscale(source, out, *options, code=1)
    del files["01.png"]
    files |= {"05.png": encoded(50, width=48), "02a.png": encoded(51), "zz.png": encoded(52)}
    change(source, dict(sorted(files.items())))
    upscale(source, out, *options)
    fresh = tmp_path / ("fresh" if kind == "shards" else f"fresh.{kind}")
    upscale(source, fresh, *options)
    if kind == "shards":
        found = [sorted(place.glob("pictures-*")) for place in (out, fresh)]
        assert [path.name for path in found[0]] == [path.name for path in found[1]]
        assert len(found[0]) > 1
        assert all(pq.read_table(mine) == pq.read_table(other) for mine, other in zip(*found, strict=True))
    else:
        assert out.read_bytes() == fresh.read_bytes()
    rows, expected = manifest(out), manifest(fresh)
    assert [{**row, "seconds": 0} for row in rows.values()] == [{**row, "seconds": 0} for row in expected.values()]
    assert not list(tmp_path.glob(".*")), "nothing is left behind"


def test_a_member_that_changes_and_changes_back_between_kills_is_right(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in.zip", tmp_path / "out.zip"
    first = {f"{index}.png": encoded(index) for index in range(4)}
    second = first | {"1.png": encoded(9)}
    for files in (first, second, first):
        as_zip(source, files)
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.bulk.run.assemble", lambda *_: (_ for _ in ()).throw(OSError("power loss")))
            upscale(source, out, "--model", model, "--workers", 1, code=1)
    upscale(source, out, "--model", model, "--workers", 1)
    upscale(source, tmp_path / "fresh.zip", "--model", model, "--workers", 1)
    assert out.read_bytes() == (tmp_path / "fresh.zip").read_bytes()


def test_results_that_were_emptied_or_cut_are_made_again(model: Path, tmp_path: Path) -> None:
    source = faces(tmp_path / "in", "a.png", "b.png", "c.png")
    upscale(source, tmp_path / "out", "--model", model, "--workers", 1)
    before = pictures(tmp_path / "out")
    (tmp_path / "out/a.png").write_bytes(b"")
    (tmp_path / "out/b.png").write_bytes(before["b.png"][:-9])
    upscale(source, tmp_path / "out", "--model", model, "--workers", 1)
    assert pictures(tmp_path / "out") == before
    upscale(source / "a.png", tmp_path / "p.png", "--model", model, "--workers", 1)
    (tmp_path / "p.png").write_bytes(b"")
    upscale(source / "a.png", tmp_path / "p.png", "--model", model, "--workers", 1)
    assert (tmp_path / "p.png").read_bytes() == before["a.png"]
    for name in ("out.zip", "out.tar", "out.parquet"):
        out = tmp_path / name
        upscale(source, out, "--model", model, "--workers", 1)
        whole = out.read_bytes()
        out.write_bytes(whole[:1000])
        assert "was cut" in said(upscale(source, out, "--model", model, "--workers", 1, code=2))
        out.unlink()
        upscale(source, out, "--model", model, "--workers", 1)
        if name != "out.parquet":
            assert out.read_bytes() == whole
    assert zipfile.is_zipfile(tmp_path / "out.zip")


# names of OUTPUT


@pytest.mark.parametrize("name", ["out.tif", "out.HEIC", "out.jxl", "out.avif", "out.tar.gz", "out.tgz", "out.7z"])
def test_a_suffix_that_cannot_be_written_is_refused_rather_than_made_a_folder(
    name: str, model: Path, tmp_path: Path
) -> None:
    source = faces(tmp_path / "in", "a.png") / "a.png"
    done = upscale(source, tmp_path / name, "--model", model, code=2)
    assert "cannot be written; name a folder, or a name ending in .png" in said(done)
    assert "out" not in {path.name.partition(".")[0] for path in tmp_path.iterdir()}
    (tmp_path / name).mkdir()
    upscale(source, tmp_path / name, "--model", model, "--workers", 1)
    assert set(pictures(tmp_path / name)) == {"a.png"}


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".zip", "x" * 236 + ".zip", "x" * 251 + ".png", "y" * 256, "é" * 125 + ".png"]
)
def test_a_name_too_long_for_what_lies_beside_it_is_refused_before_any_work(
    name: str, model: Path, tmp_path: Path
) -> None:
    source = faces(tmp_path / "in", "a.png")
    done = upscale(source / "a.png", tmp_path / name, "--model", model, code=2)
    assert "too long" in said(done)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("name", ["x" * 255, "x" * 234 + ".zip", "x" * 234 + ".png"])
def test_a_name_as_long_as_the_disk_takes_works(name: str, model: Path, tmp_path: Path) -> None:
    source = faces(tmp_path / "in", "a.png")
    upscale(source / "a.png", tmp_path / name, "--model", model, "--workers", 1)
    assert (tmp_path / name).exists()
    assert not list(tmp_path.glob(".*"))


def test_a_finished_run_is_gone_on_with_by_its_own_options_and_the_weights_that_are_named(
    model: Path, tmp_path: Path
) -> None:
    source, out = faces(tmp_path / "in", "a.png"), tmp_path / "out"
    upscale(source, out, "--model", model, "--workers", 1, "--realism", 0.5)
    (source / "b.png").write_bytes(encoded(7))
    upscale(source, out, "--model", model, "--workers", 1, "--tile", 64, "--resume")
    upscale(source, tmp_path / "fresh", "--model", model, "--workers", 1, "--realism", 0.5)
    assert pictures(out) == pictures(tmp_path / "fresh")
    assert {row["status"] for row in manifest(out).values()} == {"ok"}
