"""uv installs from where the user's pip would, and what the user tells uv itself stands."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("install", ROOT / "deploy/install.py")
assert SPEC is not None
assert SPEC.loader is not None
install = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(install)

CONFIGURED = """\
:env:.index-url='https://mirror.example/simple'
global.extra-index-url='https://one.example/simple https://two.example/simple'
global.find-links='/wheels /more'
global.index-url='https://other.example/simple'
install.cert='/certificates.pem'
"""


def test_uv_is_told_of_the_indexes_and_wheels_that_pip_is_configured_for() -> None:
    assert install.uv_environment(CONFIGURED, {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",  # the environment's, as with pip
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/certificates.pem",
    }
    assert install.uv_environment("", {}) == {}


def test_what_uv_is_told_by_its_own_variables_stands() -> None:
    told = {"UV_DEFAULT_INDEX": "https://mine.example/simple", "UV_INDEX_STRATEGY": "first-index"}
    assert not told.keys() & install.uv_environment(CONFIGURED, told).keys()


def test_one_uv_is_pinned_with_what_it_installs() -> None:
    assert "\nuv==" in (ROOT / "constraints.txt").read_text()
    assert "deploy/install.py" in (ROOT / "Makefile").read_text()


def test_what_is_installed_is_compiled_so_that_each_process_need_not() -> None:
    """Also where Python writes no bytecode by itself."""
    for name in ("dvc.repo", "ray", "torch.nn.functional"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.cached is not None
        assert Path(spec.cached).exists(), f"{name} is compiled anew by every process: make clean, then make install"
