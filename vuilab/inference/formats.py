"""Keras models as files that run without Keras: TensorFlow SavedModel, LiteRT and ONNX; LiteRT with 8-bit integers.

`write` makes a file, `open_file` runs one, `quantise` makes a small one; whether a file agrees with its model is for the
caller to check (`inference/export.py` does). Recurrent layers are why this is more than a call of `keras.Model.export`:

- The fast layers of `recurrent_layers` run a compiled TensorFlow function, which ONNX cannot hold: the file comes out, and no
  runtime opens it. `portable` puts the stock layers with the same weights in their place.
- On a GPU the stock layers would become cuDNN calls, which run on no other machine, so they are told to leave cuDNN out.
- With a free batch their loops need TensorFlow's list operations, which LiteRT lacks, so LiteRT files take one utterance.
- Calibrating the activations of a loop ends the whole process (TensorFlow 2.20), so `quantise` leaves those in float32.
"""

import dataclasses
import importlib
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vuilab.files import atomic_path
from vuilab.runs.weights import architecture

FORMATS = ("savedmodel", "litert", "onnx")
ONNX_OPSET = 15  # of 2021, which every runtime in use reads
INPUT_NAME = "features"
STOCK_LAYERS = {"vui>GRU": "GRU", "vui>SimpleRNN": "SimpleRNN"}  # registered name -> Keras' layer with the same weights
RECURRENT = ("GRU", "SimpleRNN", "LSTM", "RNN", "ConvLSTM1D", "ConvLSTM2D")


@dataclasses.dataclass(frozen=True)
class Runnable:
    """An exported file, ready to run."""

    run: Callable[[np.ndarray], np.ndarray]  # float32 inputs (batch, ...) to outputs (batch, ...)
    input_name: str  # in the file
    output_name: str


def portable(model: keras.Model) -> keras.Model:
    """Return a model with the same weights and results, made of stock Keras layers that compute in float32."""
    return _rebuilt(model, _stock)


