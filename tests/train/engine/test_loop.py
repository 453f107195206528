"""Training learns, resumes after kill -9 with the same bits, stops when told, and touches nothing but its inputs."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.pictures import face, psnr
from support.stages import KILL_AT_RENAME, KILLED, Watch, files_of, python, run_stage, watch
from support.training import tiny_config, train_project, write_inputs, write_manifest
from torch import Tensor

from pipeline.core.chain_draws import ChainRanges
from pipeline.core.images import resize
from pipeline.metrics import fidelity as metrics
from pipeline.models.checkpoint import load_generator, load_state
from pipeline.models.config import DiscriminatorConfig, GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.models.weights_file import ModelError
from pipeline.train.engine import memory, validation
from pipeline.train.engine.batches import Batch, PairData
from pipeline.train.engine.config import learning_rate
from pipeline.train.engine.loop import DivergedError, Training
from pipeline.train.engine.losses import PerceptualLoss, adversarial_loss
from pipeline.train.engine.memory import OutOfMemoryError, needed
from pipeline.train.engine.step import Updates
from pipeline.upscale.upscaler import Upscaler

pytestmark = pytest.mark.usefixtures("fixed_threads")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of 64 pixels, so that 16to64 is their largest scale, and the manifest."""
    folder = tmp_path_factory.mktemp("training")
    images = write_inputs(folder / "train", [face(index) for index in range(6)], "train")
    write_manifest(folder / "pairs.parquet", images)
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> PairData:
    return PairData(folder / "train", folder / "pairs.parquet", "train")


def states(work: Path) -> list[str]:
    return sorted(path.name for path in work.glob("state-*"))


def weights(path: Path) -> dict[str, Tensor]:
    return load_generator(path)[0].state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# learning


def test_the_loss_falls_and_the_result_beats_bicubic_on_what_it_was_trained_on(data: PairData, tmp_path: Path) -> None:
    config = tiny_config(
        generator=GeneratorConfig((32,), blocks=0, bottleneck=2),
        batch=4,
        steps=150,
        learning_rate=3e-3,
        warmup=10,
        ema=0.9,
        checkpoint_minutes=1e9,
    )
    log: list[tuple[int, dict[str, float]]] = []
    sheets: list[tuple[int, tuple[int, ...]]] = []
    valid = data.pairs("16to64", 2)
    training = Training(config, data, valid, tmp_path)
    result = training.run(
        lambda step, values: log.append((step, values)), lambda s, sheet: sheets.append((s, sheet.shape))
    )
    pixel = [values["pixel"] for _, values in log if "pixel" in values]
    assert [step for step, values in log if "pixel" in values] == list(range(10, 151, 10))
    assert np.mean(pixel[-3:]) < 0.85 * np.mean(pixel[:3])
    upscaler = Upscaler.load(result, precision="fp32", back_projection=0)
    gains = [psnr(upscaler([low])[0], truth) - psnr(resize(low, 64, 64), truth) for truth, low in valid]
    assert min(gains) > 1
    # what validation said is what the written weights give
    said = [values["valid_psnr"] for _, values in log if "valid_psnr" in values]
    assert len(said) == 2
    measured = np.mean([psnr(upscaler([low])[0], truth) for truth, low in valid])
    assert said[-1] == pytest.approx(measured, abs=0.05)
    # input, result and ground truth side by side, one row a face
    assert sheets == [(100, (128, 192, 3)), (150, (128, 192, 3))]


