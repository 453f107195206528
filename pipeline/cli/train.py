"""`facesr train`: training outside of DVC, and where its time goes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.runtime.console import console

if TYPE_CHECKING:
    from pipeline.train.engine.loop import Training


def train(
    out: Annotated[Path, typer.Option(help="Folder for states, logs and weights; run again to resume")],
    params: Annotated[Path, typer.Option(help="File whose train section is used")] = Path("params.yaml"),
    change: Annotated[
        list[str] | None, typer.Option("--set", help="train.KEY=VALUE instead of what the file says; repeatable")
    ] = None,
    inputs: Annotated[Path, typer.Option(help="Folder with train/ and valid/ shards of inputs")] = Path("data/inputs"),
    pairs: Annotated[Path, typer.Option(help="The pairs manifest")] = Path("data/pairs.parquet"),
    phase: Annotated[list[str] | None, typer.Option(help="fidelity or realism; both by default")] = None,
    start: Annotated[Path | None, typer.Option(help="Weights to start from instead of random ones")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print an operator profile of a few steps and stop")] = False,
) -> None:
    """Train on the pairs that `dvc repro pairs` made, outside of DVC: for experiments. Exit 143: stopped and saved."""
    from pipeline.core.files import file_hash, write_json
    from pipeline.params.all_sections import load_params
    from pipeline.params.read import ParamsError
    from pipeline.runtime.signals import stop_requested
    from pipeline.train.phases import PHASES, TrainRun, dependencies, train_phases

    phases = phase or list(PHASES)
    if set(phases) - set(PHASES):
        raise typer.BadParameter(f"--phase is one of {', '.join(PHASES)}")
    try:
        settings = load_params(params, change or ()).train
    except ParamsError as error:
        raise typer.BadParameter(str(error)) from error
    for path in (inputs / "train", pairs):
        if not path.exists():
            raise typer.BadParameter(f"{path} is not there: `dvc repro pairs` makes it")
    if not _is_manifest(pairs):
        raise typer.BadParameter(f"{pairs} is no pairs manifest: `dvc repro pairs` makes one")
    if start is not None and not start.is_file():
        raise typer.BadParameter(f"{start}: no such weights file")
    if start is None and phases[0] != PHASES[0]:
        console.print(f"no --start: {phases[0]} begins from random weights", markup=False)
    run = TrainRun(settings, inputs, pairs, out, dependencies(settings, inputs, pairs), phases, start)
    if trace:
        console.print(_profile(run.training(phases[0], start)), markup=False)
        return
    described = {"provenance": run.provenance, "phases": phases, "start": str(start) if start else None}
    record = out / "run.json"
    held = next((out / phase for phase in PHASES if (out / phase).exists()), None)
    if held is not None and not record.exists():
        raise typer.BadParameter(f"{held} is not from a training: name another folder")
    if start is not None:
        described["start_sha256"] = file_hash(start)
    there = _read(record)
    # where a training has not begun any phase, there is nothing to lose
    ours = isinstance(there, dict) and there.keys() >= {"provenance", "phases"}
    if record.exists() and there != described and (held is not None or not ours):
        raise typer.BadParameter(f"{out} holds a run with other data or params: name another folder, or remove it")
    write_json(record, described)
    with stop_requested() as should_stop:
        results = train_phases(run, should_stop)
    if results is None:
        console.print(f"stopped; the state is in {out}: run the same command to go on", markup=False)
        raise typer.Exit(143)
    for name, path in results.items():
        console.print(f"{name}: {path}", markup=False)


def _is_manifest(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.core.chain import CHAIN_COLUMNS
    from pipeline.core.schema import PAIRS

    try:
        # manifests of before chains have no such columns
        return set(PAIRS.names) - set(CHAIN_COLUMNS) <= set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return False


def _read(record: Path) -> object:
    """What a run's record says; None where it is no record."""
    try:
        return json.loads(record.read_bytes())
    except (OSError, ValueError):
        return None


def _profile(training: "Training", steps: int = 5, warmup: int = 2) -> str:
    """Profile `steps` updates after `warmup` ones; nothing is saved.

    Returns:
        A few lines on time per step and on making pairs, then torch's table of the operators that take the most time.
    """
    import time

    import torch
    from torch.profiler import ProfilerActivity, profile

    updates, config = training.updates, training.config
    size = config.batch
    start = time.perf_counter()
    batches = [training.data.batch(config.batches, step) for step in range(warmup + steps)]
    making = (time.perf_counter() - start) / len(batches)
    for step in range(warmup):
        updates(step, batches[step])
    on_gpu = updates.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    with profile(activities=activities) as profiler:
        for step in range(warmup, warmup + steps):
            updates(step, batches[step])
        if on_gpu:
            torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=50)
    return (
        f"update: {seconds:.3f} s a step ({size / seconds:.1f} images/s), on {updates.device.type} in "
        f"{updates.dtype}, profiler running\n"
        f"pairs: {making:.4f} s a batch in one thread ({size / making:.0f} pairs/s), made while the update runs\n"
        f"{table}"
    )
