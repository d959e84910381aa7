"""The acoustic models: sizes of the references, names, lengths, and what model 0 cannot do."""

import keras
import numpy as np
import pytest
from keras import layers

import sample_models
from sample_models import (
    acoustic_model,
    bidirectional_rnn_model,
    birnn_final_model,
    build,
    cnn_birnn_model,
    cnn_output_length,
    cnn_rnn_model,
    deep_rnn_model,
    final_model,
    highest_probability_of_tanh_logits,
    model_number5,
    model_number6,
    recurrent,
    rnn_model,
    simple_rnn_model,
    wavenet_model,
)
from vuilab.runs.weights import load_model, save_weights

# the parameter counts that the reference notebooks printed, and how many GRU units (over layers and directions)
# a model has: `reset_after=True` gives each of them three biases more
REFERENCE = [
    ("model 0 GRU", simple_rnn_model, (161,), {}, 16_617, 29),
    ("model 1 GRU", rnn_model, (161, 200, "relu"), {}, 223_829, 200),
    ("model 2 SimpleRNN", cnn_rnn_model, (161, 200, 11, 2, "valid", 200), {}, 442_029, 0),
    ("model 3 SimpleRNN", deep_rnn_model, (161, 200, 2), {"cell": "simple_rnn"}, 160_029, 0),
    ("model 3 GRU", deep_rnn_model, (161, 200, 2), {}, 465_229, 400),
    ("model 4 SimpleRNN", bidirectional_rnn_model, (161, 200), {"cell": "simple_rnn"}, 156_429, 0),
    ("model 4 GRU", bidirectional_rnn_model, (161, 200), {}, 446_029, 400),
    ("model 5", model_number5, (), {}, 2_470_829, 1_200),
    ("model 6", model_number6, (), {}, 2_204_429, 1_200),
    ("BiRNN final", birnn_final_model, (), {}, 2_204_429, 1_200),
]
SMALL = {
    "0": lambda: simple_rnn_model(5, output_dim=6),
    "1": lambda: rnn_model(5, 4, "relu", 6),
    "2": lambda: cnn_rnn_model(5, 3, 4, 2, "valid", 4, 6),
    "3": lambda: deep_rnn_model(5, 4, 2, 6),
    "4": lambda: bidirectional_rnn_model(5, 4, 6),
    "best": lambda: cnn_birnn_model(5, filters=3, kernel_size=4, conv_stride=3, units=4, output_dim=6),
    "5": lambda: model_number5(5, units=4, output_dim=6, dropout=0.1),
    "6": lambda: model_number6(5, units=4, output_dim=6),
    "final": lambda: final_model(5, units=4, output_dim=6),
    "wavenet": lambda: wavenet_model(5, 1, 4, 6, dropout=0.1),
}


# ------------------------------------------------------------------------------------------ parameters, names


@pytest.mark.parametrize("label, builder, sizes, options, expected, gru_units", REFERENCE, ids=lambda v: str(v)[:20])
def test_parameter_counts_are_those_of_the_references(label, builder, sizes, options, expected, gru_units):
    assert builder(*sizes, reset_after=False, **options).count_params() == expected
    assert builder(*sizes, reset_after=True, **options).count_params() == expected + 3 * gru_units
    assert builder(*sizes, **options).count_params() == expected + 3 * gru_units  # the fast form is the default


def test_wavenet_parameter_counts_are_those_of_the_reference():
    assert wavenet_model().count_params() == 3_738_269
    assert wavenet_model(num_layer_grps=2, filters=64).count_params() == 631_453


def test_wavenet_hears_186_frames_back_a_group_and_nothing_ahead():
    model = wavenet_model(3, num_layer_grps=1, filters=4, output_dim=5)
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(0.7 * rng.standard_normal(weight.shape))
    quiet = np.zeros((1, 400, 3), np.float32)
    click = quiet.copy()
    click[0, 100] = 10
    changed = np.flatnonzero(np.abs(model.predict_on_batch(click) - model.predict_on_batch(quiet)).max(axis=(0, 2)) > 0)
    assert changed.min() == 100
    assert 100 + 180 <= changed.max() <= 100 + 186  # the very last frames may be lost in rounding


def test_wavenet_wants_at_least_one_group():
    with pytest.raises(ValueError, match=r"at least 1. Received: num_layer_grps=0"):
        wavenet_model(num_layer_grps=0)


