"""Confidence of words: ranking against all pairs, calibration worked out by hand."""

import math

import numpy as np
import pytest

from vuilab.alphabet import ALPHABET, NUM_CLASSES
from vuilab.scoring.confidence import area_under_roc, calibration_error, confidence_quality, right_words


def spoken(text, sure):
    """Return probabilities that read as a text; each character stands in one frame with a given probability."""
    rows = np.zeros((2 * len(text) + 1, NUM_CLASSES))
    rows[::2, -1] = 1
    for number, (letter, value) in enumerate(zip(text, sure, strict=True)):
        rows[2 * number + 1, ALPHABET.index(letter)] = value
        rows[2 * number + 1, -1] = 1 - value
    return rows


def test_area_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    values, right = rng.integers(0, 6, 60) / 5, rng.random(60) < 0.4  # with ties
    pairs = [(a > b) + 0.5 * (a == b) for a in values[right] for b in values[~right]]
    assert area_under_roc(values, right) == pytest.approx(np.mean(pairs))
    assert math.isnan(area_under_roc(values, np.ones(60, bool))) and math.isnan(
        area_under_roc(values, np.zeros(60, bool))
    )
    assert area_under_roc(np.full(60, 0.5), right) == 0.5


def test_calibration_error_worked_out_by_hand():
    confidences = np.array([0.95, 0.93, 0.15, 1.0])  # two bins: 0.9..1 with three words, 0.1..0.2 with one
    right = np.array([True, False, False, True])
    assert calibration_error(confidences, right) == pytest.approx(3 / 4 * (2.88 / 3 - 2 / 3) + 1 / 4 * 0.15)
    always = np.array([0.75] * 4)
    assert calibration_error(always, np.array([True, True, True, False])) == pytest.approx(0)


def test_words_are_right_where_the_cheapest_alignment_keeps_them():
    assert right_words("a b c d", "a x c") == [True, False, True]
    assert right_words("a b", "") == []
    assert sum(right_words("go go", "go")) == 1


def test_quality_joins_the_words_of_all_utterances():
    utterances = [spoken("a cat", [0.9, 1, 0.8, 0.8, 0.8]), spoken("bat", [0.3, 0.3, 0.3]), spoken("", [])]
    quality = confidence_quality(utterances, ["a cat", "cat", "cat"], ["a cat", "bat", ""])
    assert (quality.num_words, quality.share_right, quality.auc) == (3, pytest.approx(2 / 3), 1.0)
    assert quality.calibration_error == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert "3 recognised words (67 % right): AUC 1.00" in str(quality)
    assert confidence_quality(utterances[:1], ["a cat"], ["a cat"]).as_dict()["auc"] is None  # nothing to rank
    assert "no words" in str(confidence_quality(utterances[2:], ["cat"], [""]))
