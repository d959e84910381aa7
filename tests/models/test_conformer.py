"""Conformer blocks: padding changes nothing, and every frame hears every other."""

import keras
import numpy as np
import pytest

from vuilab.models.conformer import conformer_block
from vuilab.models.residual_birnn import residual_birnn_model


@pytest.mark.contract
def test_padding_and_neighbours_change_no_frame():
    keras.utils.set_random_seed(0)
    sequence, mask = keras.Input((None, 8)), keras.Input((None, 1))
    block = keras.Model([sequence, mask], conformer_block(sequence, mask, num_heads=2, kernel_size=5))
    rng = np.random.default_rng(0)
    lengths, x = np.array([7, 12]), rng.standard_normal((2, 20, 8)).astype("float32")
    heard = (np.arange(20)[None, :, None] < lengths[:, None, None]).astype("float32")
    together = block.predict_on_batch([x * heard, heard])
    for row, num_frames in enumerate(lengths):
        alone = block.predict_on_batch([x[row : row + 1, :num_frames], heard[row : row + 1, :num_frames]])
        np.testing.assert_allclose(together[row, :num_frames], alone[0], atol=1e-5)
        assert not together[row, num_frames:].any() and np.abs(alone).max() > 1


def test_every_frame_attends_to_every_other():
    keras.utils.set_random_seed(0)
    sequence, mask = keras.Input((None, 8)), keras.Input((None, 1))
    block = keras.Model([sequence, mask], conformer_block(sequence, mask, num_heads=2, kernel_size=3))
    x = np.random.default_rng(0).standard_normal((1, 30, 8)).astype("float32")
    changed = x.copy()
    changed[0, -1] *= -1  # 29 frames away from the first, where kernels do not reach
    heard = np.ones((1, 30, 1), "float32")
    assert (
        np.abs(block.predict_on_batch([x, heard])[0, 0] - block.predict_on_batch([changed, heard])[0, 0]).max() > 1e-3
    )


def test_a_network_with_blocks_comes_back_from_its_file(tmp_path):
    options = {
        "filters": 8,
        "dilations": (),
        "units": 4,
        "recur_layers": 1,
        "conformer_blocks": 2,
        "print_summary": False,
    }
    model = residual_birnn_model(5, **options)
    assert [layer.name for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv1D)] == [
        "conformer_1_conv",
        "conformer_2_conv",
    ]
    assert model.output_length(21) == 11
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((1, 21, 5)).astype("float32")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict_on_batch(x), model.predict_on_batch(x), atol=1e-6)


def test_heads_that_cannot_share_the_channels_are_refused():
    with pytest.raises(ValueError, match=r"multiple of it\. Received: 6\. Choose `filters` such as 8"):
        residual_birnn_model(5, 6, dilations=(), conformer_blocks=1, print_summary=False)
