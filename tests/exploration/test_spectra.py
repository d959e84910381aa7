"""Spectra in physical units, held against sums worked by hand and against SciPy; clips that cannot be used are named."""

import numpy as np
import pytest
import scipy.signal

from vuilab.exploration.spectra import (
    BINS,
    amplitude_spectrum,
    check_clip,
    check_clips,
    level,
    long_term_spectrum,
)

TIME = np.arange(16_000) / 16_000


def test_two_tones_and_a_constant_have_their_frequencies_and_amplitudes():
    samples = 0.25 + 0.5 * np.sin(2 * np.pi * 1000 * TIME) + 0.125 * np.cos(2 * np.pi * 3500 * TIME)
    frequencies, amplitudes = amplitude_spectrum(samples)
    found = np.flatnonzero(amplitudes > 1e-9)
    np.testing.assert_allclose(frequencies[found], [0, 1000, 3500])
    np.testing.assert_allclose(amplitudes[found], [0.25, 0.5, 0.125])


def test_half_the_sample_rate_is_not_counted_twice():
    frequencies, amplitudes = amplitude_spectrum(np.array([0.3, -0.3, 0.3, -0.3]), 8)
    np.testing.assert_allclose(frequencies, [0, 4 / 2, 4])
    np.testing.assert_allclose(amplitudes, [0, 0, 0.3], atol=1e-12)


@pytest.mark.parametrize("num_samples", [999, 1000])
def test_powers_of_the_sines_add_up_to_the_mean_square(num_samples):
    samples = np.random.default_rng(0).normal(size=num_samples)
    _, amplitudes = amplitude_spectrum(samples)
    powers = np.square(amplitudes) / 2  # of a sine; the constant part and half the sample rate count in full
    powers[0] *= 2
    if num_samples % 2 == 0:
        powers[-1] *= 2
    assert powers.sum() == pytest.approx(np.square(samples).mean())


def test_the_long_term_spectrum_is_that_of_welch():
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000)
    frequencies, density = scipy.signal.welch(samples, 16_000, "hann", 320, 160, detrend=False)
    np.testing.assert_allclose(BINS, frequencies)
    np.testing.assert_allclose(long_term_spectrum(samples), 10 * np.log10(density), atol=1e-3)
    assert long_term_spectrum(np.zeros(16_000)) == pytest.approx(-140, abs=0.01)


def test_levels():
    assert level(np.sin(2 * np.pi * 100 * TIME)) == pytest.approx(-3.0103, abs=1e-4)
    assert level(np.full(100, 0.1, np.float32)) == pytest.approx(-20, abs=1e-4)
    assert level(np.zeros(100)) == -140


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(16_000, np.int16), r"floats in -1..1. Received: dtype int16. Divide 16-bit samples by 32768"),
        (np.zeros((16_000, 2)), r"must be mono .* Received: shape \(16000, 2\)"),
        (np.zeros(1599), r"at least 100 ms long, .* num_samples >= 1600. Received: shape \(1599,\). Pad it"),
        (np.array([np.nan, np.inf] + [0.0] * 16_000), r"holds 2 samples that are NaN or infinite"),
    ],
)
def test_what_cannot_be_looked_at_is_named(samples, message):
    with pytest.raises(ValueError, match=message):
        check_clip(samples)
    with pytest.raises(ValueError, match=r"Clip 1 of 'bed' \(counted from 0\)"):
        check_clips({"bed": [np.zeros(2000), samples]})


def test_words_without_clips_are_left_out_and_nothing_at_all_is_refused():
    assert list(check_clips({"bed": [], "cat": [np.zeros(2000)]})) == ["cat"]
    with pytest.raises(ValueError, match=r"no clips to look at: .* Received: 0 words. Check the folder"):
        check_clips({})
    with pytest.raises(ValueError, match="Received: 2 words without clips"):
        check_clips({"bed": [], "cat": []})
