"""Forced alignment: the best of all paths, times from the model's own geometry, and true times of the synthesiser."""

import itertools
import tracemalloc

import keras
import numpy as np
import pytest
from keras import layers

from sample_models import acoustic_model
from vuilab.alphabet import BLANK, char_map
from vuilab.decoding.alignment import (
    LONGEST_ONSET,
    LONGEST_TAIL,
    Alignment,
    FrameClock,
    Span,
    align,
    best_path,
    boundary_errors,
    frame_clock,
)
from vuilab.decoding.greedy import collapse
from vuilab.features import FeatureSettings
from vuilab.models.acoustic import time_changes

CLOCK = FrameClock(step=0.02, offset=0.01)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("labels", [[0], [0, 1], [1, 1], [2, 0, 2]])
def test_the_path_is_the_best_of_all_that_read_as_the_text(seed, labels):
    rng = np.random.default_rng(seed)
    log_probs = np.log(rng.dirichlet(np.ones(4), size=6))
    best = max(
        sum(log_probs[t, label] for t, label in enumerate(path))
        for path in itertools.product(range(4), repeat=6)
        if collapse(np.array(path), blank=3).tolist() == labels
    )
    path, total = best_path(log_probs, np.array(labels))
    classes = np.where(path >= 0, np.array(labels)[path], 3)
    assert collapse(classes, blank=3).tolist() == labels
    assert total == pytest.approx(best) == pytest.approx(log_probs[range(6), classes].sum())


@pytest.mark.parametrize("seed", range(5))
def test_scores_that_are_kept_now_and_then_change_nothing(seed):
    rng = np.random.default_rng(seed)
    log_probs, labels = np.log(rng.dirichlet(np.ones(5), size=57)), rng.integers(0, 4, 12)
    path, total = best_path(log_probs, labels)
    for frames in (1, 7, 57):
        again, same = best_path(log_probs, labels, frames=frames)
        np.testing.assert_array_equal(again, path)
        assert same == total


def test_a_window_of_states_follows_speech_over_pauses_and_always_reaches_the_end():
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcdefgh "), 400))
    rows = spoken(text, frames_each=2, blanks=1, sure=0.8)
    pause = np.tile(np.eye(BLANK + 1)[BLANK] * 0.9 + 0.1 / (BLANK + 1), (300, 1))
    log_probs = np.log(np.concatenate([pause, rows[:600], pause, rows[600:], pause]))
    labels = np.array([char_map[letter] for letter in text])
    path, total = best_path(log_probs, labels)
    narrow, same = best_path(log_probs, labels, width=60, frames=50)
    np.testing.assert_array_equal(narrow, path)
    assert same == pytest.approx(total)
    for num_frames in (needed := len(labels) + int(np.sum(labels[1:] == labels[:-1])), needed + 1, needed + 40):
        log_probs = np.log(rng.dirichlet(np.ones(BLANK + 1), size=num_frames))  # a text that does not fit
        path, _ = best_path(log_probs, labels, width=30, frames=50)
        shown = np.where(path >= 0, labels[path], BLANK)
        assert collapse(shown, blank=BLANK).tolist() == labels.tolist()


@pytest.mark.slow
def test_half_an_hour_is_aligned_in_bounded_memory():
    rng = np.random.default_rng(0)
    text = " ".join(
        "".join(rng.choice(list("abcdefghijklmnop"), 5)) for _ in range(27_000)
    )  # fifteen characters a second
    rows = spoken(text, frames_each=2, blanks=1).astype(np.float32)
    assert len(rows) * CLOCK.step > 1500
    tracemalloc.start()
    found = align(rows, text, CLOCK)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6  # the whole trellis has 4 GB
    starts = [span.start for span in found.words]
    np.testing.assert_allclose(np.diff(starts)[1:], 6 * 3 * CLOCK.step, atol=0.021)
    assert min(span.confidence for span in found.words) > 0.85


def spoken(text, frames_each=2, blanks=1, sure=0.9):
    rows = []
    for letter in text:
        row = np.full(BLANK + 1, (1 - sure) / BLANK)
        row[char_map[letter]] = sure
        blank = np.full(BLANK + 1, (1 - sure) / BLANK)
        blank[BLANK] = sure
        rows += [row] * frames_each + [blank] * blanks
    return np.array(rows)


