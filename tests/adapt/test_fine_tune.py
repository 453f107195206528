"""facesr adapt learns from the user's own faces, measures on others, and never leaves a worse model than it found."""

import json
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support.archives import ARCHIVES, as_folder, as_zip
from support.pictures import face, jpeg, psnr, static
from support.stages import KILL_AT_RENAME, KILLED, ROOT, files_of, python
from typer.testing import CliRunner

from pipeline.adapt import dataset
from pipeline.adapt.dataset import Faces, FacesError, gather, square
from pipeline.bulk.ownership import locked_folder
from pipeline.cli import app
from pipeline.core.images import ImageError, encode_jpeg, encode_png, resize, rounded
from pipeline.core.scales import GROUND_TRUTH_SIDE
from pipeline.models.checkpoint import interpolate, load_generator, save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.sources.open import open_archive
from pipeline.train.engine.batches import Batch
from pipeline.train.engine.step import Updates
from pipeline.upscale.upscaler import Upscaler
from pipeline.upscale.weights import choose, partner

pytestmark = pytest.mark.usefixtures("fixed_threads")


def pictures(count: int = 56, first: int = 0) -> dict[str, bytes]:
    """Faces of 64 to 96 pixels: all become 64."""
    return {f"{index:03d}.png": encode_png(face(index, 64 + index % 33)) for index in range(first, first + count)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    return as_folder(tmp_path_factory.mktemp("archive") / "faces", pictures())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generator that is a bit worse than bicubic, and so can be improved; its realism twin lies beside it."""
    folder = tmp_path_factory.mktemp("models")
    config = GeneratorConfig((32,), blocks=0, bottleneck=1)
    torch.manual_seed(0)
    generator = Generator(config)
    for name in ("fidelity", "realism"):
        with torch.no_grad():
            generator.to_rgb.weight += 0.002 * torch.randn(generator.to_rgb.weight.shape)
        save_generator(folder / f"{name}.safetensors", generator, config, {}, torch.float16)
    return folder / "fidelity.safetensors"


def adapt(*arguments: Any) -> tuple[int, str]:
    """Run `facesr adapt`; its exit code and what it said, on one line."""
    done = CliRunner().invoke(app, ["adapt", *(str(argument) for argument in arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, re.sub(r"\s+", " ", done.output)


def succeed(*arguments: Any) -> str:
    code, said = adapt(*arguments)
    assert code == 0, said
    return said


def gathered(path: str, folder: Path, **options: Any) -> Faces:
    source = open_archive(path, folder / "scratch")
    return gather(source, list(source.entries()), folder / "faces", **{"seed": 0} | options)


def splits(faces: Faces) -> dict[str, set[str]]:
    """Ids of the shards of each split."""
    return {
        split: {row["id"] for row in pq.read_table(Path(faces.folder) / split, columns=["id"]).to_pylist()}
        for split in ("train", "valid")
    }


# learning


@pytest.fixture(scope="module")
def adapted(archive: str, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """Weights, numbers and words of a run."""
    out = tmp_path_factory.mktemp("adapted") / "mine.safetensors"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    said = succeed(archive, "--out", out, "--model", model, "--steps", 120, "--json", out.with_name("numbers.json"))
    torch.set_num_threads(threads)
    return out, json.loads(out.with_name("numbers.json").read_text()), said


def test_faces_that_were_held_back_gain(
    adapted: tuple[Path, dict[str, Any], str], archive: str, tmp_path: Path
) -> None:
    out, numbers, said = adapted
    for name in ("fidelity", "realism"):
        entry = numbers["generators"][name]
        assert entry["adapted"]
        assert entry["gain_db"] > 0.05
        assert entry["gained"] > 0.8 * entry["faces"]
        assert f"{name}: {entry['gain_db']:+.3f} dB" in said
    # the numbers are true: measured again by other means
    faces = gathered(archive, tmp_path)
    pairs = faces.data("valid").pairs("16to64", 99)
    upscaler = Upscaler.load(out, precision="fp32", back_projection=0)
    means = numbers["generators"]["fidelity"]["scales"]["16to64"]
    assert len(pairs) == means["faces"] == 8
    assert np.mean([psnr(upscaler([low])[0], truth) for truth, low in pairs]) == pytest.approx(means["after"]["psnr"])
    bicubic = [psnr(resize(low, 64, 64), truth) for truth, low in pairs]
    assert np.mean(bicubic) == pytest.approx(means["bicubic"]["psnr"])


def test_the_weights_say_what_they_come_from(adapted: tuple[Path, dict[str, Any], str], model: Path) -> None:
    out, numbers, _ = adapted
    for phase, path, start in (
        ("fidelity", out, model),
        ("realism", partner(out), model.with_name("realism.safetensors")),
    ):
        provenance = load_generator(path)[1]["provenance"]
        assert provenance["phase"] == phase
        assert provenance["adapted_from"] == load_generator(start)[1]["sha256"]
        assert provenance["faces_sha256"] == numbers["faces"]["sha256"]
        assert provenance["steps"] == 120
        assert provenance["gain_db"] == numbers["generators"][phase]["gain_db"]


def test_both_generators_changed_by_the_same_so_they_still_mix(
    adapted: tuple[Path, dict[str, Any], str], model: Path
) -> None:
    out, _, _ = adapted
    fidelity, other = choose(out, None, 0.5)
    assert other == out.with_name("mine-realism.safetensors")
    before = [load_generator(path)[0] for path in (model, model.with_name("realism.safetensors"))]
    after = [load_generator(path)[0] for path in (fidelity, other)]
    for name, value in after[0].state_dict().items():
        change = value - before[0].state_dict()[name]
        assert torch.allclose(after[1].state_dict()[name], before[1].state_dict()[name] + change, atol=2e-3)
    low = face(500, 32)
    results = [
        Upscaler.load(fidelity, other, share, precision="fp32", back_projection=0)([low])[0]
        for share in (0.0, 0.5, 1.0)
    ]
    expected = Upscaler(interpolate(*after, 0.5), {}, precision="fp32")([low])[0]
    assert np.array_equal(results[1], expected)
    assert not np.array_equal(results[0], results[2])


def test_nothing_but_the_results_is_left(adapted: tuple[Path, dict[str, Any], str]) -> None:
    assert set(files_of(adapted[0].parent)) == {"mine.safetensors", "mine-realism.safetensors", "numbers.json"}


def test_a_model_that_does_not_gain_is_kept_byte_for_byte(archive: str, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    # one step of the warm-up changes each weight by a hundred-thousandth: no face can gain a hundredth of a dB
    said = succeed(archive, "--out", out, "--model", model, "--steps", 1)
    assert "too little gain: the old generator is kept" in said
    assert out.read_bytes() == model.read_bytes()
    assert partner(out).read_bytes() == model.with_name("realism.safetensors").read_bytes()


def with_sharp(model: Path, folder: Path, noise: float) -> Path:
    """A copy of both generators, and one for sharp pictures: bicubic, but for so much noise in its weights."""
    folder.mkdir()
    for path in model.parent.glob("*.safetensors"):
        (folder / path.name).write_bytes(path.read_bytes())
    generator = load_generator(model)[0]
    torch.manual_seed(1)
    with torch.no_grad():
        generator.to_rgb.weight.copy_(noise * torch.randn(generator.to_rgb.weight.shape))
    save_generator(folder / "sharp.safetensors", generator, generator.config, {}, torch.float16)
    return folder / model.name


@pytest.fixture(scope="module")
def clean_archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Faces that no noise is found in."""
    faces = {f"{index:03d}.png": encode_png(resize(face(index, 24), 64, 64)) for index in range(56)}
    return as_folder(tmp_path_factory.mktemp("clean") / "faces", faces)


def test_weights_for_sharp_pictures_stay_where_they_are_ahead(clean_archive: str, model: Path, tmp_path: Path) -> None:
    own, out = with_sharp(model, tmp_path / "own", 0.0), tmp_path / "mine.safetensors"
    # bicubic is better than the other two, which one step does not change
    said = succeed(clean_archive, "--out", out, "--model", own, "--steps", 1, "--json", tmp_path / "numbers.json")
    beside = partner(out, "sharp")
    assert f"clean sharp pictures are enlarged by {beside}, as before" in said.replace("\n", "")
    assert beside.read_bytes() == own.with_name("sharp.safetensors").read_bytes()
    (means,) = json.loads((tmp_path / "numbers.json").read_text())["generators"]["fidelity"]["scales"].values()
    # "before" is what they were enlarged by, bicubic, and so is "after"
    assert means["before"] == pytest.approx(means["bicubic"], abs=0.02)
    assert means["after"] == pytest.approx(means["before"])


def test_weights_for_sharp_pictures_go_where_the_new_ones_are_better(
    clean_archive: str, model: Path, tmp_path: Path
) -> None:
    own, out = with_sharp(model, tmp_path / "own", 0.05), tmp_path / "mine.safetensors"
    partner(out, "sharp").write_bytes(own.with_name("sharp.safetensors").read_bytes())  # of an earlier run
    said = succeed(clean_archive, "--out", out, "--model", own, "--steps", 20)
    assert "by the new weights, which are ahead" in said
    assert out.is_file()
    assert not partner(out, "sharp").exists()


@pytest.mark.parametrize("phase", ["sharp", "realism"])
def test_a_file_that_would_be_taken_for_a_partner_is_refused(
    archive: str, model: Path, tmp_path: Path, phase: str
) -> None:
    alone, out = tmp_path / "alone.safetensors", tmp_path / "mine.safetensors"
    alone.write_bytes(model.read_bytes())
    partner(out, phase).write_bytes(b"mine")
    code, said = adapt(archive, "--out", out, "--model", alone, "--steps", 1)
    assert (code, "would be taken for the partner of" in said) == (2, True), said
    assert partner(out, phase).read_bytes() == b"mine"


def test_a_model_without_a_realism_partner_is_adapted_alone(archive: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "alone.safetensors").write_bytes(model.read_bytes())
    out = tmp_path / "out" / "mine.safetensors"
    said = succeed(archive, "--out", out, "--model", tmp_path / "alone.safetensors", "--steps", 1)
    assert "only the fidelity generator is adapted" in said
    assert set(files_of(out.parent)) == {"mine.safetensors"}


# which faces


def test_held_back_faces_are_never_trained_on(archive: str, tmp_path: Path) -> None:
    faces = gathered(archive, tmp_path)
    ids = splits(faces)
    assert len(ids["train"]) == 48
    assert len(ids["valid"]) == 8
    assert not ids["train"] & ids["valid"]
    rows = pq.read_table(Path(faces.folder) / "pairs.parquet").to_pylist()
    for split in ("train", "valid"):
        assert {row["image_id"] for row in rows if row["split"] == split} == ids[split]
    assert {row["augmentation"] for row in rows if row["split"] == "valid"} == {"none"}
    assert set(faces.data("train").images) == ids["train"]


def test_the_split_follows_from_pixels_and_seed_not_from_names_order_or_container(archive: str, tmp_path: Path) -> None:
    first = gathered(archive, tmp_path / "a")
    renamed = {f"z/{99 - index}.png": data for index, data in enumerate(pictures().values())}
    second = gathered(as_zip(tmp_path / "faces.zip", renamed), tmp_path / "b")
    assert splits(first) == splits(second)
    assert first.sha256 == second.sha256
    other = gathered(archive, tmp_path / "c", seed=1)
    assert splits(other)["valid"] != splits(first)["valid"]
    assert len(splits(gathered(archive, tmp_path / "d", hold_back=20))["valid"]) == 20


def test_each_face_is_used_at_every_scale_that_it_holds_and_no_other(tmp_path: Path) -> None:
    sides = (64, 100, 128, 200, 256, 300)
    files = {f"{index}.png": encode_png(face(index, sides[index % 6])) for index in range(60)}
    faces = gathered(as_folder(tmp_path / "in", files), tmp_path)
    taken = {split: faces.data(split) for split in ("train", "valid")}
    assert {image.shape for image in taken["train"].images.values()} == {(s, s, 3) for s in (64, 128, 256)}
    for scale, rows in taken["train"].rows.items():
        least = GROUND_TRUTH_SIDE.get(scale, 0)
        fitting = {i for i, image in taken["train"].images.items() if image.shape[0] >= least}
        assert {row["image_id"] for row in rows} == fitting
    for scale, rows in taken["valid"].rows.items():
        assert {taken["valid"].images[row["image_id"]].shape[0] for row in rows} == {GROUND_TRUTH_SIDE[scale]}
        assert len(rows) == faces.held_back[scale]


def test_damaged_faces_are_reduced_until_they_are_clean_and_given_the_damage_of_the_archive(tmp_path: Path) -> None:
    files = {f"{index}.jpg": encode_jpeg(face(index, 256), 60) for index in range(60)}
    faces = gathered(as_folder(tmp_path / "in", files), tmp_path)
    assert faces.damage == {"jpeg": {"60-69": 60}, "subsampling": {"4:2:0": 60}}
    assert faces.scale_chances["256to1024"] > 0
    for split in ("train", "valid"):
        data = faces.data(split)
        assert {image.shape[0] for image in data.images.values()} == {128}
        for rows in data.rows.values():
            assert {(row["jpeg"], row["subsampling"], row["noise"]) for row in rows} == {(60, "4:2:0", None)}
    assert set(faces.data("valid").rows) == {"32to128"}


def test_noise_is_found_and_given_to_the_faces_that_are_learned_from(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    noisy = (face(index, 256) + random.normal(0, 6, (256, 256, 3)) for index in range(52))
    files = {f"{index}.png": encode_png(rounded(picture)) for index, picture in enumerate(noisy)}
    faces = gathered(as_folder(tmp_path / "in", files), tmp_path)
    assert set(faces.damage) == {"noise"}
    sigmas = [row["noise"] for row in faces.data("train").rows["32to128"]]
    assert 5 < min(sigmas) < max(sigmas) < 7.5
    assert len(set(sigmas)) > 10


def test_a_picture_is_cropped_to_its_centre_and_reduced_by_the_one_bicubic() -> None:
    pixels = static(1, 300)[:200]
    assert np.array_equal(square(pixels), resize(np.ascontiguousarray(pixels[:, 50:250]), 128, 128))
    assert np.array_equal(square(static(2, 64)), static(2, 64))
    with pytest.raises(ImageError, match="too small: 100x63"):
        square(np.zeros((63, 100, 3), np.uint8))


@pytest.mark.parametrize("kind", ["tar.gz", "parquet"])
def test_any_archive_will_do(kind: str, archive: str, tmp_path: Path) -> None:
    assert gathered(ARCHIVES[kind](tmp_path, pictures()), tmp_path).sha256 == gathered(archive, tmp_path / "b").sha256


def test_the_same_pixels_count_once_whatever_their_name_and_encoding(tmp_path: Path) -> None:
    again = {f"again/{name}.bmp": data for name, data in pictures(5).items()}
    faces = gathered(as_folder(tmp_path / "in", pictures() | again), tmp_path)
    assert (sum(faces.train.values()), sum(faces.held_back.values()), faces.duplicates) == (48, 8, 5)


def test_broken_and_small_pictures_are_named_with_the_reason_and_the_rest_is_used(model: Path, tmp_path: Path) -> None:
    files: Mapping[str, bytes] = {
        "a/cut.jpg": jpeg(face(900))[:700],
        "[b]small[/b].png": encode_png(face(901, 63)),
        "words.jpg": b"not a picture",
    }
    archive = as_folder(tmp_path / "in", pictures(50) | files)
    said = succeed(archive, "--out", tmp_path / "mine.safetensors", "--model", model, "--steps", 1)
    assert "50 faces: 42 to learn from, 8 held back" in said
    assert "not used: a/cut.jpg: truncated" in said
    assert "not used: [b]small[/b].png: too small: 63x63" in said
    assert "not used: words.jpg: not a picture" in said


def test_fewer_than_fifty_faces_are_an_error_that_says_how_many_there_are(model: Path, tmp_path: Path) -> None:
    # 50 files, but two of them hold the same pixels and one is broken
    files = pictures(48) | {"copy.png": pictures(1)["000.png"], "cut.jpg": jpeg(face(900))[:700]}
    out = tmp_path / "mine.safetensors"
    code, said = adapt(as_folder(tmp_path / "in", files), "--out", out, "--model", model)
    assert code == 1
    assert "48 usable faces; at least 50 are needed" in said
    assert "cut.jpg: truncated" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_archive_may_be_named_by_a_uri_and_nothing_is_left_where_there_is_too_little(
    model: Path, tmp_path: Path
) -> None:
    few = as_folder(tmp_path / "few", pictures(3))
    code, said = adapt(f"file://{few}", "--out", tmp_path / "mine.safetensors", "--model", model)
    assert code == 1
    assert f"file://{few}: 3 " in said
    assert not (tmp_path / ".mine.safetensors.facesr").exists()
    code, said = adapt("nowhere.zip", "--out", tmp_path / "mine.safetensors", "--model", model)
    assert code == 2
    assert not (tmp_path / ".mine.safetensors.facesr").exists()


def test_a_second_training_of_the_same_name_is_kept_off_and_a_file_of_others_stays(model: Path, tmp_path: Path) -> None:
    few = as_folder(tmp_path / "few", pictures(3))
    out = tmp_path / "mine.safetensors"
    work = tmp_path / ".mine.safetensors.facesr"
    with locked_folder(work, "mine"):
        code, said = adapt(few, "--out", out, "--model", model)
    assert code == 2
    assert "mine.safetensors: another run is at work on it" in said
    (work / "note.txt").write_text("somebody's")
    code, said = adapt(few, "--out", out, "--model", model)
    assert (code, "Errno" in said) == (1, False)
    assert (work / "note.txt").read_text() == "somebody's"


def test_of_a_large_archive_as_many_faces_are_taken_as_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "MOST", 52)
    broken = {f"broken{index}.png": b"" for index in range(20)}
    path = as_folder(tmp_path / "in", pictures(70) | broken)
    faces = gathered(path, tmp_path)
    # others take the place of what turned out broken
    assert faces.train["16to64"] + faces.held_back["16to64"] == 52
    assert faces.listed == 90
    assert faces.left_out == 90 - 52 - len(faces.unusable)
    assert splits(faces) != splits(gathered(path, tmp_path / "b", seed=1))


def test_more_than_half_cannot_be_held_back(archive: str, tmp_path: Path) -> None:
    with pytest.raises(FacesError, match="29 of 56 faces held back"):
        gathered(archive, tmp_path, hold_back=29)


# usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{archive}", "--out", "mine.pt"), "must end in .safetensors"),
        (("missing.zip", "--out", "mine.safetensors"), "no such file"),
        (("{archive}", "--out", "mine.safetensors", "--model", "nowhere.safetensors"), "no such weights file"),
        (("{archive}", "--out", "{model}", "--model", "{model}"), "name another --out"),
        (("{archive}", "--out", "mine.safetensors", "--realism-model", "{model}"), "another architecture"),
    ],
)
def test_what_cannot_start_exits_2_and_says_why(
    arguments: tuple[str, ...],
    said: str,
    archive: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = adapt(*(argument.format(archive=archive, model=model) for argument in arguments))
    assert code == 2
    assert said in output
    assert not list(tmp_path.iterdir())


def test_an_adapted_partner_is_found_beside_its_generator_before_any_other(tmp_path: Path) -> None:
    for name in ("mine", "realism"):
        (tmp_path / f"{name}.safetensors").touch()
    assert choose(tmp_path / "mine.safetensors", None, 1)[1] == tmp_path / "realism.safetensors"
    (tmp_path / "mine-realism.safetensors").touch()
    assert choose(tmp_path / "mine.safetensors", None, 1)[1] == tmp_path / "mine-realism.safetensors"
    other = tmp_path / "realism.safetensors"
    assert choose(tmp_path / "mine.safetensors", other, 1)[1] == other


# killed and stopped


@pytest.fixture(scope="module")
def uninterrupted(archive: str, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    succeed(archive, "--out", folder / "mine.safetensors", "--model", model, "--steps", 40)
    torch.set_num_threads(threads)
    assert load_generator(folder / "mine.safetensors")[1]["provenance"]["gain_db"] > 0.01
    return files_of(folder)


KILL = """
import sys, torch
torch.set_num_threads(1)
from pipeline import cli
from pipeline.adapt import fine_tune
fine_tune.CHECKPOINT_MINUTES = 0.0
sys.argv = ["facesr", "adapt", {archive!r}, "--out", {out!r}, "--model", {model!r}, "--steps", "40"]
cli.main()
"""


@pytest.mark.parametrize("moment", ["faces.json", "state-00000007.safetensors", "mine-realism.safetensors"])
def test_a_run_killed_at_any_moment_goes_on_and_ends_with_the_same_bytes(
    moment: str, uninterrupted: dict[str, bytes], archive: str, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.safetensors"
    code = KILL.format(archive=archive, model=str(model), out=str(out))
    killed = python(KILL_AT_RENAME.format(suffix=moment) + code, tmp_path)
    assert killed.returncode == KILLED, killed.stderr
    assert not out.exists()
    said = succeed(archive, "--out", out, "--model", model, "--steps", 40)
    assert ("read:" in said) == (moment == "faces.json")
    found = files_of(tmp_path)
    assert {name: data for name, data in found.items() if not name.endswith(".tmp")} == uninterrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_saves_its_state_and_says_how_to_go_on(
    number: signal.Signals,
    code: int,
    uninterrupted: dict[str, bytes],
    archive: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update = Updates.__call__

    def interrupted(self: Updates, step: int, batch: Batch) -> Any:
        if step == 9:
            os.kill(os.getpid(), number)
        return update(self, step, batch)

    arguments = (archive, "--out", tmp_path / "mine.safetensors", "--model", model, "--steps", 40)
    handlers = [signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patch:
        patch.setattr(Updates, "__call__", interrupted)
        stopped, said = adapt(*arguments)
    assert stopped == code
    assert "stopped after step 10; run the same command again to go on" in said
    assert [path.name for path in tmp_path.rglob("state-*")] == ["state-00000010.safetensors"]
    assert [signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)] == handlers
    succeed(*arguments)
    assert files_of(tmp_path) == uninterrupted


def test_adapting_needs_neither_ray_nor_dvc_nor_pydantic() -> None:
    code = "import sys, pipeline.adapt.fine_tune; print(*{'ray', 'dvc', 'pydantic', 'rich', 'cv2'} & set(sys.modules))"
    assert python(code, ROOT).stdout.strip() == ""
