"""Install the project with uv, several times faster than pip, or with pip where uv cannot; the Makefile calls this.

    .venv/bin/python deploy/install.py [EXTRA …]

uv does not read pip's configuration, so it is told here what pip would do: which index, which further ones, which
folders of wheels, which certificates and proxy. A variable of uv's own that is set already (`UV_DEFAULT_INDEX`,
`UV_TORCH_BACKEND` …) stands. FACESR_PIP=1 leaves uv out. Standard library alone: nothing is installed yet.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
UV = [sys.executable, "-m", "uv"]

SEPARATORS = {
    "index-url": ("UV_DEFAULT_INDEX", ""),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", ""),
    "proxy": ("ALL_PROXY", ""),
    "default-timeout": ("UV_HTTP_TIMEOUT", ""),
    "timeout": ("UV_HTTP_TIMEOUT", ""),
    "no-index": ("UV_NO_INDEX", ""),
}
"""pip's option -> uv's variable, and what stands between several values there; "" where there is one only."""


def uv_environment(configuration: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that make uv install from where pip would.

    Args:
        configuration: what `pip config list` prints: lines `section.option='value'`.
        environment: of this process; what it holds is not set again.
    """
    # as pip does it: of [global], [install] and the environment, the last one that names an option
    options: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in configuration.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                options[name.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    variables = {}
    for option, (variable, separator) in SEPARATORS.items():
        if option in options and variable not in environment:
            values = options[option].split()
            variables[variable] = separator.join(values) if separator else options[option].strip()
    # pip takes the best version that any index has, uv by itself looks no further than the first that has any
    if "UV_INDEX" in variables and "UV_INDEX_STRATEGY" not in environment:
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return variables


def main(extras: list[str]) -> int:
    """Install the project as it lies here, editable; the exit status of whatever did it last."""
    what = ["--quiet", "--constraint", str(CONSTRAINTS), "--editable", f"{ROOT}[{','.join(extras)}]"]
    if not os.environ.get("FACESR_PIP"):
        listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
        told = {**os.environ, **uv_environment(listed, os.environ)}
        uv = subprocess.run([*PIP, "install", "--quiet", "--constraint", str(CONSTRAINTS), "uv"], check=False)
        # as pip does: where Python may not write bytecode, each process would compile all that it imports, and Ray and
        # DVC start many: two seconds instead of three and a half
        install = [*UV, "pip", "install", "--compile-bytecode", "--python", sys.executable, *what]
        if not uv.returncode and not subprocess.run(install, env=told, check=False).returncode:
            return 0
        print("uv could not install it: pip does, which takes some minutes", file=sys.stderr)
    return subprocess.run([*PIP, "install", *what], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
