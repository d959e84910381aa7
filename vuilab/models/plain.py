"""Networks in NumPy: a weights file is read and run without a deep-learning backend, whose import takes longer than a sentence.

The results are those of Keras up to rounding. Arrays are float32 with the batch first, as in Keras.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vuilab.models.frames import PHONEMES, TimeChange, time_change

Layer = Callable[..., np.ndarray]
TRIED = 100  # frames
SMALLEST_DEVIATION = 1e-3  # of `length_aware.UtteranceNormalization`
KEEPS = (
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "InputLayer",
)  # in training alone they do anything


class UnknownLayerError(ValueError):
    """A network has a layer, or a setting of one, that only Keras knows."""


class PlainNetwork:
    """A network with one input, run in NumPy.

    Args:
        architecture: of a functional model, as `runs/weights.py` writes it.
        weights: layer name -> its arrays in Keras' order.

    Raises:
        UnknownLayerError: where only Keras can run it.
    """

    def __init__(self, architecture: dict[str, Any], weights: dict[str, list[np.ndarray]]):
        config = architecture["config"]
        if architecture["class_name"] not in ("Functional", "AcousticModel") or "layers" not in config:
            raise UnknownLayerError(f"a {architecture['class_name']} is no functional model")
        self.name: str = config["name"]
        self.parts = {part["name"]: part for part in config["layers"]}
        self.sources = {name: _sources(part["inbound_nodes"]) for name, part in self.parts.items()}
        self.output: str = np.ravel(np.array(config["output_layers"], object))[0]
        self.inputs = [name for name, part in self.parts.items() if part["class_name"] == "InputLayer"]
        if len(self.inputs) != 1:
            raise UnknownLayerError(f"{len(self.inputs)} inputs")
        self.layers = {name: _layer(part, weights.get(name, [])) for name, part in self.parts.items()}
        self.shape: tuple = tuple(self.parts[self.inputs[0]]["config"]["batch_shape"][1:])

    @classmethod
    def load(cls, path: Path, metadata: dict[str, Any]) -> "PlainNetwork":
        """Read a file whose metadata `runs.weights.read_metadata` gave.

        Raises:
            UnknownLayerError: where only Keras can read or run it.
        """
        with h5py.File(path, "r") as file:
            if "layer_names" not in file.attrs:
                raise UnknownLayerError("weights in another layout")
            weights = {
                name: [np.asarray(file[name][key], np.float32) for key in file[name].attrs["weight_names"]]
                for name in map(str, file.attrs["layer_names"])
            }
        return cls(metadata["architecture"], weights)

    @classmethod
    def load_if_known(cls, path: Path, metadata: dict[str, Any]) -> "PlainNetwork | None":
        """Read a file and try it on zeros; None where Keras has to run it, or to say what is wrong with it."""
        try:
            network = cls.load(path, metadata)
            network.run(np.zeros((1, *(size or TRIED for size in network.shape)), np.float32))
        except Exception:  # a damaged file can raise almost anything
            return None
        return network

    @property
    def width(self) -> int:
        """Features of a frame."""
        return self.shape[-1]

    @property
    def changes(self) -> list[TimeChange]:
        """What its layers do to the time axis, from the input to the output."""
        chain, name = [], self.output
        while self.sources[name]:
            change = time_change(self.parts[name]["class_name"], self.parts[name]["config"])
            chain += [change] if change else []
            name = self.sources[name][0]
        return chain[::-1]

    @property
    def knows_ends(self) -> bool:
        """Whether it tells padding from speech; see `length_aware.is_length_aware`."""
        return any(part["class_name"] == "PaddingMask" for part in self.parts.values())

    @property
    def phoneme_head(self) -> str | None:
        """The last layer that guesses phonemes."""
        return next((name for name in reversed(self.parts) if name.startswith(PHONEMES)), None)

    def predict_on_batch(self, features: np.ndarray) -> np.ndarray:
        """Return what the network makes of features (batch, *shape), under Keras' name."""
        return self.run(features)[0]

    def posteriors(self, features: np.ndarray, phonemes: bool) -> list[np.ndarray]:
        """Return probabilities (num_output_frames, num_classes) of features (num_frames, width): of letters, then of phonemes."""
        if not (phonemes and self.phoneme_head):
            return [self.run(features[None])[0][0]]
        letters, sounds = self.run(features[None], (self.output, self.phoneme_head))
        return [letters[0], softmax(sounds[0])]

    def run(self, features: np.ndarray, outputs: Sequence[str] = ()) -> list[np.ndarray]:
        """Return what the network, or each of the layers named in `outputs`, makes of features (batch, *shape)."""
        wanted = list(outputs) or [self.output]
        found = {self.inputs[0]: np.asarray(features, np.float32)}
        for name in self.parts:  # Keras lists a layer behind those that it reads
            if name not in found:
                found[name] = self.layers[name](*(found[source] for source in self.sources[name]))
        return [found[name] for name in wanted]


