"""The documentation is true: docstring examples run, commands parse, numbers are those of the notebooks."""

import ast
import doctest
import importlib
import json
import re
import shlex
import tomllib

import pytest

from vuilab.files import repository

ROOT = repository()
FILES = [*ROOT.glob("*.py"), *(ROOT / "vuilab").rglob("*.py")]
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES)
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", "LibriSpeech/README.md", "results/README.md")
    for path in sorted(ROOT.glob(pattern))
}
README = PAGES["README.md"]


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


def test_every_command_on_the_pages_parses():
    from vuilab.cli import main

    pattern = r"(?:^|`|\$ )(?:KERAS_BACKEND=\w+ )?[\w./]*python vui\.py ([^#\n`]+)"
    commands = [found for text in PAGES.values() for found in re.findall(pattern, text, re.MULTILINE)]
    assert len(commands) > 40
    for command in commands:
        main.parse(shlex.split(command.replace("...", "")))


def test_the_map_names_every_module_once_on_the_floor_that_lint_holds_it_to():
    section = PAGES["docs/architecture.md"].split("## The map")[1].split("\n## ")[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = reversed(project["tool"]["importlinter"]["contracts"][0]["layers"])
    floors = {name: floor for floor, names in enumerate(layers) for name in names.split(" | ")}
    named = []
    for floor, folder, told in re.findall(r"^\| (\d+) \| `(vuilab/(?:\w+/)?)` \| (.*) \|$", section, re.MULTILINE):
        modules = re.findall(r"`(\w+)\.py`", told)
        named += [f"{folder}{name}.py" for name in modules]
        places = modules if folder == "vuilab/" else [folder.split("/")[1]]
        assert {floors[place] for place in places} == {int(floor)}, folder
    modules = [path.relative_to(ROOT).as_posix() for path in (ROOT / "vuilab").rglob("*.py")]
    assert sorted(named) == sorted(name for name in modules if not name.endswith("__init__.py"))


def test_paths_on_the_pages_are_there():
    for name, text in PAGES.items():
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert ((ROOT / name).parent / link).exists(), (name, link)
        for path in re.findall(r"`(vuilab/[\w/]+\.py)`", text):
            assert (ROOT / path).is_file(), (name, path)


def test_pages_are_easy_to_read():
    assert len(README.encode()) <= 9000
    for name, text in PAGES.items():
        outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for line in outside.splitlines():
            if line.startswith("|"):
                assert len(re.findall(r"(?<!\\)\|", line)) <= 8, (name, line)  # so at most 7 columns
            else:
                assert len(line) <= 220, (name, line)


def test_the_changelog_knows_where_modules_are():
    section = PAGES["CHANGELOG.md"].split("### Where modules are now")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `vuilab/(\w*)/?` \| (.*) \|$", section, re.MULTILINE)
    assert len(rows) > 10
    for folder, told in rows:
        for name in re.findall(r"`(\w+)`", re.sub(r" \((?:was|were) [^)]*\)", "", told)):
            assert (ROOT / "vuilab" / folder / f"{name}.py").is_file(), (folder, name)


def test_the_ten_line_model_of_the_readme_builds(monkeypatch):
    import train_utils

    trained = []
    monkeypatch.setattr(train_utils, "train_model", lambda model, *args, **kwargs: trained.append(model))
    monkeypatch.setattr(train_utils, "plot_comparison", lambda names: None)
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    exec(compile(block, "README.md", "exec"), {})
    assert trained[0].output_length(100) == trained[0].compute_output_shape((1, 100, 161))[1] == 25


def test_the_page_on_decoding_says_of_the_demo_what_the_notebook_found():
    told = re.search(r"the notebook's model goes from ([\d.]+) to ([\d.]+) % WER", PAGES["docs/decoding.md"])
    text = (ROOT / "vui_notebook.ipynb").read_text(encoding="utf-8")
    table = text[text.index("| sentences of the test set | number |") :]
    row = re.search(r"\| all \| \d+ \|[^|]*\|[^|]*\| ([\d.]+) [^|]*\| ([\d.]+) ", table)
    assert told.groups() == row.groups()
