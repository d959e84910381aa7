"""Views of one clip: tones where they belong, mel bands as librosa has them, deltas by hand, resampling mirrors nothing."""

import librosa
import matplotlib.pyplot as plt
import numpy as np
import pytest

from vuilab import features
from vuilab.exploration.clips import fft_magnitude, log_spectrogram, mel_spectrogram, mfcc_deltas, resampling

TIME = np.arange(16_000) / 16_000
SILENCE = np.zeros(16_000, np.float32)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def tone(frequency: float, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * TIME)).astype(np.float32)


def test_the_log_spectrogram_is_that_of_the_features_with_frequencies_and_times():
    samples = tone(2000)
    figure, numbers = log_spectrogram(samples, title="a tone")
    np.testing.assert_array_equal(numbers.values, features.spectrogram(samples))
    assert (numbers.frequencies[numbers.values.argmax(axis=1)] == 2000).all()
    np.testing.assert_allclose(numbers.times[[0, -1]], [0.01, 0.99])  # the middle of the first and last window
    assert numbers.level == pytest.approx(20 * np.log10(0.5) - 3.0103, abs=1e-3)
    assert numbers.below_1_khz < 1e-6
    facts = numbers.facts()
    assert (facts["frames"], facts["strongest frequency"], facts["power below 1 kHz"]) == ("99", "2000 Hz", "0 %")
    top, bottom, _ = figure.axes
    assert top.get_title() == "a tone" and bottom.get_ylabel() == "frequency (kHz)"
    assert tuple(bottom.images[0].get_extent()) == (0, 1, 0, 8)


def test_a_low_tone_lies_below_1_khz_and_another_rate_ends_at_its_half():
    _, numbers = log_spectrogram(tone(400))
    assert numbers.below_1_khz == pytest.approx(1, abs=1e-4)
    _, numbers = log_spectrogram(tone(400)[::2], sample_rate=8000)
    assert numbers.values.shape == (99, 81) and numbers.frequencies[-1] == 4000
    assert numbers.frequencies[numbers.values.mean(axis=0).argmax()] == 400


def test_mel_bands_lie_where_librosa_puts_them_and_a_tone_is_in_its_own():
    _, numbers = mel_spectrogram(tone(1000), num_mels=40)
    # 1 Hz apart: the peak of a triangle is its centre
    filters = librosa.filters.mel(sr=16_000, n_fft=16_000, n_mels=40)
    np.testing.assert_allclose(numbers.frequencies, filters.argmax(axis=1), atol=1.0)
    assert numbers.decibels.max() == 0 and numbers.decibels.min() >= -80
    loudest = numbers.decibels[10:-10].mean(axis=0).argmax()
    assert loudest == np.abs(numbers.frequencies - 1000).argmin()


def test_no_band_of_the_finest_mel_spectrogram_is_empty():
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    figure, numbers = mel_spectrogram(noise)
    assert numbers.decibels.shape == (101, 128) and (numbers.decibels.max(axis=0) > -40).all()
    assert numbers.facts()["within 40 dB of the strongest point"] == "100 %"
    ax = figure.axes[0]
    heights = dict(zip([text.get_text() for text in ax.get_yticklabels()], ax.get_yticks(), strict=True))
    assert heights["1"] == pytest.approx(np.abs(numbers.frequencies - 1000).argmin(), abs=1)


def test_mel_bands_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"num_mels must be in 1..128.*Received: num_mels=129"):
        mel_spectrogram(SILENCE, num_mels=129)


def test_deltas_are_the_regression_worked_by_hand(monkeypatch):
    column = np.array([0.0, 1.0, 4.0, 9.0, 16.0, 25.0, 36.0])
    monkeypatch.setattr("vuilab.exploration.clips.mfcc", lambda samples, mfcc_dim: np.stack([column, column], axis=1))
    _, numbers = mfcc_deltas(SILENCE, mfcc_dim=2)
    # frame 3: (1 * (16 - 4) + 2 * (25 - 1)) / (2 * (1 + 4)) = 6, the slope of t squared at 3
    assert numbers.deltas[3, 0] == pytest.approx(6)
    # frame 0, the first frame repeated before the start: (1 * (1 - 0) + 2 * (4 - 0)) / 10
    assert numbers.deltas[0, 0] == pytest.approx(0.9)
    inner = numbers.deltas[1:6, 0]
    assert numbers.second_deltas[3, 0] == pytest.approx((inner[3] - inner[1] + 2 * (inner[4] - inner[0])) / 10)
    assert numbers.deltas.shape == numbers.second_deltas.shape == (7, 2)


