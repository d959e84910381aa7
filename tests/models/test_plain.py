"""Networks in NumPy give what Keras gives, and refuse what they do not know."""

import keras
import numpy as np
import pytest
from keras import layers

import sample_models
from vuilab.cli.keywords import released_or
from vuilab.inference.transcribe import load_recogniser, released_weights
from vuilab.keywords.scores import load_classifier
from vuilab.models.acoustic import acoustic_model, with_phonemes
from vuilab.models.plain import PlainNetwork, UnknownLayerError
from vuilab.runs.weights import load_model, save_weights
from vuilab.runs.weights_file import read_metadata

WIDTH = 13


def plain(model, tmp_path):
    """The network of a model whose weights, those that begin as zeros or ones too, are random."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if len(variable.shape) == 1 or "bias" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    save_weights(model, tmp_path / "model.h5", {})
    return PlainNetwork.load(tmp_path / "model.h5", read_metadata(tmp_path / "model.h5"))


def assert_same(network, model, num_frames=(1, 40, 57)):
    for number in num_frames:
        features = np.random.default_rng(number).normal(0, 1, (2, number, *model.input_shape[2:])).astype(np.float32)
        expected = keras.ops.convert_to_numpy(model(features))
        np.testing.assert_allclose(network.run(features)[0], expected, atol=1e-5)


def model_of(*parts):
    the_input = keras.Input((None, WIDTH), name="the_input")
    x = the_input
    for part in parts:
        x = part(x)
    return acoustic_model(the_input, layers.Dense(5, name="dense")(x), "tried", print_summary=False)


@pytest.mark.contract
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("model_1", {"units": 6}),
        ("model_2", {"units": 6, "filters": 5, "conv_border_mode": "same"}),
        ("model_3", {"units": 6}),
        ("model_4", {"units": 6}),
        ("wavenet_model", {"num_layer_grps": 1, "filters": 6}),
        ("cnn_birnn_model", {"filters": 6, "units": 5}),
        ("residual_birnn", {"filters": 6, "units": 5, "recur_layers": 3, "heads": (1,), "phoneme_heads": (2,)}),
        ("birnn_final_model", {"units": 6}),
    ],
)
def test_the_models_of_the_zoo(name, options, tmp_path):
    model = sample_models.build(name, WIDTH, **options)
    network = plain(model, tmp_path)
    assert_same(network, model, (20, 40, 57))
    assert (network.name, network.width) == (model.name, WIDTH)


@pytest.mark.parametrize(
    "parts",
    [
        [layers.GRU(4, return_sequences=True, reset_after=False, go_backwards=True)],
        [layers.GRU(4, return_sequences=True, recurrent_activation="tanh", use_bias=False)],
        [layers.LSTM(4, return_sequences=True), layers.SimpleRNN(3, activation="relu", return_sequences=True)],
        *(
            [layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode=mode)]
            for mode in ("sum", "mul", "ave")
        ),
        [layers.Conv1D(4, 5, padding="causal", dilation_rate=3, activation="tanh")],
        [layers.Conv1D(4, 4, padding="same", strides=3, use_bias=False), layers.ReLU()],
        [layers.SeparableConv1D(4, 5, padding="same", activation="silu"), layers.MaxPooling1D(3, 2, padding="same")],
        [layers.DepthwiseConv1D(3, padding="same", strides=2), layers.BatchNormalization(scale=False)],
        [layers.TimeDistributed(layers.Dense(4, activation="sigmoid")), layers.BatchNormalization(center=False)],
        [layers.ZeroPadding1D((3, 1)), layers.SpatialDropout1D(0.5), layers.Dense(4, use_bias=False)],
    ],
    ids=str,
)
def test_layers_one_by_one(parts, tmp_path):
    assert_same(plain(model := model_of(*parts), tmp_path), model)


@pytest.mark.parametrize(
    "part",
    [
        layers.LayerNormalization(),
        layers.Conv1D(4, 3, activation="gelu"),
        layers.GaussianDropout(0.1),
        layers.UpSampling1D(2),
    ],
)
def test_what_is_not_known_is_left_to_keras(part, tmp_path):
    model = model_of(part)
    if isinstance(part, layers.GaussianDropout):  # in training alone it does anything
        assert_same(plain(model, tmp_path), model)
        return
    with pytest.raises(UnknownLayerError):
        plain(model, tmp_path)
    recogniser = load_recogniser(tmp_path / "model.h5", plain=True)
    assert isinstance(recogniser.model, keras.Model)


def test_the_released_keyword_classifier_hears_the_same():
    path = released_or(None)
    ours, theirs = load_classifier(path, plain=True), load_classifier(path)
    assert isinstance(ours.model, PlainNetwork)
    waveforms = np.random.default_rng(0).normal(0, 0.1, (3, 16_000)).astype(np.float32)
    np.testing.assert_allclose(ours.probabilities(waveforms), theirs.probabilities(waveforms), atol=1e-4)


def test_a_layer_of_somebody_else_with_a_known_name_is_left_to_keras(tmp_path):
    architecture = {
        "class_name": "Functional",
        "config": {"name": "x", "input_layers": [], "output_layers": [["dense", 0, 0]]},
    }
    dense = {
        "class_name": "Dense",
        "module": "mine",
        "registered_name": "mine>Dense",
        "name": "dense",
        "inbound_nodes": [],
    }
    the_input = {"class_name": "InputLayer", "module": "keras.layers", "name": "the_input", "inbound_nodes": []}
    architecture["config"]["layers"] = [
        {**the_input, "config": {"name": "the_input", "batch_shape": [None, None, 3]}},
        {**dense, "config": {"name": "dense"}},
    ]
    with pytest.raises(UnknownLayerError, match="dense is a Dense"):
        PlainNetwork(architecture, {})


def test_the_released_recogniser_hears_the_same_at_every_length():
    model, metadata = load_model(released_weights())
    network, both = PlainNetwork.load(released_weights(), metadata), with_phonemes(model)
    for num_frames in (33, 160, 501):
        features = np.random.default_rng(num_frames).normal(0, 1, (num_frames, 80)).astype(np.float32)
        expected = both.predict_on_batch(features[None])
        for ours, theirs in zip(network.posteriors(features, phonemes=True), expected, strict=True):
            np.testing.assert_allclose(ours, np.asarray(theirs)[0], atol=1e-4)
    assert network.changes == load_recogniser().network.changes
