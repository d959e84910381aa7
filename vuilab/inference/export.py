"""Trained recognisers for use without this project: SavedModel, LiteRT or ONNX, each checked against Keras at once.

The exported graph takes features as `utils` computes them, before normalisation, and gives class probabilities: mean and
deviation of the training set are part of the graph. A JSON file beside it says everything else that a program needs: the
alphabet, the blank, the features and the sample rate.

A file appears under its name only after it gave the same probabilities as Keras on utterances of several lengths; none
of them was known to the converter, which sees a free number of frames.
"""

import bisect
import contextlib
import importlib.metadata
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from keras import layers

from vuilab.audio import SAMPLE_RATE
from vuilab.features import LOG_FLOOR, MFCC_WINDOW
from vuilab.inference import formats
from vuilab.inference.transcribe import Recogniser
from vuilab.models.acoustic import output_length
from vuilab.runs.record import write_json
from vuilab.runs.weights_file import WEIGHT_SUFFIXES

VERSION = 1  # of the JSON file
SUFFIXES = {"savedmodel": ".savedmodel", "litert": ".tflite", "onnx": ".onnx"}
TOLERANCE = 1e-4  # of a probability
SECONDS = (0.47, 2.0, 7.31)  # lengths of the utterances that are compared, besides the shortest possible one
BATCH = 3  # utterances run at once, where the format allows it
LONGEST_MINIMUM = 10**6  # frames that a model may need for its first output
DEFINITIONS = {
    "spectrogram": "natural logarithm of (power density + {floor:g}); density as scipy.signal.spectrogram gives it with a Hann "
    "window, detrend=False, scaling='density', one-sided, no padding, bins up to max_freq",
    "mfcc": "python_speech_features.mfcc with winlen={mfcc_window}, winstep=step/1000, numcep=mfcc_dim, its other defaults, on "
    "samples in -1..1",
    "logmel": "natural logarithm of (mel energies + {floor:g}); the density of scipy.signal.spectrogram (Hann window, "
    "detrend=False, scaling='density', no padding) times librosa.filters.mel(n_mels=num_mels, fmax=max_freq)",
    "raw": "the samples themselves, in -1..1",
}


def default_path(weights: str | Path, form: str) -> Path:
    """Return where an export goes when nobody says: beside the weights, under their name.

    Example:
        >>> default_path("results/model_4.h5", "onnx").as_posix()
        'results/model_4.onnx'
    """
    weights = Path(weights)
    stem = next((weights.name.removesuffix(s) for s in WEIGHT_SUFFIXES if weights.name.endswith(s)), weights.stem)
    return weights.with_name(stem + SUFFIXES[form])


