"""Other formats: what a model becomes before it is written, what cannot be written, and 8-bit integers."""

import sys

import keras
import numpy as np
import pytest
from keras import layers, ops
from tiny_export import exporting_here

from vuilab.inference import formats
from vuilab.inference.formats import in_float32, is_recurrent, open_file, portable, quantise, require, write
from vuilab.models import recurrent

RNG = np.random.default_rng(0)


def filled(model: keras.Model) -> keras.Model:
    """Give a model weights that are random throughout, so that a forgotten one changes the output."""
    rng = np.random.default_rng(1)
    model.set_weights([0.6 * rng.standard_normal(weight.shape) for weight in model.get_weights()])
    return model


def recurrent_model(bidirectional: bool = True) -> keras.Model:
    """Both fast cells, one inside a wrapper, the other inside a model used as a layer."""
    the_input = keras.Input((None, 5))
    gru = recurrent.GRU(4, return_sequences=True)
    x = layers.Bidirectional(gru)(the_input) if bidirectional else gru(the_input)
    inner_input = keras.Input(x.shape[1:])
    inner = keras.Model(inner_input, recurrent.SimpleRNN(3, return_sequences=True)(inner_input))
    return filled(keras.Model(the_input, layers.Softmax()(inner(x))))


def image_model() -> keras.Model:
    """A small classifier of images, as keyword models are."""
    the_input = keras.Input((20, 11, 1))
    x = layers.Conv2D(8, 3, activation="relu")(the_input)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.2)(layers.Flatten()(layers.MaxPooling2D(2)(x)))
    keras.utils.set_random_seed(0)
    return keras.Model(the_input, layers.Dense(3, activation="softmax")(layers.Dense(64, activation="relu")(x)))


def all_layers(model: keras.Model) -> list:
    found = []
    for layer in model.layers:
        parts = [layer.forward_layer, layer.backward_layer] if isinstance(layer, layers.Bidirectional) else [layer]
        found += all_layers(layer) if isinstance(layer, keras.Model) else parts
    return found


# -------------------------------------------------------------------------------------------------------- models


def test_portable_models_are_made_of_stock_layers_and_compute_the_same():
    model = recurrent_model()
    made = portable(model)
    kinds = [type(layer) for layer in all_layers(made)]
    assert kinds.count(layers.GRU) == 2 and kinds.count(layers.SimpleRNN) == 1
    assert all(layer.use_cudnn is False for layer in all_layers(made) if isinstance(layer, layers.GRU))
    x = RNG.standard_normal((2, 9, 5)).astype(np.float32)
    np.testing.assert_allclose(made.predict_on_batch(x), model.predict_on_batch(x), atol=1e-6)


def test_a_model_of_lower_precision_becomes_one_of_float32_with_its_weights():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        the_input = keras.Input((None, 5))
        model = keras.Model(the_input, layers.Dense(3, name="dense")(the_input))
    finally:
        keras.config.set_dtype_policy("float32")
    x = RNG.standard_normal((2, 9, 5)).astype(np.float32)
    kernel, bias = model.get_weights()
    for made in (in_float32(model), portable(model)):
        assert made.get_layer("dense").compute_dtype == "float32"
        np.testing.assert_allclose(made.predict_on_batch(x), x @ kernel + bias, atol=1e-6)
    assert in_float32(made) is made


@pytest.mark.parametrize("bidirectional", [True, False])
def test_recurrent_layers_are_found_inside_others(bidirectional):
    assert is_recurrent(recurrent_model(bidirectional))
    assert not is_recurrent(image_model())


# ------------------------------------------------------------------------------------------------------ refusals


def test_an_unknown_format_is_refused():
    with pytest.raises(
        ValueError, match=r"format must be one of \('savedmodel', 'litert', 'onnx'\). Received: 'tflite'"
    ):
        require("tflite")


