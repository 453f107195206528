"""A Ray cluster that does not answer is said, before work and during it."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.pictures import face
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.core.images import encode_png
from pipeline.runtime import cluster
from pipeline.runtime.cluster import UnreachableError, reach, watched


def listening() -> tuple[socket.socket, str]:
    server = socket.create_server(("127.0.0.1", 0))
    return server, f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_where_nothing_answers_is_one_line_and_no_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, address = listening()
    server.close()
    with pytest.raises(UnreachableError, match=f"no Ray cluster answers at {address} .* is its head running"):
        reach(address, seconds=0.1)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(encode_png(face(1, 16)))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["upscale", "in", "out", "--address", address])
    assert done.exit_code == 2
    assert done.output.strip().splitlines()[-1].startswith("no Ray cluster answers at ")


def test_a_head_that_is_about_to_come_is_waited_for_and_other_addresses_are_left_to_ray() -> None:
    server, address = listening()
    server.close()
    port = int(address.rpartition(":")[2])
    late: list[socket.socket] = []
    timer = threading.Timer(0.3, lambda: late.append(socket.create_server(("127.0.0.1", port))))
    timer.start()
    reach(f"ray://{address}", seconds=20)
    timer.join()
    late[0].close()
    for named in ("auto", "local", "host:99999", "[::1]"):
        reach(named, seconds=0)


def test_a_head_that_is_lost_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cluster, "_EVERY", 0.05)
    server, address = listening()
    with watched(address), watched(None), watched("auto"):
        time.sleep(0.3)
        assert capsys.readouterr().err == ""
        server.close()
        time.sleep(1.5)
    said = capsys.readouterr().err
    assert said.count(f"the Ray cluster at {address} no longer answers") == 1
    assert "the same command goes on" in said


@pytest.mark.parametrize(("is_there", "left"), [(False, "_exit"), (True, "_exit"), (False, "return")])
def test_a_command_that_ray_ends_together_with_its_cluster_has_last_words(is_there: bool, left: str) -> None:
    server, address = listening()
    program = f"""
import os
from pipeline.runtime.cluster import watched
def command():
    with watched({address!r}):
        print("at work", flush=True)
        input()
        {"os._exit(1)" if left == "_exit" else "return"}
command()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        if not is_there:
            server.close()
        # the words come from a process of their own: the error stream ends with that
        _, said = process.communicate("end\n", timeout=60)
    server.close()
    words = f"Ray ended this command: its cluster at {address} is gone; what is finished is kept"
    assert (words in said) == (not is_there and left == "_exit"), said
