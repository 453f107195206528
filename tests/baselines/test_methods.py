"""Baselines: ZSSR, the supervised twin, other people's weights and results, and the stage that runs them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import spandrel
import torch
from safetensors.torch import save_file
from support.pictures import face, psnr
from support.stages import ROOT, faces_of, run_stage, write_params
from support.training import write_inputs, write_manifest

from pipeline.baselines import spandrel_network
from pipeline.baselines.finished_results import load_results
from pipeline.baselines.methods import BaselineWorker, MethodDescription
from pipeline.baselines.spandrel_network import NoSpandrelError, load_network
from pipeline.baselines.supervised_twin import NoOriginalsError, SupervisedPairs, train_twin
from pipeline.baselines.zssr import zssr
from pipeline.baselines.zssr_training import (
    CHECK_EVERY,
    DROPS,
    WINDOW,
    Examples,
    Schedule,
    ZssrConfig,
    interpolated,
    turned,
    turned_back,
)
from pipeline.core.degradation import reduce
from pipeline.core.images import encode_png, resize
from pipeline.core.schema import FACES, UPSCALED
from pipeline.core.shards import write_rows
from pipeline.models.checkpoint import load_generator
from pipeline.models.weights_file import ModelError
from pipeline.params.all_sections import load_params
from pipeline.params.read import ParamsError
from pipeline.runtime.units import RowUnit
from pipeline.train.engine.config import BatchConfig
from pipeline.train.engine.loop import DivergedError
from pipeline.upscale.back_projection import back_projected
from pipeline.upscale.measured_inputs import MeasuredInputs

CPU = torch.device("cpu")
TINY = ZssrConfig(scales=(2.0, 4.0), steps=30, layers=2, channels=8, crop=32, precision="fp32")


# ZSSR


def test_zssr_learns_from_the_picture_alone_what_bicubic_lacks() -> None:
    truth = face(3, 256)
    low = reduce(truth)
    config = ZssrConfig(scales=(4.0,), steps=150, layers=3, channels=16, crop=48, precision="fp32", back_projection=0)
    (result,) = zssr([low], ["a"], config)
    assert result.shape == truth.shape
    assert psnr(result, truth) > psnr(resize(low, 256, 256), truth) + 0.7


def test_what_is_enlarged_beside_a_picture_does_not_change_it() -> None:
    lows = [face(index, 32) for index in range(3)]
    together = zssr(lows, ["a", "b", "c"], TINY)
    for low, key, result in zip(lows, "abc", together, strict=True):
        alone = zssr([low], [key], TINY)[0].astype(int)
        assert np.abs(alone - result).max() <= 2
        assert np.abs(alone - result).mean() < 0.02
    assert all(np.array_equal(*pair) for pair in zip(zssr(lows, ["a", "b", "c"], TINY), together, strict=True))


def test_pictures_of_several_sizes_come_back_in_order() -> None:
    sizes = [(20, 32), (32, 20), (20, 32)]
    lows = [face(index, 32)[:height, :width] for index, (height, width) in enumerate(sizes)]
    results = zssr(lows, ["a", "b", "c"], ZssrConfig(**vars(TINY) | {"steps": 2}))
    for low, result in zip(lows, results, strict=True):
        assert result.shape == (4 * low.shape[0], 4 * low.shape[1], 3)
        assert psnr(result, resize(low, *result.shape[:2])) > 25


def test_a_network_that_diverges_is_an_error_that_names_the_picture() -> None:
    with pytest.raises(DivergedError, match="face-7: the network has become NaN"):
        zssr([face(1, 32)], ["face-7"], ZssrConfig(**vars(TINY) | {"learning_rate": 1e30}))
    with pytest.raises(ValueError, match="32x12 is too small"):
        zssr([face(1, 32)[:12]], ["a"], TINY)


def test_sons_are_pillows_reduction_and_come_back_by_its_kernel() -> None:
    # away from black and white, where Pillow clips between its two passes
    picture = (face(5, 64) // 2 + 64).astype(np.uint8)
    father, son = Examples([picture], 4.0, 32, "seed", CPU).pairs[0]
    assert np.array_equal((father * 255).permute(1, 2, 0).numpy().round(), picture)
    assert torch.equal(son, interpolated(reduce(picture), 64, 64, CPU))
    assert np.abs((son * 255).permute(1, 2, 0).numpy() - resize(reduce(picture), 64, 64)).max() <= 1.01


def test_fathers_are_drawn_by_their_size_and_what_was_enlarged_joins_them() -> None:
    small, large = face(1, 128), resize(face(1, 128), 256, 256)
    examples = Examples([small, large], 4.0, 64, "seed", CPU)
    sides = [father.shape[1] for father, _ in examples.pairs]
    assert sides[0] == 128
    assert min(sides) == examples.side == 64
    assert max(sides) == 256
    assert sum(side > 128 for side in sides) == 6
    assert all(side % 4 == 0 for side in sides)
    assert np.allclose(examples.chances, np.array(sides) / sum(sides))


def test_crops_of_father_and_son_show_the_same_place_turned_alike() -> None:
    examples = Examples([face(2, 64)], 2.0, 32, "seed", CPU)
    for _ in range(40):
        father, son = examples.crop()
        assert father.shape == son.shape == (3, 32, 32)
        moved = (father.roll(3, 1) - son).abs().mean()
        assert (father - son).abs().mean() < moved


def test_turning_back_undoes_each_of_the_eight() -> None:
    x = torch.arange(3 * 4 * 5.0).reshape(3, 4, 5)
    views = [turned(x, how) for how in range(8)]
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8
    for how, view in enumerate(views):
        assert torch.equal(turned_back(view, how), x)


def test_the_learning_rate_falls_where_the_error_does_not_and_at_the_latest_by_the_budget() -> None:
    falling = Schedule(10**6)
    for look in range(100):
        falling.look(look * CHECK_EVERY, 1 - look / 100)
    assert falling.drops == 0
    flat = Schedule(10**6)
    random = np.random.default_rng(1)
    for look in range(DROPS * WINDOW):
        assert not flat.ended
        flat.look(look * CHECK_EVERY, 1 + random.normal() / 100)
    assert flat.ended
    late = Schedule(100)
    drops = []
    for step in (0, 59, 60, 84, 85, 99):
        late.look(step, 1 - step / 100)
        drops.append(late.drops)
    assert drops == [0, 0, 1, 1, 2, 2]


def test_back_projection_brings_a_result_to_agree_with_its_input() -> None:
    low = torch.from_numpy(face(1, 32)).permute(2, 0, 1)[None] / 255
    far = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))

    def lacking(result: torch.Tensor) -> float:
        reduced = torch.nn.functional.interpolate(result, size=(32, 32), mode="bicubic", antialias=True)
        return float((reduced - low).abs().mean())

    errors = [lacking(back_projected(far, low, steps)) for steps in (0, 1, 4)]
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 3


# the supervised twin


def smooth(seed: int, side: int) -> np.ndarray:
    return resize(face(seed, 128), side, side)


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training faces at 1024 and one that exists only at 256."""
    folder = tmp_path_factory.mktemp("supervised")
    pictures = [*(smooth(index, 1024) for index in range(3)), smooth(9, 256)]
    images = write_inputs(folder / "data/faces", pictures, "train")
    lows = [picture if picture.shape[0] == 256 else reduce(picture) for picture in pictures]
    rows = faces_of(folder / "data/faces")
    for row, low in zip(rows, lows, strict=True):
        row |= {"image": {"bytes": encode_png(low), "path": row["name"]}, "width": 256, "height": 256}
    write_rows(folder / "data/inputs/train/train-00000.parquet", rows, FACES)
    write_manifest(folder / "data/pairs.parquet", images, {"none": 1.0, "rot90": 1.0, "noise": 1.0})
    return folder


