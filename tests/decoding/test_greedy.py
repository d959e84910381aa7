"""Greedy decoding, against hand tables, a brute-force definition and TensorFlow's decoder."""

import itertools

import keras
import numpy as np
import pytest

from vuilab.decoding.greedy import class_labels, collapse, greedy_decode


def one_hot(path, num_classes=29):
    return np.eye(num_classes, dtype=np.float32)[np.asarray(path)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([], []),
        ([9], []),
        ([9, 9, 9], []),
        ([1, 1, 1], [1]),
        ([1, 9, 1], [1, 1]),
        ([9, 1, 1, 9, 9, 2, 2, 1], [1, 2, 1]),
        ([0, 0, 9, 0, 9], [0, 0]),
    ],
)
def test_collapse_follows_the_hand_table(path, expected):
    assert list(collapse(np.array(path, int), blank=9)) == expected


def test_collapse_equals_its_definition_for_every_short_path():
    for path in itertools.product(range(3), repeat=6):
        merged = [symbol for symbol, _ in itertools.groupby(path)]
        assert list(collapse(np.array(path), blank=2)) == [symbol for symbol in merged if symbol != 2]


def test_greedy_decoding_spells_a_word_with_a_double_letter():
    h, e, l, o = (2 + "abcdefghijklmnopqrstuvwxyz".index(letter) for letter in "helo")  # noqa: E741
    assert greedy_decode(one_hot([28, h, h, e, l, l, 28, l, o, o])) == "hello"


def test_greedy_decoding_is_the_same_on_logits_and_logarithms():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 29))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert greedy_decode(logits) == greedy_decode(probabilities) == greedy_decode(np.log(probabilities))


def test_frames_behind_the_true_end_are_not_read():
    probabilities = one_hot([2, 3, 4, 5])
    assert greedy_decode(probabilities, 2) == "ab"
    probabilities[2:] = np.nan
    assert greedy_decode(probabilities, 2) == "ab"


def test_spaces_at_the_ends_are_dropped_and_blanks_alone_are_an_empty_text():
    assert greedy_decode(one_hot([1, 2, 1, 3, 1])) == "a b"
    assert greedy_decode(one_hot([28, 28])) == ""


def test_the_blank_is_the_last_class_also_of_a_wider_model():
    assert greedy_decode(one_hot([2, 199, 2, 150], 200)) == "aa"  # 150 is a class without a character


@pytest.mark.parametrize("probabilities", [np.zeros(29), np.zeros((1, 4, 29)), np.full((4, 29), np.nan)])
def test_what_is_no_finite_matrix_is_refused(probabilities):
    with pytest.raises(ValueError, match=r"\(num_output_frames, num_classes\) without NaN. Received: shape"):
        greedy_decode(probabilities)


def test_greedy_decoding_agrees_with_keras():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(8, 30, 29)).astype(np.float32)
    scores[..., 28] += 1.5
    lengths = rng.integers(1, 31, 8).astype(np.int32)
    (decoded,), _ = keras.ops.ctc_decode(scores, lengths, strategy="greedy", mask_index=28)
    for row, length, classes in zip(scores, lengths, keras.ops.convert_to_numpy(decoded), strict=True):
        expected = [int(index) for index in classes if 0 <= index < 28]
        assert list(collapse(row[:length].argmax(axis=1), blank=28)) == expected


def test_every_class_has_a_printable_label():
    labels = class_labels(29)
    assert labels[:3] == ["'", "␣", "a"] and labels[27:] == ["z", "blank"]
    assert class_labels(31)[28:] == ["", "", "blank"]
