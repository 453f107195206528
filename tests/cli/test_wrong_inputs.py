"""Every command says in one line what is wrong with a file that it cannot use, and touches nothing."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.archives import as_folder
from support.pictures import face
from support.stages import ROOT
from support.upscaling import make_models

from pipeline.cli import main
from pipeline.core.images import encode_png


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good pictures and weights, and one of everything that is neither."""
    root = tmp_path_factory.mktemp("wrong")
    as_folder(root / "good", {f"{number}.png": encode_png(face(number, 64)) for number in range(2)})
    as_folder(root / "data/inputs", {"train/x": b"", "valid/x": b""})
    make_models(root)
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (root / "empty").write_bytes(b"")
    (root / "folder").mkdir()
    (root / "text").write_bytes(b"not what is wanted\n")
    (root / "bytes").write_bytes(bytes(range(256)) * 4)
    (root / "list.json").write_text("[1, [2], null]")
    (root / "odd.json").write_text('{"test": {"256to1024": {"facesr": 3}}}')
    (root / "deep.json").write_text("[" * 100_000)
    (root / "loop").symlink_to(root / "loop")
    pq.write_table(pa.table({"x": [1, 2]}), root / "table.parquet")
    for name in ("text", "bytes", "empty"):
        for suffix in (".zip", ".tar", ".parquet", ".png", ".safetensors", ".h5", ".tfrecords", ".tar.gz", ".pth"):
            (root / f"{name}{suffix}").write_bytes((root / name).read_bytes())
    return root


WRONG = ["missing", "empty", "folder", "text", "bytes", "loop", "x" * 300, "list.json", "table.parquet"]
ARCHIVES = [
    f"{name}{suffix}" for name in ("text", "empty") for suffix in (".zip", ".tar", ".parquet", ".h5", ".tar.gz")
]
COMMANDS = {
    "ingest {} --out out --workers 1": WRONG + ARCHIVES,
    "ingest good --out out --workers 1 --partition {}": WRONG,
    "ingest good --out out --workers 1 --train-list {}": WRONG,
    "ingest good --out {} --workers 1": ["empty", "loop"],
    "compare {} good --workers 1": WRONG + ARCHIVES,
    "compare good {} --workers 1": WRONG + ARCHIVES,
    "compare good good --against x={} --workers 1": ["missing", "text", "loop", "empty.zip"],
    "compare good good --workers 1 --report {}": ["empty", "loop"],
    "compare good good --workers 1 --json {}": ["folder", "text"],
    "compare good good --workers 1 --inception {}": ["missing"],
    "inspect {}": WRONG + ARCHIVES,
    "inspect good --sheet {}": ["folder", "text.png", "empty.png"],
    "view {}": WRONG + ARCHIVES,
    "score {} --faces good": [*WRONG, "text.safetensors", "empty.safetensors"],
    "score fidelity.safetensors --faces {}": WRONG + ARCHIVES,
    "score fidelity.safetensors --faces good --vgg {}": ["missing", "folder", "text", "loop"],
    "score fidelity.safetensors --faces good --json {}": ["folder", "text"],
    "adapt {} --out new.safetensors --model fidelity.safetensors": WRONG + ARCHIVES,
    "adapt good --out new.safetensors --model {}": [*WRONG, "text.safetensors"],
    "adapt good --out {}": ["text", "text.safetensors"],
    "pairs {} --out out --workers 1": WRONG,
    "pairs good --out {} --workers 1": ["empty", "loop"],
    "table {}": [*WRONG, "odd.json", "deep.json"],
    "table {} --paper": ["odd.json", "list.json"],
    "table {} --format csv": ["odd.json", "list.json"],
    "train --out out --params {}": WRONG,
    "train --out out --pairs {}": WRONG,
    "train --out {} --pairs table.parquet": ["empty", "loop"],
    "synth {} --count 1 --size 16 --workers 1": ["empty", "loop"],
    "synth {} --to zip --count 1 --size 16 --workers 1": ["folder", "text"],
    "weights add {}": WRONG,
    "profile --use {}": WRONG,
    "evaluate --method x={}": ["missing"],
}


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder to work in; no byte of it may change."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("TORCH_HOME", str(place / "torch"))
    monkeypatch.setenv("COLUMNS", "400")
    before = hashes(place)
    yield place
    assert hashes(place) == before


def hashes(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and "facesr" not in str(path.relative_to(root))]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_input_is_one_line(
    command: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong: dict[str, str] = {}
    for name in COMMANDS[command]:
        monkeypatch.setattr(sys, "argv", ["facesr", *(word.format(name) for word in command.split())])
        try:
            main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
        said = [line for line in "".join(capfd.readouterr()).splitlines() if line.strip()]
        told = [line for line in said if not line.startswith(("Usage:", "Try "))]
        if code not in (1, 2) or not told or len(max(told, key=len)) > 900 or "Error(s)" in "".join(told):
            wrong[name] = f"{code}: {' | '.join(told)[-300:]}"
    assert wrong == {}, json.dumps(wrong, indent=1)


def test_portraits_are_not_written_into_a_folder_that_is_called_like_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["facesr", "synth", "s3://bucket/p.zip", "--count", "1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "s3://bucket/p.zip: a folder or file of this machine is wanted" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
