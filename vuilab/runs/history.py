"""Histories: plain dicts of lists of numbers, pickled; reading one executes nothing that the file says."""

import pickle
from pathlib import Path
from typing import Any

from vuilab.files import atomic_path


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
    """Read a pickled history, a dict of lists of numbers such as 'loss' and 'val_loss', without executing anything.

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
