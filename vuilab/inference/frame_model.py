"""An acoustic model in NumPy that takes its frames as they come and remembers what it needs of those before.

Every layer becomes a step that keeps its own state: a recurrent layer its last state, a convolution the frames that its kernel
still reaches. After n frames exactly those output frames are there that the Keras model gives for n frames, with the same
numbers up to rounding, however the frames were divided. A frame costs a few small products, without a compiler and without
Keras' overhead for each call; a new length costs nothing, while the backends compile each one.

Layers that must see the end of the recording first (bidirectional ones, convolutions that pad both sides) cannot do that. With
them a model still runs on whole utterances.
"""

import math
from collections.abc import Callable

import keras
import numpy as np
import scipy.special
from keras import layers, ops

from vuilab.models import recurrent

Step = Callable[..., np.ndarray]  # frames (num_frames, num_features) in, frames out


class FrameModel:
    """A Keras model with one time axis, frame by frame. It computes in float32 and keeps the weights that it found.

    Args:
        model: functional, with one input (batch, num_frames, num_features) and one output.

    Raises:
        ValueError: for a layer that is not known here.

    Example:
        >>> import contextlib
        >>> from sample_models import rnn_model
        >>> with contextlib.redirect_stdout(None):
        ...     model = rnn_model(161, 8)
        >>> frames = FrameModel(model)
        >>> [len(frames.add(np.zeros((number, 161)))) for number in (1, 3, 0)]
        [1, 3, 0]
    """

    def __init__(self, model: keras.Model):
        self.name = model.name
        self.num_features = model.input_shape[-1]
        self.steps = [(_step(layer), sources) for layer, sources in _plan(model)]
        reasons = (step.needs_end for step, _ in self.steps)
        # why it cannot go frame by frame
        self.needs_end: str | None = next((reason for reason in reasons if reason), None)
        self.reset()

    def reset(self) -> None:
        """Forget all frames: the next one is the first of another recording."""
        for step, _ in self.steps:
            step.reset()

    def add(self, frames: np.ndarray) -> np.ndarray:
        """Take the next frames (num_frames, num_features) and return the output frames that they complete.

        Raises:
            ValueError: when the model cannot go frame by frame, or the frames have another shape.
        """
        if self.needs_end:
            raise ValueError(f"{self.name} cannot go frame by frame: {self.needs_end}.")
        return self._run(frames)

    def whole(self, frames: np.ndarray) -> np.ndarray:
        """Return the output frames of a whole utterance (num_frames, num_features), as `predict_on_batch` gives them.

        Raises:
            ValueError: when the frames have another shape.
        """
        self.reset()
        return self._run(frames)

    def _run(self, frames: np.ndarray) -> np.ndarray:
        frames = np.asarray(frames, np.float32)
        if frames.ndim != 2 or frames.shape[1] != self.num_features:
            raise ValueError(f"Expected frames (num_frames, {self.num_features}). Received: shape {frames.shape}.")
        values = [frames]
        for step, sources in self.steps:
            values.append(step(*(values[source] for source in sources)))
        return values[-1]