def test_the_twins_pairs_are_originals_and_their_inputs_with_the_crops_of_training(
    supervised: Path, tmp_path: Path
) -> None:
    data = SupervisedPairs(supervised / "data/faces", supervised / "data/pairs.parquet", tmp_path / "canvas.bin")
    assert len(data.index) == 3, "a face without an original is not learned from"
    config = BatchConfig(seed=1, batch=6, crop=128, scale_chances={})
    for step in range(4):
        lows, truths, _ = data.batch(config, step)
        assert (lows.shape, truths.shape) == ((6, 32, 32, 3), (6, 128, 128, 3))
        for low, truth in zip(lows.numpy(), truths.numpy(), strict=True):
            # noise of up to 6 grey levels, and the edges of the crop
            assert np.abs(reduce(truth)[2:-2, 2:-2].astype(int) - low[2:-2, 2:-2]).mean() < 6
    parts = [data.batch(config, 2, slice(start, start + 3)) for start in (0, 3)]
    assert torch.equal(torch.cat([part[1] for part in parts]), data.batch(config, 2)[1])


def test_without_originals_there_is_nothing_to_be_supervised_by(supervised: Path, tmp_path: Path) -> None:
    inputs = supervised / "data/inputs/train"
    with pytest.raises(NoOriginalsError, match="no face of the train split is 1024x1024"):
        SupervisedPairs(inputs, supervised / "data/pairs.parquet", tmp_path / "canvas.bin")
    assert not (tmp_path / "canvas.bin").exists()


