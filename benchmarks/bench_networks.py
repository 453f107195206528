"""One forward pass of the generator: precision, engine, peers beside it, and how far all are from the machine's limits.

python benchmarks/bench_networks.py                                              # small and short
python benchmarks/bench_networks.py --side 256 --rounds 9 --json networks.json
python benchmarks/bench_networks.py --model models/fidelity.safetensors --peers FOLDER --device cuda

Every case runs once a round, in an order drawn anew, so that what else the machine does falls on all; the table has
medians and the quartiles around them. Engines: torch as it is (contiguous and channels-last), torch.compile where there
is a compiler, ONNX Runtime and OpenVINO where they are installed (`pip install onnx onnxruntime openvino`). Peers are
architectures with random weights, since time does not depend on them, from spandrel: SRVGG-32 (Real-ESRGAN's small
one), RRDBNet, SwinIR; and the networks in `--peers` that make RGB four times larger: TorchScript (*.pt) and, where ncnn
is installed (`pip install ncnn`), its own (*.param beside *.bin).

GFLOP: two for a multiply-add, counted by torch. MB: weights, inputs and outputs of every operator, as torch runs them
one by one. Of the machine: a matrix product of 2048x2048 in that precision, and a copy (read and written). `floor` is
the longer of GFLOP at the product's rate and of the least traffic (weights, input and result once) at the copy's
rate; `x` is the median over it. `cpu ms` is processor time of all threads, `ratio` that of a case over that of our
network as `facesr upscale` runs it (channels-last; contiguous, by Winograd's algorithm, in fp32 with AVX2 alone), in
the same precision. What a fused engine saves lies between `MB` and that.
Freed memory is kept for all of them, as our workers keep it.
"""

import argparse
import copy
import io
import json
import math
import random
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core.scales import FACTOR
from pipeline.models import convolution, networks
from pipeline.models.allocator import keep_freed_memory
from pipeline.models.checkpoint import load_generator
from pipeline.models.convolution import layout
from pipeline.upscale.weights import choose

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
PRODUCT = 2048
"""Side of the matrices that the machine's rate is measured on."""
COPIED = 256 << 20
"""Bytes: more than caches hold."""


@dataclass
class Case:
    """A network on an engine in a precision."""

    network: str
    engine: str
    precision: str
    gflop: float
    megabytes: float
    """Of all operators, one by one."""
    least_megabytes: float
    """Weights, input, result."""
    call: Callable[[], Any] = field(repr=False)
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    """The same in processor time, all threads together: what else the machine does hardly changes it."""


