"""Nothing in the package reaches for the root, and what needs no network loads no deep-learning backend.

`make lint` holds the floors of the package (import-linter, in pyproject.toml).
"""

import ast
import subprocess
import sys

import pytest

from vuilab.files import repository

ROOT = repository()
BACKENDS = {"keras", "tensorflow", "jax", "torch"}


def test_no_module_of_the_package_imports_a_root_module():
    entries = {path.stem for path in ROOT.glob("*.py")}
    for path in (ROOT / "vuilab").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & entries, path


@pytest.mark.parametrize(
    "code",
    [
        "import vuilab.exploration, vuilab.corpus, vuilab.data, vuilab.scoring.error_rates",
        "import contextlib, vui\nwith contextlib.suppress(SystemExit):\n    vui.main(['--help'])",
    ],
)
def test_no_backend_is_loaded_by(code):
    found = f"{code}\nimport sys\nprint(sorted({BACKENDS} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", found], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
