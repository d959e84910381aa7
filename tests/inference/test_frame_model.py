"""Every layer frame by frame, against Keras on the whole sequence."""

import keras
import numpy as np
import pytest
from keras import layers

from vuilab.inference.frame_model import FrameModel, SlidingWindow
from vuilab.models.acoustic import acoustic_model, output_length, recurrent
from vuilab.models.builder import RNNModel
from vuilab.models.wavenet import wavenet_model

WIDTH = 5


def _model(*chain) -> keras.Model:
    the_input = keras.Input(shape=(None, WIDTH), name="the_input")
    x = the_input
    for layer in chain:
        x = layer(x)
    return acoustic_model(the_input, layers.Dense(4, name="logits")(x), "chain", print_summary=False)


def _dense_net() -> keras.Model:
    """Concatenations, sums and products of branches, one layer in two places, a model as a layer."""
    the_input = keras.Input(shape=(None, WIDTH), name="the_input")
    shared = layers.Conv1D(6, 3, padding="causal", name="shared")
    first = layers.Dense(6, name="widen")(the_input)
    second = shared(first)
    third = shared(second)
    inner_input = keras.Input(shape=(None, 6))
    inner = keras.Model(inner_input, layers.GRU(6, return_sequences=True, name="inner_gru")(inner_input), name="inner")
    x = layers.Concatenate(name="join")([first, layers.Multiply(name="gate")([second, inner(third)])])
    x = layers.Add(name="sum")([x, layers.Dense(12, name="other")(the_input)])
    return acoustic_model(the_input, layers.Dense(4, name="logits")(x), "branches", print_summary=False)


CHAINS = {
    "gru": lambda: _model(layers.GRU(6, return_sequences=True)),
    "gru of the original paper, one without bias": lambda: _model(
        layers.GRU(6, reset_after=False, return_sequences=True), layers.GRU(6, use_bias=False, return_sequences=True)
    ),
    "gru with hard gates": lambda: _model(
        layers.GRU(6, recurrent_activation="hard_sigmoid", activation="softsign", return_sequences=True)
    ),
    "the project's gru": lambda: _model(recurrent("gru", 6, "rnn")),
    "lstm and simple rnn": lambda: _model(
        recurrent("lstm", 6, "rnn", dropout=0.5), recurrent("simple_rnn", 6, "rnn_2", "relu")
    ),
    "valid convolution with stride": lambda: _model(layers.Conv1D(6, 4, strides=3, activation="relu")),
    "stride longer than the kernel": lambda: _model(layers.Conv1D(6, 2, strides=5)),
    "causal dilated convolution": lambda: _model(layers.Conv1D(6, 3, padding="causal", dilation_rate=4)),
    "causal convolution with stride": lambda: _model(layers.Conv1D(6, 3, padding="causal", strides=2, use_bias=False)),
    "one tap with any padding": lambda: _model(layers.Conv1D(6, 1, padding="same", strides=2)),
    "two strided convolutions": lambda: _model(layers.Conv1D(6, 5, strides=2), layers.Conv1D(6, 3, strides=2)),
    "pooling": lambda: _model(layers.MaxPooling1D(2), layers.AveragePooling1D(3, strides=2)),
    "normalisation": lambda: _model(layers.BatchNormalization(), layers.LayerNormalization(), layers.Dropout(0.5)),
    "activations": lambda: _model(
        layers.Activation("gelu"), layers.LeakyReLU(), layers.ELU(), layers.Activation("tanh")
    ),
    "time distributed": lambda: _model(layers.TimeDistributed(layers.Dense(3, activation="sigmoid"))),
    "branches": _dense_net,
    "wavenet": lambda: wavenet_model(WIDTH, num_layer_grps=1, filters=4),
    "a network of the study": lambda: RNNModel.parse("Spec GRU_DENSE(8 x3 BN relu DO(0.2)(:-1)) BN relu DO(0.2) TD(D)")[
        0
    ].build(WIDTH),
}
NEED_THE_END = {
    "both directions": lambda: _model(
        layers.Bidirectional(layers.GRU(6, return_sequences=True), name="both"),
        layers.Bidirectional(layers.LSTM(6, return_sequences=True), "sum", name="both_sum"),
        layers.Bidirectional(layers.SimpleRNN(6, return_sequences=True), "ave", name="both_mean"),
        layers.Bidirectional(layers.GRU(6, return_sequences=True), "mul", name="both_product"),
    ),
    "same": lambda: _model(
        layers.Conv1D(6, 4, padding="same", name="conv"), layers.Conv1D(6, 3, padding="same", dilation_rate=2)
    ),
    "same with stride": lambda: _model(layers.Conv1D(6, 4, padding="same", strides=3, name="conv")),
}