def in_float32(model: keras.Model) -> keras.Model:
    """Return the model itself where it computes in float32, else a copy that does, with the same weights."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    return _rebuilt(model, _float32)


def is_recurrent(model: keras.Model) -> bool:
    """Return whether a model holds recurrent layers, also inside other layers."""
    return bool(re.search(rf'"class_name": "({"|".join(RECURRENT)})"', json.dumps(architecture(model))))


def _rebuilt(model: keras.Model, change: Callable[[dict], dict]) -> keras.Model:
    """Return a model with the same weights, a change having been made to every dictionary of its architecture."""
    config = json.loads(json.dumps(architecture(model)), object_hook=change)
    copy = keras.saving.deserialize_keras_object(config, safe_mode=True)
    copy.set_weights(model.get_weights())
    return copy


def _float32(config: dict) -> dict:
    return config | {"config": {"name": "float32"}} if config.get("class_name") == "DTypePolicy" else config


def _stock(config: dict) -> dict:
    config = _float32(config)
    if config.get("registered_name") in STOCK_LAYERS:
        name = STOCK_LAYERS[config["registered_name"]]
        config |= {"module": "keras.layers", "class_name": name, "registered_name": None}
    if config.get("class_name") in ("GRU", "LSTM"):
        config["config"]["use_cudnn"] = False
    return config


# --------------------------------------------------------------------------------------------------- writing


def write(model: keras.Model, path: str | Path, form: str, **options: Any) -> None:
    """Write a model in another format. The axes that are free in the model stay free, but for the batch of LiteRT, which is 1.

    Args:
        model: with one input and one output.
        path: a folder for 'savedmodel', else a file; LiteRT's ends in `.tflite`.
        form: 'savedmodel', 'litert' or 'onnx'.
        options: of Keras' `export`.

    Raises:
        ValueError: for an unknown format, a model with several inputs or outputs, or one that the format cannot hold.
        RuntimeError: on another backend than TensorFlow, and when a package is missing; the message says which.
    """
    require(form)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"Only models with one input and one output are exported. Received: {model.name!r} with {len(model.inputs)} inputs "
            f"and {len(model.outputs)} outputs."
        )
    batch = 1 if form == "litert" else None
    signature = [keras.InputSpec(shape=(batch, *model.input_shape[1:]), dtype="float32", name=INPUT_NAME)]
    if form == "onnx":
        options["opset_version"] = ONNX_OPSET
    if form == "litert":
        options = options or _litert_options()
    name = {"savedmodel": "tf_saved_model"}.get(form, form)
    try:
        with warnings.catch_warnings():
            # Keras asks NumPy for np.object to adapt tf2onnx, and NumPy warns about the name
            warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
            portable(model).export(str(path), format=name, verbose=False, input_signature=signature, **options)
        if form == "onnx":  # tf2onnx writes operations that ONNX does not know, and only logs them
            _import("onnx").checker.check_model(str(path))
    except Exception as error:  # converters raise almost anything
        raise ValueError(
            f"The model {model.name!r} cannot be written as {form}: {_reason(error)}. A SavedModel holds whatever TensorFlow "
            "runs: use the format savedmodel, or replace the layer."
        ) from error


def require(form: str) -> None:
    """Make sure that a format can be written here, before any work is done.

    Raises:
        ValueError: for an unknown format.
        RuntimeError: on another backend than TensorFlow, and when a package is missing.
    """
    if form not in FORMATS:
        raise ValueError(f"format must be one of {FORMATS}. Received: {form!r}")
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Models are exported from TensorFlow's graph of them. Received: the backend {keras.backend.backend()!r}. Run the "
            "export with KERAS_BACKEND=tensorflow; weights files load on every backend."
        )
    if form == "onnx":
        for package in ("onnx", "tf2onnx", "onnxruntime"):
            _import(package)


def _litert_options(small: bool = False, examples: np.ndarray | None = None) -> dict[str, Any]:
    """Return the converter's options: float32; `small`: 8-bit weights, and with examples for their ranges all else too."""
    import tensorflow as tf

    # without TensorFlow's own operations (Flex), which plain LiteRT runtimes do not have
    operations = tf.lite.OpsSet.TFLITE_BUILTINS if examples is None else tf.lite.OpsSet.TFLITE_BUILTINS_INT8
    options: dict[str, Any] = {"target_spec": {"supported_ops": [operations]}}
    if small:
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if examples is not None:
        options["representative_dataset"] = lambda: ([x[None]] for x in examples)
    return options


def _reason(error: Exception) -> str:
    """Return what stands in the way in one line; LiteRT's converter says it in the midst of a dump."""
    text = str(error).strip() or type(error).__name__
    lacking = re.search(r"^(?:Custom|Flex|TF Select) ops: (.+)$", text, re.MULTILINE)
    return f"it lacks the operation {lacking[1].strip()}" if lacking else text.splitlines()[0].rstrip(".")


# --------------------------------------------------------------------------------------------------- running