def test_the_coefficients_move_where_the_sound_changes():
    samples = np.where(TIME < 0.4, tone(300), tone(3000)).astype(np.float32)
    figure, numbers = mfcc_deltas(samples)
    assert numbers.fastest == pytest.approx(0.4, abs=0.03)
    assert numbers.facts()["numbers a frame, with both deltas"] == "39"
    assert numbers.facts()["fastest change"] == f"{numbers.fastest:.2f} s"
    assert [ax.get_title() for ax in figure.axes[:3]] == ["MFCC", "first deltas", "second deltas"]


def test_the_peak_of_a_tone_has_its_frequency_and_amplitude():
    figure, numbers = fft_magnitude(tone(440, 0.25))
    assert numbers.peak == pytest.approx((440, 0.25), rel=1e-6)
    assert numbers.power_above(400) == pytest.approx(1) and numbers.power_above(500) == pytest.approx(0, abs=1e-9)
    assert (numbers.facts()["strongest sine"], numbers.facts()["its amplitude"]) == ("440 Hz", "0.2500")
    frequencies, amplitudes = figure.axes[0].lines[0].get_data()
    assert frequencies[amplitudes.argmax()] == pytest.approx(0.44)


def test_resampling_removes_what_8_khz_cannot_hold_and_mirrors_nothing():
    _, numbers = resampling(tone(1000, 0.25) + tone(6000, 0.5))
    assert len(numbers.samples) == 8000 and numbers.rate == 8000
    assert numbers.lost == pytest.approx(0.25 / (0.25 + 0.0625), abs=1e-6)  # powers go with the squares
    after = dict(zip(numbers.after.frequencies, numbers.after.amplitudes, strict=True))
    assert after[1000] == pytest.approx(0.25, rel=2e-3)
    assert after[2000] < 0.001  # where 6 kHz would be mirrored at 4 kHz
    assert max(numbers.after.amplitudes[2500:]) < 0.001
    assert abs(numbers.change) < 0.02
    # leaving out every other sample shows what the filter prevents
    mirrored = fft_magnitude((tone(1000, 0.25) + tone(6000, 0.5))[::2], 8000)[1]
    assert mirrored.peak == pytest.approx((2000, 0.5), rel=1e-5)


def test_resampling_keeps_a_low_tone_whole_and_says_so():
    figure, numbers = resampling(tone(1000))
    assert numbers.lost < 1e-6 and numbers.facts()["samples that remain"] == "50 %"
    assert [ax.get_title() for ax in figure.axes] == ["recorded: 16 kHz", "resampled: 8 kHz"]


@pytest.mark.parametrize("rate", [0, 16_000, 44_100])
def test_a_rate_that_is_not_lower_is_refused(rate):
    with pytest.raises(ValueError, match=rf"between 0 and 16000 Hz. Received: new_rate={rate}"):
        resampling(SILENCE, rate)


@pytest.mark.parametrize("view", [log_spectrogram, mel_spectrogram, mfcc_deltas, fft_magnitude, resampling])
def test_silence_and_the_shortest_clip_can_be_seen_and_bad_ones_are_refused(view):
    _, numbers = view(SILENCE)
    assert "nan" not in str(numbers.facts())
    view(tone(500)[:1600])
    with pytest.raises(ValueError, match="NaN or infinite"):
        view(np.full(16_000, np.nan, np.float32))
    with pytest.raises(ValueError, match="at least 100 ms"):
        view(np.zeros(0, np.float32))


def test_silence_is_called_so():
    for view in (log_spectrogram, mel_spectrogram, fft_magnitude):
        assert "digital silence" in view(SILENCE)[1].facts().values()
    assert mfcc_deltas(SILENCE)[1].facts()["fastest change"] == "none"
    assert (mel_spectrogram(SILENCE)[1].decibels == -80).all()
