"""What a run leaves behind: weights with their metadata, safe pickles, run records and the ledger.

For a run called `model_1` in a folder there are `model_1.pickle` (the history, a plain dict of lists), the best weights
under the name that the caller gave, `model_1.json` (the run record), and one more line in `ledger.jsonl`, which
keeps every run, also those whose files a later run with the same name replaced.

Nothing here executes what a file says: pickles may hold plain containers and numbers only, and the architecture in a
weights file may name only Keras' own layers (no `Lambda`) and this project's.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import pickle
import platform
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import filelock
import h5py
import keras
import numpy as np

from vuilab.files import atomic_path, repository
from vuilab.models import (
    acoustic,  # noqa: F401  (registers the model class that weights files name)
    length_aware,  # noqa: F401  (registers layers)
)

RESULTS = Path("results")
METADATA_KEY = "vui_metadata"
WEIGHT_SUFFIXES = (".weights.h5", ".h5", ".keras")
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


# ------------------------------------------------------------------------------------------------- histories


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the file asks to load {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("the file refers to outside objects")


def save_history(path: str | Path, history: dict[str, list[float]]) -> None:
    """Write a history, a dict of equally long lists of numbers, as a pickle."""
    plain = {str(key): [float(value) for value in values] for key, values in history.items()}
    with atomic_path(path) as partial:
        partial.write_bytes(pickle.dumps(plain, protocol=4))


def load_history(path: str | Path) -> dict[str, list[float]]:
    """Read a pickled history without executing anything.

    Args:
        path: the pickle.

    Returns:
        Dict of lists of numbers, such as 'loss' and 'val_loss'.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no pickle, or holds anything but a dict of lists of numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No history at {path}. Train the model first, or check the name.")
    try:
        with path.open("rb") as file:
            history = _PlainUnpickler(file).load()
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(
            f"{path} is not a plain history ({error}). Nothing in it was executed. Expected a pickled dict of "
            "lists of numbers; train the model again to make one."
        ) from error
    good = isinstance(history, dict) and all(
        isinstance(key, str) and isinstance(values, list) and all(isinstance(value, (int, float)) for value in values)
        for key, values in history.items()
    )
    if not good:
        raise ValueError(f"{path} holds a {type(history).__name__}; expected a dict of lists of numbers.")
    return history


# --------------------------------------------------------------------------------------------------- weights


def save_weights(model: keras.Model, path: str | Path, metadata: dict | None = None) -> None:
    """Write a model's weights, with its architecture and metadata, so that the file needs nothing else.

    `model.load_weights(path)` reads it under the same name, whichever suffix was asked for.

    Args:
        model: the acoustic model, features to softmax.
        path: ending in `.h5`, `.weights.h5` or `.keras`.
        metadata: JSON-serialisable; `read_metadata` gives it back. The architecture is added under 'architecture'.

    Raises:
        ValueError: for another suffix.
    """
    path = Path(path)
    _check_suffix(path)
    text = json.dumps({**(metadata or {}), "architecture": architecture(model)})
    with atomic_path(path) as partial:
        if path.suffix == ".keras":
            model.save(partial)
            with zipfile.ZipFile(partial, "a") as archive:
                archive.writestr(f"{METADATA_KEY}.json", text)
        elif path.name.endswith(".weights.h5"):
            model.save_weights(partial)
            with h5py.File(partial, "a") as file:
                file.create_dataset(METADATA_KEY, data=text)
        else:
            _write_layerwise(model, partial)
            with h5py.File(partial, "a") as file:
                file.create_dataset(METADATA_KEY, data=text)