def test_the_same_config_gives_the_same_bits_and_another_seed_others(data: PairData, tmp_path: Path) -> None:
    results = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(hash(name))  # whatever was drawn before
        config = tiny_config(seed=seed)
        results.append(Training(config, data, [], tmp_path / name).run().read_bytes())
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_the_learning_rate_rises_then_falls_to_a_hundredth() -> None:
    config = tiny_config(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.01 <= rates[-1] < 0.012


def test_the_result_is_the_moving_average_of_the_weights(data: PairData, tmp_path: Path) -> None:
    training = Training(tiny_config(ema=0.9), data, [], tmp_path)
    result = weights(training.run())
    average, last = training.updates.ema.state_dict(), training.updates.generator.state_dict()
    assert all(torch.equal(result[name], value.half().float()) for name, value in average.items())
    assert not torch.allclose(average["to_rgb.weight"], last["to_rgb.weight"])


def test_training_starts_from_the_weights_it_is_given(data: PairData, tmp_path: Path) -> None:
    torch.manual_seed(77)
    start = Generator(tiny_config().generator)
    result = Training(tiny_config(steps=1, learning_rate=1e-12), data, [], tmp_path, start).run()
    for name, value in weights(result).items():
        assert torch.allclose(value, start.state_dict()[name], atol=1e-3), name
    other = Training(tiny_config(steps=1, learning_rate=1e-12), data, [], tmp_path / "other").run()
    assert not same(weights(other), weights(result))


def test_the_weights_file_says_where_it_comes_from(data: PairData, tmp_path: Path) -> None:
    config = tiny_config(provenance={"data_sha256": "abc", "phase": "fidelity"})
    _, facts = load_generator(Training(config, data, [], tmp_path).run())
    assert facts["provenance"] == {"data_sha256": "abc", "phase": "fidelity", "step": 4}


# all three losses

ADVERSARIAL: dict[str, Any] = {"adversarial": 0.05, "perceptual": 0.1, "layers": ("relu1_1",)}


def test_every_term_is_logged_and_the_discriminator_learns(data: PairData, tmp_path: Path) -> None:
    log: dict[int, dict[str, float]] = {}
    config = tiny_config(**ADVERSARIAL, steps=30, log_every=1, checkpoint_minutes=1e9)
    Training(config, data, [], tmp_path).run(lambda step, values: log.update({step: values}))
    terms = {
        "pixel",
        "perceptual",
        "adversarial",
        "discriminator",
        "d_real",
        "d_fake",
        "gradient_norm",
        "discriminator_gradient_norm",
        "learning_rate",
        "images_per_second",
    }
    assert all(set(values) == terms for values in log.values())
    assert np.mean([log[step]["discriminator"] for step in range(21, 31)]) < 0.8 * log[1]["discriminator"]


def test_each_term_changes_what_is_learned(data: PairData, tmp_path: Path) -> None:
    variants = {"pixel": {}, "adversarial": {"adversarial": 1.0}, "perceptual": {**ADVERSARIAL, "adversarial": 0.0}}
    results = {
        name: Training(tiny_config(**changes), data, [], tmp_path / name).run().read_bytes()
        for name, changes in variants.items()
    }
    assert len(set(results.values())) == 3


def test_a_term_of_weight_zero_is_not_built(data: PairData, tmp_path: Path) -> None:
    training = Training(tiny_config(), data, [], tmp_path)
    assert training.updates.discriminator is None
    assert training.updates.perceptual is None
    assert isinstance(Training(tiny_config(**ADVERSARIAL), data, [], tmp_path).updates.perceptual, PerceptualLoss)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_the_adversarial_phase_resumes_with_its_discriminator_bit_for_bit(
    spectral_norm: bool, data: PairData, tmp_path: Path
) -> None:
    config = tiny_config(**ADVERSARIAL, steps=6, discriminator=DiscriminatorConfig((4, 8), 2, spectral_norm))
    whole = Training(config, data, [], tmp_path / "whole")
    expected = whole.run()
    asked = iter([False, False, True])
    stopped = Training(config, data, [], tmp_path / "broken")
    assert stopped.run(should_stop=lambda: next(asked)) is None
    assert stopped.step == 3
    torch.manual_seed(123)
    resumed = Training(config, data, [], tmp_path / "broken")
    assert resumed.run().read_bytes() == expected.read_bytes()
    assert resumed.updates.discriminator is not None
    assert whole.updates.discriminator is not None
    assert same(resumed.updates.discriminator.state_dict(), whole.updates.discriminator.state_dict())


# killed, stopped, resumed


def test_states_name_their_tensors_as_they_always_did_so_that_old_runs_go_on(data: PairData, tmp_path: Path) -> None:
    training = Training(tiny_config(**ADVERSARIAL, steps=1), data, [], tmp_path)
    training.run()
    tensors, _ = load_state(tmp_path / "state-00000001.safetensors")
    assert {name.split(".")[0] for name in tensors} == {
        "generator",
        "ema",
        "optimizer",
        "discriminator",
        "judge_optimizer",
    }
    assert "discriminator.judges.0.0.weight" in tensors


SCRIPT = """
import torch
from pathlib import Path
from support.training import tiny_config
from pipeline.train.engine.batches import PairData
from pipeline.train.engine.loop import Training
torch.set_num_threads(1)
data = PairData(Path("train"), Path("pairs.parquet"), "train")
Training(tiny_config(steps=12), data, [], Path("WORK")).run()
"""


def test_a_training_killed_in_the_middle_of_a_save_resumes_to_the_same_bits(
    folder: Path, data: PairData, tmp_path: Path
) -> None:
    expected = Training(tiny_config(steps=12), data, [], tmp_path / "whole").run()
    work = tmp_path / "broken"
    script = SCRIPT.replace("WORK", str(work))
    killed = python(KILL_AT_RENAME.format(suffix="state-00000007.safetensors") + script, folder)
    assert killed.returncode == KILLED, killed.stderr
    # step 7 was written but had no name yet, so step 6 counts
    assert states(work) == ["state-00000005.safetensors", "state-00000006.safetensors"]
    assert not (work / "generator.safetensors").exists()
    log: list[int] = []
    resumed = Training(tiny_config(steps=12), data, [], work)
    assert resumed.run(lambda step, values: log.append(step)).read_bytes() == expected.read_bytes()
    final = [load_state(tmp_path / name / "state-00000012.safetensors")[0] for name in ("whole", "broken")]
    assert same(*final)  # weights, averages and optimizer alike
    assert states(work) == ["state-00000011.safetensors", "state-00000012.safetensors"]


def test_a_resumed_training_replays_its_log_without_gap_or_repetition(data: PairData, tmp_path: Path) -> None:
    config = tiny_config(steps=8, log_every=1)
    first: list[int] = []
    training = Training(config, data, [], tmp_path)
    assert training.run(lambda step, _: first.append(step), should_stop=lambda: len(first) == 5) is None
    second: list[int] = []
    Training(config, data, [], tmp_path).run(lambda step, _: second.append(step))
    assert first == [1, 2, 3, 4, 5]
    assert second == list(range(1, 9))


def test_a_finished_training_is_not_begun_again(data: PairData, tmp_path: Path) -> None:
    result = Training(tiny_config(), data, [], tmp_path).run().read_bytes()
    (tmp_path / "generator.safetensors").unlink()

    class NoData(PairData):
        def batch(self, *arguments: Any) -> Any:
            raise AssertionError("a batch was drawn")

    data.__class__, before = NoData, data.__class__
    try:
        assert Training(tiny_config(), data, [], tmp_path).run().read_bytes() == result
    finally:
        data.__class__ = before


def test_as_many_states_are_kept_as_asked_for(data: PairData, tmp_path: Path) -> None:
    Training(tiny_config(steps=6, keep=3), data, [], tmp_path).run()
    assert states(tmp_path) == [f"state-{step:08d}.safetensors" for step in (4, 5, 6)]


def test_a_damaged_state_is_an_error_that_names_its_file(data: PairData, tmp_path: Path) -> None:
    Training(tiny_config(), data, [], tmp_path).run()
    path = tmp_path / "state-00000004.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"state-00000004\.safetensors: damaged training state"):
        Training(tiny_config(), data, [], tmp_path).run()


# divergence


class Poisoned(PairData):
    """Data whose ground truth is NaN from one step on."""

    def __init__(self, folder: Path, step: int):
        super().__init__(folder / "train", folder / "pairs.parquet", "train")
        self.step = step

    def batch(self, config: Any, step: int, share: slice = slice(None)) -> Batch:
        batch = super().batch(config, step, share)
        return batch._replace(truth=batch.truth.float() * (float("nan") if step >= self.step else 1))


@pytest.mark.parametrize("log_every", [1, 1000])
def test_nan_stops_with_step_and_term_named_and_the_last_good_state_is_kept(
    log_every: int, folder: Path, data: PairData, tmp_path: Path
) -> None:
    config = tiny_config(steps=8, log_every=log_every)
    with pytest.raises(DivergedError, match="step 5: the pixel term is nan") as raised:
        Training(config, Poisoned(folder, 4), [], tmp_path).run()
    assert str(tmp_path) in str(raised.value)
    assert states(tmp_path) == ["state-00000003.safetensors", "state-00000004.safetensors"]
    assert not (tmp_path / "generator.safetensors").exists()
    # with the cause removed, that state is good
    resumed = Training(config, data, [], tmp_path).run().read_bytes()
    assert resumed == Training(config, data, [], tmp_path / "whole").run().read_bytes()


def test_the_term_that_diverged_is_the_one_named(data: PairData, tmp_path: Path) -> None:
    vgg = PerceptualLoss(("relu1_1",))
    tensors = {f"features.{name}": value * float("inf") for name, value in vgg.features.state_dict().items()}
    torch.save(tensors, tmp_path / "vgg.pth")
    config = tiny_config(perceptual=1.0, layers=("relu1_1",), vgg=tmp_path / "vgg.pth")
    with pytest.raises(DivergedError, match="step 1: the perceptual term is nan"):
        Training(config, data, [], tmp_path).run()


# early stop, the best weights


class Fading(PairData):
    """Data whose ground truth is soon the opposite of what validation asks for."""

    def batch(self, config: Any, step: int, share: slice = slice(None)) -> Batch:
        batch = super().batch(config, step, share)
        return batch if step < 40 else batch._replace(truth=255 - batch.truth)


def test_training_ends_early_with_its_best_weights_when_validation_stops_to_improve(
    folder: Path, data: PairData, tmp_path: Path
) -> None:
    config = tiny_config(steps=400, validate_every=10, patience=3, ema=0.5, learning_rate=5e-3, checkpoint_minutes=1e9)
    fading = Fading(folder / "train", folder / "pairs.parquet", "train")
    scores: dict[int, float] = {}

    def log(step: int, values: dict[str, float]) -> None:
        if "valid_psnr" in values:
            scores[step] = values["valid_psnr"]

    valid = data.pairs("16to64", 2)
    result = Training(config, fading, valid, tmp_path).run(log)
    best = max(scores, key=lambda step: scores[step])
    assert max(scores) == best + 30 < 400
    _, facts = load_generator(result)
    assert facts["provenance"] == {"step": best, "stopped_at": best + 30}
    assert same(weights(result), weights(tmp_path / "best.safetensors"))
    upscaler = Upscaler.load(result, precision="fp32", back_projection=0)
    measured = np.mean([psnr(upscaler([low])[0], truth) for truth, low in valid])
    assert scores[best] == pytest.approx(measured, abs=0.05)
    # run again, it knows that it had ended
    before = result.read_bytes()
    result.unlink()
    assert Training(config, fading, valid, tmp_path).run().read_bytes() == before


def test_the_best_weights_are_kept_beside_the_last(folder: Path, data: PairData, tmp_path: Path) -> None:
    config = tiny_config(steps=80, validate_every=10, ema=0.5, learning_rate=5e-3)
    fading = Fading(folder / "train", folder / "pairs.parquet", "train")
    result = Training(config, fading, data.pairs("16to64", 2), tmp_path).run()
    truth, low = data.pairs("16to64", 1)[0]
    last, best = (
        Upscaler.load(path, precision="fp32", back_projection=0) for path in (result, tmp_path / "best.safetensors")
    )
    assert psnr(best([low])[0], truth) > psnr(last([low])[0], truth) + 1


# other terms and how a run is run


def test_r1_and_consistency_are_logged_and_change_what_is_learned(data: PairData, tmp_path: Path) -> None:
    results = {}
    for name, changes in (("plain", {}), ("r1", {"r1": 10.0}), ("consistency", {"consistency": 5.0})):
        log: dict[str, float] = {}
        config = tiny_config(**ADVERSARIAL, **changes, steps=6, log_every=1)
        results[name] = (
            Training(config, data, [], tmp_path / name)
            .run(lambda _, values, log=log: log.update(values))  # type: ignore[misc]
            .read_bytes()
        )
        assert {"r1", "consistency"} & set(log) == set(changes)
        assert all(log[term] > 0 for term in changes)
    assert len(set(results.values())) == 3


def test_r1_keeps_the_discriminators_slope_on_real_images_small(data: PairData, tmp_path: Path) -> None:
    slopes = {}
    for gamma in (1e-9, 10.0):
        log: list[float] = []
        config = tiny_config(**ADVERSARIAL, r1=gamma, steps=40, log_every=1, checkpoint_minutes=1e9)
        Training(config, data, [], tmp_path / str(gamma)).run(lambda _, values, log=log: log.append(values["r1"]))
        slopes[gamma] = np.mean(log[-10:])
    assert slopes[10.0] < 0.5 * slopes[1e-9]


def test_a_batch_that_cannot_be_cut_evenly_is_refused(data: PairData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch of 2 cannot be shared out over 1 processes in 3 parts"):
        Training(tiny_config(accumulate=3), data, [], tmp_path)


def test_a_compiled_training_learns_the_same(data: PairData, tmp_path: Path) -> None:
    plain, compiled = (
        weights(Training(tiny_config(steps=3, compile=how), data, [], tmp_path / str(how)).run())
        for how in (False, True)
    )
    for name, value in plain.items():
        assert torch.allclose(value, compiled[name], atol=2e-3), name


def test_out_of_memory_says_which_setting_to_lower(
    data: PairData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tiny_config(), data, [], tmp_path)
    # a real refusal of the allocator
    monkeypatch.setattr(Updates, "__call__", lambda *_: torch.empty(1 << 60))
    with pytest.raises(OutOfMemoryError, match=r"lower train\.batch or train\.crop, or raise train\.accumulate"):
        training.run()


def test_the_memory_a_run_needs_is_estimated_near_what_it_takes(data: PairData, tmp_path: Path) -> None:
    config = tiny_config(
        **ADVERSARIAL,
        generator=GeneratorConfig((32,), blocks=0, bottleneck=6, tail="resize", even=9),
        discriminator=DiscriminatorConfig((16, 32), 1),
        batch=32,
        steps=2,
    )
    training = Training(config, data, [], tmp_path)
    batch = data.batch(config.batches, 0)
    training.updates(0, batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        training.updates(1, batch)
    held = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    estimate = needed(config, half=False)
    assert 0.6 * peak < estimate < 1.7 * peak
    assert needed(replace(config, accumulate=4), half=False) < 0.5 * estimate
    assert needed(config, half=True) < 0.8 * estimate


def test_a_run_too_large_for_the_memory_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    need = needed(config, half=False)
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "available", lambda device: need - 1)
    assert "lower train.batch" in (memory.warning(config, cpu, half=False) or "")
    monkeypatch.setattr(memory, "available", lambda device: need + 1)
    assert memory.warning(config, cpu, half=False) is None


def test_validations_ssim_is_that_of_the_report() -> None:
    truth, other = face(1), face(2)
    for result in (truth, other, resize(resize(truth, 16, 16), 64, 64)):
        assert validation.ssim(result, truth) == pytest.approx(metrics.ssim(truth, result), abs=1e-9)
    assert validation.psnr(other, truth) == pytest.approx(metrics.Reference(truth).measure(other)["psnr"], abs=1e-9)


# the stage


SIGTERM_AT_STEP_10 = """
import os, signal
from pipeline.train.live_log import LiveLog
def values(self, step, numbers, log=LiveLog.values):
    log(self, step, numbers)
    if step == 10:
        os.kill(os.getpid(), signal.SIGTERM)
LiveLog.values = values
"""


class StageRun:
    """A stage that got SIGTERM in its first phase, and was then run again to the end."""

    folder: Path
    stopped: subprocess.CompletedProcess[str]
    done: subprocess.CompletedProcess[str]
    before: list[str]
    first: Watch
    second: Watch


@pytest.fixture(scope="module")
def stage_run(tmp_path_factory: pytest.TempPathFactory) -> StageRun:
    run = StageRun()
    run.folder = folder = tmp_path_factory.mktemp("stage")
    train_project(folder, validate_every=1000)
    write_inputs(folder / "data/inputs/test", [face(10, 256)], "test")
    write_inputs(folder / "data/faces", [face(index, 1024) for index in (0,)], "train")
    places = [folder / "data" / name for name in ("faces", "inputs/train", "inputs/valid", "inputs/test", ".")]
    with watch(*places) as run.first:
        run.stopped = run_stage("train", folder, SIGTERM_AT_STEP_10, OMP_NUM_THREADS="1")
    saved = sorted(folder.glob("work/train/*/*/state-*.safetensors"))
    run.before = [path.relative_to(folder).as_posix().split("/", 3)[3] for path in saved]
    with watch(*places) as run.second:
        run.done = run_stage("train", folder, OMP_NUM_THREADS="1")
    return run


def test_sigterm_saves_the_state_and_exits_143(stage_run: StageRun) -> None:
    assert stage_run.stopped.returncode == 143, stage_run.stopped.stderr
    assert stage_run.before == ["fidelity/state-00000010.safetensors"]


def test_the_stage_run_again_resumes_and_leaves_both_generators_and_their_logs(stage_run: StageRun) -> None:
    assert stage_run.done.returncode == 0, stage_run.done.stderr
    folder = stage_run.folder
    for name, steps in (("fidelity", 20), ("realism", 12)):
        generator, facts = load_generator(folder / "models" / f"{name}.safetensors")
        assert generator.config == GeneratorConfig((8,), 0, 1)
        assert facts["provenance"]["step"] == steps
        assert facts["provenance"]["phase"] == name
        assert facts["provenance"]["vgg19"] == "random"
        assert len(facts["provenance"]["data_sha256"]) == len(facts["provenance"]["params_sha256"]) == 64
        metrics = json.loads((folder / "reports/train" / name / "metrics.json").read_text())
        assert metrics["step"] == steps
        assert (folder / f"reports/train/{name}/samples/{steps:06d}.png").exists()
    assert not same(*(weights(folder / f"models/{name}.safetensors") for name in ("fidelity", "realism")))
    assert not list((folder / "work").rglob("*.safetensors"))


def test_the_log_of_the_resumed_stage_has_no_gap(stage_run: StageRun) -> None:
    table = (stage_run.folder / "reports/train/fidelity/plots/metrics/pixel.tsv").read_text().split("\n")[1:]
    steps = [int(line.split("\t")[0]) for line in table if line]
    assert steps == [10, 20]


def test_training_opens_its_inputs_and_manifest_and_no_original(stage_run: StageRun) -> None:
    data = stage_run.folder / "data"
    expected = {data / "inputs/train/train-00000.parquet", data / "inputs/valid/valid-00000.parquet"}
    for seen in (stage_run.first, stage_run.second):
        files = {Path(path) for path in seen.opened if Path(path).suffix == ".parquet"}
        assert files == {*expected, data / "pairs.parquet"}


def test_what_stood_beside_the_stages_data_is_untouched(stage_run: StageRun) -> None:
    names = {name.split("/")[0] for name in files_of(stage_run.folder)}
    assert names == {"data", "models", "reports", "params.yaml"}


def test_a_stage_killed_while_it_publishes_can_be_run_again(stage_run: StageRun, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(stage_run.folder, folder)
    for name in ("models", "reports"):
        shutil.rmtree(folder / name)
    last_moment = "import os, shutil\nshutil.copyfile = lambda *a, **k: os.kill(os.getpid(), 9)\n"
    killed = run_stage("train", folder, last_moment, OMP_NUM_THREADS="1")
    assert killed.returncode == KILLED, killed.stderr
    done = run_stage("train", folder, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    for name in ("fidelity", "realism"):
        made, before = (root / f"models/{name}.safetensors" for root in (folder, stage_run.folder))
        assert made.read_bytes() == before.read_bytes()
        assert (folder / f"reports/train/{name}/metrics.json").is_file()


def test_at_the_scale_of_use_a_generator_learns_to_take_the_damage_away(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "train", [face(index, 64) for index in range(3)], "train")
    noise = ChainRanges(share=1.0, blur_chance=0, noise_chance=1, jpeg_chance=0, noise=(15.0, 15.0), grey_chance=0)
    write_manifest(tmp_path / "pairs.parquet", images, draws=1, chain=noise, of_use=4)
    data = PairData(tmp_path / "train", tmp_path / "pairs.parquet", "train")
    losses: list[float] = []
    told = GeneratorConfig((16,), blocks=0, bottleneck=2, told=("jpeg", "noise"))
    config = tiny_config(generator=told, scales={"256to1024": 1.0}, crop=128, batch=4, steps=120, log_every=1)
    Training(config, data, [], tmp_path / "work").run(lambda _, values: losses.append(values["of_use"]))
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])


def test_results_of_the_averaged_weights_can_be_ground_truths(data: PairData, tmp_path: Path) -> None:
    config = tiny_config(results=1.0, steps=4)
    trained = Training(config, data, [], tmp_path / "a")
    trained.run()
    parts, empty, _ = data.batch(config.batches, 0)
    assert not empty.numel()
    with torch.no_grad():
        trained.updates.generator.to_rgb.bias += 9  # the weights in training are others than the averaged ones
    low, truth = trained.updates.share.pair_of_results(trained.updates.share.to_device(parts), empty.shape[1])
    assert truth.shape == (len(parts), 3, *empty.shape[1:3])
    assert low.shape[2] * 4 == truth.shape[2]
    reduced = torch.nn.functional.interpolate(truth, scale_factor=0.25, mode="bicubic", antialias=True)
    assert (low - reduced.clamp(0, 1)).abs().max() < 0.6 / 255
    # what is learned from is what is seen in the inputs: as bright as they are
    assert abs(float(truth.mean() - trained.updates.share.to_device(parts).mean())) < 0.02


@pytest.fixture
def also_of_use(tmp_path: Path) -> PairData:
    """Few pairs, some of them at the scale of use."""
    images = write_inputs(tmp_path / "train", [face(index, 64) for index in range(3)], "train")
    write_manifest(tmp_path / "pairs.parquet", images, draws=1, of_use=1)
    return PairData(tmp_path / "train", tmp_path / "pairs.parquet", "train")


def test_what_has_directions_is_looked_for_at_the_scale_of_use_alone(also_of_use: PairData, tmp_path: Path) -> None:
    results = {}
    for weight in (0.0, 5.0):
        seen: dict[int, set[str]] = {}
        scales = {"256to1024": 1.0, "16to64": 1.0}
        config = tiny_config(**ADVERSARIAL, isotropy=weight, scales=scales, steps=12, log_every=1)
        training = Training(config, also_of_use, [], tmp_path / f"{weight}")
        results[weight] = training.run(lambda step, values, seen=seen: seen.setdefault(step, set()).update(values))  # type: ignore[misc]
        assert {("of_use" in names, "anisotropy" in names) for names in seen.values()} == {
            (True, weight > 0),
            (False, False),
        }
    assert not same(weights(results[0.0]), weights(results[5.0]))


def test_the_discriminator_learns_of_results_without_ground_truth_that_they_are_not_real(
    also_of_use: PairData, tmp_path: Path
) -> None:
    seen: dict[int, set[str]] = {}
    config = tiny_config(**ADVERSARIAL, scales={"256to1024": 1.0, "16to64": 1.0}, steps=12, log_every=1)
    training = Training(config, also_of_use, [], tmp_path / "work")
    training.run(lambda step, values: seen.setdefault(step, set()).update(values))
    kinds = [("of_use" in names, "discriminator" in names) for names in seen.values()]
    assert set(kinds) == {(True, False), (False, True)}
    assert all("discriminator_gradient_norm" in names for names in seen.values())
    # where it learned nothing, a generator soon draws patterns that it takes for real
    judge = training.updates.discriminator
    assert judge is not None
    result = torch.rand(2, 3, 64, 64)

    def called_real() -> float:
        with torch.no_grad():
            return float(adversarial_loss(judge(result), 0.0))

    before = called_real()
    for parameter in judge.parameters():
        parameter.grad = None
    training.updates.share.judge(judge, result, None)
    with torch.no_grad():
        for parameter in judge.parameters():
            assert parameter.grad is not None
            parameter -= 1e-3 * parameter.grad
    assert called_real() < before
