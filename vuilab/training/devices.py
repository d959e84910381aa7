"""The devices that a process trains on: graphics memory, and several devices that share each batch.

`configure_gpu` is called once, before the first model is built. With `devices=2` or more every training step splits its
batch over so many devices, each with a copy of the weights, and sums the gradients: `keras.distribution.DataParallel` on
JAX, `tf.distribute.MirroredStrategy` on TensorFlow. Batch normalisation then takes its statistics over the whole batch.

On JAX the devices may belong to several processes, on one machine or several. Each process runs the same command, with the
environment variables of `keras.distribution.initialize` set: KERAS_DISTRIBUTION_JOB_ADDRESSES (host:port of the first process),
KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID. The first one prints and writes the files.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np


def configure_gpu(memory_fraction: float | None = None, allow_growth: bool = True, devices: int | None = None) -> str:
    """Limit how much graphics memory is taken, and choose how many devices share a batch; call it before building a model.

    Args:
        memory_fraction: share of the memory that may be used, in 0..1; None: no limit.
        allow_growth: take memory as it is needed instead of all at once (where no fraction is given).
        devices: so many devices share each batch; GPUs where there are any, else virtual devices of the processor (which
            are of use for trying it out only). None: one device, and whatever was set before stays.

    Returns:
        A sentence that says what was set, also when there is no GPU.

    Raises:
        ValueError: for a fraction outside 0..1, or for more devices than there are.
    """
    if memory_fraction is not None and not 0 < memory_fraction <= 1:
        raise ValueError(f"memory_fraction must be in 0..1, or None. Received: memory_fraction={memory_fraction}")
    if devices is not None and devices < 1:
        raise ValueError(f"devices must be at least 1, or None. Received: devices={devices}")
    backend = keras.backend.backend()
    text = (_configure_jax if backend == "jax" else _configure_tensorflow)(memory_fraction, allow_growth)
    if devices is None or devices == num_devices():
        return text
    (_share_on_jax if backend == "jax" else _share_on_tensorflow)(devices)
    return f"{text} Each batch is shared by {devices} devices."


def _configure_tensorflow(memory_fraction: float | None, allow_growth: bool) -> str:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "No GPU was found; training runs on the processor."
    try:
        for gpu in gpus:
            if memory_fraction is None:
                tf.config.experimental.set_memory_growth(gpu, allow_growth)
            else:
                limit = memory_fraction * _gpu_megabytes(gpu)
                tf.config.set_logical_device_configuration(
                    gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=limit)]
                )
    except RuntimeError:
        return "The GPU is in use already; restart the kernel and call configure_gpu first to change its memory limit."
    how = f"at most {memory_fraction:.0%} of its memory" if memory_fraction else f"memory growth {allow_growth}"
    return f"{len(gpus)} GPU, {how}."


def _gpu_megabytes(gpu) -> float:
    """Ask the driver for the memory of a GPU in MB, since TensorFlow tells it only after taking it."""
    import subprocess

    index = gpu.name.rsplit(":", 1)[-1]
    command = ["nvidia-smi", f"--id={index}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _configure_jax(memory_fraction: float | None, allow_growth: bool) -> str:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false" if allow_growth and memory_fraction is None else "true"
    if os.environ.get("KERAS_DISTRIBUTION_JOB_ADDRESSES") and num_processes() == 1:
        keras.distribution.initialize()
    if memory_fraction is not None:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(memory_fraction)
    import jax

    cache = Path(os.environ.get("VUI_CACHE") or ".cache") / "jax"
    jax.config.update("jax_compilation_cache_dir", str(cache.resolve()))
    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    if not gpus:
        return "No GPU was found; training runs on the processor."
    return f"{len(gpus)} GPU through JAX, memory fraction {memory_fraction or 'free'}."


def _share_on_jax(devices: int) -> None:
    import jax

    found = jax.devices()
    if devices > len(found):
        raise ValueError(
            f"devices={devices} was asked for and JAX has {len(found)} ({found[0].platform}). To try it on a processor, set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={devices} before Python starts."
        )
    if devices % num_processes():
        raise ValueError(f"devices={devices} cannot be shared evenly by {num_processes()} processes.")
    names = [f"{device.platform}:{device.id}" for device in found[:devices]]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))


def _share_on_tensorflow(devices: int) -> None:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus and devices > len(gpus):
        raise ValueError(f"devices={devices} was asked for and TensorFlow has {len(gpus)} GPU.")
    if not gpus:
        processor = tf.config.list_physical_devices("CPU")[0]
        try:
            tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * devices)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"devices={devices} was asked for, but TensorFlow has begun to work with the processor as one device. "
                "Restart Python and call configure_gpu first."
            ) from error
    names = [device.name for device in tf.config.list_logical_devices("GPU" if gpus else "CPU")[:devices]]
    together = tf.distribute.HierarchicalCopyAllReduce() if gpus else tf.distribute.ReductionToOneDevice()
    tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(names, cross_device_ops=together))


def num_devices() -> int:
    """Return how many devices share each batch."""
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
        return 1 if distribution is None else distribution.device_mesh.devices.size
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def num_processes() -> int:
    """Return how many processes train together."""
    if keras.backend.backend() != "jax":
        return 1
    from jax._src import distributed  # asking JAX itself would start its backend, which must come after `initialize`

    return distributed.global_state.num_processes or 1


def is_chief() -> bool:
    """Return whether this process is the one that prints and writes files."""
    if num_processes() == 1:
        return True
    import jax

    return jax.process_index() == 0


def prepare_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Make an optimiser clip the gradient of the whole batch, where several devices share it, and return it.

    On TensorFlow Keras clips the gradient of each device's share before it sums them, which is another optimiser than on one
    device. Here the shares are summed first; what Keras then sums once more is divided by their number.
    """
    if num_devices() == 1 or keras.backend.backend() != "tensorflow":
        return optimizer
    import tensorflow as tf

    clip = optimizer._clip_gradients

    def clip_the_sum(gradients):
        total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return [gradient / num_devices() for gradient in clip(total)]

    optimizer._clip_gradients = clip_the_sum
    return optimizer


