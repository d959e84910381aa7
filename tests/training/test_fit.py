"""Weight averages, lower precision and the live picture: what they do to a run, against their definitions."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from sample_models import acoustic_model
from train_utils import train_model
from vuilab.corpus.manifest import set_active_corpus
from vuilab.runs.history import load_history
from vuilab.runs.record import file_hash, read_record
from vuilab.runs.weights import load_weights, save_weights
from vuilab.training import recogniser

TEXTS = ["a cat", "see it", "to be", "an oak", "i am", "we go", "no", "so it is"]


@pytest.fixture
def corpus(make_corpus, tmp_path, monkeypatch):
    """Eight training and four validation clips of 0.4 s, active in an empty working folder."""
    train = [(text, 0.4) for text in TEXTS]
    folder = make_corpus({"train": train, "validation": train[:4]})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VUI_CORPUS", str(folder))
    set_active_corpus(None)
    return folder


def build(seed: int = 0) -> keras.Model:
    """Return a small convolutional model, which compiles quickly."""
    keras.utils.set_random_seed(seed)
    the_input = keras.Input(shape=(None, 13), name="the_input")
    x = keras.layers.Conv1D(4, 3, padding="same", activation="tanh", name="conv1d")(the_input)
    return acoustic_model(the_input, keras.layers.Dense(29, name="dense")(x), "tiny_model", print_summary=False)


def train(model: keras.Model, **options) -> dict:
    """Train on batches of two MFCC matrices, without a word."""
    options = {"spectrogram": False, "minibatch_size": 2, "epochs": 1, "verbose": 0} | options
    return train_model(model, "tiny.pickle", "tiny.h5", **options)


class Watch(keras.callbacks.Callback):
    """Keeps the weights after every step."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append([np.array(weight) for weight in self.model.get_weights()])


def test_the_kept_weights_are_the_average_and_training_goes_on_with_the_others(corpus):
    model, watch = build(), Watch()
    train(model, ema=0.6, callbacks=[watch])
    assert len(watch.weights) == 4
    expected = watch.weights[0]  # the average begins with the weights after the first step
    for weights in watch.weights[1:]:
        expected = [0.6 * average + 0.4 * weight for average, weight in zip(expected, weights, strict=True)]
    kept = build(seed=1)
    load_weights(kept, "results/tiny.h5")
    for found, average in zip(kept.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, average, rtol=1e-4, atol=1e-6)
    for found, last in zip(model.get_weights(), watch.weights[-1], strict=True):
        np.testing.assert_allclose(found, last, rtol=1e-6)


def test_the_scores_are_those_of_the_average(corpus):
    history = train(build(), ema=0.9, minibatch_size=2, epochs=2)
    record = read_record("results/tiny.json")
    plain = train(build(), force=True, epochs=2)
    assert history["loss"] == pytest.approx(plain["loss"], rel=1e-5)  # the steps are the same
    assert history["val_loss"] != pytest.approx(plain["val_loss"], rel=1e-3)
    assert record["configuration"]["optimizer"]["config"]["use_ema"] is True


@pytest.mark.parametrize("ema", [0, 1, 1.5, -0.1])
def test_a_momentum_that_cannot_be_is_refused(corpus, ema):
    with pytest.raises(ValueError, match=rf"between 0 and 1, such as 0.999, or None. Received: ema={ema}"):
        train(build(), ema=ema)


@pytest.fixture
def bfloat16():
    """Mixed precision for the models built in a test."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def test_mixed_precision_trains_float32_weights_to_about_the_same_loss(corpus, bfloat16):
    model = build()
    history = train(model, epochs=3)
    assert {str(weight.dtype) for weight in model.weights} == {"float32"}
    assert model.get_layer("conv1d").compute_dtype == "bfloat16"
    keras.config.set_dtype_policy("float32")
    expected = train(build(), epochs=3)  # another architecture, so it is trained and not loaded
    assert history["loss"] == pytest.approx(expected["loss"], rel=0.03)
    assert history["loss"] != expected["loss"]


def test_a_large_feature_cache_and_the_memory_are_announced(corpus, monkeypatch, capsys):
    monkeypatch.setattr(recogniser, "LARGE_CACHE", 1000)
    train(build(), verbose=1)
    first = capsys.readouterr().out
    assert "Features of 0.0 h of speech are computed once and take 0.0 GB of disk" in first
    assert re.search(r"\d s a step, \d+\.\d GB of memory\)", first)
    train(build(), verbose=1, force=True)
    assert "computed once" not in capsys.readouterr().out  # they are there now


def test_tensorboard_logs_hold_the_history(corpus, tmp_path):
    import tensorflow as tf

    logs = tmp_path / "logs"
    history = train(build(), epochs=2, callbacks=[keras.callbacks.TensorBoard(logs, write_graph=False)])
    found = {}
    for path in logs.rglob("events.*"):  # TensorBoard shows training and validation as two runs of one curve
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault((path.parent.name, value.tag), []).append(float(tf.make_ndarray(value.tensor)))
    assert found["train", "epoch_loss"] == pytest.approx(history["loss"])
    assert found["validation", "epoch_loss"] == pytest.approx(history["val_loss"])
    assert found["validation", "epoch_cer"] == pytest.approx(history["val_cer"])


def test_training_begins_with_the_weights_it_is_given(corpus):
    first = build(seed=1)
    save_weights(first, "first.h5")
    model, watch = build(seed=2), Watch()
    train(model, start_from="first.h5", optimizer=keras.optimizers.SGD(1e-12), callbacks=[watch])
    for weight, expected in zip(watch.weights[0], first.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)
    configuration = read_record("results/tiny.json")["configuration"]
    assert configuration["start_from"] == file_hash("first.h5")


def test_run_from_other_weights_is_another_run(corpus, capsys):
    for seed in (1, 2):
        save_weights(build(seed), f"first_{seed}.h5")
    train(build(), start_from="first_1.h5")
    losses = load_history("results/tiny.pickle")["loss"]
    train(build(), start_from="first_2.h5")
    assert load_history("results/tiny.pickle")["loss"] != losses


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (None, FileNotFoundError, "No weights at first.h5"),
        ({"kind": "mfcc", "mfcc_dim": 13, "window": 25}, ValueError, "trained on other features"),
        ("other model", ValueError, "another architecture"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(features, error, message, corpus):
    if features == "other model":
        the_input = keras.Input(shape=(None, 13), name="the_input")
        other = acoustic_model(the_input, keras.layers.Dense(29, name="dense")(the_input), "other", print_summary=False)
        save_weights(other, "first.h5")
    elif features:
        save_weights(build(), "first.h5", {"features": features})
    with pytest.raises(error, match=message):
        train(build(), start_from="first.h5")
    assert not list(Path("results").glob("*") if Path("results").is_dir() else [])


def test_the_plan_for_other_amounts_of_speech_trains_nothing(corpus, capsys):
    assert train(build(), plan=(1, 200), verbose=1, epochs=3) == {}
    printed = capsys.readouterr().out
    # 100 frames a second x 13 MFCCs x 2 bytes
    assert re.search(
        r"^1 h of speech would take about .+ an epoch, .+ for 3, and 0\.0 GB of disk", printed, re.MULTILINE
    )
    assert re.search(
        r"^200 h of speech would take about \d.+ an epoch, \d.+ for 3, and 1\.9 GB of disk", printed, re.MULTILINE
    )
    assert not [path for path in Path("results").rglob("*") if path.is_file()]
    with pytest.raises(ValueError, match=r"plan holds hours of speech, which are positive. Received: plan=\(0,\)"):
        train(build(), plan=(0,))
