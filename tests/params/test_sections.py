"""A params file is checked as a whole before any work; every complaint names the file and the key."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.stages import ROOT, run_stage

from pipeline.core.images import ImageError
from pipeline.params.all_sections import Params, load_params
from pipeline.params.evaluate import Evaluate
from pipeline.params.ingest import Ingest
from pipeline.params.read import ParamsError, read_sections
from pipeline.params.train import Train
from pipeline.params.upscale import Upscale
from pipeline.runtime import stage

FILES = [ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml"))]


def changed(folder: Path, key: str, value: Any) -> Path:
    """The checkout's params with one key set, or removed where `value` is `...`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    place = values
    *path, last = key.split(".")
    for part in path:
        place = place[int(part)] if part.isdigit() else place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    target = folder / "params.yaml"
    target.write_text(yaml.safe_dump(values))
    return target


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_profile_is_valid(path: Path) -> None:
    assert isinstance(load_params(path), Params)


def test_a_key_that_is_there_twice_is_named_since_the_last_would_win(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    for more in ("\npairs: {}\n", "\nextra: {batch: 8, batch: 4}\n"):
        (tmp_path / "params.yaml").write_text(text + more)
        with pytest.raises(ParamsError, match="is there twice"):
            load_params(tmp_path / "params.yaml")


def test_the_sections_are_the_stages() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert set(Params.model_fields) == set(stages) == files


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("ingest.sise", 512, "ingest.sise: unknown key"),
        ("trian", {}, "trian: unknown key"),
        ("train.fidelity.stesp", 10, "train.fidelity.stesp: unknown key"),
        ("train.batch", "eight", "train.batch: Input should be a valid integer"),
        ("train.batch", 8.5, "train.batch: "),
        ("train.batch", "500", "train.batch: Input should be a valid integer (got '500')"),
        ("train.scales", {"64to256": float("inf")}, "train.scales.64to256: "),
        ("train.fidelity.pixel", float("inf"), "train.fidelity.pixel: "),
        ("pairs.noise", [0, float("inf")], "pairs.noise"),
        ("pairs.augmentations", {"none": float("inf")}, "pairs.augmentations"),
        ("train.batch", 0, "train.batch: Input should be greater than or equal to 1 (got 0)"),
        ("train.crop", 100, "train.crop: Input should be a multiple of 16 (got 100)"),
        ("train.crop", 512, "train.crop: Input should be less than or equal to 256 (got 512)"),
        ("train.ema", 1.0, "train.ema: Input should be less than 1"),
        ("train.fidelity.learning_rate", -0.1, "train.fidelity.learning_rate: Input should be greater than 0"),
        ("train.fidelity.learning_rate", "6e-4x", "train.fidelity.learning_rate: Input should be a valid number"),
        ("train.fidelity.adversarial", 0.1, "trained without an adversarial term"),
        ("train.perceptual.layers", ["relu1_2", "relu9_9"], "VGG-19 has no relu9_9"),
        ("train.perceptual.network", "resnet", "train.perceptual.network: Input should be 'random' or 'imagenet'"),
        ("train.scales", {"64to512": 1.0}, "train.scales.64to512"),
        ("train.scales", {"64to256": 0.0}, "at least one needs a chance above 0"),
        ("train.generator.widths", [], "train.generator.widths: "),
        ("train.generator.width", [48], "train.generator.width: unknown key"),
        ("train.generator.even", 4, "train.generator: even must be 0 or an odd number of pixels, not 4"),
        ("train.smoother", 0.5, "train.smoother: unknown key"),
        ("baselines.zssr", {"scales": [4.0, 2.0]}, "baselines.zssr: scales: factors must rise, and the last must be 4"),
        ("baselines.zssr", {"seed": 1}, "baselines.zssr.seed: unknown key"),
        ("train.generator.norm", "batch", "train.generator.norm: Input should be 'none' or 'instance'"),
        ("pairs.augmentations", {"mirror": 1.0}, "pairs.augmentations.mirror"),
        ("pairs.augmentations", {"none": 0.0}, "at least one needs a chance above 0"),
        ("pairs.jpeg", [95, 75], "jpeg: the range 95 to 75 is upside down"),
        ("pairs.jpeg", [0, 101], "pairs.jpeg.0: "),
        ("pairs.noise", [1.0], "pairs.noise"),
        ("pairs.chain", {"noize": [1, 2]}, "pairs.chain.noize: unknown key"),
        ("pairs.chain", {"noise": [5.0, 2.0]}, "pairs.chain: noise: the range 5.0 to 2.0 is upside down"),
        ("pairs.blur", [0.2, 50.0], "pairs.blur.1: Input should be less than or equal to 16 (got 50.0)"),
        ("pairs.chain", {"blur": [0.2, 1e9]}, "pairs.chain.blur.1: Input should be less than or equal to 16"),
        ("pairs.chain", {"noise": [0, 300]}, "pairs.chain.noise.1: Input should be less than or equal to 255"),
        ("pairs.chain", {"jpeg": [0, 90]}, "pairs.chain.jpeg.0: Input should be greater than or equal to 1 (got 0)"),
        ("pairs.chain", {"share": 1.5}, "pairs.chain.share: Input should be less than or equal to 1 (got 1.5)"),
        ("pairs.chain", {"subsampling": {"4:1:1": 1.0}}, "pairs.chain.subsampling.4:1:1"),
        ("pairs.chain", {"subsampling": {"4:2:0": 0.0}}, "pairs.chain: subsampling: at least one needs a chance above"),
        ("pairs.of_use", -1, "pairs.of_use: Input should be greater than or equal to 0 (got -1)"),
        ("upscale.kinds", ["jpeg80"], "upscale.kinds.0: Input should be 'jpeg90', 'jpeg75'"),
        ("upscale.kinds", ["jpeg75", "jpeg75"], "upscale: kinds: each once"),
        ("upscale.kind_faces", {}, "upscale: kind_faces: kinds need faces, such as {test: 24}"),
        ("upscale.kind_faces", {"valid": 3}, "kind_faces: valid: only train and test are enlarged"),
        ("ingest.min_size", 32, "ingest.min_size: Input should be greater than or equal to 64 (got 32)"),
        ("ingest.not_square", "stretch", "ingest.not_square: Input should be 'reject' or 'crop'"),
        ("ingest.sources", [], "ingest.sources: "),
        ("ingest.sources.0.kind", "web", "ingest.sources.0"),
        ("ingest.sources.0.splits", {"train": "rest", "test": "rest"}, "only one split can take the rest"),
        ("ingest.sources.0.splits", {"train": -1}, "ingest.sources.0.synthetic.splits.train"),
        ("ingest.sources.0.path", "x.zip", "ingest.sources.0.synthetic.path: unknown key"),
        ("upscale.tile", 8, "upscale.tile: Input should be greater than or equal to 64 (got 8)"),
        ("evaluate.sheet_faces", None, "evaluate.sheet_faces: "),
        ("pairs.seed", ..., "pairs.seed: missing"),
        ("evaluate", ..., "evaluate: missing"),
        ("train", None, "train: "),
    ],
)
def test_an_unknown_key_or_a_value_that_cannot_be_is_named_with_its_file(
    key: str, value: Any, complaint: str, tmp_path: Path
) -> None:
    path = changed(tmp_path, key, value)
    with pytest.raises(ParamsError) as raised:
        load_params(path)
    lines = str(raised.value).splitlines()
    assert any(complaint in line for line in lines)
    assert all(line.startswith(f"{path}: ") for line in lines)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = changed(tmp_path, "train.batch", 0)
    values = yaml.safe_load(path.read_text())
    values["upscale"]["tyle"] = 1
    del values["pairs"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError) as raised:
        load_params(path)
    keys = {line.split(": ")[1] for line in str(raised.value).splitlines()}
    assert keys == {"train.batch", "upscale.tyle", "pairs"}