@pytest.mark.contract
@pytest.mark.parametrize("form", formats.FORMATS)
def test_another_backend_than_tensorflow_is_refused_with_the_way_out(form, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(
        RuntimeError, match=r"Received: the backend 'jax'. Run the export with KERAS_BACKEND=tensorflow"
    ):
        require(form)


@pytest.mark.parametrize("package", ["onnx", "tf2onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(package, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    for name in ("onnx", "tf2onnx", "onnxruntime"):  # as if the others were there
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    with pytest.raises(RuntimeError, match=rf"ONNX needs the package {package}: pip install .*\[export\]"):
        require("onnx")


def test_a_model_with_two_inputs_is_refused(tmp_path):
    first, second = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([first, second], layers.Add()([first, second]))
    with exporting_here(), pytest.raises(ValueError, match=r"one input and one output .* with 2 inputs and 1 outputs"):
        write(model, tmp_path / "model.tflite", "litert")


@keras.saving.register_keras_serializable(package="tests")
class InverseErrorFunction(layers.Layer):
    """An operation that TensorFlow has and LiteRT lacks."""

    def call(self, x):
        return ops.erfinv(ops.tanh(x))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("litert", r"cannot be written as litert: it lacks the operation Erfinv\. .* use the format savedmodel"),
        ("onnx", r"cannot be written as onnx: No Op registered for Erfinv .* use the format savedmodel"),
    ],
)
def test_an_operation_that_a_format_lacks_is_named_with_the_alternative(form, message, tmp_path):
    the_input = keras.Input((None, 3))
    model = keras.Model(the_input, InverseErrorFunction()(the_input))
    with exporting_here(), pytest.raises(ValueError, match=message):
        write(model, tmp_path / {"litert": "model.tflite", "onnx": "model.onnx"}[form], form)


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "model.savedmodel"])
def test_a_damaged_file_is_said_to_be_one(name, tmp_path):
    path = tmp_path / name
    if path.suffix == ".savedmodel":
        path.mkdir()
        path /= "saved_model.pb"
    path.write_bytes(bytes(range(200)))
    with pytest.raises(ValueError, match=rf"{name} cannot be opened: .* Export the model again"):
        open_file(tmp_path / name)


def test_opening_says_what_is_missing_or_of_an_unknown_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No exported model at .*gone.tflite. Make one: python vui.py export"):
        open_file(tmp_path / "gone.tflite")
    (tmp_path / "model.pb").write_text("")
    with pytest.raises(ValueError, match=r"is a folder or ends in .tflite or .onnx.* Received: 'model.pb'"):
        open_file(tmp_path / "model.pb")


# ---------------------------------------------------------------------------------------------------- quantising


def test_eight_bit_integers_keep_the_classes_in_a_smaller_file(tmp_path):
    model = image_model()
    examples = RNG.standard_normal((60, 20, 11, 1)).astype(np.float32)
    with exporting_here():
        report = quantise(model, examples, tmp_path / "small.tflite")
        write(model, tmp_path / "large.tflite", "litert")
        large = (tmp_path / "large.tflite").stat().st_size
        assert report["bytes"] == (tmp_path / "small.tflite").stat().st_size < 0.4 * large
        others = RNG.standard_normal((20, 20, 11, 1)).astype(np.float32)
        found, expected = open_file(tmp_path / "small.tflite").run(others), model.predict_on_batch(others)
        assert 1e-5 < np.abs(found - expected).max() < 0.05  # coarser than float32, yet close
        assert report["agreement"] >= 0.9 and report["activations"] == "int8"
        interpreter = formats._interpreter(tmp_path / "small.tflite")
        interpreter.allocate_tensors()
        kinds = [item["dtype"] for item in interpreter.get_tensor_details()]
        assert kinds.count(np.int8) > kinds.count(np.float32)


def test_recurrent_models_get_eight_bit_weights_and_keep_float_activations(tmp_path):
    the_input = keras.Input((20, 30))
    x = recurrent.GRU(40)(the_input)
    keras.utils.set_random_seed(0)
    model = keras.Model(the_input, layers.Dense(3, activation="softmax")(x))
    with exporting_here():
        report = quantise(model, RNG.standard_normal((20, 20, 30)).astype(np.float32), tmp_path / "small.tflite")
        assert report["activations"] == "float32" and report["largest_difference"] < 0.02
        assert report["bytes"] < 0.7 * 4 * model.count_params()


def test_a_model_that_eight_bits_break_is_refused_and_leaves_no_file(tmp_path):
    the_input = keras.Input((8,))
    dense = layers.Dense(2)
    model = keras.Model(the_input, dense(the_input))
    kernel = RNG.standard_normal((8, 1))
    # two classes whose scores differ by a thousandth of a step of their 8-bit scale
    dense.set_weights([np.concatenate([kernel, kernel + 1e-5 * RNG.standard_normal((8, 1))], axis=1), np.zeros(2)])
    with exporting_here():
        with pytest.raises(
            ValueError, match=r"keeps its best class on \d+.\d % of the 50 examples; expected at least 90.0 %"
        ):
            quantise(model, RNG.standard_normal((50, 8)), tmp_path / "small.tflite")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "examples",
    [np.zeros((0, 20, 11, 1)), np.zeros((5, 20, 11)), np.zeros((5, 20, 12, 1)), np.full((5, 20, 11, 1), np.nan)],
)
def test_examples_that_do_not_fit_are_refused(examples, tmp_path):
    with exporting_here(), pytest.raises(ValueError, match=r"finite numbers of shape \('num_examples', 20, 11, 1\)"):
        quantise(image_model(), examples, tmp_path / "small.tflite")


def test_another_suffix_is_refused(tmp_path):
    with exporting_here(), pytest.raises(ValueError, match=r"ends in .tflite. Received: 'small.lite'"):
        quantise(image_model(), np.zeros((1, 20, 11, 1)), tmp_path / "small.lite")
