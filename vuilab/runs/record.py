"""The record of a run and the ledger: what was trained how, where, on what, and by which code.

For a run called `model_1` in a folder there are `model_1.pickle` (the history, `runs/history.py`), the best weights under the
name that the caller gave (`runs/weights.py`), `model_1.json` (the record), and one more line in `ledger.jsonl`, which keeps
every run, also those whose files a later run with the same name replaced.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from vuilab.files import atomic_path, is_clone, repository

RESULTS = Path("results")
# where our layers stood in version 0.1, whose fingerprints hashed it
OLD_MODULES = {
    "vui>AcousticModel": "acoustic",
    "vui>CTCLoss": "ctc",
    "vui>GRU": "recurrent_layers",
    "vui>SimpleRNN": "recurrent_layers",
    "vui>PaddingMask": "length_aware",
    "vui>UtteranceNormalization": "length_aware",
    "vui>Thinned": "length_aware",
    "vui>ReverseUtterance": "length_aware",
    "vui>MaskedBatchNormalization": "length_aware",
    "vui>Pool": "keyword_models",
}
PACKAGES = ("keras", "tensorflow", "jax", "numpy", "scipy")


def results_path(name: str | Path) -> Path:
    """Return where a file goes: bare names under `results/`, paths with a folder as they are."""
    path = Path(name)
    return RESULTS / path if path.parent == Path() else path


def fingerprint(data: Any) -> str:
    """Return a hash of plain data; counters in automatic layer names (`dense_3`) and the modules of our layers do not count.

    A layer of this project is known by its registered name (`vui>GRU`), so a file may move without a run being made again. The
    features that a model brings do not count: a configuration holds those that it was trained on.
    """
    return _hash(_with_modules(data, {}))


def has_fingerprint(found: dict, configuration: dict) -> bool:
    """Say whether a record or checkpoint belongs to this configuration, by the hash of today or by that of version 0.1."""
    return found.get("fingerprint") in (fingerprint(configuration), _hash(_with_modules(configuration, OLD_MODULES)))


def same_recordings(found: dict, contents: dict[str, str | None]) -> bool:
    """Say whether a record or checkpoint was made of recordings that hold the same; what either does not know does not count.

    Those of version 0.2 do not say what their recordings held.
    """
    then = found.get("contents") or {}
    return all(then.get(part) in (None, value) or value is None for part, value in contents.items())


def _with_modules(data: Any, modules: dict[str, str]) -> Any:
    """Return plain data in which each of our layers stands with the module given here, or without one."""
    if isinstance(data, (list, tuple)):
        return [_with_modules(item, modules) for item in data]
    if not isinstance(data, dict):
        return data
    plain = {key: _with_modules(value, modules) for key, value in data.items()}
    name = plain.get("registered_name")
    if isinstance(name, str) and name.startswith("vui>"):
        plain.pop("module", None)
        if name == "vui>AcousticModel":
            plain["config"] = {key: value for key, value in plain["config"].items() if key != "features"}
        if name in modules:
            plain["module"] = modules[name]
    return plain


def _hash(data: Any) -> str:
    text = re.sub(r"_\d+(?=[\"/])", "", json.dumps(data, sort_keys=True, default=str))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: str | Path) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def environment() -> dict:
    """Return commit, versions and machine, for a run record."""
    import keras  # here, since records are read without a backend

    return {
        "command": _command(),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "clean": _git("status", "--porcelain", "--", "*.py") == "",
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": {"processor": _processor(), "cores": _cores(), "system": platform.system()},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data as indented JSON, all or nothing; NaN becomes null, as JSON has no NaN."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(_plain(data), indent=1, allow_nan=False) + "\n")


def read_record(path: str | Path) -> dict:
    """Read a run record.

    Raises:
        ValueError: when the file is no JSON object with a name.
    """
    try:
        record = json.loads(Path(path).read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no run record ({error}). Train the model again to make one.") from error
    if not isinstance(record, dict) or "name" not in record:
        raise ValueError(f"{path} is no run record: it has no 'name'. Expected one that train_model wrote.")
    return record


def append_to_ledger(folder: str | Path, record: dict) -> None:
    """Add a run as one line of `ledger.jsonl` in this folder."""
    path = Path(folder) / "ledger.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(".ledger.lock")), path.open("a") as file:  # several trials may end at once
        file.write(json.dumps(_plain(record), allow_nan=False) + "\n")


def add_to_record(weights: str | Path, part: str, plain: dict) -> None:
    """Write what was measured into the run record beside the weights, and into the ledger.

    Args:
        weights: of a finished run.
        part: key in the record, such as 'evaluation'; what it held is replaced.
        plain: plain data; command, commit, versions and machine are added.

    Raises:
        ValueError: when there is no record beside the weights.
    """
    path = Path(weights).with_suffix(".json")
    if not path.is_file():
        raise ValueError(
            f"--record writes into the record that training left beside the weights, and there is none at {path}. "
            "Pass --model WEIGHTS of a run of vui.py."
        )
    record = read_record(path)
    record[part] = {**plain, **environment()}
    write_json(path, record)
    append_to_ledger(path.parent, {"name": record["name"], part: record[part]})


def read_records(folder: str | Path = RESULTS) -> list[dict]:
    """Return the records of the runs in a folder, sorted by name; other JSON files are passed over."""
    records = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            records.append(read_record(path))
        except ValueError:
            continue
    return records


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if isinstance(data, np.ndarray):
        return _plain(data.tolist())
    if isinstance(data, (np.floating, float)):
        return float(data) if np.isfinite(data) else None
    if isinstance(data, np.integer):
        return int(data)
    return data


def _command() -> str:
    """Return the command line that this process runs, or say that it was a notebook or another script.

    The command line is known by its main module, so `python vui.py`, `python -m vui` and the console script are one.
    """
    entry = Path(sys.argv[0])
    if entry.stem == "vui" or (entry.name == "__main__.py" and entry.parent.name in ("vuilab", "cli")):
        backend = os.environ.get("KERAS_BACKEND")
        prefix = f"KERAS_BACKEND={backend} " if backend else ""
        return prefix + shlex.join(["python", "vui.py", *sys.argv[1:]])
    return "a notebook or script"


def _git(*arguments: str) -> str | None:
    if not is_clone():  # an installed package may lie in a folder that another project's git tracks
        return None
    options: dict[str, Any] = {"cwd": repository(), "capture_output": True, "text": True, "timeout": 20, "check": True}
    try:
        return subprocess.run(["git", *arguments], **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int | None:
    """Return how many cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()
