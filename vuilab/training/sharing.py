"""One batch shared by several devices: `keras.distribution` on JAX, `tf.distribute.MirroredStrategy` on TensorFlow.

Each device takes its share of the rows, and the run is that of one device. On JAX devices may belong to several processes: the
same command, each with the environment variables of `keras.distribution.initialize`. Number 0 prints and writes the files.
"""

import os
from collections.abc import Callable

import keras
import numpy as np

ON_JAX = keras.backend.backend() == "jax"
if ON_JAX:
    import jax
else:
    import tensorflow as tf


def share(devices: int) -> None:
    """Let so many devices share each batch from now on: GPUs where there are any, else virtual parts of the processor.

    Raises:
        ValueError: when there are fewer, or when the processes cannot share them evenly.
    """
    names = keras.distribution.list_devices()
    found = [name for name in names if name.startswith("gpu")] or names
    if devices > len(found) or devices % process()[1]:
        raise ValueError(
            f"devices={devices} was asked for; {process()[1]} process(es) have {', '.join(found)}. To try it on a processor, use "
            f"JAX and set XLA_FLAGS=--xla_force_host_platform_device_count={devices} before Python starts."
        )
    if ON_JAX:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found[:devices]))
    else:
        tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(found[:devices]))


def num_devices() -> int:
    """Return how many devices share each batch."""
    if not ON_JAX:
        return tf.distribute.get_strategy().num_replicas_in_sync
    return shared.device_mesh.devices.size if (shared := keras.distribution.distribution()) else 1


def process() -> tuple[int, int]:
    """Return which process this is, and how many train together. Number 0 prints and writes the files."""
    value = os.environ.get
    return int(value("KERAS_DISTRIBUTION_PROCESS_ID", 0)), int(value("KERAS_DISTRIBUTION_NUM_PROCESSES", 1))


def prepare_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Make an optimiser clip the gradient of the whole batch on TensorFlow too, and return it."""
    if num_devices() > 1 and not ON_JAX:
        clip = optimizer._clip_gradients  # of each device's share, which Keras sums afterwards; so the sum is divided

        def clip_the_sum(gradients):
            total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            return [gradient / num_devices() for gradient in clip(total)]

        optimizer._clip_gradients = clip_the_sum
    return optimizer


def train_step(trainer: keras.Model, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> float:
    """Train on one batch and return the mean loss. Copies of the last row, without weight, fill it up for the devices."""
    if num_devices() == 1:
        if not ON_JAX and trainer.train_function is None:
            trainer.train_function = _one_program(trainer, (inputs, outputs))
        return float(trainer.train_on_batch(inputs, outputs))
    size = len(next(iter(outputs.values())))
    filled = size + -size % num_devices()

    def rows(number: int, shares: int) -> tuple:
        places = np.split(np.arange(filled), shares)[number]
        parts = [{name: x[places.clip(0, size - 1)] for name, x in arrays.items()} for arrays in (inputs, outputs)]
        return *parts, (places < size) * np.float32(filled / size)

    if ON_JAX:  # each process gives its rows
        return float(trainer.train_on_batch(*rows(*process())))
    trainer._maybe_symbolic_build(data_batch=rows(0, 1))
    batch = tf.distribute.get_strategy().experimental_distribute_values_from_function(
        lambda context: tf.nest.map_structure(tf.constant, rows(context.replica_id_in_sync_group, num_devices()))
    )
    norms = [layer for layer in trainer._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.synchronized = True
    loss = float(trainer.train_on_batch(*batch))
    for layer in norms:
        layer.synchronized = False  # JAX cannot load layers that keep it
    return loss


def _one_program(trainer: keras.Model, example: tuple[dict, dict]) -> Callable:
    """Return Keras' step for batches of every shape. Keras alone makes a program for the first shape and one for the others."""
    shapes = {name: x.shape for name, x in {**trainer.input, **trainer.output}.items()}
    signature = [{name: tf.TensorSpec(shapes[name], x.dtype) for name, x in arrays.items()} for arrays in example]
    step = tf.function(lambda *data: trainer.train_step(data), input_signature=signature, autograph=False)
    return lambda batches: step(*next(batches)[:2])


def predict_step(model: keras.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a model's outputs for one batch. It is not shared: several devices would compute the same."""
    if num_devices() == 1 or not ON_JAX:
        size = len(next(iter(inputs.values())))  # TensorFlow joins what its devices computed
        return {name: value[:size] for name, value in model.predict_on_batch(inputs).items()}
    if not hasattr(model, "_vui_predict"):
        model._vui_predict = jax.jit(lambda *state: model.stateless_call(*state, training=False)[0])
    variables = model.trainable_variables, model.non_trainable_variables
    state = [[variable.value.addressable_data(0) for variable in part] for part in variables]
    return {name: np.asarray(value) for name, value in model._vui_predict(*state, inputs).items()}