def train_step(trainer: keras.Model, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> float:
    """Train on one batch, shared by the devices where there are several, and return the mean loss.

    A batch that cannot be split evenly is filled up with copies of its last utterance that have no weight in the loss.
    """
    devices = num_devices()
    if devices == 1:
        return float(trainer.train_on_batch(inputs, outputs))
    size = len(next(iter(outputs.values())))
    inputs, outputs = _fill(inputs, devices), _fill(outputs, devices)
    filled = len(next(iter(outputs.values())))
    weights = (np.arange(filled) < size).astype(np.float32) * (filled / size)
    if keras.backend.backend() == "jax":
        return float(trainer.train_on_batch(_own_rows(inputs), _own_rows(outputs), _own_rows({"": weights})[""]))
    trainer._maybe_symbolic_build(data_batch=(inputs, outputs, weights))
    trainer.make_train_function()
    trainer.reset_metrics()
    with _synchronized(trainer):
        logs = trainer.train_function(iter([_split((inputs, outputs, weights))]))
    return float(logs["loss"])


def predict_step(model: keras.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a model's outputs for one batch, shared by the devices where there are several."""
    devices = num_devices()
    if devices == 1:
        return model.predict_on_batch(inputs)
    size = len(next(iter(inputs.values())))
    inputs = _fill(inputs, devices)
    if keras.backend.backend() == "tensorflow":
        model.make_predict_function()
        outputs = model.predict_function([_split((inputs,))])
        return {name: np.asarray(value)[:size] for name, value in outputs.items()}
    outputs = _predict_across_processes(model, inputs) if num_processes() > 1 else model.predict_on_batch(inputs)
    return {name: np.asarray(value)[:size] for name, value in outputs.items()}


def _own_rows(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return this process's share of the rows; Keras joins the shares into one batch."""
    if num_processes() == 1:
        return arrays
    import jax

    return {name: np.split(array, num_processes())[jax.process_index()] for name, array in arrays.items()}


def _predict_across_processes(model: keras.Model, inputs: dict[str, np.ndarray]) -> dict:
    """Compute each process's share of the rows and give all of them to all (Keras itself cannot read what others hold)."""
    import jax

    distribution = keras.distribution.distribution()
    if not hasattr(model, "_vui_predict"):
        everywhere = jax.sharding.NamedSharding(distribution.device_mesh.backend_mesh, jax.sharding.PartitionSpec())

        def predict(trainable, non_trainable, batch):
            return model.stateless_call(trainable, non_trainable, batch, training=False)[0]

        model._vui_predict = jax.jit(predict, out_shardings=everywhere)
    batch = {
        name: jax.make_array_from_process_local_data(distribution.get_data_layout(array.shape).backend_layout, rows)
        for (name, array), rows in zip(inputs.items(), _own_rows(inputs).values(), strict=True)
    }
    trainable = [variable.value for variable in model.trainable_variables]
    non_trainable = [variable.value for variable in model.non_trainable_variables]
    return model._vui_predict(trainable, non_trainable, batch)


@contextlib.contextmanager
def _synchronized(trainer: keras.Model) -> Iterator[None]:
    """Let batch normalisation see the whole batch while TensorFlow traces a step (on JAX it does anyway).

    The setting is taken back afterwards, so that saved models do not hold it: JAX cannot load it.
    """
    norms = [layer for layer in trainer._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer in norms:
            layer.synchronized = False


def _fill(arrays: dict[str, np.ndarray], devices: int) -> dict[str, np.ndarray]:
    """Repeat the last row of each array until the rows can be shared evenly."""
    size = len(next(iter(arrays.values())))
    missing = -size % devices
    return {name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for name, array in arrays.items()}


def _split(batch):
    """Give each of TensorFlow's devices its share of the rows."""
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()

    def share(array):
        parts = np.split(array, strategy.num_replicas_in_sync)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    return tf.nest.map_structure(share, batch)