def _sources(nodes: Any) -> list[str]:
    """Return the layers that a layer reads, in order."""
    found: list[str] = []

    def look(part: dict) -> dict:
        if part.get("class_name") == "__keras_tensor__":
            found.append(part["config"]["keras_history"][0])
        return part

    if len(nodes) > 1:
        raise UnknownLayerError("a layer that is used twice")
    json.loads(json.dumps(nodes), object_hook=look)  # calls it for each part, the inner ones first
    return found


def _layer(part: dict[str, Any], weights: list[np.ndarray]) -> Layer:
    kind, config = part["class_name"], part["config"]
    ours = str(part.get("registered_name")).startswith("vui>") or str(part.get("module")).split(".")[0] == "keras"
    if kind in KEEPS and ours:
        return lambda x: x
    if kind not in LAYERS or not ours:
        raise UnknownLayerError(f"{part['name']} is a {kind}")
    return LAYERS[kind](config, weights)


def _require(config: dict[str, Any], **expected: Any) -> None:
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UnknownLayerError(f"{config['name']} has {key}={config[key]!r}")


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def softmax(x: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


ACTIVATIONS: dict[str, Callable] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "silu": lambda x: x * sigmoid(x),
}


def _activation(config: dict[str, Any], key: str = "activation") -> Callable:
    if config[key] not in ACTIVATIONS:
        raise UnknownLayerError(f"{config['name']} has {key}={config[key]!r}")
    return ACTIVATIONS[config[key]]


