"""Convolutions by Winograd's algorithm are the plain ones to float32's precision, whoever shares the work."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support.stages import python
from torch import Tensor

from pipeline.models import convolution
from pipeline.models.config import GeneratorConfig
from pipeline.models.convolution import Convolution, layout
from pipeline.models.networks import Generator

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def winograd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a processor with AVX2 alone, and with as many threads afterwards as before."""
    if not torch.backends.nnpack.is_available():
        pytest.skip("torch was built without NNPACK, or this processor lacks AVX2")
    monkeypatch.setattr(convolution, "_has_only_avx2", lambda: True)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def exactly(x: Tensor, module: Convolution) -> Tensor:
    """The convolution in float64."""
    bias = None if module.bias is None else module.bias.double()
    return F.conv2d(x.double(), module.weight.double(), bias, padding=1)


@pytest.mark.parametrize(
    "shape", [(1, 24, 40, 40), (3, 32, 41, 67), (2, 64, 100, 16), (1, 24, 7, 400), (5, 24, 400, 5)]
)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_are_those_of_the_plain_convolution(shape: tuple[int, ...], threads: int) -> None:
    torch.manual_seed(0)
    module, x = Convolution(shape[1], 20), torch.randn(shape)
    torch.set_num_threads(threads)
    with torch.inference_mode():
        found = module(x)
    expected = exactly(x, module)
    assert not torch.equal(found, F.conv2d(x, module.weight, module.bias, padding=1))  # it is another algorithm
    assert (found - expected).abs().max() < 3e-5 * expected.abs().max()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    module, x = Convolution(24, 24), torch.randn(2, 24, 83, 50)
    results = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        with torch.no_grad():
            results += [module(x), torch.cat([module(one) for one in x.split(1)])]
        assert torch.get_num_threads() == threads
    assert all(torch.equal(results[0], other) for other in results)


WITHOUT_A_THREAD = """
import threading
import torch
from pipeline.models.convolution import threads_of_one_core
start, begun = threading.Thread.start, []
def refuse(self):
    begun.append(self)
    if len(begun) == 3:
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = refuse
torch.set_num_threads(4)
try:
    threads_of_one_core(4)
except RuntimeError as error:
    print(error, torch.get_num_threads())
threading.Thread.start = start
print(list(threads_of_one_core(4).map(lambda _: torch.get_num_threads(), range(4))))
"""


def test_where_the_system_lets_no_more_threads_start_that_is_an_error_and_nothing_waits_for_them(
    tmp_path: Path,
) -> None:
    done = python(WITHOUT_A_THREAD, tmp_path, timeout=60)
    assert done.stdout.splitlines() == ["can't start new thread 4", "[1, 1, 1, 1]"], done.stderr
    assert done.returncode == 0


FROM_MANY_THREADS = """
import threading
import torch
from pipeline.models import convolution
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.upscale.array_upscaler import ArrayUpscaler
convolution._has_only_avx2 = lambda: True
torch.set_num_threads(4)
upscaler = ArrayUpscaler(Generator(GeneratorConfig((24,), bottleneck=1)), {}, precision="fp32")
together, seen = threading.Barrier(8), []
def enlarge():
    together.wait()
    upscaler.generator(torch.zeros(1, 3, 48, 48))
    seen.append(torch.get_num_threads())
threads = [threading.Thread(target=enlarge) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(seen, convolution._pool.cache_info().misses)
"""


def test_threads_that_begin_at_once_keep_their_number_and_share_one_pool(tmp_path: Path) -> None:
    done = python(FROM_MANY_THREADS, tmp_path, timeout=60)
    assert done.stdout == "[4, 4, 4, 4, 4, 4, 4, 4] 1\n", done.stderr


def test_gradients_are_those_of_the_plain_convolution_and_have_gradients_themselves() -> None:
    torch.manual_seed(0)
    module, x = Convolution(32, 24), torch.randn(2, 32, 40, 44, requires_grad=True)
    weights = torch.randn(2, 24, 40, 44)
    found = []
    for call in (module, lambda x: exactly(x, module).float()):
        asked = (x, module.weight, module.bias)
        (first,) = torch.autograd.grad((call(x).square() * weights).sum(), x, create_graph=True)
        penalty = first.square().mean()
        found.append([first, *torch.autograd.grad(penalty, asked)])
        found[-1] += torch.autograd.grad((call(x) * weights).sum(), asked)
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_frozen_weights_get_no_gradient_and_a_constant_input_none() -> None:
    module, x = Convolution(24, 24), torch.randn(1, 24, 40, 40)
    module(x).sum().backward()
    assert x.grad is None
    assert module.weight.grad is not None
    module.requires_grad_(False).weight.grad = None
    x.requires_grad_(True)
    module(x).sum().backward()
    assert x.grad is not None
    assert module.weight.grad is None


@pytest.mark.parametrize("what", ["channels-last", "few channels", "small", "float64", "bf16", "autocast"])
def test_what_gains_nothing_is_left_to_the_plain_convolution(what: str) -> None:
    torch.manual_seed(0)
    module = Convolution(8 if what == "few channels" else 32, 32)
    x = torch.randn(1, module.in_channels, *((16, 16) if what == "small" else (48, 48)))
    if what == "channels-last":
        x = x.contiguous(memory_format=torch.channels_last)
    kind = {"float64": torch.float64, "bf16": torch.bfloat16}.get(what, torch.float32)
    module, x = module.to(kind), x.to(kind)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=what == "autocast"):
        assert torch.equal(module(x), F.conv2d(x, module.weight, module.bias, padding=1))


def test_where_nnpack_fails_the_plain_convolution_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module, x = Convolution(24, 24), torch.randn(1, 24, 48, 48)

    def failing(*arguments: object) -> Tensor:
        raise RuntimeError("NNPACK SpatialConvolution_updateOutput failed")

    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", failing)
    torch.set_num_threads(1)
    with torch.no_grad():
        assert torch.equal(module(x), F.conv2d(x, module.weight, module.bias, padding=1))


def test_a_generator_lies_contiguous_in_float32_with_avx2_alone_and_else_channels_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert layout(CPU, torch.float32) is torch.contiguous_format
    assert layout(CPU, torch.bfloat16) is torch.channels_last
    assert layout(torch.device("cuda"), torch.float32) is torch.channels_last
    monkeypatch.setattr(convolution, "_has_only_avx2", lambda: False)
    assert layout(CPU, torch.float32) is torch.channels_last


def test_a_generator_draws_the_same_picture_either_way() -> None:
    torch.manual_seed(0)
    network = Generator(GeneratorConfig(widths=(32,), bottleneck=3, even=9)).eval()
    torch.nn.init.kaiming_normal_(network.to_rgb.weight)
    x = torch.rand(1, 3, 70, 90)
    with torch.inference_mode():
        by_winograd = network(x.contiguous(memory_format=torch.channels_last))  # images are laid as the weights are
        plainly = network.to(memory_format=torch.channels_last)(x)
    assert not torch.equal(by_winograd, plainly)
    assert (by_winograd - plainly).abs().max() < 1e-5 * plainly.abs().max()
