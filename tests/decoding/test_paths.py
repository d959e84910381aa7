"""The probability of a text: against the sum over all paths, and against the CTC loss of Keras."""

import itertools
import math

import keras
import numpy as np
import pytest

from vuilab.decoding.greedy import collapse
from vuilab.decoding.paths import log_add, text_log_probs

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


def forward_variable(log_probs, labels):
    """ln p(labels), as in equations 6 to 8 of Graves et al.; no label is a space, which no frame is either."""
    blank = log_probs.shape[1] - 1
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skip = np.full(len(states), -np.inf)
    skip[3::2] = np.where(labels[1:] != labels[:-1], 0.0, -np.inf)
    alpha = np.full(len(states), -np.inf)
    alpha[:2] = log_probs[0, states[:2]]
    for frame in log_probs[1:]:
        one, two = np.roll(alpha, 1), np.roll(alpha, 2) + skip
        one[0] = two[0] = -np.inf
        alpha = np.logaddexp(np.logaddexp(alpha, one), two) + frame[states]
    return np.logaddexp(*alpha[-2:])


@pytest.mark.parametrize("certainty", [3, 20, 60])
def test_texts_that_fit_badly_have_their_probability_too(certainty):
    """What is negligible at one frame counts at another."""
    rng = np.random.default_rng(1)
    labels, logits = rng.integers(2, 28, 90), rng.standard_normal((300, 29))
    logits[:, -1] += certainty
    logits[np.arange(90) * 3 + 1, labels] += 2 * certainty
    logits[:, SPACE] = -1000.0
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    other = rng.integers(2, 28, 60)
    texts = [
        labels,
        labels[::-1],
        labels[:45],
        labels[45:],
        np.append(other[:50], labels[-9:]),
        rng.permutation(labels),
    ]
    expected = [forward_variable(log_probs, text) for text in texts]
    np.testing.assert_allclose(text_log_probs(log_probs, texts, SPACE), expected, rtol=1e-10, atol=1e-10)


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
