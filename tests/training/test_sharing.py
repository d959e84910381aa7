"""One batch shared by several devices: the same run as on one device. Each run has a process of its own."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from tiny_training import tiny_model

from vuilab.files import repository
from vuilab.models.ctc import add_ctc_loss, mean_loss
from vuilab.training import sharing

ROOT = repository()
RUN = """
import sys
import keras, numpy as np
from keras import layers
import sample_models
from vuilab.models import ctc
from vuilab.training import sharing
from vuilab.training.devices import configure_gpu

num_devices, size = int(sys.argv[1]), int(sys.argv[2])
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    [processor] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * num_devices)
configure_gpu(devices=num_devices)
assert sharing.num_devices() == num_devices
the_input = keras.Input((None, 5), name="the_input")
x = layers.Conv1D(6, 3, padding="same", activation="relu", name="conv1d")(the_input)
x = layers.BatchNormalization(name="bn")(x)
x = sample_models.recurrent("gru", 6, "rnn")(x)
model = sample_models.acoustic_model(the_input, layers.Dense(29, name="dense")(x), "small", print_summary=False)
rng = np.random.default_rng(0)
for weight in model.trainable_weights:
    weight.assign(0.5 * rng.standard_normal(weight.shape))
trainer = ctc.add_ctc_loss(model)
optimizer = sharing.prepare_optimizer(keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True, global_clipnorm=5))
trainer.compile(optimizer=optimizer, loss=ctc.mean_loss, jit_compile=keras.backend.backend() == "jax")
for _ in range(20):
    inputs = {
        "the_input": rng.standard_normal((size, 20, 5)).astype("float32"),
        "the_labels": rng.integers(0, 28, (size, 4)).astype("int32"),
        "input_length": rng.integers(15, 21, size).astype("int32"),
        "label_length": rng.integers(1, 5, size).astype("int32"),
    }
    print("loss", sharing.train_step(trainer, inputs, {"ctc": np.zeros(size, "float32")}))
evaluator = keras.Model(trainer.inputs, {"ctc": trainer.outputs[0]})
print("scores", *np.asarray(sharing.predict_step(evaluator, inputs)["ctc"]))
"""


def run(num_devices: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses of 20 steps and the losses of the last batch after them."""
    return finish(start(num_devices, size, f"--xla_force_host_platform_device_count={num_devices}"))


def start(num_devices: int, size: int, flags: str = "", **variables: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": flags} | variables
    command = [sys.executable, "-c", RUN, str(num_devices), str(size)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[np.ndarray, np.ndarray]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    lines = [line.split() for line in out.splitlines()]
    losses = [float(line[1]) for line in lines if line and line[0] == "loss"]
    scores = next([float(value) for value in line[1:]] for line in lines if line and line[0] == "scores")
    return np.array(losses), np.array(scores)


@pytest.mark.slow
def test_two_devices_give_the_losses_of_one():
    one, two = run(1, 8), run(2, 8)
    assert len(one[0]) == 20 and one[0][-1] < 0.8 * one[0][0]
    np.testing.assert_allclose(two[0], one[0], rtol=1e-4)
    np.testing.assert_allclose(two[1], one[1], rtol=1e-4)


@pytest.mark.slow
def test_two_processes_on_jax_give_the_losses_of_one():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [
        start(
            2,
            8,
            KERAS_BACKEND="jax",
            KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(number),
        )
        for number in (0, 1)
    ]
    both = [finish(process) for process in processes]
    one = finish(start(1, 8, KERAS_BACKEND="jax"))
    for losses, scores in both:  # each process knows the losses of the whole batch
        np.testing.assert_allclose(losses, one[0], rtol=1e-4)
        np.testing.assert_allclose(scores, one[1], rtol=1e-4)


@pytest.mark.slow
def test_a_batch_that_cannot_be_split_evenly_keeps_its_size_and_mean():
    one, two = run(1, 5), run(2, 5)
    assert two[1].shape == (5,)
    assert two[0][0] == pytest.approx(one[0][0], rel=0.05)  # batch normalisation sees the filled-up row too
    assert two[0][-1] == pytest.approx(one[0][-1], rel=0.1)


def test_tensorflow_traces_a_step_once_for_batches_of_every_shape(monkeypatch):
    trainer = add_ctc_loss(tiny_model())
    trainer.compile("sgd", loss=mean_loss, jit_compile=False)
    traces, step = [], trainer.train_step
    monkeypatch.setattr(trainer, "train_step", lambda *data: traces.append(1) or step(*data))
    for size, num_frames in ((2, 20), (3, 30), (2, 25)):
        inputs = {
            "the_input": np.ones((size, num_frames, 13), np.float32),
            "the_labels": np.ones((size, 3), np.int32),
            "input_length": np.full(size, num_frames, np.int32),
            "label_length": np.full(size, 3, np.int32),
        }
        assert np.isfinite(sharing.train_step(trainer, inputs, {"ctc": np.zeros(size, np.float32)}))
    assert len(traces) == (3 if sharing.ON_JAX else 1)
