"""Recordings by speaker: differences worked by hand, and whether the sound gives a speaker away."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.signal

from vuilab.exploration.speakers import speaker_distances, two_recordings
from vuilab.exploration.spectra import long_term_spectrum

RATE = 16_000


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def recording(seed: int, microphone: float | None = None, level: float = 0.1) -> np.ndarray:
    """Noise, through a microphone that prefers one frequency in Hz."""
    samples = np.random.default_rng(seed).standard_normal(RATE)
    if microphone is not None:
        samples = scipy.signal.sosfilt(
            scipy.signal.butter(2, [0.7 * microphone, 1.3 * microphone], "band", fs=RATE, output="sos"), samples
        )
    return (level * samples / samples.std()).astype(np.float32)


def test_the_same_recording_at_half_the_level_differs_in_level_only():
    samples = recording(0)
    figure, numbers = two_recordings(samples, samples / 2, ("loud", "quiet"))
    assert numbers.levels[0] - numbers.levels[1] == pytest.approx(6.0206, abs=1e-3)
    assert numbers.difference == pytest.approx(0, abs=1e-3)
    assert list(numbers.facts().values()) == ["6.0 dB", "0.0 dB"]
    labels = [text.get_text() for ax in figure.axes if ax.get_legend() for text in ax.get_legend().get_texts()]
    assert labels == ["loud", "quiet"]


def test_the_difference_is_the_root_mean_square_between_spectra_without_their_means():
    first, second = recording(0, 1000), recording(1, 3000)[:9000]
    _, numbers = two_recordings(first, second)
    spectra = [long_term_spectrum(clip) for clip in (first, second)]
    gap = (spectra[0] - spectra[0].mean()) - (spectra[1] - spectra[1].mean())
    assert numbers.difference == pytest.approx(np.sqrt((gap**2).mean()))
    np.testing.assert_allclose(numbers.spectra, spectra)


def test_speakers_with_microphones_of_their_own_are_given_away():
    recordings = {
        f"s{number}": [recording(10 * number + take, 500 + 700 * number) for take in range(2)] for number in range(8)
    }
    figure, numbers = speaker_distances(recordings)
    assert len(numbers.same) == 8 and len(numbers.different) == 16 * 15 // 2 - 8
    assert numbers.closer == 1.0 and numbers.same.max() < numbers.different.min()
    assert numbers.facts()["the pair of one speaker is closer"].startswith("100 %")
    assert figure.axes[0].get_xlabel() == "difference of the mean spectra (dB)"


def test_speakers_without_a_mark_of_their_own_are_not():
    recordings = {f"s{number}": [recording(10 * number + take) for take in range(3)] for number in range(10)}
    _, numbers = speaker_distances(recordings)
    assert 0.35 < numbers.closer < 0.6


def test_the_probability_counts_every_comparison():
    recordings = {"a": [recording(0), recording(1, 2000)], "b": [recording(2), recording(3, 900)], "c": [recording(4)]}
    _, numbers = speaker_distances(recordings)
    wins = [(near < far) + 0.5 * (near == far) for near in numbers.same for far in numbers.different]
    assert numbers.closer == pytest.approx(np.mean(wins))


def test_too_few_recordings_and_bad_ones_are_refused():
    with pytest.raises(
        ValueError, match=r"at least two speakers, .* Received: 1 speakers, at most 2 recordings of one"
    ):
        speaker_distances({"a": [recording(0), recording(1)]})
    with pytest.raises(ValueError, match=r"Received: 2 speakers, at most 1 recordings of one"):
        speaker_distances({"a": [recording(0)], "b": [recording(1)]})
    with pytest.raises(ValueError, match="The clip 'second' holds 16000 samples that are NaN"):
        two_recordings(recording(0), np.full(RATE, np.nan))


def test_silence_can_be_compared():
    _, numbers = two_recordings(np.zeros(RATE), recording(0))
    assert numbers.levels[0] == -140 and np.isfinite(numbers.difference)
    assert speaker_distances({"a": [np.zeros(RATE)] * 2, "b": [np.zeros(RATE)]})[1].closer == 0.5
