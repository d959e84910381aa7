"""Writing files all or nothing, and bars that show progress."""

import errno
import os
import subprocess
import sys

import pytest

from vuilab import files
from vuilab.files import atomic_path, repository, require_writable


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_atomic_path_replaces_the_file_only_on_success(tmp_path):
    path = tmp_path / "deep" / "model.weights.h5"
    with atomic_path(path) as partial:
        assert partial.parent == path.parent and partial.name.endswith(".weights.h5")
        partial.write_text("one")
        assert not path.exists()
    with atomic_path(path) as partial:
        partial.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert names(path.parent) == ["model.weights.h5"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_atomic_path_leaves_nothing_behind_on_an_error(tmp_path, error):
    path = tmp_path / "history.pickle"
    path.write_text("before")
    with pytest.raises(type(error)), atomic_path(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert names(tmp_path) == ["history.pickle"]


def test_atomic_path_survives_a_partial_file_that_the_writer_moved_away(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt") as partial:
        partial.unlink()
    assert names(tmp_path) == []


def test_files_written_atomically_get_the_usual_permissions(tmp_path):
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.write_text("")
    with atomic_path(atomic):
        pass
    assert atomic.stat().st_mode == plain.stat().st_mode


def test_require_writable_makes_the_folder_and_leaves_no_file(tmp_path):
    require_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []


def test_require_writable_names_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Cannot write into .*file/sub .*Make it writable, or name another folder"):
        require_writable(tmp_path / "file" / "sub")


def test_a_progress_bar_passes_everything_on_and_can_be_silent(capsys):
    assert list(files.progress_bar(range(3), "counting")) == [0, 1, 2]
    assert "counting: 100%" in capsys.readouterr().err
    assert list(files.progress_bar(range(3), "counting", enabled=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("writable", [True, False])
def test_compiled_functions_work_where_no_cache_can_be_written(tmp_path, writable):
    module = "from vuilab.files import compiled\n\n\n@compiled()\ndef double(number):\n    return 2 * number\n"
    (tmp_path / "doubling.py").write_text(module)
    cache = tmp_path / "__pycache__"
    cache.mkdir() if writable else cache.write_text("in the way of numba's own folder")
    environment = {**os.environ, "PYTHONPATH": f"{repository()}{os.pathsep}{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"XDG_CACHE_HOME": "/dev/null/nowhere", "HOME": "/dev/null/nowhere"}
    command = [sys.executable, "-c", "import doubling; print(doubling.double(21))"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (result.stdout, result.stderr) == ("42\n", "")
    assert writable == (cache.is_dir() and any(cache.glob("doubling*.nbi")))
