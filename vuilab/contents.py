"""What recordings hold, as a hash of their bytes, so that a file that was replaced in place is noticed.

Reading every file takes as long as computing features. So a table keeps size, times and hash of each file, and only files whose
size or times differ from it are read again. The time of the last status change (`st_ctime`) is among them: it tells a file
that was put in place together with an older modification time, as `cp --preserve` and unpacking do.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from vuilab.files import atomic_path, progress_bar

NUM_THREADS = os.cpu_count() or 1


def hashes_of(paths: Iterable[Path], table: Path, progress: bool = True) -> dict[Path, str | None]:
    """Return file -> hash of its bytes, 16 hexadecimal digits of SHA-256.

    Args:
        paths: the files. One that is gone counts as the table has it, since features outlive recordings; else it has None.
        table: JSON file that keeps path -> [size, modification time, change time, hash]. It is made, and brought up to date where
            its folder can be written; a damaged one is made anew.
    """
    known = _read_table(table)
    states = {path: _state(path) for path in paths}
    changed = [path for path, state in states.items() if state and state != known.get(str(path), [])[:3]]
    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        hashes = pool.map(_hash, changed)
        bar = progress_bar(hashes, "Contents of recordings", len(changed), " files", progress, delay=2)
        found = {str(path): [*states[path], value] for path, value in zip(changed, bar, strict=True) if value}
    if found:
        with contextlib.suppress(OSError), atomic_path(table) as partial:
            partial.write_text(json.dumps(known | found), encoding="utf-8")
    known |= found
    return {path: known[str(path)][3] if str(path) in known else None for path in states}


def hash_of_all(hashes: Iterable[str | None]) -> str | None:
    """Return one hash of several, in their order; None when one is None."""
    hashes = list(hashes)
    return None if None in hashes else hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


def last_change(paths: Iterable[Path]) -> float:
    """Return when one of these files was changed or put in place for the last time, in seconds since 1970; 0 without files."""
    return max((max(state[1:]) for state in map(_state, paths) if state), default=0) / 1e9


def _state(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return None


def _read_table(table: Path) -> dict[str, list]:
    try:
        found = json.loads(table.read_text(encoding="utf-8"))
        return found if all(len(row) == 4 and isinstance(row[3], str) for row in found.values()) else {}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