class Traffic(TorchDispatchMode):
    """Adds up the bytes of what operators read and write; views move nothing."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        tensors = [value for value in _flat([args, kwargs or {}, found]) if isinstance(value, Tensor)]
        outputs = [value for value in _flat(found) if isinstance(value, Tensor)]
        read = {value.untyped_storage().data_ptr() for value in tensors[: len(tensors) - len(outputs)]}
        if any(value.untyped_storage().data_ptr() not in read for value in outputs):
            self.bytes += sum(value.numel() * value.element_size() for value in tensors)
        return found


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value


# networks


class Cast(nn.Module):
    """A TorchScript network whose weights are constants of its code, and cannot be cast: under autocast."""

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, low: Tensor) -> Tensor:
        """As the network."""
        with torch.autocast(low.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network(low)


def architectures() -> dict[str, Callable[[], nn.Module]]:
    """Peers as spandrel builds them; none where it is not installed."""
    try:
        from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
        from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet
        from spandrel.architectures.SwinIR import SwinIR
    except ImportError:
        print("no spandrel: no SRVGG-32, RRDBNet and SwinIR (pip install spandrel)")
        return {}
    swin = {"depths": [6] * 6, "num_heads": [6] * 6, "embed_dim": 180, "mlp_ratio": 2, "window_size": 8}
    return {
        "SRVGG-32": lambda: SRVGGNetCompact(num_conv=32),
        "RRDBNet": lambda: RRDBNet(),
        "SwinIR": lambda: SwinIR(upscale=FACTOR, upsampler="nearest+conv", **swin),
    }


def gather(options: argparse.Namespace, device: torch.device) -> dict[str, nn.Module]:
    """All networks, in float32."""
    fidelity, _ = choose(options.model, None, 0.0)
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {"facesr": load_generator(Path(fidelity))[0].with_plain_sums()}  # as it enlarges
    found |= {name: build() for name, build in architectures().items() if name not in options.without}
    for path in sorted(options.peers.glob("*.pt")) if options.peers else ():
        found[path.stem] = torch.jit.load(path, map_location="cpu")
    return {name: network.eval().to(device) for name, network in found.items()}


# engines


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of exporters and compilers, and the graphs that they print where they fail."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def plain_convolutions() -> AbstractContextManager[Any]:
    """Convolve as others do, so that operations can be counted and written down."""
    return patch.object(convolution, "_has_only_avx2", lambda: False)


def eager(network: nn.Module, low: Tensor, layout: torch.memory_format) -> Callable[[], Any]:
    """As torch runs it."""
    network = copy.deepcopy(network).to(memory_format=layout)  # each case its own: weights keep the last layout
    low = low.contiguous(memory_format=layout)
    return lambda: network(low)


def compiled(network: nn.Module, low: Tensor) -> Callable[[], Any]:
    """torch.compile, Inductor."""
    if low.device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise RuntimeError("no C++ compiler")
    network = network.to(memory_format=torch.channels_last)
    low = low.contiguous(memory_format=torch.channels_last)
    built = torch.compile(network)
    return lambda: built(low)


def exported(network: nn.Module, low: Tensor, folder: Path) -> Path:
    """The network as an ONNX file of that size."""
    path = folder / "network.onnx"
    if not path.exists():
        # exporters lack the antialiased operator; enlarging, its antialiasing does nothing, and it takes as long
        bicubic = patch.object(networks, "enlarge", lambda low: F.interpolate(low, scale_factor=FACTOR, mode="bicubic"))
        with bicubic, plain_convolutions():
            torch.onnx.export(
                network, (low,), str(path), input_names=["image"], output_names=["enlarged"], dynamo=False
            )
    return path


def onnx_runtime(path: Path, low: Tensor, threads: int) -> Callable[[], Any]:
    """ONNX Runtime, fp32."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    provider = "CUDAExecutionProvider" if low.device.type == "cuda" else "CPUExecutionProvider"
    session = onnxruntime.InferenceSession(str(path), settings, providers=[provider])
    values = {"image": low.cpu().numpy()}
    return lambda: session.run(None, values)


def openvino(path: Path, low: Tensor, threads: int, precision: str) -> Callable[[], Any]:
    """OpenVINO on the CPU, in the precision asked for."""
    import openvino as ov

    kind = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": kind}
    model = ov.Core().compile_model(str(path), "CPU", settings)
    values = low.cpu().numpy()
    return lambda: model(values)


def ncnn_cases(options: argparse.Namespace) -> list[Case]:
    """Networks of ncnn that make RGB four times larger, in the precisions asked for."""
    paths = sorted(options.peers.glob("*.param")) if options.peers and options.device == "cpu" else []
    try:
        import ncnn
    except ImportError:
        print("no ncnn" if paths else "", end="\n" if paths else "")
        return []
    cases = []
    values = np.random.default_rng(0).random((3, options.side, options.side), np.float32)
    for path in paths:
        layers = [line.split() for line in path.read_text().splitlines() if line.startswith("Convolution ")]
        keys = [dict(word.split("=") for word in layer[4:] if "=" in word) for layer in layers]
        # a kernel's weights = outputs * inputs * k * k
        rgb = bool(keys) and int(keys[0]["6"]) == 3 * int(keys[0]["0"]) * int(keys[0]["1"]) ** 2
        if not rgb or path.stem in options.without:
            continue
        weights = sum(int(key["6"]) for key in keys)
        for precision in options.precisions:
            network = ncnn.Net()
            network.opt.num_threads = options.threads
            network.opt.use_bf16_storage = precision == "bf16"
            network.load_param(str(path))
            network.load_model(str(path.with_suffix(".bin")))

            def call(network: Any = network) -> Any:
                extractor = network.create_extractor()
                extractor.input(network.input_names()[0], ncnn.Mat(values).clone())
                return np.array(extractor.extract(network.output_names()[0])[1])

            if call().shape != (3, FACTOR * options.side, FACTOR * options.side):
                break  # another factor
            size = 2 if precision == "bf16" else 4
            least = size * (weights + (1 + FACTOR**2) * values.size) / 1e6
            flops = 2e-9 * weights * options.side**2  # all at the input's size
            cases.append(Case(path.stem, "ncnn", precision, flops, 0.0, least, call))
    return cases