def _write_layerwise(model: keras.Model, path: Path) -> None:
    """Write the layout that `load_weights` expects of a plain `.h5`: one group a layer, in order.

    Keras 3 reads this layout but does not write it without the whole model and a warning.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"] = keras.backend.backend().encode()
        file.attrs["keras_version"] = keras.__version__.encode()
        for layer in model.layers:
            group = file.create_group(layer.name)
            weights = layer.trainable_weights + layer.non_trainable_weights
            names = [f"{number}_{weight.name}" for number, weight in enumerate(weights)]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, weights, strict=True):
                group.create_dataset(name, data=keras.ops.convert_to_numpy(weight))


def read_metadata(path: str | Path) -> dict:
    """Read the metadata of a weights file, among them 'architecture', 'features', 'mean' and 'std'.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no weights file of this project.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weights at {path}. Train a model first: python vui.py train MODEL")
    _check_suffix(path)
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                metadata = json.loads(archive.read(f"{METADATA_KEY}.json"))
        else:
            with h5py.File(path, "r") as file:
                metadata = json.loads(file[METADATA_KEY][()])
        if not isinstance(metadata, dict):
            raise TypeError(f"its metadata are a {type(metadata).__name__}")
        return metadata
    except Exception as error:  # a damaged archive can raise almost anything
        raise ValueError(
            f"{path} is not a weights file of this project ({error}). Expected one that train_model wrote; train the "
            "model again, or load plain Keras weights with model.load_weights."
        ) from error


def load_weights(model: keras.Model, path: str | Path) -> dict:
    """Load weights into a model of the same architecture and return the file's metadata.

    Raises:
        ValueError: when the file belongs to another architecture; the model is left as it was.
    """
    metadata = read_metadata(path)
    before = model.get_weights()
    try:
        model.load_weights(path)
    except Exception as error:
        model.set_weights(before)
        raise ValueError(
            f"{path} holds weights of another architecture than the model {model.name!r} ({model.count_params():,} "
            f"parameters): {_first_line(error)} Build the model with the arguments that it was trained with, or "
            "use records.load_model(path), which needs no builder."
        ) from error
    return metadata


def load_model(path: str | Path) -> tuple[keras.Model, dict]:
    """Build the model that a weights file describes, load its weights, and return it with the metadata.

    Raises:
        ValueError: when the file's architecture names anything but Keras' own layers and this project's.
    """
    metadata = read_metadata(path)
    config = metadata.get("architecture")
    _refuse_foreign_classes(config, path)
    try:
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        if not isinstance(model, keras.Model):
            raise TypeError(f"it describes a {type(model).__name__}, no model.")
    except Exception as error:
        raise ValueError(f"The architecture in {path} cannot be built: {_first_line(error)}") from error
    load_weights(model, path)
    return model, metadata


def architecture(model: keras.Model) -> dict:
    """Return the model's architecture as plain data; counters in automatic layer names are removed by `fingerprint`."""
    return keras.saving.serialize_keras_object(model)


def _refuse_foreign_classes(config: Any, path: str | Path) -> None:
    if isinstance(config, list):
        for item in config:
            _refuse_foreign_classes(item, path)
    elif isinstance(config, dict):
        if "class_name" in config:
            module, name = str(config.get("module")), str(config["class_name"])
            registered = str(config.get("registered_name"))
            ours = registered.startswith("vui>") and keras.saving.get_registered_object(registered) is not None
            keras_own = (
                module == "keras"
                or module.startswith("keras.")
                or name in ("__tuple__", "__tensor__", "__keras_tensor__")
            )
            if name in ("Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "TFSMLayer") or not (
                ours or keras_own
            ):
                raise ValueError(
                    f"The architecture in {path} names {module}.{name}, which is neither a layer of Keras nor of this "
                    "project. It was not loaded. If you trust the file, build the model yourself and use load_weights."
                )
        for value in config.values():
            _refuse_foreign_classes(value, path)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_suffix(path: Path) -> None:
    if not path.name.endswith(WEIGHT_SUFFIXES):
        raise ValueError(f"A weights file ends in one of {WEIGHT_SUFFIXES}. Received: {path.name!r}")


# --------------------------------------------------------------------------------------------------- records


def fingerprint(data: Any) -> str:
    """Return a hash of plain data; counters in automatic layer names (`dense_3`) and the modules of our layers do not count.

    A layer of this project is known by its registered name (`vui>GRU`), so a file may move without a run being made again.
    """
    return _hash(_with_modules(data, {}))


def has_fingerprint(found: dict, configuration: dict) -> bool:
    """Say whether a record or checkpoint belongs to this configuration, by the hash of today or by that of version 0.1.

    Args:
        found: holds 'fingerprint'.
        configuration: plain data, with the model's architecture.
    """
    return found.get("fingerprint") in (fingerprint(configuration), _hash(_with_modules(configuration, OLD_MODULES)))


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
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
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=repository(), capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


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
    if cpuinfo.is_file():
        names = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        if names:
            return names[0]
    return platform.processor() or platform.machine()
