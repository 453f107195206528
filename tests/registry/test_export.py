"""Exported generators agree with the weights that they were made of, and `facesr upscale` runs them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.upscaling import encoded, pictures, upscale
from torch import nn
from typer.testing import CliRunner

from pipeline import Upscaler
from pipeline.cli import app
from pipeline.models.checkpoint import save_generator
from pipeline.models.config import GeneratorConfig
from pipeline.models.networks import Generator, enlarge
from pipeline.models.weights_file import ModelError
from pipeline.registry.export import Enlarge, ExportError, export
from pipeline.upscale.onnx_generator import load_onnx

PLAIN = GeneratorConfig((8,), 1, 1)
TOLD = GeneratorConfig((8, 16), 1, 1, norm="instance", tail="resize", even=9, told=("jpeg", "noise"))


def write(path: Path, config: GeneratorConfig) -> Generator:
    torch.manual_seed(0)
    generator = Generator(config).eval()
    nn.init.normal_(generator.to_rgb.weight, std=0.02)
    save_generator(path, generator, config, {"phase": "fidelity"}, torch.float32)
    return generator


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (3, 7), (33, 20)])
def test_bicubic_as_convolutions_agrees_also_at_the_borders(height: int, width: int) -> None:
    x = torch.rand(2, 3, height, width)
    assert float((Enlarge()(x) - enlarge(x)).abs().max()) < 1e-5


@pytest.fixture(scope="module", params=[PLAIN, TOLD], ids=["plain", "told"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Generator]:
    folder = tmp_path_factory.mktemp("exported")
    generator = write(folder / "fidelity.safetensors", request.param)
    assert export(folder / "fidelity.safetensors", folder / "fidelity.onnx") < 1
    return folder, generator


def test_onnx_takes_any_batch_and_sides_and_differs_by_less_than_a_grey_level(
    exported: tuple[Path, Generator],
) -> None:
    folder, generator = exported
    loaded, said = load_onnx(folder / "fidelity.onnx")
    assert (loaded.multiple, loaded.reach, loaded.config) == (generator.multiple, generator.reach, generator.config)
    assert said["provenance"]["phase"] == "fidelity"
    for count, height, width in ((1, 16, 16), (3, 18, 40), (2, 64, 20)):
        x, told = torch.rand(count, 3, height, width), torch.rand(count, 2)
        with torch.no_grad():
            wanted = generator(x, told)
        assert float((loaded(x, told) - wanted).abs().max()) * 255 < 1
    if generator.config.told:
        with torch.no_grad():
            assert float((loaded(x) - generator(x)).abs().max()) * 255 < 1


def test_an_upscaler_takes_an_onnx_file_in_tiles_too(exported: tuple[Path, Generator]) -> None:
    folder, _ = exported
    low = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    results = [Upscaler.load(folder / f"fidelity{end}", precision="fp32")(low) for end in (".safetensors", ".onnx")]
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1


def test_no_folder_of_this_machine_is_in_an_export(exported: tuple[Path, Generator]) -> None:
    data = (exported[0] / "fidelity.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in data
    assert len(onnx.load(exported[0] / "fidelity.onnx").graph.output) == 1


def test_facesr_upscale_runs_an_exported_model(tmp_path: Path, exported: tuple[Path, Generator]) -> None:
    folder, _ = exported
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(encoded(1))
    upscale(tmp_path / "in", tmp_path / "out", "--model", folder / "fidelity.onnx", "--workers", 1)
    assert list(pictures(tmp_path / "out")) == ["a.png"]


def test_exported_models_are_not_mixed(exported: tuple[Path, Generator]) -> None:
    path = exported[0] / "fidelity.onnx"
    with pytest.raises(ModelError, match="cannot be mixed"):
        Upscaler.load(path, path, 0.5)


def test_a_torch_program_takes_any_size_and_agrees(tmp_path: Path) -> None:
    generator = write(tmp_path / "g.safetensors", PLAIN)
    assert export(tmp_path / "g.safetensors", tmp_path / "g.pt2") < 1
    program = torch.export.load(tmp_path / "g.pt2").module()
    x = torch.rand(2, 3, 24, 17)
    with torch.no_grad():
        assert torch.allclose(program(x), generator(x), atol=1e-4)


def test_files_that_are_no_export_are_one_line(tmp_path: Path) -> None:
    write(tmp_path / "g.safetensors", PLAIN)
    with pytest.raises(ExportError, match=r"must end in \.onnx or \.pt2"):
        export(tmp_path / "g.safetensors", tmp_path / "g.pt")
    (tmp_path / "broken.onnx").write_bytes(b"no onnx")
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        load_onnx(tmp_path / "broken.onnx")
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    sides = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([node], "foreign", sides[:1], sides[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "foreign.onnx")
    with pytest.raises(ModelError, match="not a generator written by facesr"):
        load_onnx(tmp_path / "foreign.onnx")


def test_the_command_does_not_replace_a_file_of_other_origin(tmp_path: Path) -> None:
    write(tmp_path / "g.safetensors", PLAIN)
    (tmp_path / "mine.onnx").write_bytes(b"somebody's")
    done = CliRunner().invoke(
        app, ["models", "export", str(tmp_path / "g.safetensors"), "--to", str(tmp_path / "mine.onnx")]
    )
    assert done.exit_code == 2
    assert (tmp_path / "mine.onnx").read_bytes() == b"somebody's"
