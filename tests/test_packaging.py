"""What pip installs: one version everywhere, every folder of the package, and the files beside the code."""

import re
import tomllib

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
