"""`facesr upscale` as a user types it: names, formats, resuming, and what becomes of every file."""

import fcntl
import json
import signal
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin
from support.archives import as_tar, as_zip
from support.stages import ROOT
from support.upscaling import command, encoded, make_models, manifest, picture, pictures, said, start, upscale

from pipeline.bulk import picture_job
from pipeline.core.images import decode
from pipeline.core.scales import FACTOR
from pipeline.synthetic.portrait import portrait
from pipeline.upscale import upscaler as engine
from pipeline.upscale.upscaler import CLEAN_STEPS, Upscaler


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with sub-folders, two pictures that share a stem, a truncated one and one that is no picture."""
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(1))
    (folder / "a.jpg").write_bytes(encoded(2, "JPEG"))
    (folder / "deep" / "er" / "b.png").write_bytes(encoded(3, width=17, height=16))
    (folder / "cut.jpg").write_bytes(encoded(4, "JPEG")[:300])
    (folder / "words.png").write_text("not a picture")
    return folder


@pytest.fixture
def good(archive: Path) -> Path:
    (archive / "cut.jpg").unlink()
    (archive / "words.png").unlink()
    return archive


# names, containers, formats


def test_names_and_folders_are_kept_and_every_failure_is_named(archive: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = upscale(archive, out, "--model", model, "--workers", 1, code=1)
    assert "3 done, 2 failed" in said(done)
    assert set(pictures(out)) == {"a.png", "a.jpg.png", "deep/er/b.png"}
    with Image.open(out / "deep/er/b.png") as image:
        assert image.size == (68, 64)
    rows = manifest(out)
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.png": "ok",
        "a.jpg": "ok",
        "deep/er/b.png": "ok",
        "cut.jpg": "failed",
        "words.png": "failed",
    }
    assert "truncated" in rows["cut.jpg"]["error"]
    assert "not a picture" in rows["words.png"]["error"]
    row = rows["a.png"]
    assert (row["width"], row["height"], row["input_width"], row["input_height"]) == (160, 128, 40, 32)
    assert row["model"]
    assert row["file"] == "a.png"
    assert row["bytes"] == (out / "a.png").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"], "partial work is left behind"
    assert not (out / ".facesr").exists()


def test_zip_tar_and_parquet_hold_the_same_pictures_as_a_folder(good: Path, model: Path, tmp_path: Path) -> None:
    zipped = tmp_path / "in.zip"
    with zipfile.ZipFile(zipped, "w") as file:
        for path in sorted(good.rglob("*.*")):
            file.write(path, path.relative_to(good).as_posix())
    found = {}
    for source, name, extra in (
        (good, "folder", ()),
        (zipped, "out.zip", ()),
        (zipped, "out.tar", ()),
        (good, "out.parquet", ()),
        (good, "shards", ("--to", "parquet")),
    ):
        out = tmp_path / name
        upscale(source, out, "--model", model, "--workers", 1, *extra)
        assert len(manifest(out)) == 3
        if name == "folder":
            found[name] = pictures(out)
        elif name == "out.zip":
            with zipfile.ZipFile(out) as file:
                found[name] = {info.filename: file.read(info) for info in file.infolist()}
        elif name == "out.tar":
            with tarfile.open(out) as file:
                found[name] = {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]
        else:
            paths = sorted(out.glob("pictures-*.parquet")) if name == "shards" else [out]
            rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
            found[name] = {row["image"]["path"]: row["image"]["bytes"] for row in rows}
    assert len(found["folder"]) == 3
    assert all(files == found["folder"] for files in found.values())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_an_entry_whose_path_points_outside_is_failed_by_name_and_writes_nothing_there(
    model: Path, tmp_path: Path
) -> None:
    source = as_zip(
        tmp_path / "deep/er/x.zip", {"../../evil.png": encoded(1), "/abs.png": encoded(2), "c.png": encoded(3)}
    )
    upscale(source, tmp_path / "deep/er/out", "--model", model, "--workers", 1, code=1)
    rows = manifest(tmp_path / "deep/er/out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "../../evil.png": "failed",
        "/abs.png": "failed",
        "c.png": "ok",
    }
    assert "outside" in rows["../../evil.png"]["error"]
    assert [path.name for path in tmp_path.rglob("*.png")] == ["c.png"]


@pytest.mark.parametrize(
    ("kind", "name", "magic"),
    [
        ("png", "a.png", b"\x89PNG"),
        ("jpeg", "a.jpg", b"\xff\xd8"),
        ("webp", "a.webp", b"RIFF"),
        ("same", "a.jpeg", b"\xff\xd8"),
    ],
)
def test_the_format_is_what_was_asked_for(kind: str, name: str, magic: bytes, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpeg").write_bytes(encoded(1, "JPEG"))
    upscale(tmp_path / "in", tmp_path / "out", "--model", model, "--workers", 1, "--format", kind)
    ((found, data),) = pictures(tmp_path / "out").items()
    assert found == name
    assert data.startswith(magic)
    assert decode(data).shape == (128, 160, 3)


def test_with_the_same_format_two_files_of_one_stem_keep_their_own_names(
    good: Path, model: Path, tmp_path: Path
) -> None:
    upscale(good, tmp_path / "out", "--model", model, "--workers", 1, "--format", "same")
    assert set(pictures(tmp_path / "out")) == {"a.png", "a.jpg", "deep/er/b.png"}


def test_a_jpeg_damaged_in_its_middle_is_not_enlarged_silently(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    data = bytearray(encoded(1, "JPEG", width=160, height=160))
    (folder / "good.jpg").write_bytes(data)
    data[len(data) * 2 // 3 : len(data) * 2 // 3 + 60] = b""
    (folder / "gap.jpg").write_bytes(data)
    upscale(folder, tmp_path / "out", "--model", model, "--workers", 1)
    rows = manifest(tmp_path / "out")
    assert rows["good.jpg"]["note"] == ""
    assert rows["gap.jpg"]["note"].startswith(("damaged picture (Corrupt", "truncated picture (Corrupt"))


def test_one_picture_in_and_one_picture_out(archive: Path, model: Path, tmp_path: Path) -> None:
    for name in ("big.png", "big.jpg", "big.webp"):
        upscale(archive / "a.jpg", tmp_path / name, "--model", model, "--workers", 1)
        with Image.open(tmp_path / name) as image:
            assert image.size == (160, 128)
            assert image.format == {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[name.split(".")[1]]
        assert manifest(tmp_path / name)["a.jpg"]["status"] == "ok"
    upscale(archive, tmp_path / "x.png", "--model", model, code=2)
    assert not (tmp_path / "x.png").exists()


def test_depth_grey_alpha_and_metadata_come_through(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    deep = np.random.default_rng(0).integers(20_000, 40_000, (6, 7, 3)).astype(np.uint16)
    deep = cv2.resize(deep, (28, 24), interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(str(folder / "deep.png"), deep)
    grey = picture(1).convert("L")
    grey.save(folder / "grey.png")
    clear = picture(2).convert("RGBA")
    clear.putalpha(picture(3).convert("L"))
    clear.save(folder / "clear.png")
    words = PngImagePlugin.PngInfo()
    words.add_text("Title", "a portrait")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    picture(4).save(folder / "turned.png", exif=exif, dpi=(300, 300), pnginfo=words)
    upscale(folder, tmp_path / "out", "--model", model, "--workers", 1)
    large = cv2.imread(str(tmp_path / "out/deep.png"), cv2.IMREAD_UNCHANGED)
    assert large.dtype == np.uint16
    assert large.shape == (96, 112, 3)
    reduced = cv2.resize(large, (28, 24), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(reduced - deep).mean() < 257, "within one grey level of 8 bit, channels in their order"
    assert Image.open(tmp_path / "out/grey.png").mode == "L"
    result = Image.open(tmp_path / "out/clear.png")
    assert result.mode == "RGBA"
    alpha = np.asarray(result.getchannel("A").resize(clear.size, Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(alpha - np.asarray(clear.getchannel("A"))).mean() < 1
    turned = Image.open(tmp_path / "out/turned.png")
    turned.load()
    assert turned.size == (128, 160)
    assert 0x0112 not in turned.getexif()
    assert turned.getexif()[0x010E] == "turned"
    assert turned.text["Title"] == "a portrait"  # type: ignore[attr-defined]
    assert turned.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    mark = json.loads(turned.text["facesr"])  # type: ignore[attr-defined]
    assert mark["sha256"] == manifest(tmp_path / "out")["turned.png"]["model"]
    assert "must not serve to identify" in mark["note"]


def test_results_inside_the_input_folder_are_not_enlarged_again(good: Path, model: Path) -> None:
    for _ in range(2):
        upscale(good, good / "large", "--model", model, "--workers", 1)
        assert len(manifest(good / "large")) == 3
    done = upscale(good, good, "--model", model, code=2)
    assert "INPUT too" in said(done)


def test_the_released_generators_need_no_option_and_agree_with_their_input(tmp_path: Path) -> None:
    source = tmp_path / "face.png"
    Image.fromarray(portrait(7, 2, 256)).resize((64, 64), Image.Resampling.BICUBIC).save(source)
    for realism in (0, 1):
        out = tmp_path / f"{realism}.png"
        upscale(source, out, "--realism", realism, "--workers", 1)
        low = np.asarray(Image.open(source)).astype(float)
        result = Image.open(out)
        assert result.size == (256, 256)
        again = np.asarray(result.resize((64, 64), Image.Resampling.BICUBIC)).astype(float)
        assert np.abs(again - low).mean() < 1.0, "the result must agree with what it was made from"


def test_realism_moves_between_the_two_generators(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "face.png"
    source.write_bytes(encoded(5))
    results = []
    for share in (0, 0.5, 1):
        out = tmp_path / f"out{share}"
        upscale(source, out, "--model", model, "--realism", share, "--workers", 1, "--precision", "fp32")
        results.append(np.asarray(Image.open(out / "face.png")).astype(float))
    assert np.abs(results[0] - results[2]).mean() > 0.5
    between = np.abs(results[0] - results[1]).mean()
    assert 0 < between < np.abs(results[0] - results[2]).mean()


def test_only_losslessly_stored_pictures_are_made_to_agree_with_their_input(model: Path, tmp_path: Path) -> None:
    pixels = np.asarray(picture(5))
    for name, data, steps in (("a.png", encoded(5), CLEAN_STEPS), ("b.jpg", encoded(5, "JPEG"), 0)):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
        low = decode(data)
        upscale(tmp_path / "in" / name, tmp_path / f"{name}.png", "--model", model, "--workers", 1)
        made = np.asarray(Image.open(tmp_path / f"{name}.png"))
        assert (made == Upscaler.load(model, back_projection=steps)(low)).all()
        assert not (made == Upscaler.load(model, back_projection=CLEAN_STEPS - steps)(low)).all()
    source = tmp_path / "in/a.png"
    upscale(source, tmp_path / "c.png", "--model", model, "--workers", 1, "--back-projection", 0)
    plain = Upscaler.load(model, back_projection=0)(pixels)
    assert (np.asarray(Image.open(tmp_path / "c.png")) == plain).all()


# large pictures and short memory


def test_a_large_picture_on_a_memory_mapped_canvas_is_the_same_and_leaves_no_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.png"
    source.write_bytes(encoded(1, width=200, height=150))
    options = ("--model", model, "--workers", 1, "--tile", 64)
    upscale(source, tmp_path / "plain.png", *options)
    monkeypatch.setattr(picture_job, "LARGE", 1000)
    upscale(source, tmp_path / "mapped.png", *options)
    assert (np.asarray(Image.open(tmp_path / "plain.png")) == np.asarray(Image.open(tmp_path / "mapped.png"))).all()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_where_memory_runs_out_the_tiles_are_halved_and_the_manifest_says_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in.png"
    source.write_bytes(encoded(1, width=300, height=200))
    whole = Upscaler.load(model)(np.asarray(picture(1, width=300, height=200)))
    piece = engine.Upscaler._piece

    def short(self: Upscaler, low, *others):  # type: ignore[no-untyped-def]
        if low.shape[-1] > 180:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return piece(self, low, *others)

    monkeypatch.setattr(engine.Upscaler, "_piece", short)
    upscale(source, tmp_path / "out.png", "--model", model, "--workers", 1)
    assert np.abs(np.asarray(Image.open(tmp_path / "out.png")).astype(int) - whole).max() <= 1
    assert "memory was short" in manifest(tmp_path / "out.png")["in.png"]["note"]
    monkeypatch.setattr(engine.Upscaler, "_piece", lambda *_: (_ for _ in ()).throw(MemoryError("none at all")))
    upscale(source, tmp_path / "never.png", "--model", model, "--workers", 1, code=1)
    assert "out of memory" in manifest(tmp_path / "never.png")["in.png"]["error"]
    assert not (tmp_path / "never.png").exists(), "a picture that failed is never filled with something else"


def test_a_format_that_ends_before_the_result_does_is_said(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/wide.png").write_bytes(encoded(1, width=4200, height=3))
    upscale(tmp_path / "in", tmp_path / "out", "--model", model, "--workers", 1, "--format", "webp", code=1)
    error = manifest(tmp_path / "out")["wide.png"]["error"]
    assert "16383" in error.replace(",", "")
    assert "--format png" in error
    upscale(tmp_path / "in", tmp_path / "png", "--model", model, "--workers", 1)
    assert Image.open(tmp_path / "png/wide.png").size == (16800, 12)


# resuming


def many(tmp_path: Path, count: int = 80) -> Path:
    source = tmp_path / "many.zip"
    with zipfile.ZipFile(source, "w") as file:
        for index in range(count):
            file.writestr(f"{index:03d}.png", encoded(index, width=64, height=64))
    return source


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Results of these, of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    upscale(many(folder), folder / "out", "--model", model, "--workers", 1)
    return pictures(folder / "out")


def kill_at_part(process: "subprocess.Popen[str]", parts: Path, number: int) -> None:
    try:
        deadline = time.monotonic() + 120
        while not list(parts.glob(f"parts/*/{number:06d}.parquet")):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.communicate()


@pytest.mark.parametrize("name", ["killed.zip", "killed.tar", "killed"])
def test_after_kill_9_the_rest_is_done_and_the_bytes_are_the_same(
    name: str, model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    source = many(tmp_path)
    out = tmp_path / name
    work = out / ".facesr" if name == "killed" else tmp_path / f".{name}.facesr"
    kill_at_part(start(source, out, "--model", model, "--workers", 1), work, 0)
    assert not out.is_file()
    before = {path: path.stat().st_mtime_ns for path in work.glob("parts/*/[!.]*.parquet")}
    assert before
    upscale(source, out, "--model", model, "--workers", 1)
    if name == "killed":
        assert pictures(out) == whole
    else:
        undisturbed = tmp_path / name.replace("killed", "whole")
        upscale(source, undisturbed, "--model", model, "--workers", 1)
        assert out.read_bytes() == undisturbed.read_bytes()
    assert not work.exists()


def test_an_archive_half_assembled_goes_on_where_it_was(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.bulk import assembly

    source = many(tmp_path, 20)
    monkeypatch.setattr(assembly, "STEP", 3)
    for kind, archive_class in (("zip", assembly._Zip), ("tar", assembly._Tar)):
        upscale(source, tmp_path / f"whole.{kind}", "--model", model, "--workers", 1)
        added = []
        add = archive_class.add

        def broken(self, output, row, add=add, added=added):  # type: ignore[no-untyped-def]
            if len(added) == 10:
                raise OSError("power loss")
            added.append(row["name"])
            add(self, output, row)

        monkeypatch.setattr(archive_class, "add", broken)
        out = tmp_path / f"out.{kind}"
        upscale(source, out, "--model", model, "--workers", 1, code=1)
        assert not out.exists()
        # what is inside the unfinished archive does not lie on the disk twice
        assert len(list((tmp_path / f".out.{kind}.facesr/pictures").iterdir())) == 20 - 9
        monkeypatch.setattr(archive_class, "add", add)
        upscale(source, out, "--model", model, "--workers", 1)
        assert out.read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()


def test_a_note_of_an_archive_that_was_cut_off_hides_none_after_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.bulk import assembly

    source = many(tmp_path, 20)
    upscale(source, tmp_path / "whole.zip", "--model", model, "--workers", 1)
    monkeypatch.setattr(assembly, "STEP", 3)
    add = assembly._Zip.add
    for name in ("010.png", "017.png"):

        def broken(self, output, row, name=name):  # type: ignore[no-untyped-def]
            if row["name"] == name:
                raise OSError("power loss")
            add(self, output, row)

        monkeypatch.setattr(assembly._Zip, "add", broken)
        upscale(source, tmp_path / "out.zip", "--model", model, "--workers", 1, code=1)
        with (tmp_path / ".out.zip.facesr/assembled.jsonl").open("a") as notes:
            notes.write('{"count": 3, "len')
    monkeypatch.setattr(assembly._Zip, "add", add)
    upscale(source, tmp_path / "out.zip", "--model", model, "--workers", 1)
    assert (tmp_path / "out.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()


def test_a_finished_run_is_not_done_again(good: Path, model: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "out", tmp_path / "out.zip"):
        upscale(good, out, "--model", model, "--workers", 1)
        before = {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*.png")]}
        done = upscale(good, out, "--model", model, "--workers", 1)
        assert "nothing was left to do" in said(done)
        assert {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*.png")]} == before


def test_a_result_that_was_deleted_is_made_again(good: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    upscale(good, out, "--model", model, "--workers", 1)
    before = pictures(out)
    (out / "a.png").unlink()
    upscale(good, out, "--model", model, "--workers", 1)
    assert pictures(out) == before


def test_an_archive_that_has_grown_costs_only_what_is_new_and_what_failed_is_tried_again(
    archive: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    upscale(archive, out, "--model", model, "--workers", 1, code=1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    (archive / "new.png").write_bytes(encoded(9))
    (archive / "cut.jpg").write_bytes(encoded(4, "JPEG"))
    (archive / "words.png").unlink()
    done = upscale(archive, out, "--model", model, "--workers", 1)
    assert "INPUT has changed" in said(done)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(pictures(out)) == {"a.png", "a.jpg.png", "deep/er/b.png", "new.png", "cut.png"}
    assert {row["status"] for row in manifest(out).values()} == {"ok"}
    assert set(manifest(out)) == {"a.png", "a.jpg", "deep/er/b.png", "new.png", "cut.jpg"}


def test_a_changed_model_or_option_is_noticed_and_the_choice_is_clear(
    model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    source = many(tmp_path)
    out = tmp_path / "out"
    kill_at_part(start(source, out, "--model", model, "--workers", 1), out / ".facesr", 0)
    other = model.with_name("realism.safetensors")
    left = pictures(out)
    done = upscale(source, out, "--model", other, "--tile", 128, "--workers", 1, code=2)
    for words in ("model was", "tile was 512, now 128", "--resume", "--overwrite"):
        assert words in said(done)
    assert pictures(out) == left, "asking changes nothing"
    upscale(source, out, "--model", other, "--tile", 128, "--workers", 1, "--resume")
    assert pictures(out) == whole, "--resume goes on with the options of before"
    upscale(source, out, "--model", other, "--workers", 1, code=2)
    upscale(source, out, "--model", other, "--workers", 1, "--overwrite")
    upscale(source, tmp_path / "other", "--model", other, "--workers", 1)
    assert pictures(out) == pictures(tmp_path / "other")


BEFORE_WINGS = {
    "back_projection": None, "check": False, "detector": None, "embedding": None, "faces": False, "format": "png",
    "name": "fidelity", "precision": "auto", "quality": 95, "realism": 0.0, "realism_model": None, "strict": False,
    "tile": 512,
}  # fmt: skip
"""Settings in a job.json of the time when `strict` was one of them; `fidelity` and `model` are the run's own."""


