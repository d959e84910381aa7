"""The notebooks, run from the top at tiny scale in an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vuilab.files import repository

ROOT = repository()
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))
MAX_BYTES = 1.5e6


def _slow(name: str, scale: str, *marks):
    return pytest.param((ROOT / f"{name}.ipynb", scale), marks=[pytest.mark.slow, pytest.mark.timeout(3700), *marks])


# the study's machinery has fast tests of its own (test_study.py)
RUNS = [(path, "tiny") for path in NOTEBOOKS if path.stem != "model_study_notebook"]
RUNS += [_slow("model_study_notebook", "tiny")]
# a quarter of an hour and more; at tiny scale it runs on every backend
ONCE = pytest.mark.skipif(os.environ.get("KERAS_BACKEND") == "jax", reason="TensorFlow runs the whole notebook")
RUNS += [_slow("speech_commands_notebook", "full", ONCE)]


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: f"{run[0].stem}-{run[1]}")
def report(request, tmp_path_factory) -> Path:
    """The HTML report of a notebook, made by the command line from a copy in an empty folder."""
    folder, (path, scale) = tmp_path_factory.mktemp("notebook"), request.param
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}
    command = [sys.executable, str(ROOT / "vui.py"), "report", copy.name, "--scale", scale]
    limit = 290 if scale == "tiny" else 3600
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "warning" not in result.stderr.lower(), result.stderr[-3000:]
    assert {found.name for found in folder.iterdir()} == {copy.name, "results"} or scale != "tiny"
    return folder / "results" / f"{copy.stem}{'-tiny' * (scale == 'tiny')}.html"


def test_every_cell_runs_in_order_without_errors_and_warnings(report):
    notebook = json.loads(report.with_suffix(".ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    text = "".join("".join(output.get("text", "")) for output in outputs)
    assert "Warning" not in text


def test_report_loads_nothing_from_elsewhere_and_describes_its_pictures(report):
    html = report.read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|img|iframe|audio|source)[^>]*\ssrc=\"(?!data:)[^\"]*", html)
    assert not re.findall(r"<link[^>]*\shref=\"(?!data:)[^\"]*", html)
    assert not re.search(r"@import|url\(\s*['\"]?https?:", html)
    assert "No description has been provided" not in html
    assert "<math" in html and "\\frac" not in html


def test_report_and_executed_notebook_stay_small(report):
    assert report.with_suffix(".ipynb").stat().st_size < MAX_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_small_and_has_no_error(path):
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert path.stat().st_size < MAX_BYTES
    assert not [o for cell in code for o in cell["outputs"] if o["output_type"] == "error"]
    counts = [cell["execution_count"] for cell in code]
    assert counts == list(range(1, len(code) + 1)) or not any(counts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_function_in_a_cell_is_longer_than_ten_lines(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            for body in re.findall(r"^def .*\n((?:[ \t]+.*\n?|\n)+)", "".join(cell["source"]), re.MULTILINE):
                assert len(body.strip().splitlines()) < 10
