"""The CTC loss against the enumeration of every path, with and without padding, on whichever backend runs."""

import itertools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from sample_models import cnn_rnn_model, rnn_model
from vuilab.files import repository
from vuilab.models.ctc import add_ctc_loss, ctc_loss, logits_of, mean_loss
from vuilab.models.residual_birnn import residual_birnn_model

ROOT = repository()
BLANK = 2  # of three classes, the last


def _loss_by_enumeration(logits: np.ndarray, label: list[int]) -> float:
    """Sum the probability of every path that reads as the label: merge repeats, drop blanks."""
    logits = np.asarray(logits, np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    num_frames, num_classes = logits.shape
    total = 0.0
    for path in itertools.product(range(num_classes), repeat=num_frames):
        if [c for c, _ in itertools.groupby(path) if c != num_classes - 1] == label:
            total += np.exp(sum(log_probabilities[t, c] for t, c in enumerate(path)))
    return float(-np.log(total))


def _loss(logits, labels, num_output_frames, label_length) -> np.ndarray:
    result = ctc_loss(
        np.asarray(logits, np.float32),
        np.asarray(labels, np.int32),
        np.array(num_output_frames),
        np.array(label_length),
    )
    return keras.ops.convert_to_numpy(result)


@pytest.mark.parametrize(
    "label",
    [[0], [0, 1], [1, 1], [0, 1, 0], [0, 0, 1], pytest.param([0, 1, 0, 1], marks=pytest.mark.contract)],
    ids=str,
)
def test_loss_is_that_of_all_paths_enumerated(label):
    logits = np.random.default_rng(len(label)).normal(0, 2, (4, 3))
    assert _loss([logits], [label], [4], [len(label)])[0] == pytest.approx(
        _loss_by_enumeration(logits, label), rel=1e-5
    )


@pytest.mark.contract
def test_garbage_behind_the_ends_changes_nothing():
    rng = np.random.default_rng(0)
    lengths, labels = [4, 6, 3], [[0, 0], [1, 0, 1], [1]]
    logits = [rng.normal(0, 2, (length, 3)) for length in lengths]
    expected = [_loss_by_enumeration(frames, label) for frames, label in zip(logits, labels, strict=True)]
    padded_logits = rng.normal(0, 50, (3, 9, 3))
    padded_labels = rng.integers(0, BLANK, (3, 5))
    for row in range(3):
        padded_logits[row, : lengths[row]] = logits[row]
        padded_labels[row, : len(labels[row])] = labels[row]
    np.testing.assert_allclose(_loss(padded_logits, padded_labels, lengths, [2, 3, 1]), expected, rtol=1e-5)


@pytest.mark.contract
def test_the_blank_is_the_last_class_also_with_29_of_them():
    logits = np.full((1, 5, 29), -20.0)
    logits[0, [0, 1, 2, 3, 4], [28, 3, 28, 3, 28]] = 20.0  # reads as 3 3 with all the probability
    assert _loss(logits, [[3, 3]], [5], [2])[0] == pytest.approx(0, abs=1e-3)
    assert _loss(logits, [[3, 0]], [5], [2])[0] > 30


@pytest.mark.contract
def test_gradient_is_that_of_finite_differences_and_zero_in_the_padding():
    label, num_frames = [0, 0], 4
    logits = np.random.default_rng(3).normal(size=(num_frames, 3))
    expected = np.zeros((num_frames + 2, 3))
    for position in np.ndindex(num_frames, 3):
        step = np.zeros_like(logits)
        step[position] = 1e-5
        difference = _loss_by_enumeration(logits + step, label) - _loss_by_enumeration(logits - step, label)
        expected[position] = difference / 2e-5
    padded = np.concatenate([logits, np.full((2, 3), 7.0)]).astype(np.float32)[None]
    labels, lengths, label_lengths = np.array([[0, 0, 1]], np.int32), np.array([num_frames]), np.array([2])
    np.testing.assert_allclose(_gradient(padded, labels, lengths, label_lengths)[0], expected, atol=2e-4)


@pytest.mark.contract
@pytest.mark.parametrize("gap", [50.0, 100.0, 1000.0])
def test_confidently_wrong_model_has_a_finite_loss_and_the_right_gradient(gap):
    logits = np.zeros((1, 3, 3), np.float32)
    logits[0, :, BLANK] = gap  # all frames say blank, the label is 0: the shortest way costs about one gap
    arguments = np.array([[0]], np.int32), np.array([3]), np.array([1])
    loss = float(np.asarray(ctc_loss(logits, *arguments))[0])
    assert loss == pytest.approx(gap - np.log(3), rel=1e-4) if gap <= 80 else np.isfinite(loss) and loss > 75
    expected = np.zeros((3, 3))
    expected[:, 0], expected[:, BLANK] = -1 / 3, 1 / 3  # of three equally good paths each frame holds the letter in one
    np.testing.assert_allclose(_gradient(logits, *arguments)[0], expected, atol=1e-3)


def _gradient(logits, labels, lengths, label_lengths) -> np.ndarray:
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: ctc_loss(x, labels, lengths, label_lengths).sum())(logits))
    import tensorflow as tf

    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(ctc_loss(variable, labels, lengths, label_lengths))
    return tape.gradient(loss, variable).numpy()