def test_lstm_cell_has_four_gates():
    units, width = 7, 5
    weights = 4 * (width * units + units * units + units)
    assert rnn_model(width, units, output_dim=6, cell="lstm").count_params() == weights + 4 * units + (units + 1) * 6


def test_model_3_with_one_layer_is_model_1():
    one, three = rnn_model(5, 4, "tanh", 6), deep_rnn_model(5, 4, 1, 6)
    assert [layer.name for layer in one.layers] == [layer.name for layer in three.layers]
    three.set_weights(one.get_weights())
    features = np.random.default_rng(0).normal(size=(2, 9, 5)).astype(np.float32)
    np.testing.assert_array_equal(one.predict_on_batch(features), three.predict_on_batch(features))


@pytest.mark.parametrize("name", SMALL)
def test_input_and_last_layer_have_the_names_of_the_contract(name):
    model = SMALL[name]()
    assert model.layers[0].name == "the_input" and model.input_shape == (None, None, 5)
    last = model.layers[-1]
    assert last.name == "softmax" and type(last) is keras.layers.Activation and not last.weights
    probabilities = model.predict_on_batch(np.ones((2, 12, 5), np.float32))
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_summary_is_printed_once_without_a_stray_none(name, capsys):
    model = SMALL[name]()
    printed = capsys.readouterr().out
    assert printed.count("Total params") == 1
    assert f'"{model.name}"' in printed
    assert "None" not in [line.strip() for line in printed.splitlines()]  # (None, None, 5) stands in the table


def test_every_model_of_the_zoo_takes_its_width_and_has_a_name_of_its_own(monkeypatch):
    monkeypatch.setattr(sample_models.AcousticModel, "summary", lambda *args, **kwargs: None)
    for name in sample_models.ZOO:
        assert build(name, 26).input_shape == (None, None, 26)
    assert {"model_0", "model_1", "model_2", "model_3", "model_4", "final_model"} <= set(sample_models.ZOO)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"Unknown model 'model_9'\. Expected one of: model_0, model_1"):
        build("model_9", 161)
    with pytest.raises(ValueError, match=r"cell must be one of \['gru', 'lstm', 'simple_rnn'\]\. Received: cell='rnn'"):
        simple_rnn_model(5, cell="rnn")
    with pytest.raises(ValueError, match=r"units must be at least 1\. Received: units=0"):
        rnn_model(5, 0)
    with pytest.raises(ValueError, match=r"recur_layers must be at least 1\. Received: recur_layers=0"):
        deep_rnn_model(5, 4, 0)
    with pytest.raises(ValueError, match=r"border_mode must be 'valid', 'same' or 'causal'.*'full'"):
        cnn_output_length(100, 11, "full", 2)


# --------------------------------------------------------------------------------------------------- lengths


def _real_length(layer: keras.Layer, num_frames: int) -> int:
    return layer(np.zeros((1, num_frames, 2), np.float32)).shape[1]


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize(
    "kernel, stride, dilation",
    [(1, 1, 1), (3, 1, 1), pytest.param(4, 2, 1, marks=pytest.mark.contract), (3, 3, 1), (3, 1, 2), (4, 1, 3)],
)
def test_convolution_length_is_that_of_the_real_output(kernel, stride, dilation, padding):
    layer = keras.layers.Conv1D(1, kernel, strides=stride, padding=padding, dilation_rate=dilation)
    reach = (kernel - 1) * dilation + 1
    for num_frames in (10, 11, 12, 13, 23):
        assert num_frames >= reach
        assert cnn_output_length(num_frames, kernel, padding, stride, dilation) == _real_length(layer, num_frames)


def test_length_is_zero_where_the_kernel_does_not_fit_and_arrays_stay_arrays():
    assert cnn_output_length(10, 11, "valid", 2) == 0
    assert cnn_output_length(3, 11, "valid", 1) == 0
    assert type(cnn_output_length(381, 11, "valid", 2)) is int
    result = cnn_output_length(np.array([3, 11, 12, 13, 381], np.int32), 11, "valid", 2)
    np.testing.assert_array_equal(result, [0, 1, 1, 2, 186])
    assert result.dtype == np.int32
    assert cnn_output_length(None, 11, "valid", 2) is None


