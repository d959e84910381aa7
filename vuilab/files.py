"""Where things are on disk, and writing them all or nothing."""

import contextlib
import importlib.resources
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm


def is_clone() -> bool:
    """Return whether the package runs from a clone of the project, and not from where pip installed it."""
    return (Path(__file__).resolve().parents[1] / "pyproject.toml").is_file()


def repository() -> Path:
    """Return the folder where `results/` and `LibriSpeech/` stand: that of the clone, else the working folder."""
    return Path(__file__).resolve().parents[1] if is_clone() else Path.cwd()


def released_folder() -> Path:
    """Return the folder of the released weights: `results/released` of the clone, else a part of the installed package."""
    return repository() / "results" / "released" if is_clone() else Path(__file__).resolve().with_name("released")


def asset(name: str) -> str:
    """Return the text of a file that is part of the package, such as 'exploration/point_cloud.js'."""
    return importlib.resources.files("vuilab").joinpath(name).read_text(encoding="utf-8")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it on success and vanishes on any error.

    The temporary name keeps the suffix of `path`, since several writers choose their format by it.

    Args:
        path: the file to write. Its folder is created when it is missing.

    Raises:
        OSError: when the folder cannot be created or written; nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=".partial-", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner may read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: Path, prefix: str = "") -> Iterator[Path]:
    """Yield a new folder beside `folder` that replaces it on success and vanishes on any error.

    Where its name gets a `prefix`, what killed runs left under that is removed; the caller holds a lock then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{prefix}*") if prefix else ():
        shutil.rmtree(left, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix=prefix or f".{folder.name}-making-", dir=folder.parent))
    try:
        making.chmod(0o755)  # mkdtemp lets only its owner read
        yield making
        if folder.exists():
            folder.rename(f"{making}-replaced")
        making.rename(folder)
    finally:
        for left in (making, Path(f"{making}-replaced")):
            shutil.rmtree(left, ignore_errors=True)


def progress_bar(
    iterable: Iterable | None,
    description: str,
    total: int | None = None,
    unit: str = "it",
    enabled: bool = True,
    delay: float = 0,
) -> tqdm:
    """Return a progress bar in plain ASCII: lively in a terminal, a line every few seconds in a log file.

    Args:
        iterable: what to go through; None to call `update` by hand.
        description, total: what is going on, and its number of steps where that is known.
        unit: what a step is; "B" counts bytes and shows them as kB, MB, GB.
        enabled: False shows nothing.
        delay: seconds before the bar appears, for work that is usually done by then.
    """
    return tqdm(
        iterable,
        description,
        total,
        unit=unit,
        unit_scale=unit == "B",
        disable=not enabled,
        delay=delay,
        ascii=True,
        mininterval=0.5 if sys.stderr.isatty() else 5,
    )


def require_writable(folder: str | Path) -> None:
    """Make a folder and prove that a file can be written there, before hours of work depend on it.

    Raises:
        OSError: when it cannot be made or written; the message names it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            error.errno, f"Cannot write into {folder} ({error.strerror}). Make it writable, or name another folder"
        ) from error


def compiled(**options: bool) -> Callable[[Callable], Callable]:
    """Return a decorator that compiles a function with numba and keeps the result on disk where anything can be written.

    Numba keeps it beside the module, else in the user's cache folder. Where both are read-only, as in the shared folder of a
    course, the function is compiled in memory, anew in each process.

    Args:
        options: of `numba.njit`.
    """
    import numba

    def decorate(function: Callable) -> Callable:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # numba: "cannot cache function: no locator available"
            return numba.njit(**options)(function)

    return decorate
