"""A process that ends early ends as Python would end it."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.stages import ROOT, python

BEGIN = "import sys; from pipeline.runtime.signals import end_with\n"


@pytest.mark.parametrize(
    ("run", "code", "said"),
    [
        ("lambda: None", 0, ""),
        ("lambda: sys.exit()", 0, ""),
        ("lambda: sys.exit(0)", 0, ""),
        ("lambda: sys.exit(143)", 143, ""),
        ("lambda: sys.exit('no such file')", 1, "no such file\n"),
    ],
)
def test_the_exit_code_is_the_one_that_was_asked_for(tmp_path: Path, run: str, code: int, said: str) -> None:
    done = python(f"{BEGIN}end_with({run})", tmp_path)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("run", "code"), [("lambda: print('done')", 0), ("lambda: sys.exit('no such file')", 1)])
def test_streams_that_the_caller_has_closed_do_not_change_the_exit_code(
    tmp_path: Path, closed: str, run: str, code: int
) -> None:
    command = f'exec "$0" -c "$1" {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, f"{BEGIN}end_with({run})"], cwd=ROOT, check=False)
    assert done.returncode == code


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    done = python(f"{BEGIN}end_with(lambda: 1 // 0)", tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_what_is_registered_is_done_threads_are_waited_for_and_streams_are_written_out(tmp_path: Path) -> None:
    code = f"""{BEGIN}
import atexit, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

def run():
    global kept, pool
    kept = tempfile.TemporaryDirectory(dir=".")
    pool = ThreadPoolExecutor(2)  # idle at the end, and nobody shuts it down
    pool.submit(int).result()
    atexit.register(lambda: Path("done").write_text("at exit"))
    threading.Thread(target=lambda: (time.sleep(0.3), Path("slow").write_text("waited for"))).start()
    print("said", end="")
    sys.exit(7)
end_with(run)
"""
    done = python(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (7, "said", "")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"done": "at exit", "slow": "waited for"}


def test_a_reader_that_is_gone_is_no_success(tmp_path: Path) -> None:
    code = f"{BEGIN}import os, time\ndef run():\n    print('x')\n    sys.stdin.read()\nend_with(run)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, **pipes)  # type: ignore[call-overload]
    process.stdout.close()
    process.stdin.close()
    assert process.wait(60) == 120


def test_the_installed_command_ends_with_the_code_of_what_went_wrong(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "facesr"), "upscale", "missing.zip", "out.zip"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "missing.zip" in done.stdout + done.stderr
    help_text = subprocess.run([command[0], "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert help_text.returncode == 0
    assert "upscale" in help_text.stdout