def _strange_model() -> keras.Model:
    """Everything that changes the length, in one model, with a skip connection and a nested model."""
    layers = keras.layers
    the_input = keras.Input(shape=(None, 5), name="the_input")
    x = layers.ZeroPadding1D((2, 3))(the_input)
    x = layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(x)
    x = layers.add([x, layers.Conv1D(4, 1)(x)])
    x = layers.MaxPooling1D(3, strides=2, padding="same")(x)
    x = layers.AveragePooling1D(2, strides=1, padding="valid")(x)
    x = layers.SeparableConv1D(4, 3, strides=2)(x)
    x = layers.DepthwiseConv1D(2, padding="same")(x)
    x = layers.UpSampling1D(3)(x)
    x = layers.Cropping1D((1, 2))(x)
    x = layers.Bidirectional(recurrent("gru", 3, "rnn"))(x)
    x = keras.Sequential([keras.Input(shape=(None, 6)), layers.Conv1D(4, 2, strides=2), layers.Dropout(0.1)])(x)
    return acoustic_model(the_input, layers.Dense(6)(x), "strange_model", print_summary=False)


@pytest.mark.parametrize("name", [*SMALL, "strange"])
def test_output_length_is_that_of_the_real_output_also_after_cloning_and_loading(name, tmp_path):
    model = _strange_model() if name == "strange" else SMALL[name]()
    path = tmp_path / "model.h5"
    save_weights(model, path)
    copies = [model, keras.models.clone_model(model), load_model(path)[0]]
    whole = tmp_path / "whole.keras"
    model.save(whole)
    copies.append(keras.models.load_model(whole))
    lengths = [21, 22, 23, 40]
    real = [model.compute_output_shape((1, num_frames, 5))[1] for num_frames in lengths]
    assert model(np.zeros((1, 22, 5), np.float32)).shape[1] == real[1]
    for copy in copies:
        assert [copy.output_length(num_frames) for num_frames in lengths] == real
        np.testing.assert_array_equal(copy.output_length(np.array(lengths)), real)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv1DTranspose(4, 3, strides=2, name="strange"),
        layers.Reshape((-1, 8), name="strange"),
        layers.GlobalAveragePooling1D(keepdims=True, name="strange"),
        layers.Permute((2, 1), name="strange"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_that_changes_the_time_axis_in_an_unknown_way_is_refused(layer):
    the_input = keras.Input((None, 4) if not isinstance(layer, layers.Permute) else (6, 4), name="the_input")
    model = acoustic_model(the_input, layers.Dense(5)(layer(the_input)), "odd", print_summary=False)
    with pytest.raises(ValueError, match=r"Layer 'strange' \(\w+\) changes the time axis: 997 frames become"):
        model.output_length(100)


def test_layers_that_keep_the_time_axis_are_accepted():
    the_input = keras.Input((None, 4), name="the_input")
    x = layers.LayerNormalization()(the_input)
    x = layers.Concatenate()([x, layers.TimeDistributed(layers.Dense(4))(x)])
    x = layers.Add()([x, layers.Dropout(0.1)(x)])
    x = layers.SpatialDropout1D(0.1)(layers.Masking()(layers.PReLU(shared_axes=[1])(x)))
    x = layers.MultiHeadAttention(2, 3)(x, x)
    model = acoustic_model(
        the_input, layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x), "x", print_summary=False
    )
    assert model.output_length(100) == 100


# --------------------------------------------------------------------------------------- what model 0 cannot do


def test_no_probability_of_model_0_exceeds_its_ceiling_and_the_ceiling_is_reached():
    model = simple_rnn_model(5)
    kernel, recurrent_kernel, bias = (np.zeros_like(weight) for weight in model.get_weights())
    bias[0, :29] = -50  # the update gate lets the candidate through
    bias[0, 58:] = -50  # candidates of all classes at -1 ...
    bias[0, 58 + 7] = 50  # ... but one at +1
    model.set_weights([kernel, recurrent_kernel, bias])
    highest = model.predict_on_batch(np.zeros((1, 4, 5), np.float32)).max()
    assert highest == pytest.approx(1 / (1 + 28 * np.exp(-2)), rel=1e-5)
    assert highest_probability_of_tanh_logits(29) == pytest.approx(highest, rel=1e-5)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 20, weight.shape) for weight in model.get_weights()])
    wild = model.predict_on_batch(rng.normal(size=(4, 50, 5)).astype(np.float32)).max()
    assert wild <= highest * (1 + 1e-5)
