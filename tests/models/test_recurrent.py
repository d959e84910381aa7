"""The fast recurrent layers against Keras' own: the same outputs, gradients, weights and saved models."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from vuilab.models import recurrent

PAIRS = {"gru": (recurrent.GRU, layers.GRU), "simple_rnn": (recurrent.SimpleRNN, layers.SimpleRNN)}


def twins(cell: str, **options) -> tuple[layers.Layer, layers.Layer]:
    """Return our layer and Keras' layer with the same random weights, biases too."""
    ours, stock = (kind(7, return_sequences=True, **options) for kind in PAIRS[cell])
    rng = np.random.default_rng(0)
    for layer in (ours, stock):
        layer.build((None, None, 5))
    values = [rng.standard_normal(weight.shape).astype(np.float32) * 0.5 for weight in ours.get_weights()]
    ours.set_weights(values)
    stock.set_weights(values)
    return ours, stock


def gradients(layer: layers.Layer, x: np.ndarray, target: np.ndarray) -> list[np.ndarray]:
    """Return the gradients of sum((layer(x) - target)^2) for each weight and for x, by the backend at hand."""
    if keras.backend.backend() == "jax":
        import jax

        def loss(weights, x):
            outputs, _ = layer.stateless_call(
                weights, [variable.value for variable in layer.non_trainable_variables], x
            )
            return ops.sum((outputs - target) ** 2)

        by_weight, by_input = jax.grad(loss, argnums=(0, 1))([v.value for v in layer.trainable_variables], x)
        return [np.asarray(value) for value in [*by_weight, by_input]]
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum((layer(x) - target) ** 2)
    return [g.numpy() for g in tape.gradient(loss, [*[v.value for v in layer.trainable_variables], x])]


@pytest.mark.contract
@pytest.mark.parametrize("cell", PAIRS)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_outputs_and_gradients_equal_those_of_keras(cell, go_backwards):
    ours, stock = twins(cell, go_backwards=go_backwards)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 11, 5)).astype(np.float32)
    np.testing.assert_allclose(ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(stock(x)), atol=1e-6)
    target = rng.standard_normal((3, 11, 7)).astype(np.float32)
    for found, expected in zip(gradients(ours, x, target), gradients(stock, x, target), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.contract
@pytest.mark.parametrize("cell", PAIRS)
def test_an_initial_state_and_the_last_state_are_handled(cell):
    ours, stock = twins(cell, return_state=True)
    rng = np.random.default_rng(2)
    x, state = rng.standard_normal((2, 4, 5)).astype(np.float32), rng.standard_normal((2, 7)).astype(np.float32)
    for found, expected in zip(ours(x, initial_state=state), stock(x, initial_state=state), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("gru", {"reset_after": False}),
        ("gru", {"activation": "relu"}),
        ("gru", {"recurrent_activation": "hard_sigmoid"}),
        ("gru", {"use_bias": False}),
        ("simple_rnn", {"activation": "relu"}),
        ("simple_rnn", {"use_bias": False}),
    ],
)
def test_other_settings_are_left_to_keras(cell, options, monkeypatch):
    monkeypatch.setattr(recurrent, "_run", None)  # calling it would fail
    ours, stock = twins(cell, **options)
    x = np.random.default_rng(3).standard_normal((2, 6, 5)).astype(np.float32)
    np.testing.assert_allclose(ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(stock(x)), atol=1e-6)


@pytest.mark.parametrize("cell", PAIRS)
def test_masks_are_left_to_keras(cell):
    ours, stock = twins(cell)
    x = np.random.default_rng(4).standard_normal((2, 6, 5)).astype(np.float32)
    mask = np.arange(6) < np.array([[4], [6]])
    found, expected = ours(x, mask=mask), stock(x, mask=mask)
    np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(expected), atol=1e-6)


@pytest.mark.parametrize("cell", [pytest.param("gru", marks=pytest.mark.contract), "simple_rnn"])
def test_a_bidirectional_model_survives_saving_and_loading(cell, tmp_path):
    the_input = keras.Input((None, 5))
    model = keras.Model(the_input, layers.Bidirectional(PAIRS[cell][0](4, return_sequences=True))(the_input))
    x = np.random.default_rng(5).standard_normal((2, 9, 5)).astype(np.float32)
    expected = model.predict_on_batch(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[1].backward_layer, PAIRS[cell][0])
    np.testing.assert_allclose(loaded.predict_on_batch(x), expected, atol=1e-6)


def test_it_learns_with_batches_of_changing_length():
    the_input = keras.Input((None, 5))
    model = keras.Model(the_input, recurrent.GRU(4, return_sequences=True)(the_input))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    rng = np.random.default_rng(6)
    losses = []
    for step in range(40):
        x = rng.uniform(-1, 1, (4, 6 + 3 * (step % 2), 5)).astype(np.float32)
        losses.append(float(model.train_on_batch(x, np.tanh(x[..., :4]))))
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])
