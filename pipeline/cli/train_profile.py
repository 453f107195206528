"""Where the time of a training goes: an operator profile of a few updates, and how fast pairs are made."""

import time

import torch
from torch.profiler import ProfilerActivity, profile

from pipeline.train.engine.loop import Training

ROWS = 20


def trace(training: Training, steps: int = 5, warmup: int = 2) -> str:
    """Profile `steps` updates after `warmup` ones; nothing is saved.

    Returns:
        A few lines on time per step and on making pairs, then torch's table of the operators that take the most time.
    """
    updates, config = training.updates, training.config
    start = time.perf_counter()
    batches = [training.data.batch(config.batches, step) for step in range(warmup + steps)]
    making = (time.perf_counter() - start) / len(batches)
    for step in range(warmup):
        updates(step, *batches[step])
    on_gpu = updates.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    with profile(activities=activities) as profiler:
        for step in range(warmup, warmup + steps):
            updates(step, *batches[step])
        if on_gpu:
            torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    size = config.batches.batch
    return "\n".join(
        [
            f"update: {seconds:.3f} s a step ({size / seconds:.1f} images/s), on {updates.device.type} in "
            f"{updates.dtype}, profiler running",
            f"pairs: {making:.4f} s a batch in one thread ({size / making:.0f} pairs/s), made while the update runs",
            profiler.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=50),
        ]
    )
