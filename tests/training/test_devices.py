"""How much graphics memory is taken, and how many devices share a batch."""

import keras
import pytest

from vuilab.training import devices, sharing


def test_one_device_is_what_there_is_and_more_are_refused_with_the_way_out():
    assert sharing.num_devices() == 1
    assert "Each batch" not in devices.configure_gpu(devices=1)
    with pytest.raises(ValueError, match=r"at least 1, or None. Received: devices=0"):
        devices.configure_gpu(devices=0)
    keras.ops.convert_to_numpy(keras.ops.ones(1))  # the processor is in use from here on
    with pytest.raises(ValueError, match=r"devices=64 was asked for"):
        devices.configure_gpu(devices=64)


def test_a_share_of_memory_is_between_nothing_and_all():
    with pytest.raises(
        ValueError, match=r"memory_fraction must be in 0\.\.1, or None\. Received: memory_fraction=1\.5"
    ):
        devices.configure_gpu(memory_fraction=1.5)
    assert devices.configure_gpu(memory_fraction=0.5)
