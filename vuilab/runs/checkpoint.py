"""Everything that a training run needs to go on where it was killed, in one file beside its history.

The file holds every variable of the training model and its optimiser (weights, moments, batch statistics, the states of
dropout's random generators), the place in the data (epoch and step; the order of the batches follows from them and the
seed), the history, what is best so far, and the counters of the callbacks. It is written beside and renamed, so that a kill
while writing leaves the one before. It is a plain NumPy archive that is read without pickle: it executes nothing.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vuilab.files import atomic_path

VERSION = 1
SUFFIX = ".checkpoint.npz"


def checkpoint_path(history_path: str | Path) -> Path:
    """Return where the checkpoint of a run goes: beside its history."""
    return Path(history_path).with_suffix(SUFFIX)


def save_checkpoint(
    path: str | Path, trainer: keras.Model, state: dict[str, Any], callbacks: Sequence[keras.callbacks.Callback] = ()
) -> None:
    """Write a checkpoint, all or nothing: of a compiled model, plain data of the loop, and the counters of callbacks."""
    values = (np.asarray(keras.ops.convert_to_numpy(variable)) for variable in _variables(trainer))
    arrays: dict[str, Any] = {f"variable_{number}": value for number, value in enumerate(values)}
    kept = []
    for number, callback in enumerate(callbacks):
        kept.append({"class": type(callback).__name__, "counters": _counters(callback)})
        for index, weight in enumerate(getattr(callback, "best_weights", None) or []):
            arrays[f"callback_{number}_{index}"] = np.asarray(weight)
    text = json.dumps({"version": VERSION, "state": state, "callbacks": kept})
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, text=np.frombuffer(text.encode(), np.uint8), **arrays)


def load_checkpoint(
    path: str | Path, trainer: keras.Model, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> dict[str, Any]:
    """Put a training model, its optimiser and callbacks back into the state of a checkpoint, and return the loop's state.

    Model, optimiser and callbacks (in their order) are the same as when it was written.

    Raises:
        ValueError: when the file is damaged or belongs to another model; nothing has been changed then.
    """
    content, arrays = _read(Path(path))
    trainer.optimizer.build(trainer.trainable_variables)
    variables = _variables(trainer)
    values = [arrays[f"variable_{number}"] for number in range(sum(name.startswith("variable_") for name in arrays))]
    if len(values) == len(variables) + 1:  # version 0.1 kept the learning rate, behind the step, beside a schedule too
        del values[len(trainer.variables) + 1]
    if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
        raise ValueError(
            f"The checkpoint {path} belongs to another model or optimiser than {trainer.name!r}. Build the model as it was "
            "when the run began, or train without resume=True to begin anew."
        )
    given, expected = [type(one).__name__ for one in callbacks], [item["class"] for item in content["callbacks"]]
    if given != expected:
        raise ValueError(
            f"The checkpoint {path} was written with the callbacks {expected}. Received: {given}. Pass the same ones in the "
            "same order."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    for number, (callback, item) in enumerate(zip(callbacks, content["callbacks"], strict=True)):
        vars(callback).update(item["counters"])
        names = [name for name in arrays if name.startswith(f"callback_{number}_")]
        if names:
            callback.best_weights = [arrays[f"callback_{number}_{index}"] for index in range(len(names))]
    return content["state"]


def peek(path: str | Path) -> dict[str, Any]:
    """Return the loop's state in a checkpoint without changing any model.

    Raises:
        ValueError: when the file is damaged.
    """
    return _read(Path(path))[0]["state"]


def _read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        content = json.loads(arrays.pop("text").tobytes().decode())
    except Exception as error:  # a damaged archive can raise almost anything
        raise ValueError(
            f"The checkpoint {path} is damaged ({error}). Remove it and train without resume=True to begin anew."
        ) from error
    if content.get("version") != VERSION:
        raise ValueError(f"The checkpoint {path} has version {content.get('version')}; expected {VERSION}.")
    return content, arrays


def _variables(trainer: keras.Model) -> list:
    return [*trainer.variables, *trainer.optimizer.variables]


def _counters(callback: keras.callbacks.Callback) -> dict:
    plain = {}
    for name, value in vars(callback).items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, (int, float, bool, str)) and not name.startswith("_"):
            plain[name] = value
    return plain
