"""TensorFlow and JAX on the same weights and the same batch: the same loss, and the same gradients. Each has its own process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vuilab.files import repository

ROOT = repository()
GRADIENTS = """
import sys
import keras, numpy as np
import sample_models
from vuilab.models import ctc

name, out = sys.argv[1], sys.argv[2]
model = {
    "cnn_rnn": lambda: sample_models.cnn_rnn_model(7, 6, 5, 2, "valid", 6),
    "deep_rnn": lambda: sample_models.deep_rnn_model(7, 6, 2),
    "bidirectional": lambda: sample_models.bidirectional_rnn_model(7, 6),
    "lstm": lambda: sample_models.rnn_model(7, 6, cell="lstm"),
}[name]()
rng = np.random.default_rng(0)
for weight in model.trainable_weights:
    weight.assign(0.4 * rng.standard_normal(weight.shape))
trainer = ctc.add_ctc_loss(model)
inputs = {
    "the_input": rng.standard_normal((4, 40, 7)).astype("float32"),
    "the_labels": rng.integers(0, 28, (4, 6)).astype("int32"),
    "input_length": np.array([40, 38, 30, 25], "int32"),
    "label_length": np.array([6, 4, 3, 1], "int32"),
}
variables = trainer.trainable_variables
if keras.backend.backend() == "jax":
    import jax

    def mean(weights):
        others = [variable.value for variable in trainer.non_trainable_variables]
        return trainer.stateless_call(weights, others, inputs, training=True)[0]["ctc"].mean()

    loss, gradients = jax.jit(jax.value_and_grad(mean))([variable.value for variable in variables])
else:
    import tensorflow as tf

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(trainer(inputs, training=True)["ctc"])
        return loss, tape.gradient(loss, [variable.value for variable in variables])

    loss, gradients = both()
np.savez(out, loss=np.asarray(loss), **{f"g{i}": np.asarray(g) for i, g in enumerate(gradients)})
"""


def loss_and_gradients(backend: str, name: str, folder: Path) -> dict[str, np.ndarray]:
    """Return what one backend computes for one model."""
    out = folder / f"{backend}.npz"
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", GRADIENTS, name, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as arrays:
        return dict(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn_rnn", "deep_rnn", "bidirectional", "lstm"])
def test_loss_and_gradients_agree(name, tmp_path):
    ours, other = (loss_and_gradients(backend, name, tmp_path) for backend in ("tensorflow", "jax"))
    assert ours.keys() == other.keys() and len(ours) > 5
    assert ours["loss"] == pytest.approx(other["loss"], rel=1e-4)
    for key in ours.keys() - {"loss"}:
        difference = np.linalg.norm(ours[key] - other[key])
        # a bias before batch normalisation has gradient 0 but for rounding
        assert difference <= 1e-4 * max(np.linalg.norm(other[key]), 1e-2), key
