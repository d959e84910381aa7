"""The documentation is true: docstring examples run, the README's map lists the modules in import order."""

import ast
import doctest
import importlib
import re
import shlex

import pytest

from vuilab.files import repository

ROOT = repository()
MODULES = sorted(path.stem for path in ROOT.glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def _map_order() -> list[str]:
    section = README.split("## The files are the pipeline")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return [name for row in rows for name in re.findall(r"`(\w+)\.py`", row)]


def test_readme_map_lists_every_module_once():
    assert sorted(_map_order()) == MODULES


def _imports(name: str) -> set[str]:
    tree = ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found & set(MODULES)


def test_modules_import_only_from_those_above_them_in_the_map():
    order = _map_order()
    late = {name: sorted(m for m in _imports(name) if order.index(m) >= order.index(name)) for name in order}
    # evaluation loads the weights' module only where predictions need it, so that scores need no backend
    assert {name: modules for name, modules in late.items() if modules} == {}


@pytest.mark.parametrize("name", [name for name in MODULES if name != "vui"])
def test_modules_without_a_backend_stay_light(name):
    light = {"char_map", "utils", "corpora", "indexing", "fetching", "downloads", "sentences", "voices", "synthesis"}
    light |= {"augment", "feature_cache", "figures", "data_generator", "decoding", "evaluation"}
    light |= {
        "spectra",
        "clip_views",
        "speech_activity",
        "word_statistics",
        "speaker_views",
        "point_cloud",
        "exploration",
    }
    heavy = {"keras", "tensorflow", "jax"}
    if name in light:
        tree = ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in top if isinstance(node, ast.ImportFrom) and node.module}
        assert not {module.split(".")[0] for module in names} & heavy


def test_every_command_in_the_readme_parses():
    from vuilab.cli import main

    commands = re.findall(r"^(?:\S*python3?|.venv\S+) vui\.py ([^#\n`]+)", README, re.MULTILINE)
    assert len(commands) > 5
    for command in commands:
        main._parser().parse_args(shlex.split(command.replace("...", "")))


def test_the_ten_line_model_of_the_readme_builds(monkeypatch):
    from vuilab.training import recogniser

    trained = []
    monkeypatch.setattr(recogniser, "train_model", lambda model, *args, **kwargs: trained.append(model))
    monkeypatch.setattr(recogniser, "plot_comparison", lambda names: None)
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    exec(compile(block, "README.md", "exec"), {})
    assert trained[0].output_length(100) == trained[0].compute_output_shape((1, 100, 161))[1] == 25


def test_the_readme_says_of_the_demo_what_the_notebook_found():
    told = re.search(r"the notebook's model goes from ([\d.]+) to ([\d.]+) % WER", README)
    text = (ROOT / "vui_notebook.ipynb").read_text(encoding="utf-8")
    table = text[text.index("| sentences of the test set | number |") :]
    row = re.search(r"\| all \| \d+ \|[^|]*\|[^|]*\| ([\d.]+) [^|]*\| ([\d.]+) ", table)
    assert told.groups() == row.groups()
