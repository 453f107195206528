"""The untrained generator is bicubic, a file alone rebuilds it, and it enlarges pictures of any size without seams."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.pictures import face, psnr

from pipeline.core.images import resize
from pipeline.models.checkpoint import interpolate, load_generator, save_generator
from pipeline.models.config import DiscriminatorConfig, GeneratorConfig
from pipeline.models.degrid import degrid, degrid_shuffled, shuffled
from pipeline.models.device import choose_precision
from pipeline.models.fused import is_fused
from pipeline.models.networks import Discriminator, Generator, enlarge
from pipeline.models.weights_file import ModelError
from pipeline.upscale.upscaler import Upscaler
from pipeline.upscale.weights import NoModelError

pytestmark = pytest.mark.usefixtures("fixed_threads")

PLAIN = GeneratorConfig((8,), blocks=0, bottleneck=2)
DEEP = GeneratorConfig((8, 12), blocks=1, bottleneck=1)
THREE = GeneratorConfig((4, 6, 8), blocks=1, bottleneck=1)
DEEPEST = GeneratorConfig((4, 6, 8, 8), blocks=1, bottleneck=1)
INSTANCE = GeneratorConfig((8, 12), blocks=1, bottleneck=1, norm="instance")
RESIZE = GeneratorConfig((12,), blocks=0, bottleneck=2, tail="resize")
EVEN = GeneratorConfig((8,), blocks=0, bottleneck=2, even=9)
ZERO = GeneratorConfig((8, 12), blocks=1, bottleneck=2, residual="zero")
ALL = {
    "plain": PLAIN,
    "residuals from zero": ZERO,
    "evened": EVEN,
    "resizing tail": RESIZE,
    "two levels": DEEP,
    "four levels": DEEPEST,
    "instance norm": INSTANCE,
}


def lively(config: GeneratorConfig, seed: int = 0) -> Generator:
    """A generator whose last layer is not zero, as after training: what it draws depends on all it sees."""
    torch.manual_seed(seed)
    generator = Generator(config).eval()
    torch.nn.init.normal_(generator.to_rgb.weight, std=0.02)
    return generator


def upscaler(generator: Generator, **options: object) -> Upscaler:
    return Upscaler(generator, {}, **{"precision": "fp32", **options})


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


def soft(seed: int, side: int) -> np.ndarray:
    """A picture whose edges do not overshoot the range: Pillow rounds and clips between its two passes."""
    return (64 + face(seed, side) / 2).astype(np.uint8)


@pytest.mark.parametrize("config", ALL.values(), ids=ALL)
def test_an_untrained_generator_is_bicubic(config: GeneratorConfig) -> None:
    low = soft(1, 64)
    (result,) = upscaler(Generator(config).eval())([low])
    assert difference(result, resize(low, 256, 256)) <= 1


def test_the_skip_is_pillows_bicubic_and_not_torchs_own() -> None:
    low = soft(2, 32)
    x = torch.from_numpy(low).permute(2, 0, 1)[None].float() / 255
    theirs = resize(low, 128, 128)

    def pixels(result: torch.Tensor) -> np.ndarray:
        return (result[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    assert difference(pixels(enlarge(x)), theirs) <= 1
    other = torch.nn.functional.interpolate(x, scale_factor=4, mode="bicubic")
    assert difference(pixels(other), theirs) > 5


@pytest.mark.parametrize("config", ALL.values(), ids=ALL)
def test_a_file_alone_rebuilds_the_generator(config: GeneratorConfig, tmp_path: Path) -> None:
    generator = lively(config)
    save_generator(tmp_path / "g.safetensors", generator, config, {"step": 7, "data": "abc"}, torch.float32)
    rebuilt, facts = load_generator(tmp_path / "g.safetensors")
    assert rebuilt.config == config
    assert not rebuilt.training
    assert facts["provenance"] == {"step": 7, "data": "abc"}
    low = [face(3, 32)]
    assert (upscaler(rebuilt)(low)[0] == upscaler(generator)(low)[0]).all()


def test_the_config_lies_in_the_files_metadata_as_json(tmp_path: Path) -> None:
    save_generator(tmp_path / "g.safetensors", Generator(DEEP), DEEP, {}, torch.float16)
    with safe_open(tmp_path / "g.safetensors", "pt") as file:
        assert GeneratorConfig.from_dict(json.loads(file.metadata()["config"])) == DEEP


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widths": ()}, "1 to 4 positive"),
        ({"widths": (8, 8, 8, 8, 8)}, "1 to 4 positive"),
        ({"widths": (8, 0)}, "1 to 4 positive"),
        ({"norm": "batch"}, "norm must be one of"),
        ({"residual": "small"}, "residual must be one of"),
        ({"tail": "deconvolution"}, "tail must be one of"),
        ({"even": 4}, "even must be 0 or an odd number"),
        ({"told": ("blur",)}, "told must be empty or"),
        ({"attention": True}, "unknown generator setting"),
    ],
)
def test_a_config_that_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorConfig.from_dict(values)


def test_the_resizing_tail_cannot_draw_a_grid_on_an_even_area() -> None:
    even = np.full((48, 48, 3), 117, np.uint8)
    inner = {
        name: upscaler(lively(config))([even])[0][64:-64, 64:-64].reshape(-1, 3)
        for name, config in (("shuffle", PLAIN), ("resize", RESIZE))
    }
    assert (inner["resize"] == inner["resize"][0]).all()
    assert not (inner["shuffle"] == inner["shuffle"][0]).all()


def test_a_grid_of_period_four_is_taken_out_and_nothing_else() -> None:
    detail = torch.from_numpy(face(3, 128)).permute(2, 0, 1)[None].float() / 255
    smooth = torch.nn.functional.interpolate(detail, scale_factor=4, mode="bicubic")
    grid = torch.zeros(1, 3, 512, 512)
    grid[..., ::4, 1::4] = 0.3
    inner = (..., slice(48, -48), slice(48, -48))
    left = (degrid(smooth + grid, 9) - degrid(smooth, 9))[inner]
    assert left.std() < 1e-3 * grid.std()
    # what is not tied to the grid stays: a picture nearly, a slope exactly
    assert (degrid(smooth, 9) - smooth)[inner].abs().mean() < 0.02 * grid.std()
    slope = torch.linspace(0, 1, 512).expand(1, 3, 512, 512)
    assert torch.allclose(degrid(slope, 9)[inner], slope[inner], atol=1e-6)


def test_in_bf16_the_grid_is_taken_out_to_a_small_part_of_a_grey_level() -> None:
    torch.manual_seed(0)
    detail = (0.1 * torch.randn(2, 48, 24, 40)).bfloat16().contiguous(memory_format=torch.channels_last)
    grid = torch.zeros(1, 48, 1, 1)
    grid[:, 5] = 0.03
    detail = (detail + grid).bfloat16()
    with torch.inference_mode():
        found, expected = degrid_shuffled(detail, 9), degrid_shuffled(detail.float(), 9)
    in_training = degrid_shuffled(detail.requires_grad_(), 9).detach()
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1 / 255
    assert (in_training - expected).abs().max() < 0.2 / 255  # of detail several times as strong as what is drawn
    assert (found - shuffled(detail.float())).abs().max() > 1 / 255


def test_weights_written_before_there_were_tails_still_load(tmp_path: Path) -> None:
    config = {"widths": [8], "blocks": 0, "bottleneck": 2, "norm": "none"}
    assert GeneratorConfig.from_dict(config) == PLAIN


@pytest.mark.parametrize("config", [PLAIN, RESIZE], ids=["plain", "resizing tail"])
def test_sums_that_are_not_divided_give_the_same_pictures(config: GeneratorConfig) -> None:
    scaled = lively(replace(config, bottleneck=5))
    for block in scaled.bottleneck:
        torch.nn.init.normal_(block.first.bias, std=0.1)
        torch.nn.init.normal_(block.second.bias, std=0.1)
    before = {name: value.clone() for name, value in scaled.state_dict().items()}
    plain, low = scaled.with_plain_sums(), torch.rand(1, 3, 24, 32)
    assert plain.bottleneck.is_plain
    assert not scaled.bottleneck.is_plain
    with torch.inference_mode():
        assert (scaled(low) - enlarge(low)).abs().max() > 0.01
        assert torch.allclose(plain(low), scaled(low), atol=1e-5)
    # what is trained and written is not changed
    assert all(torch.equal(value, before[name]) for name, value in scaled.state_dict().items())


@pytest.mark.parametrize("config", [DEEP, INSTANCE, ZERO], ids=["two levels", "instance norm", "residuals from zero"])
def test_where_plain_sums_cannot_be_had_or_are_there_already_the_network_stays(config: GeneratorConfig) -> None:
    generator = lively(config)
    assert generator.with_plain_sums() is generator


def test_convolutions_fused_with_what_follows_give_what_blocks_give_and_leave_their_input_alone() -> None:
    chain = lively(replace(PLAIN, widths=(32,), bottleneck=4)).with_plain_sums().bottleneck.bfloat16()
    for block in chain:
        torch.nn.init.normal_(block.first.bias, std=0.1)
        torch.nn.init.normal_(block.second.bias, std=0.1)
    x = torch.randn(2, 32, 21, 34).bfloat16().contiguous(memory_format=torch.channels_last)
    given = x.clone()
    with torch.inference_mode():
        if not is_fused(x, chain[0].first):
            pytest.skip("oneDNN has no such operators for this processor")
        one_by_one, exact = x, x.float()
        for block in chain:
            one_by_one = block(one_by_one)
        for block in deepcopy(chain).float():
            exact = block(exact)
        fused = chain(x)
        assert torch.equal(x, given)
        assert torch.equal(chain(x[1:].contiguous(memory_format=torch.channels_last)), fused[1:])
    assert (fused - exact).abs().mean() <= (one_by_one - exact).abs().mean() < 0.02 * exact.abs().mean()
    assert chain(x).requires_grad  # the way with gradients is another


def test_residual_branches_that_start_at_zero_change_nothing_and_learn() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 12, 16, 16)
    assert torch.equal(Generator(ZERO).bottleneck(features), features)
    scaled = Generator(replace(ZERO, residual="scaled"))
    assert (scaled.bottleneck(features) - features).abs().mean() > 0.5
    generator, low, high = Generator(ZERO), torch.rand(2, 3, 16, 16), torch.rand(2, 3, 64, 64)
    optimiser = torch.optim.SGD(generator.parameters(), lr=0.5)
    for _ in range(3):  # what is before a zero learns when that has learned
        optimiser.zero_grad()
        (generator(low) - high).square().mean().backward()
        optimiser.step()
    still = [name for name, parameter in generator.named_parameters() if not parameter.grad.any()]
    assert still == []


# any size


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (16, 16), (17, 31), (40, 300)])
@pytest.mark.parametrize("config", [DEEP, INSTANCE], ids=["two levels", "instance norm"])
def test_pictures_of_any_size_become_four_times_larger(config: GeneratorConfig, size: tuple[int, int]) -> None:
    low = face(4, 300)[: size[0], : size[1]]
    (result,) = upscaler(lively(config), tile=64)([low])
    assert result.shape == (4 * size[0], 4 * size[1], 3)
    assert result.dtype == np.uint8
    # still that picture: nothing shifted, no channel swapped, no tile out of place
    assert np.abs(resize(np.ascontiguousarray(result), *size).astype(float) - low).mean() < 15


@pytest.mark.parametrize(
    "config", [PLAIN, EVEN, RESIZE, DEEP, THREE], ids=["plain", "evened", "resizing", "two", "three"]
)
@pytest.mark.parametrize("size", [(65, 129), (100, 70)])
def test_tiles_give_what_the_whole_picture_gives(config: GeneratorConfig, size: tuple[int, int]) -> None:
    generator = lively(config)
    low = [face(5, 200)[: size[0], : size[1]]]
    (whole,) = upscaler(generator, tile=512)(low)
    (tiled,) = upscaler(generator, tile=64)(low)
    (small,) = upscaler(generator, tile=32)(low)
    assert difference(tiled, whole) <= 1
    assert difference(small, whole) <= 1
    assert difference(whole, resize(low[0], *whole.shape[:2])) > 5  # the network did draw something


@pytest.mark.parametrize("config", [PLAIN, DEEP, THREE], ids=["plain", "two levels", "three levels"])
def test_what_lies_beyond_the_reach_changes_nothing(config: GeneratorConfig) -> None:
    generator = lively(config)
    step = generator.multiple
    side = 2 * (generator.reach + 2 * step) // 16 * 16 + 32
    for here in (side // 2, side // 2 + step - 1):  # both ends of a cell of the coarsest grid
        x = torch.rand(1, 3, side, side, requires_grad=True)
        block = generator(x)[..., 4 * here : 4 * here + 4, 4 * here : 4 * here + 4]
        (gradient,) = torch.autograd.grad(block.sum(), x)
        rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
        nearest, furthest = int(rows.min()), int(rows.max())
        assert max(here - nearest, furthest - here) <= generator.reach
        # the bound is not idle: most of it is used, and the picture is large enough to show it
        assert max(here - nearest, furthest - here) > generator.reach // 2
        assert nearest > 0
        assert furthest < side - 1


@pytest.mark.parametrize("config", [PLAIN, DEEP], ids=["plain", "two levels"])
def test_a_far_pixel_cannot_change_the_result(config: GeneratorConfig) -> None:
    generator = lively(config)
    low = face(6, 96)
    changed = low.copy()
    changed[0, 0] = 255 - changed[0, 0]
    before, after = (upscaler(generator)([picture])[0] for picture in (low, changed))
    reach = 4 * (generator.reach + 1)
    assert difference(before[reach:], after[reach:]) == 0
    assert difference(before[:, reach:], after[:, reach:]) == 0
    assert difference(before[:8, :8], after[:8, :8]) > 5


def test_with_instance_norm_tiles_differ_from_the_whole_by_less_than_the_network_adds() -> None:
    generator = lively(INSTANCE)
    low = face(7, 100)
    (whole,) = upscaler(generator)([low])
    (tiled,) = upscaler(generator, tile=64)([low])
    assert psnr(tiled, whole) > psnr(resize(low, 400, 400), whole) + 3


def test_a_batch_gives_what_its_pictures_give_alone() -> None:
    generator = lively(DEEP)
    low = [face(seed, 48) for seed in range(3)]
    together = upscaler(generator)(low)
    assert len(together) == 3
    for picture, result in zip(low, together, strict=True):
        assert difference(upscaler(generator)([picture])[0], result) <= 1


def test_back_projection_makes_the_result_agree_with_its_input() -> None:
    generator = lively(PLAIN)
    low = face(8, 48)

    def disagreement(times: int) -> float:
        (result,) = upscaler(generator, back_projection=times)([low])
        return float(np.abs(resize(result, 48, 48).astype(float) - low).mean())

    assert disagreement(3) < 0.5 * disagreement(0)


def test_low_precision_gives_nearly_the_same_picture() -> None:
    low = [face(9, 48)]
    exact = upscaler(lively(DEEP))(low)[0]
    rough = upscaler(lively(DEEP), precision="bf16")(low)[0]
    assert psnr(exact, rough) > 35
    with pytest.raises(ValueError, match="auto, bf16 or fp32"):
        choose_precision("fp8", torch.device("cpu"))


# mixing


def test_weights_half_way_between_two_generators_are_their_mean() -> None:
    low, high = lively(DEEP, 1), lively(DEEP, 2)
    half = interpolate(low, high, 0.5).state_dict()
    for name, value in low.state_dict().items():
        assert torch.allclose(half[name], (value + high.state_dict()[name]) / 2)
    for share, end in ((0.0, low), (1.0, high)):
        mixed = interpolate(low, high, share).state_dict()
        assert all(torch.equal(mixed[name], value) for name, value in end.state_dict().items())
    with pytest.raises(ModelError, match="one architecture"):
        interpolate(low, Generator(PLAIN), 0.5)


def test_realism_mixes_two_files_and_says_so(tmp_path: Path) -> None:
    for name, seed in (("fidelity", 1), ("realism", 2)):
        save_generator(tmp_path / name, lively(PLAIN, seed), PLAIN, {}, torch.float32)
    fidelity, realism = tmp_path / "fidelity", tmp_path / "realism"
    low = [face(1, 32)]
    options = {"precision": "fp32", "back_projection": 0}
    ends = [Upscaler.load(path, **options)(low)[0] for path in (fidelity, realism)]
    assert difference(*ends) > 5
    assert (Upscaler.load(fidelity, realism, 0.0, **options)(low)[0] == ends[0]).all()
    assert (Upscaler.load(fidelity, realism, 1.0, **options)(low)[0] == ends[1]).all()
    half = Upscaler.load(fidelity, realism, 0.5, **options)
    assert difference(half(low)[0], ends[0]) > 1
    assert "0.5" in half.metadata["sha256"]
    with pytest.raises(ValueError, match="between 0 and 1"):
        Upscaler.load(fidelity, realism, 1.5)
    with pytest.raises(NoModelError, match=r"realism\.safetensors"):
        Upscaler.load(fidelity, None, 0.5)


# files that cannot be used


def test_a_weights_file_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    save_generator(good, Generator(PLAIN), PLAIN, {}, torch.float16)
    data = good.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with safe_open(good, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({"to_rgb.bias": tensors["to_rgb.bias"]}, tmp_path / "few.safetensors", metadata)
    newer = {**metadata, "config": json.dumps({"widths": [8], "attention": True})}
    save_file(tensors, tmp_path / "newer.safetensors", newer)
    reasons = {
        "missing": "no such weights file",
        "cut": "not a readable safetensors",
        "text": "not a readable safetensors",
        "empty": "not a readable safetensors",
        "other": "not a generator written by facesr",
        "few": "Missing key",
        "newer": "unknown generator setting",
    }
    for name, reason in reasons.items():
        path = tmp_path / f"{name}.safetensors"
        with pytest.raises(ModelError, match=reason) as raised:
            load_generator(path)
        assert str(path) in str(raised.value)


def test_weights_that_are_not_finite_or_oddly_described_are_refused_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    save_generator(good, Generator(DEEP), DEEP, {}, torch.float16)
    with safe_open(good, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for value in (float("nan"), float("inf")):
        broken = {name: tensor.clone() for name, tensor in tensors.items()}
        broken["to_rgb.weight"].view(-1)[5] = value
        save_file(broken, tmp_path / "broken.safetensors", metadata)
        with pytest.raises(ModelError, match=r"broken\.safetensors: 1 of its tensors hold NaN .* take other weights"):
            load_generator(tmp_path / "broken.safetensors")
    absurd = {"widths": [10**7, 10**7], "blocks": 1, "bottleneck": 1}
    odd = [{**metadata, "config": text} for text in ("", "[]", "null", "3", '{"widths": 1}', '{"widths": [1e999]}')]
    odd += [{**metadata, "config": json.dumps(value)} for value in (absurd, {"blocks": 10**12}, {"blocks": "x"})]
    odd += [{**metadata, "provenance": text} for text in ("", "[]", "null", "{")]
    odd += [{"format": metadata["format"], key: metadata[key]} for key in ("config", "provenance")]
    odd += [{"state": text} for text in ("", "[]", "null", "3", '{"config": 3}', '{"config": {}, "provenance": 3}')]
    for described in odd:
        save_file(tensors, tmp_path / "odd.safetensors", described)
        with pytest.raises(ModelError, match=r"odd\.safetensors: ") as raised:
            load_generator(tmp_path / "odd.safetensors")
        assert "\n" not in str(raised.value), described
        assert len(str(raised.value)) < 800, described


def test_a_pickle_is_refused_and_what_it_holds_is_not_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (marker,)

    torch.save({"weights": Evil()}, tmp_path / "evil.safetensors")
    with pytest.raises(ModelError, match=r"evil\.safetensors: not a readable safetensors file"):
        load_generator(tmp_path / "evil.safetensors")
    assert not marker.exists()
    (tmp_path / "evil.safetensors").rename(tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert marker.exists()  # a careless reader would have run it


# discriminator


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_discriminator_gives_a_map_of_verdicts_per_scale(scales: int, spectral_norm: bool) -> None:
    discriminator = Discriminator(DiscriminatorConfig((4, 6, 8), scales, spectral_norm))
    verdicts = discriminator(torch.rand(2, 3, 64, 64))
    # halved once per width after the first, and once per scale
    assert [tuple(verdict.shape) for verdict in verdicts] == [
        (2, 1, 16 >> scale, 16 >> scale) for scale in range(scales)
    ]
    assert all(verdict.isfinite().all() for verdict in verdicts)


def test_verdicts_are_local() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorConfig((4, 6), 1)).eval()
    picture = torch.rand(1, 3, 64, 64)
    changed = picture.clone()
    changed[..., :8, :8] = 1 - changed[..., :8, :8]
    (before,), (after,) = discriminator(picture), discriminator(changed)
    assert not torch.equal(before[..., :4, :4], after[..., :4, :4])
    assert torch.equal(before[..., 16:, 16:], after[..., 16:, 16:])


def test_a_generator_that_is_told_nothing_takes_its_input_for_clean() -> None:
    generator = lively(GeneratorConfig((8,), blocks=0, bottleneck=1, told=("jpeg", "noise")))
    x = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(generator(x), generator(x, torch.zeros(2, 2)))
        assert not torch.equal(generator(x)[1], generator(x, torch.tensor([[0.0, 0.0], [0.7, 0.0]]))[1])
        assert torch.equal(generator(x)[0], generator(x, torch.tensor([[0.0, 0.0], [0.7, 0.0]]))[0])


def test_a_blind_generator_does_not_hear_what_it_is_told() -> None:
    generator = lively(GeneratorConfig((8,), blocks=0, bottleneck=1))
    x = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(generator(x), generator(x, torch.ones(1, 2)))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (16, 20)])
def test_the_gradient_through_degrid_says_how_much_each_pixel_counts(height, width):
    detail = torch.rand(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, height, width, dtype=torch.float64)
    (degrid(detail, 9) * weights).sum().backward()
    # it is linear: its transpose is seen by how much each pixel counts
    step = torch.rand_like(detail)
    with torch.no_grad():
        moved = ((degrid(detail + step, 9) - degrid(detail, 9)) * weights).sum()
    assert torch.allclose((detail.grad * step).sum(), moved, rtol=1e-9)