def _randomise(model: keras.Model) -> keras.Model:
    """Give each weight a value of its own, biases and moving averages (which are positive) too."""
    rng = np.random.default_rng(0)
    values = [w + rng.normal(0, 0.2, w.shape) for w in model.get_weights()]
    model.set_weights([np.abs(value) + 0.05 if value.ndim == 1 else value for value in values])
    return model


def _by_keras(model: keras.Model, frames: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(frames[None], training=False))[0]


ON_BOTH_BACKENDS = {"gru with hard gates", "the project's gru", "lstm and simple rnn", "causal dilated convolution"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.contract] * (name in ON_BOTH_BACKENDS)) for name in CHAINS]
)
def test_frames_in_any_chunks_give_what_keras_gives_for_the_whole(name):
    model = _randomise(CHAINS[name]())
    rng = np.random.default_rng(1)
    frames = rng.normal(size=(23, WIDTH)).astype(np.float32)
    expected = _by_keras(model, frames)
    assert np.ptp(expected, axis=0).max() > 0.01  # it depends on the frames
    stream = FrameModel(model)
    for cuts in ([], range(1, 23), [0, 1, 1, 9, 15]):
        stream.reset()
        found, taken = [], 0
        for part in np.split(frames, list(cuts)):
            found.append(stream.add(part))
            taken += len(part)
            assert sum(map(len, found)) == output_length(model, taken)  # nothing is held back
        np.testing.assert_allclose(np.concatenate(found), expected, atol=2e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.contract] * ("stride" in name)) for name in NEED_THE_END]
)
def test_what_needs_the_end_runs_on_the_whole_only(name):
    model = _randomise(NEED_THE_END[name]())
    stream = FrameModel(model)
    for num_frames in (5, 23):
        frames = np.random.default_rng(2).normal(size=(num_frames, WIDTH)).astype(np.float32)
        expected = _by_keras(model, frames)
        np.testing.assert_allclose(stream.whole(frames), expected, atol=2e-6)
    with pytest.raises(ValueError, match=r"chain cannot go frame by frame: its layer '(both|conv)' (reads|pads)"):
        stream.add(frames)


def test_weights_are_those_that_the_model_had():
    model = _randomise(CHAINS["gru"]())
    stream, frames = FrameModel(model), np.ones((9, WIDTH), np.float32)
    before = stream.whole(frames)
    model.set_weights([0 * weight for weight in model.get_weights()])
    np.testing.assert_array_equal(stream.whole(frames), before)


class _OwnGRU(layers.GRU):
    """A subclass may compute something else."""


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.SeparableConv1D(3, 2, name="it"), r"'it' \(SeparableConv1D\) is not known here"),
        (_OwnGRU(3, return_sequences=True, name="it"), r"'it' \(_OwnGRU\) is not known here"),
        (layers.GRU(3, return_sequences=True, go_backwards=True, name="it"), r"\(GRU\) runs in the other direction"),
        (layers.MaxPooling1D(2, padding="same", name="it"), r"\(MaxPooling1D\) pads"),
        (layers.Conv1D(5, 2, groups=5, name="it"), r"\(Conv1D\) has groups"),
        (layers.LayerNormalization(axis=1, name="it"), r"\(LayerNormalization\) does not work on the last axis"),
    ],
)
def test_other_layers_are_refused_by_name(layer, message):
    the_input = keras.Input(shape=(40, WIDTH))
    model = keras.Model(the_input, layer(the_input))
    with pytest.raises(ValueError, match=message + r".*Frame by frame there are Conv1D.*`Recogniser\.probabilities`"):
        FrameModel(model)


def test_frames_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"Expected frames \(num_frames, 5\)\. Received: shape \(3, 4\)"):
        FrameModel(CHAINS["gru"]()).add(np.zeros((3, 4)))


def test_sliding_windows_are_those_of_numpy():
    rows = np.arange(50.0)
    for length, step in ((4, 1), (4, 3), (3, 7)):
        window, found = SlidingWindow(length, step, np.empty(0)), []
        for part in np.split(rows, [1, 2, 9, 10, 31]):
            stretch, number = window.take(part)
            assert len(stretch) == (step * (number - 1) + length if number else 0)
            found += [stretch[step * n : step * n + length] for n in range(number)]
        np.testing.assert_array_equal(found, np.lib.stride_tricks.sliding_window_view(rows, length)[::step])
