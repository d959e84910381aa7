"""The documentation is true: docstring examples run, commands parse, numbers are those of the notebooks."""

import ast
import doctest
import importlib
import json
import re
import shlex

import pytest

from vuilab.files import repository

ROOT = repository()
FILES = [*ROOT.glob("*.py"), *(ROOT / "vuilab").rglob("*.py")]
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES)
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_notebooks_import_is_there(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for node in ast.walk(ast.parse(re.sub(r"^%.*", "", code, flags=re.MULTILINE))):  # without IPython's magic
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            found = [
                hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}")
                for name in node.names
            ]
            assert all(found), ast.unparse(node)


def test_every_command_in_the_readme_parses():
    from vuilab.cli import main

    commands = re.findall(r"^(?:\S*python3?|.venv\S+) vui\.py ([^#\n`]+)", README, re.MULTILINE)
    assert len(commands) > 5
    for command in commands:
        main._parser().parse_args(shlex.split(command.replace("...", "")))


def test_the_ten_line_model_of_the_readme_builds(monkeypatch):
    import train_utils

    trained = []
    monkeypatch.setattr(train_utils, "train_model", lambda model, *args, **kwargs: trained.append(model))
    monkeypatch.setattr(train_utils, "plot_comparison", lambda names: None)
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    exec(compile(block, "README.md", "exec"), {})
    assert trained[0].output_length(100) == trained[0].compute_output_shape((1, 100, 161))[1] == 25


def test_the_readme_says_of_the_demo_what_the_notebook_found():
    told = re.search(r"the notebook's model goes from ([\d.]+) to ([\d.]+) % WER", README)
    text = (ROOT / "vui_notebook.ipynb").read_text(encoding="utf-8")
    table = text[text.index("| sentences of the test set | number |") :]
    row = re.search(r"\| all \| \d+ \|[^|]*\|[^|]*\| ([\d.]+) [^|]*\| ([\d.]+) ", table)
    assert told.groups() == row.groups()