# ------------------------------------------------------------------------------------------ the training model


def _utterances() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return [
        {
            "the_input": rng.normal(size=(1, num_frames, 5)).astype(np.float32),
            "the_labels": rng.integers(0, 28, (1, label_length)).astype(np.int32),
            "input_length": np.array([num_frames], np.int32),
            "label_length": np.array([label_length], np.int32),
        }
        for num_frames, label_length in [(23, 4), (40, 6), (31, 1)]
    ]


def _padded(utterances: list[dict], num_frames: int = 50, label_length: int = 9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    batch = {
        "the_input": rng.normal(0, 30, (len(utterances), num_frames, 5)).astype(np.float32),
        "the_labels": rng.integers(0, 29, (len(utterances), label_length)).astype(np.int32),
        "input_length": np.concatenate([item["input_length"] for item in utterances]),
        "label_length": np.concatenate([item["label_length"] for item in utterances]),
    }
    for row, item in enumerate(utterances):
        batch["the_input"][row, : item["input_length"][0]] = item["the_input"][0]
        batch["the_labels"][row, : item["label_length"][0]] = item["the_labels"][0]
    return batch


def _models() -> dict[str, keras.Model]:
    keras.utils.set_random_seed(1)
    return {"rnn": rnn_model(5, 4), "strided": cnn_rnn_model(5, 4, 5, 2, "valid", 4)}


@pytest.mark.parametrize("name", ["rnn", pytest.param("strided", marks=pytest.mark.contract)])
def test_padded_batch_and_single_utterances_have_the_same_loss(name):
    trainer = add_ctc_loss(_models()[name])
    single = [float(np.asarray(trainer.predict_on_batch(item)["ctc"])[0]) for item in _utterances()]
    batch = np.asarray(trainer.predict_on_batch(_padded(_utterances()))["ctc"])
    np.testing.assert_allclose(batch, single, rtol=1e-4)


def test_padding_changes_no_training_step_of_a_model_that_reads_forward():
    """Loss and weights after a step are the same whatever lies behind the ends of the utterances."""
    histories = []
    for scale in (0, 1):
        keras.utils.set_random_seed(2)
        the_input = keras.Input(shape=(None, 5), name="the_input")
        x = keras.layers.SimpleRNN(4, return_sequences=True)(the_input)
        logits = keras.layers.Dense(29)(x)
        model = keras.Model(the_input, keras.layers.Activation("softmax", name="softmax")(logits))
        trainer = add_ctc_loss(model)
        trainer.compile(optimizer=keras.optimizers.SGD(0.1), loss=mean_loss)
        batch = _padded(_utterances())
        for row, item in enumerate(_utterances()):
            batch["the_input"][row, item["input_length"][0] :] *= scale
            batch["the_labels"][row, item["label_length"][0] :] *= scale
        loss = float(trainer.train_on_batch(batch, {"ctc": np.zeros(3, np.float32)}))
        histories.append([np.array(loss), *model.get_weights()])
    for first, second in zip(*histories, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


@pytest.mark.contract
def test_training_loss_is_the_mean_over_the_utterances():
    trainer = add_ctc_loss(_models()["strided"].__class__.from_config(_models()["strided"].get_config()))
    trainer.compile(optimizer=keras.optimizers.SGD(0.0), loss=mean_loss)
    batch = _padded(_utterances())
    losses = np.asarray(trainer.predict_on_batch(batch)["ctc"])
    reported = float(trainer.test_on_batch(batch, {"ctc": np.zeros(3, np.float32)}))
    assert reported == pytest.approx(losses.mean(), rel=1e-5)


def test_guesses_on_the_way_share_the_loss_and_the_layer_ctc_has_that_of_the_last_one():
    keras.utils.set_random_seed(0)
    model = residual_birnn_model(
        5,
        filters=4,
        kernel_size=3,
        conv_stride=1,
        residual_kernel_size=3,
        dilations=(),
        units=3,
        recur_layers=3,
        output_dim=4,
        heads=(1, 2),
        print_summary=False,
    )
    trainer = add_ctc_loss(model)
    rng = np.random.default_rng(0)
    batch = {
        "the_input": rng.standard_normal((2, 6, 5)).astype("float32"),
        "the_labels": np.array([[0, 1], [2, 0]]),
        "input_length": np.array([6, 4]),
        "label_length": np.array([2, 1]),
    }
    batch["the_input"][1, 4:] = 0

    def brute_force(logits):
        frames, labels = batch["input_length"], [[0, 1], [2]]
        return np.array([_loss_by_enumeration(logits[row, : frames[row]], labels[row]) for row in (0, 1)])

    parts = keras.Model(
        model.inputs[0], [model.get_layer(f"intermediate_{n}").output for n in (1, 2)] + [logits_of(model)]
    )
    losses = [brute_force(np.asarray(logits)) for logits in parts(batch["the_input"], training=False)]
    found = np.asarray(trainer(batch, training=False)["ctc"])
    np.testing.assert_allclose(found, 0.7 * losses[2] + 0.15 * losses[0] + 0.15 * losses[1], rtol=1e-4)
    last = keras.Model(trainer.input, trainer.get_layer("ctc").output)
    np.testing.assert_allclose(np.asarray(last(batch, training=False)), losses[2], rtol=1e-4)


def test_model_without_a_separate_softmax_is_refused_with_the_remedy():
    the_input = keras.Input(shape=(None, 5), name="the_input")
    model = keras.Model(the_input, keras.layers.Dense(29, activation="softmax", name="out")(the_input))
    with pytest.raises(ValueError, match=r"must end in a separate layer.*Received: a last layer 'out' of type Dense"):
        add_ctc_loss(model)


OTHER_BACKEND = """
import json, sys
import numpy as np
from vuilab.runs.weights import load_model
from vuilab.models.ctc import add_ctc_loss
batch = dict(np.load(sys.argv[2]))
print(json.dumps(np.asarray(add_ctc_loss(load_model(sys.argv[1])[0]).predict_on_batch(batch)["ctc"]).tolist()))
"""


@pytest.mark.slow
def test_both_backends_give_the_same_loss_for_the_same_weights_and_batch(tmp_path):
    from vuilab.runs.weights import save_weights

    model = _models()["strided"]
    save_weights(model, tmp_path / "model.h5")
    batch = _padded(_utterances())
    np.savez(tmp_path / "batch.npz", **batch)
    here = np.asarray(add_ctc_loss(model).predict_on_batch(batch)["ctc"])
    other = {"tensorflow": "jax", "jax": "tensorflow"}[keras.backend.backend()]
    result = subprocess.run(
        [sys.executable, "-c", OTHER_BACKEND, str(tmp_path / "model.h5"), str(tmp_path / "batch.npz")],
        env={**os.environ, "KERAS_BACKEND": other, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    there = json.loads(result.stdout.splitlines()[-1])
    np.testing.assert_allclose(there, here, rtol=1e-4)
