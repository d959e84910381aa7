"""What a drawing says that an output depends on is what changing the inputs changes."""

import re

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers

from sample_models import bidirectional_rnn_model, cnn_rnn_model, deep_rnn_model, wavenet_model
from vuilab.reports.unrolled import draw_unrolled

NUM_FRAMES = 25


def dilated(padding):
    convolutions = [layers.Conv1D(2, 3, dilation_rate=dilation, padding=padding) for dilation in (1, 2)]
    return keras.Sequential([keras.Input((None, 2)), *convolutions], name="dilated")


MODELS = {
    "both directions": lambda: bidirectional_rnn_model(2, 3),
    "two layers": lambda: deep_rnn_model(2, 3, 2),
    "strided": lambda: cnn_rnn_model(2, 2, 11, 2, "valid", 3),
    "causal": lambda: dilated("causal"),
    "same": lambda: dilated("same"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_frames_in_blue_are_those_that_change_the_output(kind):
    keras.utils.set_random_seed(1)
    model = MODELS[kind]()
    figure, alt = draw_unrolled(model, NUM_FRAMES)
    plt.close(figure)
    plain = np.random.default_rng(0).normal(size=(NUM_FRAMES, 2)).astype(np.float32)
    changed = np.stack([plain + np.eye(NUM_FRAMES, dtype=np.float32)[frame][:, None] for frame in range(NUM_FRAMES)])
    outputs = np.asarray(model.predict_on_batch(np.concatenate([plain[None], changed])))
    middle = outputs[:, outputs.shape[1] // 2]
    heard = np.flatnonzero(np.abs(middle[1:] - middle[0]).max(axis=1) > 1e-7)
    number, first, last = map(int, re.search(r"(\d+) of 25 input frames, (\d+) to (\d+)", alt).groups())
    assert (number, first, last) == (len(heard), heard.min(), heard.max())


def test_a_network_with_branches_is_refused():
    with pytest.raises(ValueError, match=r"Received: block_0_1_gate of several inputs"):
        draw_unrolled(wavenet_model(2, 1, 2))