def metadata_path(path: str | Path) -> Path:
    """Return where the JSON file of an export goes: beside it, `.json` appended."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def export(recogniser: Recogniser, path: str | Path, form: str) -> dict:
    """Write a recogniser in another format, with a JSON file beside it, after checking that it agrees with Keras.

    Args:
        recogniser, form: what is written, and as what: 'savedmodel', 'litert' or 'onnx'.
        path: the file, or the folder of a SavedModel. An export that is already there is replaced.

    Returns:
        What the JSON file holds; `verified` has the largest differences.

    Raises:
        ValueError: for an unknown format, a path that does not fit it or is taken by something else, a model that the format
            cannot hold, and a file that disagrees with Keras; nothing is left behind.
        RuntimeError: on another backend than TensorFlow, and when a package is missing; the message says which.
    """
    formats.require(form)
    path = Path(path)
    _check_path(path, form)
    with _appearing(path) as folder:
        formats.write(with_statistics(recogniser), folder / path.name, form)
        exported = formats.open_file(folder / path.name)
        differences = verify(exported.run, recogniser, BATCH if form != "litert" else 1)
        metadata = _metadata(recogniser, path, form, exported, differences)
        write_json(metadata_path(folder / path.name), metadata)
    return metadata


def describe(path: str | Path, metadata: dict) -> str:
    """Return what there is to say about an export and its metadata: sizes, inputs, outputs and how far it is from Keras."""
    path = Path(path)
    size = sum(item.stat().st_size for item in [path, *path.rglob("*")] if item.is_file())
    lines = [f"{path}: {size / 1e6:.1f} MB"]
    for side in ("input", "output"):
        shape = ", ".join(str(length) for length in metadata[side]["shape"])
        lines.append(f"{side} {metadata[side]['name']!r} ({shape}): {metadata[side]['meaning']}")
    lines.append("largest difference of a probability from Keras:")
    found = metadata["verified"]["largest_difference"]
    lines += [f"  {name}: {difference:.1e}" for name, difference in found.items()]
    return "\n".join([*lines, f"alphabet, features, mean and deviation: {metadata_path(path)}"])


@keras.saving.register_keras_serializable(package="vui")
class Standardise(layers.Layer):
    """(x - mean) / std for each feature.

    Both are weights: a `layers.Normalization` with given statistics turns them into missing inputs of an ONNX file.
    """

    def build(self, input_shape):
        """Make the weights; called by Keras."""
        width = (input_shape[-1],)
        self.mean = self.add_weight(shape=width, initializer="zeros", trainable=False, name="mean")
        self.std = self.add_weight(shape=width, initializer="ones", trainable=False, name="std")

    def call(self, features):
        """Return features (batch, num_frames, num_features) normalised."""
        return (features - self.mean) / self.std


def with_statistics(recogniser: Recogniser) -> keras.Model:
    """Return a model (batch, num_frames, num_features) -> probabilities that normalises its input itself."""
    features = keras.Input(recogniser.model.input_shape[1:], name=formats.INPUT_NAME)
    standardise = Standardise(name="standardise")
    model = keras.Model(features, recogniser.model(standardise(features)), name=recogniser.model.name)
    standardise.set_weights([recogniser.mean, recogniser.std])
    return model


# ------------------------------------------------------------------------------------------------- verifying


def verify(run: Callable[[np.ndarray], np.ndarray], recogniser: Recogniser, batch: int = 1) -> dict[str, float]:
    """Compare an exported model with the recogniser on noise of several lengths, with the statistics of real features.

    Args:
        run: features (batch, num_frames, num_features) to probabilities (batch, num_output_frames, num_classes).
        recogniser, batch: what was exported, and utterances of one length that are run together, besides single ones.

    Returns:
        The largest difference of a probability, by the shape that was run, such as '1 x 200 frames'.

    Raises:
        ValueError: when a difference exceeds 1e-4, is no number, or the shapes differ; the message says at which length.
    """
    model = formats.in_float32(recogniser.model)
    rng = np.random.default_rng(0)
    differences = {}
    shortest = _shortest(recogniser)
    lengths = [shortest, *(shortest + round(seconds * recogniser.settings.frames_per_second) for seconds in SECONDS)]
    shapes = [(1, length) for length in lengths] + ([(batch, lengths[2])] if batch > 1 else [])
    for size, num_frames in shapes:
        normalised = rng.standard_normal((size, num_frames, len(recogniser.mean)), np.float32)
        expected = keras.ops.convert_to_numpy(model(normalised, training=False))
        name = f"{size} x {num_frames} frames"
        try:
            found = run(normalised * recogniser.std + recogniser.mean)
        except Exception as error:  # a runtime can raise almost anything
            raise _disagreement(recogniser, name, f"it does not run: {str(error).splitlines()[0]}") from error
        if found.shape != expected.shape:
            raise _disagreement(recogniser, name, f"the output has the shape {found.shape}, Keras' {expected.shape}")
        differences[name] = float(np.abs(found - expected).max())
        if not differences[name] <= TOLERANCE:  # NaN too
            raise _disagreement(recogniser, name, f"a probability is off by {differences[name]:.2g}")
    return differences


def _shortest(recogniser: Recogniser) -> int:
    """Return the smallest number of frames that gives an output frame."""
    lengths = range(1, LONGEST_MINIMUM)
    return lengths[bisect.bisect_left(lengths, 1, key=lambda num_frames: output_length(recogniser.model, num_frames))]


def _disagreement(recogniser: Recogniser, shape: str, reason: str) -> ValueError:
    return ValueError(
        f"The exported {recogniser.model.name!r} disagrees with Keras at {shape}: {reason} (at most {TOLERANCE:g} is allowed). "
        "It was not kept. Try another format; 'savedmodel' stays closest to Keras."
    )


# ------------------------------------------------------------------------------------------------- the files


def _check_path(path: Path, form: str) -> None:
    suffix = SUFFIXES[form]
    if form != "savedmodel" and path.suffix != suffix:
        raise ValueError(f"A file of the format {form} ends in {suffix}. Received: {path.name!r}")
    if path.exists() and path.is_dir() != (form == "savedmodel"):
        raise ValueError(f"{path} is already there and is no {form} export. Choose another name with --out.")
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        raise ValueError(f"The folder {path} is already there and holds no SavedModel. Choose another name with --out.")


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path`; on success its file or folder of that name, and the JSON file, replace those at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as name:
        folder = Path(name)
        yield folder
        if path.is_dir():
            path.rename(folder / "replaced")
        (folder / path.name).replace(path)
        metadata_path(folder / path.name).replace(metadata_path(path))


def _metadata(
    recogniser: Recogniser, path: Path, form: str, exported: formats.Runnable, differences: dict[str, float]
) -> dict:
    model, settings = recogniser.model, recogniser.settings
    num_features, num_classes = model.input_shape[-1], model.output_shape[-1]
    batch = 1 if form == "litert" else "any"
    packages = ("keras", "tensorflow", *(("onnx", "tf2onnx", "onnxruntime") if form == "onnx" else ()))
    opset = {"opset": formats.ONNX_OPSET} if form == "onnx" else {}
    try:  # of output frames, where it is known
        times = {"first_frame_seconds": recogniser.clock.offset, "frame_step_seconds": recogniser.clock.step}
    except ValueError:
        times = {}
    return {
        "version": VERSION,
        "file": path.name,
        "format": form,
        "model": model.name,
        "sample_rate": SAMPLE_RATE,
        "features": {
            **settings.relevant(),
            "num_features": num_features,
            "frames_per_second": settings.frames_per_second,
            "definition": DEFINITIONS[settings.kind].format(floor=LOG_FLOOR, mfcc_window=MFCC_WINDOW),
        },
        "normalisation": {
            "by": "the exported graph: pass features as they are, it subtracts the mean and divides by std",
            "mean": recogniser.mean,
            "std": recogniser.std,
        },
        "input": {
            "name": exported.input_name,
            "shape": [batch, "num_frames", num_features],
            "dtype": "float32",
            "meaning": "features as computed, not normalised",
            "min_frames": _shortest(recogniser),
            "padding": "none: pass each utterance at its own length, since padding would be heard as sound",
        },
        "output": {
            "name": exported.output_name,
            "shape": [batch, "num_output_frames", num_classes],
            "dtype": "float32",
            "meaning": "probabilities of the classes at each output frame",
            **times,
        },
        "alphabet": list(recogniser.alphabet),
        "blank": num_classes - 1,
        "decoding": "take the most probable class of each output frame, merge repeated ones, drop the blank",
        "verified": {"tolerance": TOLERANCE, "largest_difference": differences},
        "made_with": {package: importlib.metadata.version(package) for package in packages} | opset,
    }
