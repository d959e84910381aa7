"""A run from call to record: weight averages, precision, weights to begin with; and that runs of version 0.1 are recognised."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_training import tiny_model, train_tiny

import train_utils
from sample_models import acoustic_model, build
from train_utils import train_model
from vuilab.augment import Augmentation
from vuilab.keywords.batches import ClipGenerator
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.corpus import choose_clips, index_folder
from vuilab.keywords.models import classifier
from vuilab.keywords.options import ClipAugmentation, ClipOptions, KeywordOptions
from vuilab.keywords.training import KeywordTask
from vuilab.runs.history import load_history
from vuilab.runs.record import file_hash, fingerprint, read_record
from vuilab.runs.weights import load_weights, save_weights
from vuilab.training import recogniser
from vuilab.training.fit import configuration_of
from vuilab.training.optimizer import run_optimizer


def network(seed: int = 0) -> keras.Model:
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


def test_the_kept_weights_are_the_average_and_training_goes_on_with_the_others(even_corpus):
    model, watch = network(), Watch()
    train(model, ema=0.6, callbacks=[watch])
    assert len(watch.weights) == 4
    expected = watch.weights[0]  # the average begins with the weights after the first step
    for weights in watch.weights[1:]:
        expected = [0.6 * average + 0.4 * weight for average, weight in zip(expected, weights, strict=True)]
    kept = network(seed=1)
    load_weights(kept, "results/tiny.h5")
    for found, average in zip(kept.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, average, rtol=1e-4, atol=1e-6)
    for found, last in zip(model.get_weights(), watch.weights[-1], strict=True):
        np.testing.assert_allclose(found, last, rtol=1e-6)


def test_the_scores_are_those_of_the_average(even_corpus):
    history = train(network(), ema=0.9, minibatch_size=2, epochs=2)
    record = read_record("results/tiny.json")
    plain = train(network(), force=True, epochs=2)
    assert history["loss"] == pytest.approx(plain["loss"], rel=1e-5)  # the steps are the same
    assert history["val_loss"] != pytest.approx(plain["val_loss"], rel=1e-3)
    assert record["configuration"]["optimizer"]["config"]["use_ema"] is True


@pytest.fixture
def bfloat16():
    """Mixed precision for the models built in a test."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def test_mixed_precision_trains_float32_weights_to_about_the_same_loss(even_corpus, bfloat16):
    model = network()
    history = train(model, epochs=3)
    assert {str(weight.dtype) for weight in model.weights} == {"float32"}
    assert model.get_layer("conv1d").compute_dtype == "bfloat16"
    keras.config.set_dtype_policy("float32")
    expected = train(network(), epochs=3)  # another architecture, so it is trained and not loaded
    assert history["loss"] == pytest.approx(expected["loss"], rel=0.03)
    assert history["loss"] != expected["loss"]


def test_a_large_feature_cache_and_the_memory_are_announced(even_corpus, monkeypatch, capsys):
    monkeypatch.setattr(recogniser, "LARGE_CACHE", 1000)
    train(network(), verbose=1)
    first = capsys.readouterr().out
    assert "Features of 0.0 h of speech are computed once and take 0.0 GB of disk" in first
    assert re.search(r"\d s a step, \d+\.\d GB of memory\)", first)
    train(network(), verbose=1, force=True)
    assert "computed once" not in capsys.readouterr().out  # they are there now


def test_tensorboard_logs_hold_the_history(even_corpus, tmp_path):
    import tensorflow as tf

    logs = tmp_path / "logs"
    history = train(network(), epochs=2, callbacks=[keras.callbacks.TensorBoard(logs, write_graph=False)])
    found = {}
    for path in logs.rglob("events.*"):  # TensorBoard shows training and validation as two runs of one curve
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault((path.parent.name, value.tag), []).append(float(tf.make_ndarray(value.tensor)))
    assert found["train", "epoch_loss"] == pytest.approx(history["loss"])
    assert found["validation", "epoch_loss"] == pytest.approx(history["val_loss"])
    assert found["validation", "epoch_cer"] == pytest.approx(history["val_cer"])


