"""The probability of a text: against the sum over all paths, and against the CTC loss of Keras."""

import itertools
import math

import keras
import numpy as np
import pytest

from ctc_paths import log_add, text_log_probs
from decoding import collapse

SPACE = 1  # of the classes apostrophe, space, a, blank


def log_probabilities(seed, num_frames, num_classes=4):
    logits = np.random.default_rng(seed).standard_normal((num_frames, num_classes))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("num_frames", [1, 3, 6])
def test_texts_have_the_probability_of_all_paths_that_read_as_them(num_frames):
    log_probs = log_probabilities(num_frames, num_frames)
    totals = {}
    for path in itertools.product(range(4), repeat=num_frames):
        text = "".join("' a"[label] for label in collapse(np.array(path), blank=3))
        text = " ".join(text.split())
        totals[text] = totals.get(text, 0.0) + math.exp(log_probs[range(num_frames), path].sum())
    assert math.fsum(totals.values()) == pytest.approx(1)
    texts = [["' a".index(letter) for letter in text] for text in totals]
    np.testing.assert_allclose(np.exp(text_log_probs(log_probs, texts, SPACE)), list(totals.values()), rtol=1e-9)


def test_where_nothing_is_a_space_it_is_the_ctc_loss():
    log_probs = log_probabilities(7, 30, 29)
    log_probs[:, SPACE] = -60.0
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    labels = np.random.default_rng(1).integers(2, 28, 9).astype(np.int32)
    labels[4] = labels[3]
    loss = keras.ops.ctc_loss(labels[None], log_probs[None].astype("float32"), np.array([9]), np.array([30]), 28)
    assert text_log_probs(log_probs, [labels], SPACE)[0] == pytest.approx(-float(loss[0]), abs=1e-3)


def test_a_text_that_is_too_long_has_no_probability():
    assert text_log_probs(log_probabilities(0, 3), [[2, 2, 2]], SPACE)[0] < -1e20
    assert text_log_probs(log_probabilities(0, 5), [[2, 2, 2]], SPACE)[0] > -20
    assert len(text_log_probs(log_probabilities(0, 5), [], SPACE)) == 0


def test_logarithms_are_added():
    assert log_add(math.log(0.2), math.log(0.3)) == pytest.approx(math.log(0.5))
    assert log_add(-1e30, -2.0) == -2.0


@pytest.mark.parametrize("blank", [0.0, math.log(1e-30)])  # all the probability lies elsewhere; all is improbable
def test_texts_too_improbable_for_a_number_have_their_probability_all_the_same(blank):
    labels = np.array([2, 3] * 15, np.int32)  # as many as there are frames, so that there is one path
    log_probs = np.full((len(labels), 5), math.log(1e-30))
    log_probs[:, -1] = blank
    assert text_log_probs(log_probs, [labels], SPACE)[0] == pytest.approx(30 * math.log(1e-30))