@pytest.mark.parametrize("text", ["ingest: [1, 2", "a: b: c", "\tingest: 1", "x: !!python/object/apply:os.getcwd []"])
def test_what_is_not_yaml_is_an_error_that_names_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml: not valid YAML"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["", "just words", "[1, 2]", "3"])
def test_yaml_that_is_no_mapping_is_an_error_that_names_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml: the whole file: "):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["ingest: {2020-01-01: 3}", "ingest: &itself [*itself]"])
def test_yaml_that_no_section_can_hold_is_an_error_that_names_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml: ingest: "):
        read_sections({"ingest": Ingest}, tmp_path / "params.yaml")


def test_a_file_that_is_not_text_or_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"no-such\.yaml: No such file"):
        load_params(tmp_path / "no-such.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80" * 10)
    with pytest.raises(ParamsError, match=r"binary\.yaml"):
        load_params(tmp_path / "binary.yaml")


def test_params_cannot_be_changed_after_they_were_checked() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.train.batch = 0


# stages and their exit codes


def test_a_stage_exits_2_on_bad_params_before_any_work(tmp_path: Path) -> None:
    changed(tmp_path, "ingest.sise", 512)
    done = run_stage("ingest", tmp_path)
    assert done.returncode == 2
    assert "params.yaml: ingest.sise: unknown key" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_stage_reads_its_own_sections_alone(tmp_path: Path) -> None:
    path = changed(tmp_path, "evaluate.sheet_face", 3)
    assert set(read_sections({"train": Train, "upscale": Upscale}, path)) == {"train", "upscale"}
    with pytest.raises(ParamsError, match=r"params\.yaml: evaluate\.sheet_face: unknown key"):
        read_sections({"evaluate": Evaluate}, path)


@pytest.fixture
def exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """The code that a stage with a given main exits with."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())

    def run(main: Callable[[Ingest], None]) -> int:
        with pytest.raises(SystemExit) as raised:
            stage.run_stage(main, ingest=Ingest)
        return int(raised.value.code or 0)

    yield run
    signal.signal(signal.SIGTERM, before)


def test_a_stage_exits_0_when_complete_1_when_not_and_143_after_sigterm(exit_code: Callable[..., int]) -> None:
    def raises(error: Exception) -> Callable[[Ingest], None]:
        def main(settings: Ingest) -> None:
            raise error

        return main

    assert exit_code(lambda settings: None) == 0
    assert exit_code(raises(stage.StageError("not enough"))) == 1
    assert exit_code(raises(ImageError("no such source"))) == 1
    assert exit_code(raises(OSError("disk full"))) == 1
    assert exit_code(lambda settings: signal.raise_signal(signal.SIGTERM)) == 143
    for bug in (KeyError("bug"), ValueError("bug")):  # a bug keeps its traceback
        with pytest.raises(type(bug)):
            stage.run_stage(raises(bug), ingest=Ingest)


def test_partial_work_of_other_inputs_is_removed_and_that_of_the_same_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_text("one")
    first = stage.work_folder("train", Path("data"), {"steps": 3})
    (first / "part").write_text("done")
    assert stage.work_folder("train", Path("data"), {"steps": 3}) == first
    assert (first / "part").exists()
    assert stage.work_folder("train", Path("data"), {"steps": 4}) != first
    assert not first.exists()
    before = stage.work_folder("train", Path("data"), {"steps": 3})
    (tmp_path / "data").write_text("two")
    assert stage.work_folder("train", Path("data"), {"steps": 3}) != before