class SlidingWindow:
    """Collects rows and gives out the stretch of them that holds all windows which have become complete.

    Args:
        length: rows of a window.
        step: rows from one window to the next.
        before: rows that stand in front of the first one.

    Example:
        >>> window = SlidingWindow(3, 2, np.zeros((0,)))
        >>> window.take(np.arange(6.0))
        (array([0., 1., 2., 3., 4.]), 2)
        >>> window.take(np.array([6.0]))
        (array([4., 5., 6.]), 1)
    """

    def __init__(self, length: int, step: int, before: np.ndarray):
        self.length, self.step = length, step
        self.rows, self.next = before, 0  # the next window begins at this row; beyond the last where the step is longer

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the stretch and the number of windows in it (0: an empty stretch)."""
        self.rows = np.concatenate([self.rows, rows])
        number = max(0, (len(self.rows) - self.next - self.length) // self.step + 1)
        end = self.next + (number - 1) * self.step + self.length if number else self.next
        stretch = self.rows[self.next : end]
        self.next += number * self.step
        done = min(self.next, len(self.rows))
        self.rows, self.next = self.rows[done:], self.next - done
        return stretch, number


def _plan(model: keras.Model) -> list[tuple[keras.Layer, list[int]]]:
    """Return each layer with the numbers of what it takes (0: the input, n: output of the n-th layer), inputs first."""
    plan, place = [], {id(model.inputs[0]): 0}

    def visit(tensor) -> int:
        if id(tensor) not in place:
            layer, node_index, _ = tensor._keras_history
            node = layer._inbound_nodes[node_index]
            sources = [visit(source) for source in node.input_tensors]
            if len(node.output_tensors) > 1:
                raise _unknown(layer, "gives more than one output")
            plan.append((layer, sources))
            place[id(tensor)] = len(plan)
        return place[id(tensor)]

    visit(model.outputs[0])
    return plan


def _unknown(layer: keras.Layer, what: str = "is not known here") -> ValueError:
    return ValueError(
        f"The layer {layer.name!r} ({type(layer).__name__}) {what}. Frame by frame there are Conv1D and pooling ('valid' or "
        "'causal'), GRU, LSTM and SimpleRNN, Dense, BatchNormalization, LayerNormalization, activations, dropout, and sums, "
        "products and concatenations of those; `Recogniser.probabilities` runs everything on whole recordings."
    )


def _step(layer: keras.Layer) -> "_Map":
    """Return what computes a layer. Only the very classes are known: a subclass may compute something else."""
    if type(layer) is layers.TimeDistributed:
        layer = layer.layer
    if isinstance(layer, keras.Model):
        return _Nested(layer)
    if type(layer) not in _STEPS:
        raise _unknown(layer)
    return _STEPS[type(layer)](layer)


def _weights(*variables) -> list[np.ndarray]:
    """Return variables as float32 arrays."""
    return [np.asarray(ops.convert_to_numpy(ops.cast(variable, "float32"))) for variable in variables]


# ---------------------------------------------------------------------------------- layers without memory


class _Map:
    """A function of frames that belong to the same moment."""

    needs_end: str | None = None

    def __init__(self, function: Step):
        self.function = function

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        return self.function(*inputs)

    def reset(self) -> None:
        """Forget all frames."""


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.float32(0))


_ACTIVATIONS = {
    keras.activations.linear: lambda x: x,
    keras.activations.tanh: np.tanh,
    keras.activations.sigmoid: scipy.special.expit,
    keras.activations.relu: _relu,
    keras.activations.softmax: _softmax,
}


def _activation(function: Callable) -> Step:
    """Return an activation for arrays; rare ones go through Keras."""
    if function in _ACTIVATIONS:
        return _ACTIVATIONS[function]
    return lambda x: ops.convert_to_numpy(function(ops.convert_to_tensor(x)))


def _dense(layer: layers.Dense) -> _Map:
    (kernel,), activation = _weights(layer.kernel), _activation(layer.activation)
    bias = _weights(layer.bias)[0] if layer.use_bias else np.float32(0)
    return _Map(lambda x: activation(x @ kernel + bias))


def _batch_normalization(layer: layers.BatchNormalization) -> _Map:
    if layer.axis not in (-1, 2):
        raise _unknown(layer, "does not normalise the last axis")
    mean, variance = _weights(layer.moving_mean, layer.moving_variance)
    scale = 1 / np.sqrt(variance + np.float32(layer.epsilon))
    if layer.scale:
        scale = scale * _weights(layer.gamma)[0]
    shift = -mean * scale + (_weights(layer.beta)[0] if layer.center else 0)
    return _Map(lambda x: x * scale + shift)


def _by_keras(layer: keras.Layer) -> _Map:
    """A layer of each frame for itself that is rare enough to be left to Keras."""
    axis = getattr(layer, "axis", -1)
    if axis not in (-1, 2, [-1], [2]):
        raise _unknown(layer, "does not work on the last axis")
    return _Map(lambda x: ops.convert_to_numpy(layer(ops.convert_to_tensor(x[None]), training=False))[0])


def _concatenate(layer: layers.Concatenate) -> _Map:
    if layer.axis not in (-1, 2):
        raise _unknown(layer, "does not join the last axis")
    return _Map(lambda *inputs: np.concatenate(inputs, axis=-1))


# ------------------------------------------------------------------------------------- layers that look back


class _Recurrent(_Map):
    """A recurrent layer; `advance(frame, state) -> state`, whose first array is the output."""

    def __init__(self, layer: layers.RNN, backwards: bool = False):
        if not layer.return_sequences or layer.stateful:
            raise _unknown(layer, "keeps its state between recordings, or gives its last frame only")
        if layer.go_backwards != backwards:
            raise _unknown(layer, "runs in the other direction")
        cell = layer.cell
        self.units = layer.units
        self.kernel, self.recurrent = _weights(cell.kernel, cell.recurrent_kernel)
        self.bias = _weights(cell.bias)[0] if cell.use_bias else np.zeros(self.kernel.shape[1], np.float32)
        self.activation = _activation(cell.activation)
        self.gate = _activation(getattr(cell, "recurrent_activation", keras.activations.linear))

    def reset(self) -> None:
        """Begin with a state of zeros."""
        self.state = (np.zeros(self.units, np.float32),) * 2

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        outputs = np.empty((len(frames), self.units), np.float32)
        for number, frame in enumerate(frames @ self.kernel + self.bias):
            self.state = self.advance(frame, self.state)
            outputs[number] = self.state[0]
        return outputs

    def advance(self, frame: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Return the next state from x W + b and the state; here that of SimpleRNN."""
        return (self.activation(frame + state[0] @ self.recurrent),)


