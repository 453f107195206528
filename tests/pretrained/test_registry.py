"""Networks from elsewhere: what is missing is said together with all that a user can do about it."""

import hashlib
from pathlib import Path

import pytest
from support.stages import python

from pipeline.pretrained import registry
from pipeline.pretrained.registry import Network, WeightsError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return registry.cache_folder()


def test_a_missing_detector_is_said_with_its_address_the_option_and_the_place(cache: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        registry.find("detector")
    said = str(caught.value)
    for part in (
        "facesr weights fetch detector",
        "https://github.com/opencv/opencv_zoo/",
        "--detector FILE",
        str(cache),
        *(registry.NETWORKS[name].sha256 for name in ("detector", "detector-320")),
    ):
        assert part in said
    assert "params" not in said
    assert "\n" not in said


WHERE = """
from pipeline.pretrained.registry import cache_folder
before = cache_folder()
import torch
assert before == cache_folder(), (before, cache_folder())
torch.hub.set_dir("elsewhere")
assert str(cache_folder()).startswith("elsewhere")
"""


@pytest.mark.parametrize(
    "environment", [{}, {"XDG_CACHE_HOME": "~/cache"}, {"TORCH_HOME": "~/torch", "XDG_CACHE_HOME": "/cache"}]
)
def test_networks_are_looked_for_where_torch_keeps_them_before_and_after_its_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.delenv("TORCH_HOME")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = python(WHERE, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["embedding", "detector-320"])
def test_no_address_is_made_up_for_a_network_without_one(name: str) -> None:
    for get in (registry.find, registry.fetch):
        with pytest.raises(WeightsError) as caught:
            get(name)
        said = str(caught.value)
        assert "no download address is known" in said
        assert f"facesr weights add {registry.NETWORKS[name].file}" in said
        assert registry.NETWORKS[name].option + " FILE" in said
        assert "http" not in said
        assert "weights fetch" not in said


def test_a_named_file_that_is_missing_is_said_where_it_was_named(tmp_path: Path) -> None:
    for name, place in (("detector", "--detector names"), ("vgg19", "params.yaml names")):
        with pytest.raises(WeightsError, match=f"{place} .*nowhere, which does not exist"):
            registry.find(name, str(tmp_path / "nowhere"))


def test_a_network_that_serves_as_well_is_found_in_place_of_the_first(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"a network"
    known = Network("other.onnx", "", hashlib.sha256(content).hexdigest()[:8], "a test")
    monkeypatch.setitem(registry.NETWORKS, "detector-320", known)
    assert registry.find_optional("detector") is None
    (tmp_path / "renamed.onnx").write_bytes(content)
    assert registry.add(tmp_path / "renamed.onnx") == ("detector-320", cache / "other.onnx")
    assert registry.find("detector") == registry.find_optional("detector") == cache / "other.onnx"
    (cache / registry.NETWORKS["detector"].file).write_bytes(b"the first")
    assert registry.find("detector").name == registry.NETWORKS["detector"].file


def test_networks_that_serve_in_place_of_another_are_known_and_files_are_named_once() -> None:
    for network in registry.NETWORKS.values():
        assert all(name in registry.NETWORKS for name in network.instead)
    assert len({network.file for network in registry.NETWORKS.values()}) == len(registry.NETWORKS)