def test_a_twin_that_was_stopped_goes_on_where_it_was(supervised: Path, tmp_path: Path) -> None:
    small = "generator={widths: [8], blocks: 0, bottleneck: 1}", "fidelity.steps=4", "crop=64", "batch=2"
    params = load_params(ROOT / "params.yaml", [f"train.{change}" for change in small])
    places = params.train, params.baselines.twin, supervised / "data/faces", supervised / "data/pairs.parquet"
    assert train_twin(*places, tmp_path / "stopped", lambda: True) is None
    assert list((tmp_path / "stopped").glob("state-00000001.safetensors"))
    resumed, whole = train_twin(*places, tmp_path / "stopped"), train_twin(*places, tmp_path / "whole")
    assert resumed is not None
    assert whole is not None
    assert resumed.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "whole/originals.bin").exists()


# other people's weights


def compact(scale: int = 4, seed: int = 0) -> torch.nn.Module:
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(seed)
    return Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=scale).eval()


def direct(network: torch.nn.Module, picture: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        result = network(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255)
    return (result[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_others_give_what_their_network_gives(tmp_path: Path, suffix: str) -> None:
    network, path = compact(), tmp_path / f"peer{suffix}"
    if suffix == ".pth":
        torch.save({"params_ema": network.state_dict()}, path)  # as Real-ESRGAN's files are
    else:
        save_file(network.state_dict(), path)
    picture = face(1, 48)[:40]
    result = load_network(path)(picture)
    assert result.shape == (160, 192, 3)
    assert np.array_equal(result, direct(network, picture))


def test_a_large_picture_goes_through_in_tiles_without_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, path = compact(), tmp_path / "peer.pth"
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(spandrel_network, "TILE", 48)
    picture = face(1, 128)[:100]
    difference = np.abs(load_network(path)(picture).astype(int) - direct(network, picture))
    assert difference.max() <= 1


def test_a_network_with_windows_gets_the_sizes_that_it_needs(tmp_path: Path) -> None:
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    network = SwinIR(
        img_size=64, window_size=8, depths=[2], embed_dim=12, num_heads=[2], mlp_ratio=2, upscale=4,
        upsampler="pixelshuffledirect",
    )  # fmt: skip
    torch.save({"params": network.state_dict()}, tmp_path / "swinir.pth")
    enlarge = load_network(tmp_path / "swinir.pth")
    for height, width in ((30, 45), (5, 33), (64, 64)):
        assert enlarge(face(1, 64)[:height, :width]).shape == (4 * height, 4 * width, 3)


def test_what_is_no_4x_peer_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(compact(2).state_dict(), tmp_path / "two.pth")
    with pytest.raises(ModelError, match=r"two\.pth: RealESRGAN Compact enlarges 2x: not a 4x peer"):
        load_network(tmp_path / "two.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other\.pth: spandrel knows no architecture"):
        load_network(tmp_path / "other.pth")
    network = compact(1)
    restorer = spandrel.ImageModelDescriptor(
        network, network.state_dict(), spandrel.architectures.GFPGAN.GFPGANArch(), "FaceSR", [],
        supports_half=True, supports_bfloat16=True, scale=1, input_channels=3, output_channels=3,
    )  # fmt: skip
    monkeypatch.setattr(spandrel.MAIN_REGISTRY, "load", lambda tensors: restorer)
    with pytest.raises(ModelError, match="GFPGAN restores faces 512x512 → 512x512: not a 4x peer"):
        load_network(tmp_path / "two.pth")


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"no weights at all")
        with pytest.raises(ModelError, match=name):
            load_network(tmp_path / name)
    with pytest.raises(ModelError, match="no such weights file"):
        load_network(tmp_path / "b.pth")


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran"),))


def test_a_pickle_that_would_run_code_is_refused_unrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"params": compact().state_dict(), "more": Evil()}, "evil.pth")
    with pytest.raises(ModelError, match="holds more than tensors and is not loaded"):
        load_network(Path("evil.pth"))
    assert not Path("ran").exists()