def _padded(x: np.ndarray, change: TimeChange, value: float = 0.0) -> np.ndarray:
    """Return frames with what a window needs at both ends."""
    reach = (change.window - 1) * change.dilation
    if change.padding == "valid":
        return x
    if change.padding == "same":
        reach = max(0, (-(-x.shape[1] // change.stride) - 1) * change.stride + reach + 1 - x.shape[1])
    before = reach if change.padding == "causal" else reach // 2
    return np.pad(x, ((0, 0), (before, reach - before), (0, 0)), constant_values=value)


def _taps(x: np.ndarray, change: TimeChange) -> list[np.ndarray]:
    """Return the first, second, ... frame of every window."""
    num_windows = (x.shape[1] - (change.window - 1) * change.dilation - 1) // change.stride + 1
    last = (num_windows - 1) * change.stride + 1
    return [x[:, tap * change.dilation :][:, : last : change.stride] for tap in range(change.window)]


def _conv(config: dict[str, Any], weights: list[np.ndarray]) -> Layer:
    _require(config, groups=1, data_format="channels_last")
    change, activation = time_change("Conv1D", config), _activation(config)

    def run(x: np.ndarray) -> np.ndarray:
        out = sum(tap @ kernel for tap, kernel in zip(_taps(_padded(x, change), change), weights[0], strict=True))
        return activation(out + weights[1] if config["use_bias"] else out)

    return run


def _separable(config: dict[str, Any], weights: list[np.ndarray]) -> Layer:
    _require(config, depth_multiplier=1, data_format="channels_last")
    change, activation = time_change("SeparableConv1D", config), _activation(config)
    points = weights[1][0] if "pointwise_initializer" in config else None

    def run(x: np.ndarray) -> np.ndarray:
        taps = zip(_taps(_padded(x, change), change), weights[0][..., 0], strict=True)
        out = sum(tap * kernel for tap, kernel in taps)
        out = out if points is None else out @ points
        return activation(out + weights[-1] if config["use_bias"] else out)

    return run


def _batch_norm(config: dict[str, Any], weights: list[np.ndarray]) -> Layer:
    left = list(weights)
    scale = left.pop(0) if config["scale"] else 1.0
    shift = left.pop(0) if config["center"] else 0.0
    mean, variance = left
    scale = scale / np.sqrt(variance + config["epsilon"])
    shift = shift - mean * scale

    def run(x: np.ndarray, mask: np.ndarray | float = 1.0) -> np.ndarray:
        if config["axis"] not in (-1, x.ndim - 1):
            raise UnknownLayerError(f"{config['name']} normalises axis {config['axis']}")
        return (x * scale + shift) * mask

    return run


def _dense(config: dict[str, Any], weights: list[np.ndarray]) -> Layer:
    activation = _activation(config)
    return lambda x: activation(x @ weights[0] + weights[1] if config["use_bias"] else x @ weights[0])


def _time_distributed(config: dict[str, Any], weights: list[np.ndarray]) -> Layer:
    if config["layer"]["class_name"] != "Dense":
        raise UnknownLayerError(f"{config['name']} holds a {config['layer']['class_name']}")
    return _dense(config["layer"]["config"], weights)


def _recurrent(cell: Callable) -> Callable[[dict[str, Any], list[np.ndarray]], Layer]:
    """Return what makes a recurrent layer of configuration and weights; `cell` gives the step and the number of its states."""

    def make(config: dict[str, Any], weights: list[np.ndarray]) -> Layer:
        _require(config, return_state=False, stateful=False)
        projected, step, num_states = cell(config, weights)

        def run(x: np.ndarray) -> np.ndarray:
            rows = np.swapaxes(projected(x), 0, 1)
            frames = rows[::-1] if config["go_backwards"] else rows
            states = tuple(np.zeros((x.shape[0], config["units"]), np.float32) for _ in range(num_states))
            out = np.empty((len(frames), x.shape[0], config["units"]), np.float32)
            for number, frame in enumerate(frames):
                states = step(frame, *states)
                out[number] = states[0]
            return np.swapaxes(out, 0, 1) if config["return_sequences"] else out[-1]

        return run

    return make


def _simple_cell(config: dict[str, Any], weights: list[np.ndarray]):
    activation, inner = _activation(config), weights[1]
    bias = weights[2] if config["use_bias"] else 0.0
    return lambda x: x @ weights[0] + bias, lambda x, h: (activation(x + h @ inner),), 1


def _gru_cell(config: dict[str, Any], weights: list[np.ndarray]):
    activation, gate, units = _activation(config), _activation(config, "recurrent_activation"), config["units"]
    after, inner = config["reset_after"], weights[1]
    biases = weights[2] if config["use_bias"] else np.zeros((2, 3 * units), np.float32)
    bias, inner_bias = biases if after else (biases.reshape(-1, 3 * units)[0], np.zeros(3 * units, np.float32))

    def step(x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray]:
        from_state = h @ inner[:, : 3 * units if after else 2 * units]
        from_state = from_state + inner_bias[: from_state.shape[1]]
        gates = gate(x[:, : 2 * units] + from_state[:, : 2 * units])
        z, r = gates[:, :units], gates[:, units:]
        candidate = r * from_state[:, 2 * units :] if after else (r * h) @ inner[:, 2 * units :]
        candidate = activation(x[:, 2 * units :] + candidate)
        return (candidate + z * (h - candidate),)

    return lambda x: x @ weights[0] + bias, step, 1


def _lstm_cell(config: dict[str, Any], weights: list[np.ndarray]):
    activation, gate = _activation(config), _activation(config, "recurrent_activation")
    bias = weights[2] if config["use_bias"] else 0.0

    def step(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        i, f, new, o = np.split(x + h @ weights[1], 4, axis=-1)
        c = gate(f) * c + gate(i) * activation(new)
        return gate(o) * activation(c), c

    return lambda x: x @ weights[0] + bias, step, 2


def _bidirectional(config: dict[str, Any], weights: list[np.ndarray]) -> Layer:
    forward, backward = config["layer"], config["backward_layer"]
    half = len(weights) // 2
    one, other = (
        _layer({**part, "name": config["name"]}, arrays)
        for part, arrays in ((forward, weights[:half]), (backward, weights[half:]))
    )
    if config["merge_mode"] not in MERGES or not forward["config"]["return_sequences"]:
        raise UnknownLayerError(f"{config['name']} has merge_mode={config['merge_mode']!r}")
    return lambda x: MERGES[config["merge_mode"]](one(x), other(x)[:, ::-1])


MERGES: dict[str, Callable] = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
}


def _pool(reduce: Callable, outside: float) -> Callable[[dict[str, Any], list[np.ndarray]], Layer]:
    def make(config: dict[str, Any], _: list[np.ndarray]) -> Layer:
        change = time_change("MaxPooling1D", config)
        return lambda x: reduce(_taps(_padded(x, change, outside), change), axis=0)

    return make


def _padding_mask(*_: Any) -> Layer:
    def run(features: np.ndarray) -> np.ndarray:
        heard = (features != 0).any(axis=-1, keepdims=True)
        frame = np.arange(1, features.shape[1] + 1).reshape(1, -1, 1)
        return (frame <= np.where(heard, frame, 0).max(axis=1, keepdims=True)).astype(np.float32)

    return run


def _utterance_normalization(*_: Any) -> Layer:
    def run(features: np.ndarray, mask: np.ndarray) -> np.ndarray:
        count = np.maximum(mask.sum(axis=1, keepdims=True), 1)
        centred = (features - (features * mask).sum(axis=1, keepdims=True) / count) * mask
        deviation = np.sqrt(np.square(centred).sum(axis=1, keepdims=True) / count)
        return centred / np.maximum(deviation, SMALLEST_DEVIATION)

    return run


def _reverse_utterance(*_: Any) -> Layer:
    def run(sequence: np.ndarray, mask: np.ndarray) -> np.ndarray:
        frame, length = np.arange(sequence.shape[1]), mask[..., 0].sum(axis=1, keepdims=True).astype(int)
        return np.take_along_axis(sequence, np.where(frame < length, length - 1 - frame, frame)[..., None], axis=1)

    return run


def _zero_padding(config: dict[str, Any], _: list[np.ndarray]) -> Layer:
    change = time_change("ZeroPadding1D", config)
    return lambda x: np.pad(x, ((0, 0), (change.before, change.after), (0, 0)))


LAYERS: dict[str, Callable[[dict[str, Any], list[np.ndarray]], Layer]] = {
    "Activation": lambda config, _: _activation(config),
    "ReLU": lambda config, _: ACTIVATIONS["relu"],
    "Add": lambda *_: lambda *parts: sum(parts[1:], parts[0]),
    "Multiply": lambda *_: lambda *parts: np.prod(parts, axis=0),
    "Concatenate": lambda config, _: lambda *parts: np.concatenate(parts, axis=config["axis"]),
    "Conv1D": _conv,
    "SeparableConv1D": _separable,
    "DepthwiseConv1D": _separable,
    "ZeroPadding1D": _zero_padding,
    "MaxPooling1D": _pool(np.max, -np.inf),
    "GlobalAveragePooling1D": lambda *_: lambda x: x.mean(axis=1),
    "BatchNormalization": _batch_norm,
    "Dense": _dense,
    "TimeDistributed": _time_distributed,
    "SimpleRNN": _recurrent(_simple_cell),
    "GRU": _recurrent(_gru_cell),
    "LSTM": _recurrent(_lstm_cell),
    "Bidirectional": _bidirectional,
    "PaddingMask": _padding_mask,
    "UtteranceNormalization": _utterance_normalization,
    "Thinned": lambda config, _: lambda mask: mask[:, :: config["stride"]],
    "MaskedBatchNormalization": _batch_norm,
    "ReverseUtterance": _reverse_utterance,
}