def prepare(
    name: str, network: nn.Module, precision: str, options: argparse.Namespace, device: torch.device, folder: Path
) -> list[Case]:
    """Cases of a network in a precision: what an engine cannot do is said, and left out."""
    low = torch.rand(1, 3, options.side, options.side, device=device)
    cases: list[Case] = []
    scripted = isinstance(network, torch.jit.ScriptModule)
    typed = Cast(network, PRECISIONS[precision]) if scripted else network.to(PRECISIONS[precision])
    low_typed = low if scripted else low.to(PRECISIONS[precision])
    with torch.inference_mode(), plain_convolutions(), FlopCounterMode(display=False) as flops, Traffic() as traffic:
        typed(low_typed)
    weights = sum(value.numel() * value.element_size() for value in typed.parameters())
    least = weights + (1 + FACTOR**2) * low_typed.numel() * low_typed.element_size()
    counted = (flops.get_total_flops() / 1e9, traffic.bytes / 1e6, least / 1e6)
    engines: dict[str, Callable[[], Callable[[], Any]]] = {
        "contiguous": lambda: eager(typed, low_typed, torch.contiguous_format),
        "channels-last": lambda: eager(typed, low_typed, torch.channels_last),
    }
    if name == "facesr":
        engines["compiled"] = lambda: compiled(typed, low_typed)
        if precision == "fp32":
            engines["ONNX Runtime"] = lambda: onnx_runtime(exported(typed, low, folder), low, options.threads)
        if device.type == "cpu" and "fp32" in options.precisions:  # from the float32 graph: OpenVINO casts by itself
            engines["OpenVINO"] = lambda: openvino(exported(typed, low, folder), low, options.threads, precision)
    for engine in options.engines or engines:
        if engine not in engines:
            continue
        try:
            with quiet(), torch.inference_mode():
                call = engines[engine]()
                call()
        except Exception as error:  # whatever an engine lacks, the others are measured
            print(f"{name} in {precision}: no {engine}: {str(error).strip().splitlines()[0][:120]}")
            continue
        cases.append(Case(name, engine, precision, *counted, call))
    return cases


# the machine