def open_file(path: str | Path) -> Runnable:
    """Open an exported file: a folder is a SavedModel, `.tflite` LiteRT, `.onnx` ONNX.

    Raises:
        FileNotFoundError: when there is nothing at the path.
        ValueError: for another suffix.
        RuntimeError: when a package is missing; the message says which.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No exported model at {path}. Make one: python vui.py export WEIGHTS --format litert")
    opener = _open_savedmodel if path.is_dir() else {".tflite": _open_litert, ".onnx": _open_onnx}.get(path.suffix)
    if opener is None:
        raise ValueError(
            f"An exported model is a folder or ends in .tflite or .onnx, which says its format. Received: {path.name!r}"
        )
    try:
        return opener(path)
    except RuntimeError:
        raise
    except Exception as error:  # runtimes raise almost anything
        raise ValueError(f"{path.name} cannot be opened: {_reason(error)}. Export the model again.") from error


def _open_savedmodel(path: Path) -> Runnable:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]
    names = next(iter(serve.structured_input_signature[1])), next(iter(serve.structured_outputs))
    # `loaded` is named here so that its variables live as long as the function
    return Runnable(lambda x, _owner=loaded: serve(**{names[0]: tf.constant(x)})[names[1]].numpy(), *names)


def _open_onnx(path: Path) -> Runnable:
    session = _import("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = session.get_inputs()[0].name, session.get_outputs()[0].name
    return Runnable(lambda x: session.run([names[1]], {names[0]: x})[0], *names)


def _open_litert(path: Path) -> Runnable:
    interpreter = _interpreter(path)
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(inputs: np.ndarray) -> np.ndarray:
        outputs = []
        for x in inputs:  # these files take one at a time
            interpreter.resize_tensor_input(given["index"], (1, *x.shape))
            interpreter.allocate_tensors()
            interpreter.set_tensor(given["index"], x[None])
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(made["index"])[0])
        return np.stack(outputs)

    return Runnable(run, given["name"], made["name"])


def _interpreter(path: Path):
    """Return LiteRT's interpreter from its own package where that is installed, else TensorFlow's copy of it."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = getattr(tf.lite, "Interpreter", None)
        if Interpreter is None:
            raise RuntimeError(
                "This TensorFlow has no LiteRT interpreter any more: pip install ai-edge-litert"
            ) from None
    with warnings.catch_warnings():
        # TensorFlow 2.20 announces that the interpreter will move to ai-edge-litert
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
        return Interpreter(model_content=path.read_bytes())  # a file that stays open cannot be renamed on Windows


def _import(package: str):
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RuntimeError(
            f"ONNX needs the package {package}: pip install -c constraints.txt -e '.[export]'"
        ) from error


def quantise(model: keras.Model, examples: np.ndarray, path: str | Path, min_agreement: float = 0.9) -> dict:
    """Write a classifier as a LiteRT file with 8-bit integers inside; inputs and outputs stay float32.

    Weights and activations become integers (Jacob et al., arXiv:1712.05877), the range of each activation being that of the
    examples. Models with recurrent layers keep float32 activations: only their weights become integers.

    Args:
        model: any Keras model with one input and one output of class scores on the last axis.
        examples: typical inputs, float (num_examples, ...); a few hundred, not the ones that accuracy is measured on.
        path: the file, ending in `.tflite`.
        min_agreement: share of the examples (of their frames, where there is a time axis) whose best class must stay.

    Returns:
        Dict of `bytes`, `activations` ('int8' or 'float32'), `agreement` (that share) and `largest_difference` of a score.

    Raises:
        ValueError: for examples that do not fit the model, for a model that LiteRT cannot hold, and when the classes agree too
            seldom; no file is left then.
        RuntimeError: on another backend than TensorFlow.
    """
    require("litert")
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"A LiteRT file ends in .tflite. Received: {path.name!r}")
    examples, shape = np.asarray(examples, np.float32), (None, *model.input_shape[1:])
    fits = len(shape) == examples.ndim and all(a in (None, b) for a, b in zip(shape, examples.shape, strict=True))
    if not fits or not len(examples) or not np.isfinite(examples).all():
        raise ValueError(
            f"The examples must be finite numbers of shape {('num_examples', *shape[1:])}, at least one. Received: shape "
            f"{examples.shape}"
        )
    recurrent = is_recurrent(model)
    with atomic_path(path) as partial:
        write(model, partial, "litert", **_litert_options(True, None if recurrent else examples))
        found = open_file(partial).run(examples)
        expected = keras.ops.convert_to_numpy(in_float32(model)(examples, training=False))
        agreement = float(np.mean(found.argmax(-1) == expected.argmax(-1)))
        if not np.isfinite(found).all() or agreement < min_agreement:
            raise ValueError(
                f"With 8-bit integers {model.name!r} keeps its best class on {100 * agreement:.1f} % of the {len(examples)} "
                f"examples; expected at least {100 * min_agreement:.1f} %. Pass more typical examples, or write it with "
                "float32 weights; no file was left."
            )
        size = partial.stat().st_size
    return {
        "bytes": size,
        "activations": "float32" if recurrent else "int8",
        "agreement": agreement,
        "largest_difference": float(np.abs(found - expected).max()),
    }