def test_a_run_that_was_begun_by_the_code_of_before_goes_on(
    model: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    source = many(tmp_path)
    out = tmp_path / "out"
    kill_at_part(start(source, out, "--model", model, "--workers", 1), out / ".facesr", 0)
    record = json.loads((out / ".facesr/job.json").read_text())
    del record["input_id"], record["parts"], record["cut"]  # of later
    record |= {"input": str(source), "output": str(out)}
    assert record.keys() == {"facesr", "input", "output", "settings", "engine", "listing", "count"}
    assert record["engine"].keys() == {"precision", "threads", "batch_pixels"}
    assert record["settings"].keys() == {*BEFORE_WINGS, "fidelity", "model"} - {"strict"}
    record["settings"] |= BEFORE_WINGS
    (out / ".facesr/job.json").write_text(json.dumps(record, indent=2, sort_keys=True))
    # which cut units in another way: what it calls the third is not what is the third now
    for path in sorted(out.glob(".facesr/parts/*/[!.]*.parquet"), reverse=True):
        path.rename(path.with_name(f"{int(path.stem) + 3:06d}.parquet"))
    before = {path: path.stat().st_mtime_ns for path in out.glob(".facesr/parts/*/[!.]*.parquet")}
    made = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert before
    upscale(source, out, "--model", model, "--workers", 1)
    assert pictures(out) == whole
    assert sum(path.stat().st_mtime_ns == time for path, time in made.items()) >= len(before), "done is done"


@pytest.mark.parametrize("text", ["{", "[]", '{"engine": {}}', '{"settings": {"tile": 1}, "engine": {"threads": 1}}'])
def test_a_record_that_cannot_be_understood_is_refused_and_left_alone(
    text: str, good: Path, model: Path, tmp_path: Path
) -> None:
    work = tmp_path / "out/.facesr"
    work.mkdir(parents=True)
    (work / "job.json").write_text(text)
    done = upscale(good, tmp_path / "out", "--model", model, "--workers", 1, "--resume", code=2)
    assert "job.json: not the record of a run that can be gone on with" in said(done)
    assert (work / "job.json").read_text() == text
    upscale(good, tmp_path / "out", "--model", model, "--workers", 1, "--overwrite")
    assert len(pictures(tmp_path / "out")) == 3


def test_how_a_run_is_done_and_where_its_weights_lie_may_differ(good: Path, model: Path, tmp_path: Path) -> None:
    upscale(good, tmp_path / "out", "--model", model, "--workers", 1)
    moved = tmp_path / "other.safetensors"
    moved.write_bytes(model.read_bytes())
    done = upscale(good, tmp_path / "out", "--model", moved, "--cpus-per-worker", 1, "--strict", "--manifest", "csv")
    assert "nothing was left to do" in said(done)


def test_files_that_are_not_ours_are_not_replaced(good: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "deep/er").mkdir(parents=True)
    mine = out / "deep/er/b.png"
    mine.write_bytes(b"mine")
    archive = tmp_path / "out.zip"
    archive.write_bytes(b"mine")
    for place in (out, archive):
        done = upscale(good, place, "--model", model, "--workers", 1, code=2)
        assert "--overwrite" in said(done)
    assert mine.read_bytes() == archive.read_bytes() == b"mine"
    upscale(good, archive, "--model", model, "--workers", 1, "--overwrite")
    assert zipfile.is_zipfile(archive)


def test_two_runs_on_one_output_do_not_meet(good: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out/.facesr").mkdir(parents=True)
    with (tmp_path / "out/.facesr/lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = upscale(good, tmp_path / "out", "--model", model, "--workers", 1, code=2)
    assert "another run is at work" in said(done)


def test_a_full_disk_is_said_and_the_same_command_goes_on_when_there_is_room(model: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        source = many(tmp_path, 40)
        done = upscale(source, disk / "out", "--model", model, "--workers", 1, code=1)
        assert "are needed" in said(done), "too little room is said before the start"
        assert "the disk is full; make room" in said(done)
        finished = set(pictures(disk / "out"))
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        upscale(source, disk / "out", "--model", model, "--workers", 1)
        upscale(source, tmp_path / "whole", "--model", model, "--workers", 1)
        assert finished
        assert pictures(disk / "out") == pictures(tmp_path / "whole")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# what is said


def test_strict_stops_at_the_first_failure_and_names_it(archive: Path, model: Path, tmp_path: Path) -> None:
    done = upscale(archive, tmp_path / "out", "--model", model, "--workers", 1, "--strict", code=1)
    assert "cut.jpg" in said(done)
    assert "--strict" in said(done)
    assert not (tmp_path / "out/manifest.parquet").exists()
    upscale(archive, tmp_path / "out", "--model", model, "--workers", 1, code=1)
    assert len(manifest(tmp_path / "out")) == 5


def test_a_dry_run_lists_and_estimates_and_writes_nothing(archive: Path, model: Path, tmp_path: Path) -> None:
    source = as_zip(tmp_path / "x.zip", {"a.png": encoded(1), "../b.png": encoded(2)})
    done = upscale(source, tmp_path / "out", "--model", model, "--dry-run")
    assert "1 known to be unusable" in said(done)
    assert "GB free" in said(done)
    upscale(as_tar(tmp_path / "y.tar.gz", {"a.png": encoded(1)}), tmp_path / "out", "--model", model, "--dry-run")
    plan = json.loads(upscale(archive, tmp_path / "out", "--model", model, "--dry-run", "--json").stdout)
    assert plan["pictures"] == plan["to_do"] == 5
    assert {file["name"]: file["file"] for file in plan["files"]}["deep/er/b.png"] == "deep/er/b.png"
    assert plan["bytes"] > 1000
    assert plan["seconds"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "x.zip", "y.tar.gz"]


def test_the_summary_as_json_and_a_quiet_run(archive: Path, model: Path, tmp_path: Path) -> None:
    arguments = (archive, tmp_path / "out", "--model", model, "--workers", 1)
    summary = json.loads(upscale(*arguments, "--json", "--manifest", "csv", code=1).stdout)
    assert (summary["ok"], summary["failed"], summary["skipped"]) == (3, 2, 0)
    assert {failure["name"] for failure in summary["failures"]} == {"cut.jpg", "words.png"}
    lines = (tmp_path / "out/manifest.csv").read_text().splitlines()
    assert len(lines) == 6
    assert lines[0].replace('"', "").startswith("id,name,status,error,width,height,seconds,model")
    quiet = upscale(archive, tmp_path / "quiet", "--model", model, "--workers", 1, "--quiet", code=1)
    assert quiet.output == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing.zip", "out"), "no such file"),
        (("{archive}", "out", "--model", "nowhere.safetensors"), "nowhere.safetensors"),
        (("{archive}", "out", "--model", "{archive}/a.png"), "safetensors"),
        (("{archive}", "out", "--workers", "0"), "--workers 0"),
        (("{archive}", "out", "--workers", "4:2"), "--workers 4:2"),
        (("{archive}", "out", "--format", "gif"), "--format gif"),
        (("{archive}", "out", "--to", "rar"), "--to rar"),
        (("{archive}", "out", "--manifest", "xlsx"), "--manifest xlsx"),
        (("{archive}", "out", "--precision", "int8"), "precision must be auto, bf16 or fp32, not 'int8'"),
        (("{archive}", "out", "--resume", "--overwrite"), "--resume and --overwrite: one of them"),
        (("{archive}", "out", "--quiet", "--format", "gif"), "--format gif"),
        (("{archive}", "http://127.0.0.1:9/out/"), "web pages can only be read"),
        (("{archive}", "https://127.0.0.1:9/out.zip", "--dry-run"), "web pages can only be read"),
        (("{archive}", "out", "--faces", "--detector", "nowhere.onnx"), "nowhere.onnx"),
    ],
)
def test_what_cannot_start_exits_2_and_says_why(
    archive: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = tuple(argument.format(archive=archive) for argument in arguments)
    if "--model" not in arguments:
        arguments += ("--model", str(model))
    assert words in said(upscale(*arguments, code=2))
    assert not (tmp_path / "out").exists()


def test_check_measures_agreement_and_flags_what_disagrees(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(6):
        (tmp_path / f"in/{seed}.png").write_bytes(encoded(seed))
    noise = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "in/noise.png")
    upscale(tmp_path / "in", tmp_path / "out", "--model", model, "--workers", 1, "--check", "--back-projection", 0)
    rows = manifest(tmp_path / "out")
    assert rows["noise.png"]["flags"] == "disagrees"
    assert all(rows[f"{seed}.png"]["flags"] == "" for seed in range(6))
    low = np.asarray(Image.open(tmp_path / "in/0.png")).astype(float)
    result = Image.open(tmp_path / "out/0.png").resize((40, 32), Image.Resampling.BICUBIC)
    assert rows["0.png"]["consistency"] == pytest.approx(np.abs(np.asarray(result) - low).mean(), abs=0.3)


def test_the_result_of_a_tar_keeps_its_order(model: Path, tmp_path: Path) -> None:
    names = ["z.png", "a/b.png", "m.png"]
    source = as_tar(tmp_path / "x.tar", {name: encoded(index) for index, name in enumerate(names)})
    upscale(source, tmp_path / "y.tar", "--model", model, "--workers", 1)
    with tarfile.open(tmp_path / "y.tar") as file:
        assert file.getnames() == names
    table = pq.read_table(tmp_path / "y.tar.manifest.parquet")
    assert table.column("name").to_pylist() == names
    assert FACTOR == 4


def test_ctrl_c_says_how_to_go_on(model: Path, tmp_path: Path) -> None:
    source = many(tmp_path)
    process = start(source, tmp_path / "out", "--model", model, "--workers", 1)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out/.facesr").glob("parts/*/000000.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert command("x")[0]
    assert ROOT.is_dir()