def test_without_spandrel_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(NoSpandrelError, match=r"pip install -e '\.\[peers\]'"):
        load_network(tmp_path / "a.pth")


def test_a_generator_of_ours_is_loaded_without_spandrel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    released = ROOT / "pipeline/released/fidelity.safetensors"
    assert load_network(released)(face(1, 24)).shape == (96, 96, 3)


# results made elsewhere, and the worker


def test_results_are_found_by_name_and_a_missing_or_small_one_is_a_row_with_the_reason(tmp_path: Path) -> None:
    pictures = [face(index, 64) for index in range(4)]
    write_inputs(tmp_path / "inputs/test", pictures, "test")
    folder = tmp_path / "results"
    (folder / "256to1024/sub").mkdir(parents=True)
    for index, side in ((0, 256), (1, 256), (2, 200)):
        (folder / f"256to1024/sub/{index}.png").write_bytes(encode_png(face(index, side)))
    methods = {"other": MethodDescription("results", path=str(folder))}
    unit = RowUnit(str(tmp_path / "part.parquet"), 0, 4, "test-00000", "test", "other", "256to1024")
    assert BaselineWorker(MeasuredInputs(str(tmp_path / "inputs")), methods)(unit) == {"images": 4, "failed": 2}
    rows = faces_of(tmp_path)
    assert [set(row) for row in rows] == [set(UPSCALED.names)] * 4
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "failed"]
    assert rows[2]["error"] == "2.png: the result is 200x200, not four times its input"
    assert rows[3]["error"].endswith("has no picture called 3")
    with pytest.raises(ModelError, match="no folder 64to256"):
        load_results(folder, "64to256")
    with pytest.raises(ModelError, match="no folder 256to1024"):
        load_results(tmp_path / "nowhere", "256to1024")