class _GRU(_Recurrent):
    """Update gate z, reset gate r, candidate c; h' = z h + (1 - z) c (Cho et al., EMNLP 2014)."""

    def __init__(self, layer: layers.GRU, backwards: bool = False):
        super().__init__(layer, backwards)
        self.reset_after = layer.cell.reset_after
        self.inner_bias = np.zeros(self.kernel.shape[1], np.float32)
        if self.bias.ndim == 2:  # one bias for the input, one for the state
            self.bias, self.inner_bias = self.bias

    def advance(self, frame: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Return the next state."""
        h, units = state[0], self.units
        if self.reset_after:
            inner = h @ self.recurrent + self.inner_bias
            gates = self.gate(frame[: 2 * units] + inner[: 2 * units])
            z, r = gates[:units], gates[units:]
            candidate = self.activation(frame[2 * units :] + r * inner[2 * units :])
        else:
            gates = self.gate(frame[: 2 * units] + h @ self.recurrent[:, : 2 * units])
            z, r = gates[:units], gates[units:]
            candidate = self.activation(frame[2 * units :] + (r * h) @ self.recurrent[:, 2 * units :])
        return (candidate + z * (h - candidate),)


class _LSTM(_Recurrent):
    """Gates i, f and o, candidate g; c' = f c + i g, h' = o f(c') (Hochreiter and Schmidhuber, 1997)."""

    def advance(self, frame: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Return the next output and cell state."""
        i, f, g, o = np.split(frame + state[0] @ self.recurrent, 4)
        c = self.gate(f) * state[1] + self.gate(i) * self.activation(g)
        return self.gate(o) * self.activation(c), c


class _Bidirectional(_Map):
    """Two recurrent layers, one of which begins at the end."""

    def __init__(self, layer: layers.Bidirectional):
        if layer.merge_mode not in _MERGES:
            raise _unknown(layer, f"merges by {layer.merge_mode!r}")
        self.needs_end = f"its layer {layer.name!r} reads the recording from the end as well"
        self.merge = _MERGES[layer.merge_mode]
        self.directions = []
        for direction, backwards in ((layer.forward_layer, False), (layer.backward_layer, True)):
            if type(direction) not in _RECURRENT:
                raise _unknown(direction)
            self.directions.append(_RECURRENT[type(direction)](direction, backwards))

    def reset(self) -> None:
        """Begin with states of zeros."""
        for direction in self.directions:
            direction.reset()

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return self.merge(self.directions[0](frames), self.directions[1](frames[::-1])[::-1])


class _Windowed(_Map):
    """A layer whose outputs are functions of stretches of frames: convolution and pooling.

    Args:
        layer: for its name and padding.
        kernel: taps.
        step: frames from one output to the next.
        dilation: frames between taps.
        function: (num_outputs, kernel, num_features) to (num_outputs, num_outputs' features).
    """

    def __init__(self, layer: keras.Layer, kernel: int, step: int, dilation: int, function: Step):
        self.step, self.function = step, function
        self.taps = dilation * np.arange(kernel)
        self.reach = int(self.taps[-1]) + 1
        self.padding = "valid" if self.reach == 1 else layer.padding  # one tap needs no padding
        if self.padding == "same":
            self.needs_end = f"its layer {layer.name!r} pads both sides, so that its first frame depends on later ones"

    def reset(self) -> None:
        """Forget all frames."""
        self.window = None

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        if self.window is None:
            num_zeros = self.reach - 1 if self.padding == "causal" else 0
            self.window = SlidingWindow(self.reach, self.step, np.zeros((num_zeros, frames.shape[1]), np.float32))
        if self.padding == "same":
            frames = self._pad_both_sides(frames)
        stretch, number = self.window.take(frames)
        starts = self.step * np.arange(number)
        return self.function(stretch[starts[:, None] + self.taps])

    def _pad_both_sides(self, frames: np.ndarray) -> np.ndarray:
        """Pad as TensorFlow and JAX do; how much stands in front depends on the length."""
        num_outputs = -(-len(frames) // self.step)
        missing = max(0, (num_outputs - 1) * self.step + self.reach - len(frames))
        return np.pad(frames, ((missing // 2, missing - missing // 2), (0, 0)))


def _convolution(layer: layers.Conv1D) -> _Windowed:
    if layer.groups != 1 or layer.data_format != "channels_last":
        raise _unknown(layer, "has groups, or channels first")
    (kernel,), activation = _weights(layer.kernel), _activation(layer.activation)
    taps, width, filters = kernel.shape
    bias = _weights(layer.bias)[0] if layer.use_bias else np.float32(0)
    flat = kernel.reshape(taps * width, filters)

    def function(stretches: np.ndarray) -> np.ndarray:
        return activation(stretches.reshape(len(stretches), taps * width) @ flat + bias)

    return _Windowed(layer, taps, layer.strides[0], layer.dilation_rate[0], function)


def _pooling(layer: layers.MaxPooling1D | layers.AveragePooling1D) -> _Windowed:
    if layer.padding != "valid" or layer.data_format != "channels_last":
        raise _unknown(layer, "pads, or has channels first")
    reduce = np.max if isinstance(layer, layers.MaxPooling1D) else np.mean
    return _Windowed(layer, layer.pool_size[0], layer.strides[0], 1, lambda x: reduce(x, axis=1))


class _Nested(_Map):
    """A model used as a layer."""

    def __init__(self, model: keras.Model):
        inner = FrameModel(model)
        super().__init__(inner._run)
        self.needs_end, self.reset = inner.needs_end, inner.reset


_MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": np.add,
    "ave": lambda a, b: (a + b) / 2,
    "mul": np.multiply,
}
_RECURRENT = {
    layers.GRU: _GRU,
    recurrent.GRU: _GRU,
    layers.LSTM: _LSTM,
    layers.SimpleRNN: _Recurrent,
    recurrent.SimpleRNN: _Recurrent,
}
_NOTHING = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.ActivityRegularization,
)
_STEPS = {
    **_RECURRENT,
    layers.Bidirectional: _Bidirectional,
    layers.Conv1D: _convolution,
    layers.MaxPooling1D: _pooling,
    layers.AveragePooling1D: _pooling,
    layers.Dense: _dense,
    layers.BatchNormalization: _batch_normalization,
    layers.Activation: lambda layer: _Map(_activation(layer.activation)),
    layers.Concatenate: _concatenate,
    layers.Add: lambda layer: _Map(lambda *inputs: sum(inputs[1:], inputs[0])),
    layers.Multiply: lambda layer: _Map(lambda *inputs: math.prod(inputs[1:], start=inputs[0])),
    **dict.fromkeys(_NOTHING, lambda layer: _Map(lambda x: x)),  # they act in training only
    **dict.fromkeys((layers.LayerNormalization, layers.ReLU, layers.LeakyReLU, layers.ELU), _by_keras),
}
