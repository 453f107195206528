"""What bench_kills.py watches and kills: runs of the command with their journals, and a cluster of three nodes."""

import json
import logging
import multiprocessing
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from upscale_common import ROOT, command, last_lines, tree

TICK = 0.05
"""Seconds between two looks at a run."""
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@dataclass
class Try:
    """At one unit: pictures that were taken up, and those of them that were done with."""

    begun: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)


class Journals:
    """What the journals of a sequence told, also those of units that are finished by now."""

    def __init__(self, work: Path):
        self.work = work
        self.units: dict[str, list[Try]] = {}
        self.open: set[str] = set()

    def look(self) -> None:
        """Read those that are there."""
        self.open = set()
        for path in self.work.glob("parts/*/*.journal"):
            tries: list[Try] = []
            with suppress(FileNotFoundError):
                for text in path.read_text().splitlines():
                    with suppress(ValueError):  # a line that is being written
                        line = json.loads(text)
                        if "try" in line:
                            tries.append(Try())
                        tries[-1].begun.update(line.get("begin", ()))
                        tries[-1].ended.update(line.get("end", ()))
                self.open.add(path.name)
            if len(tries) >= len(self.units.get(path.name, ())):
                self.units[path.name] = tries

    @property
    def tries(self) -> int:
        """Tries at units so far."""
        return sum(map(len, self.units.values()))

    @property
    def progress(self) -> int:
        """Pictures that are done; a journal that is gone was that of a finished unit."""
        last = {name: tries[-1] for name, tries in self.units.items() if tries}
        return sum(len(one.ended if name in self.open else one.begun) for name, one in last.items())

    @property
    def again(self) -> int:
        """Pictures that a try that was killed had done already."""
        return sum(len(one.ended) for tries in self.units.values() for one in tries[:-1])


class Started:
    """The command, running."""

    def __init__(self, arguments: list[Any], environment: dict[str, str], journals: Journals):
        self.journals = journals
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.at = time.monotonic()
        self.process = psutil.Popen(
            command(*arguments, "--quiet"),
            cwd=ROOT,
            env=os.environ | environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        journals.look()
        self.tries = journals.tries

    def until(self, reached: Callable[[], bool]) -> bool:
        """Wait; False where the command ended before."""
        while self.process.poll() is None:
            self.journals.look()
            if reached():
                return True
            time.sleep(TICK)
        return False

    def passed(self, seconds: float) -> bool:
        """Wait for a time; False where the command ended before."""
        end = time.monotonic() + seconds
        return self.until(lambda: time.monotonic() >= end)

    def begun(self) -> bool:
        """Wait until this start of the command has taken up a picture."""
        return self.until(lambda: self.journals.tries > self.tries)

    def kill(self) -> list[psutil.Process]:
        """Kill it; returns what it had started."""
        below = tree(self.process)[1:]
        self.process.kill()
        self.process.wait()
        return below

    def finish(self, seconds: float) -> int | None:
        """Exit code; None where it did not end in time."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)
        code: int | None = self.process.poll()
        if code is None:
            for one in reversed(tree(self.process)):
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            self.process.wait()
        return code

    def said(self) -> str:
        """The end of what it printed."""
        return last_lines(self.log)


# the cluster


def _hold(pipe: Connection, environment: dict[str, str]) -> None:
    """Keep a cluster; on a number kill Ray's daemon on one node of that rank, on None replace it, else end."""
    os.environ |= environment
    from ray.cluster_utils import Cluster

    # it says, for one, that from now on a bare ray.init() finds this cluster
    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **NODE})
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    pipe.send(cluster.address)
    try:
        while (order := pipe.recv()) != "end":
            if order is not None:
                victim = nodes.pop(order % len(nodes))
                victim.all_processes["raylet"][0].process.kill()
            else:
                # what is left of a machine that is gone
                cluster.remove_node(victim, allow_graceful=False)
                nodes.append(cluster.add_node(**NODE))
            pipe.send("done")
    finally:
        cluster.shutdown()


class Cluster:
    """A head and two more nodes, in a process of their own."""

    def __init__(self) -> None:
        # only who knows the token can use it; workers as fast as those of a local run
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_hold, args=(other, self.environment))
        self.process.start()
        self.address = str(self._answer())

    def kill(self, rank: int) -> None:
        """One of the two nodes that are not the head."""
        self.pipe.send(rank)
        self._answer()

    def replace(self) -> None:
        """Let another node join for the one that was killed."""
        self.pipe.send(None)
        self._answer()

    def end(self) -> None:
        """All nodes."""
        self.pipe.send("end")
        below = tree(psutil.Process(self.process.pid))
        self.process.join(60)
        for one in reversed(below):
            with suppress(psutil.NoSuchProcess):
                one.kill()

    def _answer(self) -> Any:
        if not self.pipe.poll(120):
            raise TimeoutError("the cluster does not answer")
        return self.pipe.recv()


@contextmanager
def cluster_for(victim: str) -> Iterator[Cluster | None]:
    """A cluster, where nodes are to be killed."""
    if victim != "node":
        yield None
        return
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.end()
