"""Changes of a clip, by their physical measure, and the options that cannot be."""

import numpy as np
import pytest

from vuilab.augment import speed_perturb
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.options import ClipAugmentation, ClipOptions, KeywordOptions
from vuilab.training.options import TrainingOptions

NOTHING = {
    "shift": 0,
    "speed": 0,
    "speed_probability": 0,
    "noise_probability": 0,
    "gain": 0,
    "freq_masks": 0,
    "time_masks": 0,
}


@pytest.fixture
def word():
    seconds = np.arange(16_000) / 16_000
    return (0.3 * np.sin(2 * np.pi * 500 * seconds) * (np.abs(seconds - 0.5) < 0.2)).astype(np.float32)


def only(**options):
    return ClipAugmentation(**(NOTHING | options))


def test_without_anything_to_do_a_clip_stays(word):
    np.testing.assert_allclose(only().change(word, np.random.default_rng(0)), word, rtol=1e-6)


def test_shifts_reach_their_limit_both_ways_and_not_beyond(word):
    starts = [
        np.flatnonzero(only(shift=0.1).change(word, np.random.default_rng(n)))[0] - np.flatnonzero(word)[0]
        for n in range(300)
    ]
    assert -1600 <= min(starts) < -1500 and 1500 < max(starts) <= 1600


def test_gain_is_within_its_limits_in_db(word):
    ratios = [only(gain=6).change(word, np.random.default_rng(n)).max() / word.max() for n in range(300)]
    decibels = 20 * np.log10(ratios)
    assert -6 <= decibels.min() < -5.5 and 5.5 < decibels.max() <= 6


def test_speed_changes_the_pitch_by_up_to_its_share(word):
    def pitch(samples):
        return np.argmax(np.abs(np.fft.rfft(samples)))

    found = [
        pitch(only(speed=0.15, speed_probability=1).change(word, np.random.default_rng(n))) / 500 for n in range(60)
    ]
    assert 0.84 < min(found) < 0.9 and 1.1 < max(found) < 1.16
    assert only(speed=0.15, speed_probability=1).change(word, np.random.default_rng(0)).shape == word.shape
    assert pitch(speed_perturb(word, 1.1)) / len(speed_perturb(word, 1.1)) * 16_000 == pytest.approx(550, abs=2)


def test_noise_has_the_ratio_drawn_and_comes_from_recordings_reversed_or_not_and_colours(word):
    recording = np.random.default_rng(9).normal(0, 1, 40_000).astype(np.float32)
    forwards = backwards = coloured = 0
    augmentation = only(noise_probability=1, snr_low=10, snr_high=10)
    for seed in range(40):
        noise = augmentation.change(word, np.random.default_rng(seed), [recording]) - word
        assert 10 * np.log10(np.mean(word**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.01)
        scores = [np.abs(np.correlate(recording, piece, "valid")).max() for piece in (noise[:4000], noise[:4000][::-1])]
        scale = np.linalg.norm(noise[:4000]) * np.sqrt(4000)
        found = [score / scale > 0.9 for score in scores]
        forwards, backwards, coloured = forwards + found[0], backwards + found[1], coloured + (not any(found))
    assert min(forwards, backwards) >= 3 and coloured >= 10


def test_silence_meets_no_ratio():
    zero = np.zeros(16_000, np.float32)
    assert not only(noise_probability=1).change(zero, np.random.default_rng(0)).any()


@pytest.mark.parametrize(("kind", "shape"), [("mfcc", (98, 64)), ("logmel", (40, 98, 1)), ("mfcc_image", (20, 11, 1))])
def test_masks_are_bands_of_frequency_and_stretches_of_time_whatever_the_layout(kind, shape):
    axis = KeywordFeatures(kind).time_axis
    ones = np.ones(shape, np.float32)
    bands = only(freq_masks=1, freq_share=0.5).mask(ones, axis, np.random.default_rng(1))
    times = only(time_masks=1, time_share=0.5).mask(ones, axis, np.random.default_rng(1))
    for masked, constant in ((bands, axis), (times, 1 - axis)):
        matrix = masked.reshape(shape[:2])
        assert masked.shape == shape and 0 < (matrix == 0).mean() <= 0.5
        assert (matrix == np.take(matrix, [0], axis=constant)).all()


def test_samples_are_not_masked():
    raw = np.ones((16_000, 1), np.float32)
    assert ClipAugmentation().mask(raw, KeywordFeatures("raw").time_axis, np.random.default_rng(0)) is raw


def test_values_out_of_range_are_refused():
    for wrong in ({"noise_probability": 1.5}, {"snr_low": 9, "snr_high": 3}, {"speed": 0.7}, {"shift": -1}):
        with pytest.raises(ValueError, match=r"probabilities lie in 0\.\.1"):
            ClipAugmentation(**wrong)
    with pytest.raises(ValueError, match="minibatch_size must be at least 1"):
        ClipOptions(0)
    with pytest.raises(ValueError, match=r"label_smoothing must be in 0\.\.1\. Received: label_smoothing=1"):
        KeywordOptions(label_smoothing=1)


def test_a_classifier_has_monitors_of_its_own():
    assert KeywordOptions(monitor="val_accuracy").best_is == "highest"
    assert KeywordOptions().best_is == TrainingOptions(monitor="val_cer").best_is == "lowest"
    with pytest.raises(ValueError, match=r"monitor must be one of \('val_loss', 'val_accuracy'\)"):
        KeywordOptions(monitor="val_cer")