def once(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine(device: torch.device, precisions: list[str], times: int = 7) -> dict[str, float]:
    """GFLOP/s of a matrix product by precision, and GB/s of a copy: the best of several."""
    rates = {}
    for precision in precisions:
        left, right = (torch.rand(PRODUCT, PRODUCT, device=device).to(PRECISIONS[precision]) for _ in range(2))
        rates[precision] = 2e-9 * PRODUCT**3 / min(once(lambda: left @ right, device) for _ in range(times))  # noqa: B023
    source = torch.zeros(COPIED // 4, device=device)
    target = torch.empty_like(source)
    rates["copy"] = 2e-9 * COPIED / min(once(lambda: target.copy_(source), device) for _ in range(times))
    return rates


def measure(cases: list[Case], rounds: int, longest: float, device: torch.device) -> None:
    """Rounds of all cases, drawn anew each; slow ones run less often once they have taken `longest` seconds."""
    order = random.Random(0)
    with torch.inference_mode():
        for _ in range(rounds):
            for case in order.sample(cases, len(cases)):
                if not case.seconds or sum(case.seconds) < longest:
                    start = time.process_time()
                    case.seconds.append(once(case.call, device))
                    case.processor.append(time.process_time() - start)


def is_ours(case: Case, precision: str, device: torch.device) -> bool:
    """True if it is our network as `facesr upscale` runs it: what others are compared with."""
    contiguous = layout(device, PRECISIONS[precision]) is torch.contiguous_format
    engine = "contiguous" if contiguous else "channels-last"
    return (case.network, case.engine, case.precision) == ("facesr", engine, precision)


def rows_of(cases: list[Case], rates: dict[str, float], device: torch.device) -> list[dict[str, Any]]:
    """Median, spread and floor of each case."""
    rows = []
    # none where others' engines alone were asked for
    ours = {
        case.precision: statistics.median(case.processor) for case in cases if is_ours(case, case.precision, device)
    }
    for case in cases:
        middle = statistics.median(case.seconds)
        low, _, high = statistics.quantiles(case.seconds, n=4) if len(case.seconds) > 1 else [middle] * 3
        floor = max(case.gflop / rates[case.precision], 1e-3 * case.least_megabytes / rates["copy"])
        values = {key: value for key, value in asdict(case).items() if key not in ("call",)}
        rows.append(
            values
            | {"median": middle, "quartiles": [low, high], "floor": floor, "times_floor": middle / floor}
            | {
                "median_processor": (spent := statistics.median(case.processor)),
                "ratio": spent / ours[case.precision] if case.precision in ours else math.nan,
            }
        )
    return rows


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=48, help="of the input, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds that all rounds of one case may take")
    parser.add_argument("--model", type=Path, help="generator instead of the released one")
    parser.add_argument("--peers", type=Path, help="folder of networks of TorchScript and ncnn")
    parser.add_argument("--without", nargs="*", default=[], help="architectures that are left out: SwinIR …")
    parser.add_argument("--engines", nargs="*", help="these alone: contiguous, channels-last, compiled …")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as workers do, and for all networks alike
    device = torch.device(options.device)
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in options.precisions:
            torch.set_num_threads(options.threads)  # some engines change it
            # cast networks would not come back as they were
            for name, network in gather(options, device).items():
                cases += prepare(name, network, precision, options, device, Path(folder))
        if options.engines is None or "ncnn" in options.engines:
            cases += ncnn_cases(options)
        rates = machine(device, options.precisions)
        measure(cases, options.rounds, options.longest, device)
    rows = rows_of(cases, rates, device)
    said = ", ".join(f"{rates[name]:.0f} GFLOP/s in {name}" for name in options.precisions)
    print(
        f"{options.side}x{options.side} on {device}, {options.threads} threads: {said}, copy {rates['copy']:.1f} GB/s"
    )
    print(
        f"{'network':24} {'engine':14} {'':5} {'ms':>9} {'quartiles':>17} {'cpu ms':>8} {'ratio':>6} "
        f"{'GFLOP':>7} {'MB':>8} {'floor':>8} {'x':>6}"
    )
    for row in sorted(rows, key=lambda row: (row["network"] != "facesr", row["network"], row["median"])):
        low, high = (1e3 * value for value in row["quartiles"])
        print(
            f"{row['network'][:24]:24} {row['engine']:14} {row['precision']:5} {1e3 * row['median']:9.1f} "
            f"{low:8.1f}…{high:<8.1f} {1e3 * row['median_processor']:8.1f} {row['ratio']:6.2f} "
            f"{row['gflop']:7.1f} {row['megabytes']:8.0f} {1e3 * row['floor']:8.2f} "
            f"{row['times_floor']:6.1f}"
        )
    if options.json:
        values = {"side": options.side, "device": str(device), "threads": options.threads, "rates": rates, "rows": rows}
        options.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