def test_a_truncated_input_is_a_row_and_the_rest_is_enlarged(tmp_path: Path) -> None:
    write_inputs(tmp_path / "test", [face(index, 64) for index in range(3)], "test")
    rows = faces_of(tmp_path / "test")
    rows[1]["image"]["bytes"] = rows[1]["image"]["bytes"][:200]
    write_rows(tmp_path / "test/test-00000.parquet", rows, FACES)
    options = vars(TINY) | {"steps": 2}
    unit = RowUnit(str(tmp_path / "part.parquet"), 0, 3, "test-00000", "test", "zssr", "256to1024")
    BaselineWorker(MeasuredInputs(str(tmp_path)), {"zssr": MethodDescription("zssr", options)})(unit)
    done = faces_of(tmp_path)
    assert [row["status"] for row in done] == ["ok", "failed", "ok"]
    assert "truncated" in done[1]["error"]
    assert (done[0]["width"], done[0]["method"], done[0]["scale"]) == (256, "zssr", "256to1024")


# the stage


SMALL = {"scales": [4.0], "steps": 2, "layers": 1, "channels": 4, "crop": 32, "ensemble": False, "precision": "fp32"}


def test_the_stage_trains_the_twin_and_says_where_each_method_comes_from(supervised: Path) -> None:
    write_inputs(supervised / "data/inputs/test", [smooth(7, 256)], "test")
    write_inputs(supervised / "data/faces", [smooth(7, 1024)], "test")
    torch.save(compact().state_dict(), supervised / "peer.pth")
    settings = {"methods": ["zssr", "twin"], "weights": {"peer": "peer.pth"}, "zssr": SMALL, "workers": 1}
    train = {"generator": {"widths": [8], "blocks": 0, "bottleneck": 1}, "crop": 64, "batch": 2}
    write_params(supervised, baselines=settings | {"twin": {"steps": 2}}, train=train)
    done = run_stage("baselines", supervised)
    assert done.returncode == 0, done.stderr
    told = json.loads((supervised / "data/baselines/methods.json").read_text())
    assert list(told) == ["peer", "twin", "zssr"]
    for method in told:
        assert told[method]["reason"] is None
        for scale, side in (("64to256", 256), ("256to1024", 1024)):
            (row,) = faces_of(supervised / "data/baselines" / method / scale)
            assert (row["status"], row["width"], row["model"]) == ("ok", side, told[method]["model"])
    _, facts = load_generator(supervised / "models/baselines/twin.safetensors")
    assert facts["sha256"] == told["twin"]["model"]
    assert facts["provenance"]["supervised_by"] == "3 originals of 1024x1024"
    assert not (supervised / "work/baselines").is_dir() or not list((supervised / "work/baselines").iterdir())


def test_a_train_split_without_originals_leaves_the_twin_out_with_the_reason(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "data/faces", [smooth(1, 256)], "train")
    write_manifest(tmp_path / "data/pairs.parquet", images)
    for split, seed in (("train", 1), ("test", 2)):
        write_inputs(tmp_path / "data/inputs" / split, [smooth(seed, 256)], split)
    write_inputs(tmp_path / "data/faces", [smooth(2, 256)], "test")
    write_params(tmp_path, baselines={"methods": ["twin"], "workers": 1})
    done = run_stage("baselines", tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "data/baselines/methods.json").read_text())
    assert told["twin"]["reason"] == "data/faces: no face of the train split is 1024x1024"
    assert "no results of twin" in done.stderr
    assert not (tmp_path / "data/baselines/twin").exists()


def test_params_refuse_names_that_are_taken_and_factors_that_do_not_end_at_4(tmp_path: Path) -> None:
    for values, said in (
        ({"weights": {"facesr": "a.pth"}}, "'facesr': a method's name"),
        ({"results": {"../up": "a"}}, "a method's name"),
        ({"weights": {"a": "a.pth"}, "results": {"a": "a"}}, "named as weights and as results"),
        ({"zssr": {"scales": [2.0, 3.0]}}, "the last must be 4"),
    ):
        write_params(tmp_path, baselines=values)
        with pytest.raises(ParamsError, match=said):
            load_params(tmp_path / "params.yaml")
