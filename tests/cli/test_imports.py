"""What a command imports is what its user waits for before anything happens."""

from pathlib import Path

from support.stages import python

from pipeline.core.images import encode_png
from pipeline.synthetic.portrait import portrait

RUN = """
import sys
from pipeline.cli import app
app({arguments}, standalone_mode=False)
print("imported:", *sorted({modules} & set(sys.modules)))
"""


def test_help_stays_fast_because_nothing_that_computes_is_imported_for_it(tmp_path: Path) -> None:
    modules = {"numpy", "PIL", "pyarrow", "torch", "ray", "pandas", "scipy", "cv2", "pydantic"}
    done = python(RUN.format(arguments=["--help"], modules=modules), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"


STAGES = """
import sys
import pipeline.params.all_sections
import stages.ingest, stages.pairs, stages.baselines, stages.evaluate
print("imported:", *sorted({"torch", "ray"} & set(sys.modules)))
"""


def test_params_are_read_and_stages_that_may_have_no_network_begin_without_torch(tmp_path: Path) -> None:
    done = python(STAGES, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"


def test_one_picture_is_enlarged_without_starting_or_importing_what_many_pictures_need(tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(encode_png(portrait(1, 0)[::16, ::16]))
    modules = {"ray", "scipy", "cv2", "torchvision", "dvc", "pandas", "torch._decomp"}
    done = python(RUN.format(arguments=["upscale", "small.png", "large.png"], modules=modules), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "large.png").is_file()
    assert done.stdout.splitlines()[-1] == "imported:"


WORKER = """
import sys
from pipeline.runtime.actor_pools import _Actor
# BulkWorker, by name, as a driver's pickle has it; without arguments it is imported and not built
actor = _Actor(b"(cpipeline.bulk.worker\\nBulkWorker\\n(tcbuiltins\\ndict\\nt.", 1)
assert "missing" in actor.failure[0], actor.failure
print("imported:", *sorted({modules} & set(sys.modules)))
"""


def test_a_worker_of_an_archive_imports_torch_without_what_it_does_not_need(tmp_path: Path) -> None:
    done = python(WORKER.format(modules={"torch", "pandas", "torch._decomp"}), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported: torch"