def test_training_begins_with_the_weights_it_is_given(even_corpus):
    first = network(seed=1)
    save_weights(first, "first.h5")
    model, watch = network(seed=2), Watch()
    train(model, start_from="first.h5", optimizer=keras.optimizers.SGD(1e-12), callbacks=[watch])
    for weight, expected in zip(watch.weights[0], first.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)
    configuration = read_record("results/tiny.json")["configuration"]
    assert configuration["start_from"] == file_hash("first.h5")


def test_run_from_other_weights_is_another_run(even_corpus, capsys):
    for seed in (1, 2):
        save_weights(network(seed), f"first_{seed}.h5")
    train(network(), start_from="first_1.h5")
    losses = load_history("results/tiny.pickle")["loss"]
    train(network(), start_from="first_2.h5")
    assert load_history("results/tiny.pickle")["loss"] != losses


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (None, FileNotFoundError, "No weights at first.h5"),
        ({"kind": "mfcc", "mfcc_dim": 13, "window": 25}, ValueError, "trained on other features"),
        ("other model", ValueError, "another architecture"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(features, error, message, even_corpus):
    if features == "other model":
        the_input = keras.Input(shape=(None, 13), name="the_input")
        other = acoustic_model(the_input, keras.layers.Dense(29, name="dense")(the_input), "other", print_summary=False)
        save_weights(other, "first.h5")
    elif features:
        save_weights(network(), "first.h5", {"features": features})
    with pytest.raises(error, match=message):
        train(network(), start_from="first.h5")
    assert not list(Path("results").glob("*") if Path("results").is_dir() else [])


def test_the_plan_for_other_amounts_of_speech_trains_nothing(even_corpus, capsys):
    assert train(network(), plan=(1, 200), verbose=1, epochs=3) == {}
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
        train(network(), plan=(0,))


# ------------------------------------------------------------------------------ runs of version 0.1

# What decides a result, as commit b78e800 wrote it down, and the fingerprints that it printed: a finished run must not be made
# again, and a checkpoint must be gone on with, although the code has moved.
OPTIMIZER = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}
SGD = OPTIMIZER | {"learning_rate": 0.019999999552965164, "global_clipnorm": 5, "momentum": 0.9, "nesterov": True}
ADAMW = OPTIMIZER | {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-07, "amsgrad": False}
DATA = {
    "features": {"kind": "mfcc", "step": 10, "mfcc_dim": 13},
    "train": "3351d56182b2b2d9",
    "validation": "7831895e4f54b50f",
}
PLAIN = {"max_duration": 10.0, "sort_by_duration": False, "seed": 0, "augmentation": None, "monitor": "val_loss"}
CONSTANT = {"schedule": "constant", "warmup_epochs": 0.0}
RICH = {
    "max_duration": None,
    "sort_by_duration": True,
    "seed": 4,
    "augmentation": {"freq_masks": 2, "freq_width": 16, "time_masks": 2, "time_share": 0.06, "warp": 0.1},
    "speeds": [0.9, 1.0],
    "monitor": "val_cer",
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "patience": 3,
}
CLIPS = {
    "task": "keywords",
    "features": {"kind": "mfcc_image"},
    "data": "7a39df879a318a42",
    "labels": ["brown", "violet", "white"],
    "skipped": 0,
    "minibatch_size": 16,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
}


def settings_of(task, options) -> tuple[str, dict, dict]:
    """Return the fingerprint, what was configured apart from the architecture, and the optimiser's part of it."""
    configuration = configuration_of(task, options, run_optimizer(task.optimizer, options))
    plain = json.loads(json.dumps({key: value for key, value in configuration.items() if key != "architecture"}))
    assert plain.pop("backend") == keras.backend.backend()
    optimizer = plain.pop("optimizer")["config"]
    del optimizer["name"]  # has a counter
    return fingerprint(configuration), plain, optimizer


