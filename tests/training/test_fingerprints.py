"""Runs of version 0.1 are recognised: what decides a result is written down as it was there, at commit b78e800.

A finished run must not be made again, and a checkpoint must be gone on with, although the code has moved. The numbers below
were printed by that version.
"""

import json

import keras
import pytest
from tiny_training import tiny_model, train_tiny

import train_utils
from sample_models import build
from vuilab.augment import Augmentation
from vuilab.keywords.batches import ClipGenerator
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.corpus import choose_clips, index_folder
from vuilab.keywords.models import classifier
from vuilab.keywords.options import ClipAugmentation, ClipOptions, KeywordOptions
from vuilab.keywords.training import KeywordTask
from vuilab.runs.record import fingerprint
from vuilab.training.fit import configuration_of
from vuilab.training.optimizer import run_optimizer

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
def recogniser(corpus, monkeypatch):
    """A function that says how a call of `train_model` is configured; it trains nothing."""
    seen = []
    monkeypatch.setattr(train_utils, "fit", lambda *arguments: seen.append(arguments))

    def configured(model=None, **options):
        train_tiny(model, **options)
        return settings_of(*seen.pop())

    return configured


@pytest.mark.contract
def test_runs_with_the_defaults(recogniser):
    found, plain, optimizer = recogniser(tiny_model())
    assert plain == DATA | PLAIN | CONSTANT | {"minibatch_size": 4, "epochs": 2}
    assert optimizer == SGD
    assert found == {"tensorflow": "e97a723ced0ff30b", "jax": "8b391f7f0f34b60b"}[keras.backend.backend()]


@pytest.mark.contract
def test_runs_of_networks_with_layers_of_our_own(recogniser):
    keras.utils.set_random_seed(0)
    found, _, _ = recogniser(build("model_4", 13, units=3), epochs=1)
    assert found == {"tensorflow": "b980f2678136265d", "jax": "b0f6fdd48cb427e5"}[keras.backend.backend()]


@pytest.mark.contract
def test_runs_with_every_option(recogniser):
    augmentation = Augmentation(**RICH["augmentation"])
    options = RICH | {
        "augmentation": augmentation,
        "ema": 0.9,
        "optimizer": keras.optimizers.AdamW(1e-3, weight_decay=1e-4),
    }
    found, plain, optimizer = recogniser(tiny_model(), **options)
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
