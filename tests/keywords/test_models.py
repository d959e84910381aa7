"""The builders: published parameter counts, shapes, names, and the parts that counts do not show."""

import keras
import numpy as np
import pytest

from vuilab.keywords import models as keyword_models
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.models import FEATURES, ZOO, Pool, bc_resnet, light_cnn, matchboxnet, perceptron, wavception


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(keras.Model, "summary", lambda *arguments, **options: None)


def test_the_light_cnn_has_the_parameters_of_the_reference():
    assert light_cnn((99, 81, 1), 12).count_params() == 314_368


def test_matchboxnet_has_the_size_of_the_paper():
    # arXiv:2004.08531, table 1: 77 thousand with the 30 labels of version 1; by hand 73,344 before the last layer
    assert trainable(matchboxnet((98, 64), 30)) == 73_344 + 128 * 30 + 30 == 77_214
    assert trainable(matchboxnet((98, 64), 12)) == 74_892


def test_bc_resnet_has_the_size_of_the_paper():
    assert trainable(bc_resnet((40, 98, 1), 12)) == pytest.approx(9_200, abs=50)  # arXiv:2106.04140, table 2: 9.2 k


def test_the_perceptron_is_one_matrix():
    assert perceptron((20, 11, 1), 3).count_params() == 20 * 11 * 3 + 3


def test_wavception_has_nine_stages_of_two_modules_and_halves_the_length_in_each():
    model = wavception((16_000, 1), 12)
    lengths = [model.get_layer(f"stage{stage}_pool").output.shape[1] for stage in range(1, 10)]
    assert lengths == [8000, 4000, 2000, 1000, 500, 250, 125, 62, 31]
    widths = [model.get_layer(f"stage{stage}_{n}_join").output.shape[-1] for stage in range(1, 10) for n in (1, 2)]
    depths = np.repeat([1, 1, 2, 2, 3, 3, 4, 4, 4], 2)
    assert widths == list(16 * depths + 2 * 32 * depths + 4 * 16)  # k1, k3, k5, four pooled branches


@pytest.mark.parametrize("name", ZOO)
def test_every_builder_fits_its_features_and_ends_in_softmax(name):
    shape = KeywordFeatures(FEATURES[name]).shape
    model = ZOO[name](shape, 5)
    assert model.input_shape == (None, *shape) and model.output_shape == (None, 5) and model.name == name
    last = model.layers[-1]
    assert last.name == "softmax" and isinstance(last, keras.layers.Activation)
    assert model.layers[0].name == "the_input" and len({layer.name for layer in model.layers}) == len(model.layers)
    numbered = [
        layer.name for layer in model.layers if layer.name.startswith(("conv2d", "dense_1", "batch_normalization"))
    ]
    assert not numbered  # every layer has a name of its own


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("two_conv_dropout", marks=pytest.mark.contract),
        "matchboxnet",
        "bc_resnet",  # JAX compiles each of its 150 layers
    ],
)
def test_probabilities_add_up_and_the_weights_come_back(name, tmp_path):
    from vuilab.runs.weights import load_model, save_weights

    shape = KeywordFeatures(FEATURES[name]).shape
    model = ZOO[name](shape, 4)
    clips = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    before = np.asarray(model(clips, training=False))
    np.testing.assert_allclose(before.sum(axis=1), 1, rtol=1e-5)
    save_weights(model, tmp_path / "a.h5", {"task": "keywords"})
    again, metadata = load_model(tmp_path / "a.h5")
    np.testing.assert_allclose(np.asarray(again(clips, training=False)), before, rtol=1e-4, atol=1e-6)
    assert metadata["task"] == "keywords"


def test_sub_bands_are_normalised_by_themselves():
    the_input = keras.Input((10, 3, 2))
    layer = keras.Model(the_input, keyword_models._sub_spectral_norm(the_input, "x"))
    x = np.random.default_rng(0).normal(size=(6, 10, 3, 2)) * np.repeat([1, 10, 100, 1000, 5], 2)[None, :, None, None]
    found = np.asarray(layer(x.astype(np.float32), training=True))
    for band in range(5):  # each of five bands, for each channel, has its own mean and deviation
        rows = x[:, 2 * band : 2 * band + 2]
        expected = (rows - rows.mean(axis=(0, 1, 2))) / np.sqrt(rows.var(axis=(0, 1, 2)) + 1e-3)
        np.testing.assert_allclose(found[:, 2 * band : 2 * band + 2], expected, rtol=1e-3, atol=1e-4)


def test_the_lstm_reads_the_image_frame_by_frame():
    model = keyword_models.lstm((20, 11, 1), 3)
    assert model.get_layer("rnn").input.shape == (None, 11, 20)
    assert model.get_layer("rnn").count_params() == 4 * 128 * (20 + 128 + 1)


def test_what_makes_no_classifier_is_refused():
    with pytest.raises(ValueError, match=r"at least two classes\. Received: num_classes=1"):
        perceptron((20, 11, 1), 1)
    with pytest.raises(ValueError, match=r"multiple of 40\. Received: input_shape=\(64, 98, 1\)"):
        bc_resnet((64, 98, 1), 3)


def test_the_summary_is_printed_once(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(keras.Model, "summary", lambda *arguments, **options: calls.append(1))
    perceptron()
    assert calls == [1]


@pytest.mark.contract
@pytest.mark.parametrize(
    ("kind", "theirs"), [("max", keras.layers.MaxPooling1D), ("mean", keras.layers.AveragePooling1D)]
)
@pytest.mark.parametrize(("width", "stride", "num_samples"), [(3, 1, 11), (5, 1, 8), (2, 2, 10), (4, 3, 11)])
def test_pooling_is_that_of_keras(kind, theirs, width, stride, num_samples):
    x = np.random.default_rng(0).normal(size=(2, num_samples, 3)).astype("float32") - 5  # zeros outside would be seen
    found = keras.ops.convert_to_numpy(Pool(kind, width, stride)(x))
    expected = keras.ops.convert_to_numpy(theirs(width, stride, padding="same")(x))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_wavception_comes_back_from_its_file(tmp_path):
    from vuilab.runs.weights import load_model, save_weights

    model = wavception((600, 1), 3, depths=(1, 1))
    save_weights(model, tmp_path / "m.h5", {})
    loaded, _ = load_model(tmp_path / "m.h5")
    x = np.random.default_rng(0).normal(size=(1, 600, 1)).astype("float32")
    np.testing.assert_allclose(loaded.predict_on_batch(x), model.predict_on_batch(x), atol=1e-5)


def test_means_in_a_wavception_are_as_if_taken_before_the_convolution():
    model = wavception((60, 1), 2, depths=(1,))
    last = model.get_layer("stage1_2_mean3_bn")
    inner = keras.Model(model.input, [model.get_layer("stage1_2_bn").output, last.output])
    x = np.random.default_rng(0).normal(size=(2, 60, 1)).astype("float32")
    before, found = map(np.array, inner.predict_on_batch(x))
    means = keras.ops.convert_to_numpy(keras.ops.average_pool(before, 3, 1, padding="same"))
    kernel, bias = (np.array(weight)[..., 48:64] for weight in model.get_layer("stage1_2_pointwise").weights)
    expected = (means @ kernel + bias) / np.sqrt(1 + last.epsilon)  # what an untrained batch normalisation does
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["light_cnn", "bc_resnet"])
def test_moving_averages_have_caught_up_after_a_hundred_steps(name):
    layers = [layer for layer in ZOO[name]((40, 40, 1), 3).layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert layers and all(layer.momentum**100 < 1e-4 for layer in layers)  # what is left of the values of the start