def test_characters_and_words_get_their_times_and_confidence():
    found = align(spoken("ab c"), "ab c", CLOCK)  # a: frames 0 1, b: 3 4, space: 6 7, c: 9 10
    assert [span.text for span in found.characters] == list("ab c")
    assert [span.text for span in found.words] == ["ab", "c"]
    assert found.characters[0].start == pytest.approx(CLOCK(-0.5)) and found.characters[0].end == pytest.approx(
        CLOCK(2)
    )
    assert found.words[0].start == pytest.approx(0.0) and found.words[0].end == pytest.approx(CLOCK(5))
    assert found.words[1].start == found.words[0].end and found.words[1].end == pytest.approx(CLOCK(10.5))
    assert [span.confidence for span in found.words] == pytest.approx([0.9, 0.9])
    doubtful = spoken("ab c")
    doubtful[9:11] = 1 / (BLANK + 1)
    assert align(doubtful, "ab c", CLOCK).words[1].confidence == pytest.approx(1 / (BLANK + 1), rel=1e-3)


def test_spans_follow_each_other_without_gaps_also_for_double_letters():
    found = align(spoken("hello  there"[:5] + " there"), "hello there", CLOCK).characters
    for left, right in itertools.pairwise(found):
        assert left.end == right.start and (left.start < left.end or left.text == " ")


def test_a_pause_belongs_to_no_word():
    pause = np.tile(np.eye(BLANK + 1)[BLANK], (50, 1))
    probabilities = np.concatenate([spoken("ab"), pause, spoken(" "), pause, spoken("c")])
    first, second = align(probabilities, "ab c", CLOCK).words  # b: frames 3 4, space: 56 57, c: 109 110
    assert first.end == pytest.approx(CLOCK(4) + LONGEST_TAIL)
    assert second.start == pytest.approx(CLOCK(109) - LONGEST_ONSET)


def test_errors_of_boundaries_are_positive_where_the_alignment_is_late():
    found = Alignment([], [Span("a", 0.1, 0.5, 1.0), Span("cat", 0.6, 1.0, 1.0)], 0.0)
    errors = boundary_errors(found, [["a", 0.05, 0.5], ["cat", 0.5, 1.2]])
    assert errors == pytest.approx([0.05, 0.0, 0.1, -0.2])
    with pytest.raises(ValueError, match="Expected the words of the alignment"):
        boundary_errors(found, [["a", 0.05, 0.5]])


@pytest.mark.parametrize(
    ("make", "step", "offset"),
    [
        (lambda x: x, 0.01, 0.01),
        (lambda x: layers.Conv1D(4, 11, strides=2, padding="valid")(x), 0.02, 0.06),  # centred on frame 5 of 0..10
        (lambda x: layers.Conv1D(4, 3, padding="same")(x), 0.01, 0.01),
        (lambda x: layers.Conv1D(4, 5, padding="causal", dilation_rate=2)(x), 0.01, 0.01),
        # centred on 0, 2, ...
        (
            lambda x: layers.Conv1D(4, 11, strides=2)(layers.ZeroPadding1D((5, 5))(x)),
            0.02,
            0.01,
        ),
        (lambda x: layers.Cropping1D((3, 1))(x), 0.01, 0.04),
        (lambda x: layers.MaxPooling1D(2, padding="valid")(layers.Conv1D(4, 3, padding="valid")(x)), 0.02, 0.025),
    ],
)
def test_the_clock_follows_from_the_layers(make, step, offset):
    the_input = keras.Input((None, 13), name="the_input")
    model = acoustic_model(the_input, layers.Dense(29)(make(the_input)), "m", print_summary=False)
    clock = frame_clock(time_changes(model), FeatureSettings("spectrogram"))
    assert (clock.step, clock.offset) == pytest.approx((step, offset))


def test_the_clock_finds_an_impulse():
    """A convolution whose kernel looks at its middle only answers at the frame that the clock says."""
    the_input = keras.Input((None, 1), name="the_input")
    conv = layers.Conv1D(1, 7, strides=2, padding="valid", use_bias=False, name="conv")
    model = acoustic_model(the_input, conv(the_input), "m", print_summary=False)
    conv.set_weights([np.eye(7, 1, -3)[:, :, None]])
    clock = frame_clock(time_changes(model), FeatureSettings("spectrogram"))
    features = np.zeros((1, 41, 1), np.float32)
    features[0, 21] = 1  # at 21 * 10 ms + half a window
    answer = int(np.argmax(keras.ops.convert_to_numpy(conv(features))[0, :, 0]))
    assert clock(answer) == pytest.approx(0.21 + 0.01)


@pytest.mark.parametrize(
    ("probabilities", "text", "reason"),
    [
        (spoken("ab"), "  ", "no text"),
        (spoken("ab"), "größe", "ö|ß"),
        (spoken("ab"), "abcdefgh", "too short for the text: 6 output frames for 8"),
        (np.full((4, 29), np.nan), "ab", "without NaN"),
        (np.ones(29), "ab", "num_output_frames"),
    ],
)
def test_wrong_input_is_refused(probabilities, text, reason):
    with pytest.raises(ValueError, match=reason):
        align(probabilities, text, CLOCK)
