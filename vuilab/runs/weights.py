"""Weights files that need nothing else: weights with their architecture, features and statistics, under the caller's name.

Nothing here executes what a file says: the architecture may name only Keras' own layers (no `Lambda`) and this project's.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras

from vuilab.files import atomic_path
from vuilab.models import (
    acoustic,  # noqa: F401  (registers the model class that weights files name)
    length_aware,  # noqa: F401  (registers layers)
)
from vuilab.runs.weights_file import METADATA_KEY, check_suffix, read_metadata

RUNS_CODE = ("Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "TFSMLayer")  # of Keras, but not to be trusted


def save_weights(model: keras.Model, path: str | Path, metadata: dict | None = None) -> None:
    """Write a model's weights, with its architecture and metadata, so that the file needs nothing else.

    `model.load_weights(path)` reads it under the same name, whichever suffix was asked for. `read_metadata` gives back
    the metadata, which JSON can hold, and under 'architecture' that of the model.

    Raises:
        ValueError: for another suffix.
    """
    path = Path(path)
    check_suffix(path)
    text = json.dumps({**(metadata or {}), "architecture": architecture(model)})
    with atomic_path(path) as partial:
        if path.suffix == ".keras":
            model.save(partial)
            with zipfile.ZipFile(partial, "a") as archive:
                archive.writestr(f"{METADATA_KEY}.json", text)
            return
        if path.name.endswith(".weights.h5"):
            model.save_weights(partial)
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
            "use vuilab.runs.weights.load_model(path), which needs no builder."
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
    def check(part: dict) -> None:
        if "class_name" in part:
            module, name, registered = (str(part.get(key)) for key in ("module", "class_name", "registered_name"))
            ours = registered.startswith("vui>") and keras.saving.get_registered_object(registered) is not None
            keras_own = module.split(".")[0] == "keras" or name in ("__tuple__", "__tensor__", "__keras_tensor__")
            if name in RUNS_CODE or not (ours or keras_own):
                raise ValueError(
                    f"The architecture in {path} names {module}.{name}, which is neither a layer of Keras nor of this "
                    "project. It was not loaded. If you trust the file, build the model yourself and use load_weights."
                )

    json.loads(json.dumps(config), object_hook=check)  # calls it for each part


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