@pytest.fixture
def recognition(corpus, monkeypatch):
    """A function that says how a call of `train_model` is configured; it trains nothing."""
    seen = []
    monkeypatch.setattr(train_utils, "fit", lambda *arguments: seen.append(arguments))

    def configured(model=None, **options):
        train_tiny(model, **options)
        return settings_of(*seen.pop())

    return configured


@pytest.mark.contract
def test_runs_with_the_defaults(recognition):
    found, plain, optimizer = recognition(tiny_model())
    assert plain == DATA | PLAIN | CONSTANT | {"minibatch_size": 4, "epochs": 2}
    assert optimizer == SGD
    assert found == {"tensorflow": "e97a723ced0ff30b", "jax": "8b391f7f0f34b60b"}[keras.backend.backend()]


@pytest.mark.contract
def test_runs_of_networks_with_layers_of_our_own(recognition):
    keras.utils.set_random_seed(0)
    found, _, _ = recognition(build("model_4", 13, units=3), epochs=1)
    assert found == {"tensorflow": "b980f2678136265d", "jax": "b0f6fdd48cb427e5"}[keras.backend.backend()]


@pytest.mark.contract
def test_runs_with_every_option(recognition):
    augmentation = Augmentation(**RICH["augmentation"])
    options = RICH | {
        "augmentation": augmentation,
        "ema": 0.9,
        "optimizer": keras.optimizers.AdamW(1e-3, weight_decay=1e-4),
    }
    found, plain, optimizer = recognition(tiny_model(), **options)
    assert plain == DATA | RICH | {"minibatch_size": 4, "epochs": 2}
    averaging = {"use_ema": True, "ema_momentum": 0.9}
    assert optimizer == ADAMW | averaging | {"learning_rate": 0.0010000000474974513, "weight_decay": 1e-4}
    assert found == {"tensorflow": "f4f8a52a2f61d959", "jax": "fb54e0a5c4af47de"}[keras.backend.backend()]


@pytest.fixture
def clips(noises, tmp_path, monkeypatch):
    """A function that says how a classifier's training is configured."""
    monkeypatch.chdir(tmp_path)

    def configured(options, **batches):
        the_input = keras.Input((20, 11, 1), name="the_input")
        x = keras.layers.BatchNormalization(name="bn")(keras.layers.Flatten(name="flatten")(the_input))
        model = classifier(the_input, keras.layers.Dense(3, name="logits")(x), "perceptron", print_summary=False)
        generator = ClipGenerator(
            choose_clips(index_folder(noises)),
            KeywordFeatures("mfcc_image"),
            ClipOptions(16, **batches),
            progress=False,
        )
        optimizer = keras.optimizers.AdamW(0.02)
        return settings_of(KeywordTask(model, generator, "a.pickle", "a.h5", optimizer=optimizer), options)

    return configured


@pytest.mark.contract
def test_runs_of_classifiers(clips):
    found, plain, _ = clips(KeywordOptions(epochs=1))
    plainest = {"seed": 0, "label_smoothing": 0.0, "augmentation": None, "epochs": 1, "monitor": "val_loss"}
    assert plain == CLIPS | plainest
    assert found == {"tensorflow": "e68f627db39d0e8b", "jax": "6818d1e638e2e4f1"}[keras.backend.backend()]
    augmentation = ClipAugmentation()
    options = {"label_smoothing": 0.1, "monitor": "val_accuracy", "patience": 2, "epochs": 2}
    found, plain, _ = clips(KeywordOptions(ema=0.9, **options), augmentation=augmentation, seed=3)
    assert set(plain.pop("augmentation")) == {
        "shift", "speed", "speed_probability", "noise_probability", "snr_low", "snr_high", "recorded_share", "gain",
        "freq_masks", "freq_share", "time_masks", "time_share",
    }  # fmt: skip
    assert plain == CLIPS | options | {"seed": 3}
    assert found == {"tensorflow": "2030641605b6e379", "jax": "1cc1cb7f3db5e361"}[keras.backend.backend()]
