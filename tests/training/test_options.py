"""The options of a run: which are refused, what of them decides the result, and which optimiser they name."""

import json

import keras
import pytest

from vuilab.files import repository
from vuilab.keywords.options import KeywordOptimizer, KeywordOptions
from vuilab.training.options import OptimizerOptions, TrainingOptions


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "recogniser",
            TrainingOptions(
                epochs=26,
                monitor="val_cer",
                schedule="cosine",
                warmup_epochs=0.5,
                ema=0.999,
                checkpoint_steps=7,
                force=True,
            ),
        ),
        ("keywords_commands", KeywordOptions(epochs=14, label_smoothing=0.0, ema=0.999, resume=True)),
    ],
)
def test_a_configuration_holds_what_the_committed_records_hold(name, options):
    used = json.loads((repository() / f"results/released/{name}.json").read_text())["configuration"]
    relevant = options.relevant()
    assert {"epochs", "monitor", "schedule", "warmup_epochs"} <= set(relevant)
    assert {key: used[key] for key in relevant} == relevant
    assert "patience" not in relevant and TrainingOptions(patience=3).relevant()["patience"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1. Received: epochs=0"),
        ({"monitor": "val_accuracy"}, r"monitor must be one of \('val_loss', 'val_cer', 'val_wer'\). Received"),
        ({"schedule": "linear"}, r"schedule must be one of \('constant', 'cosine'\). Received: schedule='linear'"),
        ({"patience": 0}, "patience must be at least 1, or None"),
        ({"warmup_epochs": 3, "epochs": 2}, r"warmup_epochs must be in 0..epochs \(2\). Received: warmup_epochs=3"),
        ({"warmup_epochs": -1}, "warmup_epochs must be in 0..epochs"),
        ({"ema": 1}, "between 0 and 1, such as 0.999, or None. Received: ema=1"),
        ({"ema": 0}, "between 0 and 1, such as 0.999, or None. Received: ema=0"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be at least 1"),
        ({"plan": (5, 0)}, r"plan holds hours of speech, which are positive. Received: plan=\(5, 0\)"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)


def test_the_default_optimiser_is_the_references_clipped_by_the_norm_of_all_gradients():
    first, second = OptimizerOptions().build(), OptimizerOptions().build()
    assert first is not second and isinstance(first, keras.optimizers.SGD)
    assert float(first.learning_rate) == pytest.approx(0.02) and first.momentum == 0.9 and first.nesterov
    assert first.global_clipnorm == 5 and first.clipnorm is None and first.weight_decay is None


def test_rates_and_decays_that_are_named_come_before_the_defaults():
    other = OptimizerOptions("adamw").build()
    assert isinstance(other, keras.optimizers.AdamW) and other.weight_decay == 1e-4
    assert float(other.learning_rate) == pytest.approx(1e-3)
    words = KeywordOptimizer(weight_decay=0.0).build()
    assert isinstance(words, keras.optimizers.AdamW) and words.weight_decay == 0
    assert float(words.learning_rate) == pytest.approx(2e-3)
    assert float(OptimizerOptions(learning_rate=0.3).build().learning_rate) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, r"optimizer must be one of \('sgd', 'adamw'\). Received: optimizer='adam'"),
        ({"learning_rate": 0}, "learning_rate must be positive. Received: learning_rate=0"),
        ({"weight_decay": -1}, "weight_decay must be no less than 0"),
    ],
)
def test_optimisers_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OptimizerOptions(**options)
