"""Checkpoints: what is written comes back, and what does not fit changes nothing."""

import keras
import numpy as np
import pytest

from vuilab.runs.checkpoint import checkpoint_path, load_checkpoint, peek, save_checkpoint

STATE = {"fingerprint": "00ff", "epoch": 3, "history": {"loss": [2.5, float("inf")]}, "best": float("inf")}


def network(units: int = 4, seed: int = 0) -> keras.Model:
    """Return a compiled network with batch statistics and dropout, trained for two steps."""
    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Dense(units),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.AdamW(0.01), "mse")
    rng = np.random.default_rng(seed)
    for _ in range(2):
        model.train_on_batch(rng.normal(size=(8, 3)), rng.normal(size=(8, 1)))
    return model


def values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(v)) for v in (*model.variables, *model.optimizer.variables)]


def test_a_checkpoint_goes_beside_the_history():
    assert checkpoint_path("results/model_1.pickle").as_posix() == "results/model_1.checkpoint.npz"


@pytest.mark.contract
def test_weights_moments_random_generators_state_and_counters_come_back(tmp_path):
    model, stopping = network(), keras.callbacks.EarlyStopping("loss", patience=5, restore_best_weights=True)
    stopping.wait, stopping.best, stopping.best_weights = 2, np.float32(0.25), model.get_weights()
    save_checkpoint(tmp_path / "a.npz", model, STATE, [stopping])
    other, fresh = network(seed=5), keras.callbacks.EarlyStopping("loss", patience=5, restore_best_weights=True)
    assert any((a != b).any() for a, b in zip(values(model), values(other), strict=True))
    assert load_checkpoint(tmp_path / "a.npz", other, [fresh]) == STATE == peek(tmp_path / "a.npz")
    for ours, theirs in zip(values(model), values(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (fresh.wait, fresh.best) == (2, 0.25)
    for ours, theirs in zip(stopping.best_weights, fresh.best_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    x = np.random.default_rng(1).normal(size=(8, 3))  # the next step drops the same units
    assert float(model.train_on_batch(x, x[:, :1])) == pytest.approx(float(other.train_on_batch(x, x[:, :1])), rel=1e-6)


def test_a_checkpoint_of_version_0_1_goes_on_with_a_schedule(tmp_path):
    model, other = network(), network(seed=5)
    save_checkpoint(tmp_path / "a.npz", model, STATE)  # the learning rate is among its variables
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 100)
    other.compile(keras.optimizers.AdamW(schedule), "mse")
    assert load_checkpoint(tmp_path / "a.npz", other) == STATE
    expected = [v for v in (*model.variables, *model.optimizer.variables) if not v.path.endswith("/learning_rate")]
    found = [*other.variables, *other.optimizer.variables]
    assert len(found) == len(expected) and int(other.optimizer.iterations) == 2
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs))


def test_what_is_damaged_or_belongs_elsewhere_is_named_and_changes_nothing(tmp_path):
    model = network()
    before = values(model)
    damaged, other = tmp_path / "bad.checkpoint.npz", tmp_path / "other.checkpoint.npz"
    damaged.write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(ValueError, match=r"bad\.checkpoint\.npz is damaged"):
        load_checkpoint(damaged, model)
    save_checkpoint(other, network(units=5), STATE)
    with pytest.raises(ValueError, match="belongs to another model or optimiser"):
        load_checkpoint(other, model)
    save_checkpoint(other, network(seed=2), STATE, [keras.callbacks.TerminateOnNaN()])
    with pytest.raises(ValueError, match=r"written with the callbacks \['TerminateOnNaN'\]\. Received: \[\]"):
        load_checkpoint(other, model)
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)
