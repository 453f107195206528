"""How Ray Train's processes of one machine find one another: by a file, then over the loopback.

Torch's own meeting place is a server without a password on every interface; a training on one machine needs none.
"""

import secrets
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray.train
import torch.distributed as dist
from ray.train.backend import Backend
from ray.train.torch import TorchConfig


class _FileBackend(Backend):  # type: ignore[misc]
    share_cuda_visible_devices = True  # as with TorchConfig's own: processes see all GPUs and choose theirs by rank

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        # processes that are started anew must not meet the dead
        file = Path(backend_config.folder) / f"processes-{secrets.token_hex(8)}"
        worker_group.execute(_join, str(file), backend_config.backend, backend_config.timeout_s)


@dataclass
class FileConfig(TorchConfig):  # type: ignore[misc]
    """For `TorchTrainer(torch_config=...)`: the processes meet at a file in `folder`."""

    folder: str = ""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train asks for."""
        return _FileBackend


def _join(file: str, backend: str, seconds: float) -> None:
    context = ray.train.get_context()
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    dist.init_process_group(
        backend,
        init_method=f"file://{file}",
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        timeout=timedelta(seconds=seconds),
    )


def environment() -> dict[str, str]:
    """Variables that keep the processes' traffic on the loopback, whatever address the machine's name stands for."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    return {"GLOO_SOCKET_IFNAME": names[0]} if names else {}
