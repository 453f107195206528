"""Files of every version that was ever written are read; those of a newer facesr are refused in one line."""

import json
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from support.pictures import face
from support.training import CHANCES, write_inputs, write_manifest

from pipeline.core.chain import CHAIN_COLUMNS
from pipeline.core.schema import FACES, FORMAT_KEY, FORMATS, PAIRS, UPSCALED
from pipeline.core.shards import ShardError, read_rows
from pipeline.models.checkpoint import load_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator
from pipeline.models.weights_file import FORMAT, ModelError
from pipeline.train.engine.batches import PairData

CONFIG = GeneratorConfig((8,), 0, 1)


def old_weights(path: Path, without: tuple[str, ...]) -> None:
    """A generator as earlier versions wrote it: the same tensors, fewer settings."""
    config = {"widths": [8], "blocks": 0, "bottleneck": 1, "norm": "none", "tail": "shuffle", "even": 0, "told": []}
    settings = {key: value for key, value in config.items() if key not in without}
    metadata = {"format": "facesr-generator-1", "config": json.dumps(settings), "provenance": "{}"}
    tensors = {name: value.contiguous() for name, value in Generator(CONFIG).state_dict().items()}
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("without", [(), ("told",), ("told", "even"), ("told", "even", "tail")])
def test_weights_with_fewer_settings_are_read(tmp_path: Path, without: tuple[str, ...]) -> None:
    old_weights(tmp_path / "g.safetensors", without)
    generator, said = load_generator(tmp_path / "g.safetensors")
    assert generator.config == CONFIG
    assert said["provenance"] == {}


def test_weights_of_a_newer_facesr_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"format": "facesr-generator-2"})
    with pytest.raises(ModelError, match=r"written by a newer facesr \(format facesr-generator-2.*: update facesr$"):
        load_generator(path)
    old_weights(path, ())
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["config"] = json.dumps({"widths": [8], "attention": True})
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    with pytest.raises(ModelError, match=r"attention.*newer facesr"):
        load_generator(path)


def test_a_manifest_without_chains_is_read_as_pairs_that_have_none(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "inputs", [face(1, 64)], "train")
    write_manifest(tmp_path / "new.parquet", images, CHANCES)
    table = pq.read_table(tmp_path / "new.parquet").drop_columns(list(CHAIN_COLUMNS))
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "old.parquet")
    new, old = (PairData(tmp_path / "inputs", tmp_path / f"{name}.parquet", "train") for name in ("new", "old"))
    for first, second in zip(new.pairs("16to64", 2), old.pairs("16to64", 2), strict=True):
        assert all((one == other).all() for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("schema", [FACES, PAIRS, UPSCALED], ids=["faces", "pairs", "upscaled"])
def test_shards_say_their_version_are_read_without_one_and_refused_where_newer(
    tmp_path: Path, schema: pa.Schema
) -> None:
    name, _, number = schema.metadata[FORMAT_KEY].decode().rpartition("-")
    assert FORMATS[name] == int(number)
    path = tmp_path / "shard.parquet"
    pq.write_table(schema.remove_metadata().empty_table(), path)
    assert list(read_rows(path)) == []
    newer = schema.with_metadata(schema.metadata | {FORMAT_KEY: f"{name}-{int(number) + 1}".encode()})
    pq.write_table(newer.empty_table(), path)
    with pytest.raises(ShardError, match=r"shard.parquet: written by a newer facesr .*: update facesr$"):
        list(read_rows(path))


def test_a_manifest_of_a_newer_facesr_is_refused_in_one_line(tmp_path: Path) -> None:
    images = write_inputs(tmp_path / "inputs", [face(1, 64)], "train")
    write_manifest(tmp_path / "p.parquet", images)
    table = pq.read_table(tmp_path / "p.parquet")
    pq.write_table(table.replace_schema_metadata({FORMAT_KEY: b"pairs-99"}), tmp_path / "p.parquet")
    with pytest.raises(ShardError, match="update facesr"):
        PairData(tmp_path / "inputs", tmp_path / "p.parquet", "train")


def test_what_is_written_now_is_of_the_newest_version() -> None:
    assert FORMAT == "facesr-generator-1"
    assert FORMATS == {"faces": 1, "pairs": 2, "upscaled": 1}, "with a new number comes a test that the old one is read"
