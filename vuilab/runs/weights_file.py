"""What a weights file says of itself, read without a deep-learning backend."""

import json
import zipfile
from pathlib import Path

import h5py

METADATA_KEY = "vui_metadata"
WEIGHT_SUFFIXES = (".weights.h5", ".h5", ".keras")


def read_metadata(path: str | Path) -> dict:
    """Read the metadata of a weights file, among them 'architecture', 'features', 'mean' and 'std'.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no weights file of this project.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weights at {path}. Train a model first: python vui.py train MODEL")
    check_suffix(path)
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


def check_suffix(path: Path) -> None:
    """Refuse a name that is none of a weights file.

    Raises:
        ValueError: as said.
    """
    if not path.name.endswith(WEIGHT_SUFFIXES):
        raise ValueError(f"A weights file ends in one of {WEIGHT_SUFFIXES}. Received: {path.name!r}")
