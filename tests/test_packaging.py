"""What pip installs: one version everywhere, every folder of the package, and the files beside the code."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from vuilab.files import repository

ROOT = repository()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_project_citation_and_changelog_name_one_version():
    version = PROJECT["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == version
    assert re.search(r"^## (\d\S+)", changes, re.MULTILINE)[1] == version


def test_every_folder_of_the_package_is_installed_and_so_are_the_released_weights():
    setuptools = PROJECT["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "vuilab").rglob("__init__.py")}
    assert set(setuptools["packages"]) == {folder.replace("/", ".") for folder in folders} | {"vuilab.released"}
    patterns = {
        ROOT / setuptools["package-dir"].get(name, name.replace(".", "/")): found
        for name, found in setuptools["package-data"].items()
    }
    installed = {path for folder, found in patterns.items() for pattern in found for path in folder.glob(pattern)}
    kept = [path for folder in ("vuilab", "results/released") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert {path for path in kept if path.suffix not in (".py", ".pyc", ".nbi", ".nbc")} <= installed


@pytest.mark.slow
def test_an_installed_package_knows_its_weights_and_leaves_the_facades_out(tmp_path):
    source, target, elsewhere = tmp_path / "source", tmp_path / "target", tmp_path / "elsewhere"
    for name in ("vuilab", "results/released"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "pyproject.toml",
        "requirements.txt",
        "README.md",
        "LICENSE",
        "vui.py",
        "sample_models.py",
        "utils.py",
    ):
        shutil.copy(ROOT / name, source / name)
    elsewhere.mkdir()
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    subprocess.run([*pip, str(source)], check=True, capture_output=True, text=True)
    code = """
import importlib.util, vui
from vuilab.files import asset, released_folder, repository
from vuilab.inference.transcribe import released_language_model, released_weights
print(released_weights().parent == released_language_model().path.parent == released_folder(), released_folder().parent.name)
print(repository().name, importlib.util.find_spec("utils"), bool(asset("exploration/point_cloud.js")))
"""
    environment = os.environ | {"PYTHONPATH": str(target)}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == ["True vuilab", "elsewhere None True"]
