"""The devices that a process trains on: how much graphics memory it takes, and how many devices share each batch.

`configure_gpu` is called once, before the first model is built; see `sharing` for several devices and several processes.
"""

import os
import subprocess
from pathlib import Path

import keras

from vuilab.training import sharing


def configure_gpu(memory_fraction: float | None = None, allow_growth: bool = True, devices: int | None = None) -> str:
    """Limit how much graphics memory is taken, and choose how many devices share a batch; call it before building a model.

    Args:
        memory_fraction: share of the memory that may be used, in 0..1; None: no limit.
        allow_growth: take memory as it is needed instead of all at once (where no fraction is given).
        devices: so many share each batch; see `sharing`. None: one device, and whatever was set before stays.

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
    if devices is None or devices == sharing.num_devices():
        return text
    sharing.share(devices)
    return f"{text} Each batch is shared by {devices} devices."


def is_chief() -> bool:
    """Return whether this process is the one that prints and writes files."""
    return sharing.process()[0] == 0


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
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=memory_fraction * _gpu_megabytes(gpu))
                tf.config.set_logical_device_configuration(gpu, [limit])
    except RuntimeError:
        return "The GPU is in use already; restart the kernel and call configure_gpu first to change its memory limit."
    how = f"at most {memory_fraction:.0%} of its memory" if memory_fraction else f"memory growth {allow_growth}"
    return f"{len(gpus)} GPU, {how}."


def _gpu_megabytes(gpu) -> float:
    """Ask the driver for the memory of a GPU in MB, since TensorFlow tells it only after taking it."""
    index = gpu.name.rsplit(":", 1)[-1]
    command = ["nvidia-smi", f"--id={index}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _configure_jax(memory_fraction: float | None, allow_growth: bool) -> str:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false" if allow_growth and memory_fraction is None else "true"
    if memory_fraction is not None:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(memory_fraction)
    import jax

    if sharing.process()[1] > 1 and not jax.distributed.is_initialized():
        keras.distribution.initialize()
    cache = Path(os.environ.get("VUI_CACHE") or ".cache") / "jax"
    jax.config.update("jax_compilation_cache_dir", str(cache.resolve()))
    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    if not gpus:
        return "No GPU was found; training runs on the processor."
    return f"{len(gpus)} GPU through JAX, memory fraction {memory_fraction or 'free'}."
