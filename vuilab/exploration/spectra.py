"""Spectra of short clips in units that can be checked, and what every view of clips shares: checks, and `Numbers`."""

import types
from collections.abc import Mapping, Sequence

import numpy as np

from vuilab.audio import SAMPLE_RATE
from vuilab.features import LOG_FLOOR, spectrogram

SHORTEST = 0.1  # seconds; a clip below that has too few frames to say anything about
DECIBELS = 10 / np.log(10)  # dB in one unit of a natural logarithm of power
BINS = np.linspace(0, SAMPLE_RATE / 2, 161)  # Hz: the frequencies of features.spectrogram at 16 kHz
SILENT = -100.0  # dB relative to 1: quieter is digital silence or a fault


class Numbers(types.SimpleNamespace):
    """What a figure shows: attributes that the docstring of its view names, and `facts()` for a table under the figure.

    Args:
        told: name and value of each fact.
        numbers: everything else.
    """

    def __init__(self, told: dict[str, str], **numbers):
        super().__init__(**numbers)
        self._told = told

    def facts(self) -> dict[str, str]:
        """Return what the numbers say, also for those who cannot see the figure."""
        return self._told


def check_clip(samples: np.ndarray, sample_rate: int = SAMPLE_RATE, what: str = "The clip") -> np.ndarray:
    """Return a waveform (num_samples,) of floats in -1..1 as float32 after making sure that it can be looked at.

    Raises:
        ValueError: when the samples are integers, not one-dimensional, not finite, or shorter than 100 ms.
    """
    samples = np.asarray(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"{what} must hold floats in -1..1. Received: dtype {samples.dtype}. Divide 16-bit samples by 32768, "
            "or read the file with audio.read_audio."
        )
    if samples.ndim != 1 or len(samples) < SHORTEST * sample_rate:
        raise ValueError(
            f"{what} must be mono and at least {SHORTEST * 1000:.0f} ms long, shape (num_samples,) with num_samples >= "
            f"{int(SHORTEST * sample_rate)}. Received: shape {samples.shape}. Pad it, or leave it out."
        )
    if not np.isfinite(samples).all():
        raise ValueError(
            f"{what} holds {int((~np.isfinite(samples)).sum())} samples that are NaN or infinite. Export it again as "
            "16-bit audio, or leave it out."
        )
    return samples.astype(np.float32)


def check_clips(clips: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Return the words that have clips, each with its waveforms after `check_clip`, in the given order.

    Raises:
        ValueError: when no word has a clip, or a clip cannot be used; the message names word and position.
    """
    checked = {
        word: [
            check_clip(samples, what=f"Clip {number} of {word!r} (counted from 0)")
            for number, samples in enumerate(waves)
        ]
        for word, waves in clips.items()
    }
    kept = {word: waves for word, waves in checked.items() if waves}
    if not kept:
        raise ValueError(
            f"There are no clips to look at: expected a mapping of words to waveforms. Received: {len(clips)} words"
            f"{' without clips' if clips else ''}. Check the folder and the list of words."
        )
    return kept


def amplitude_spectrum(samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes of the sine waves that add up to a waveform (num_samples,), from one Fourier transform over all of it.

    A sine of amplitude a whose period divides the clip gives the value a at its frequency and 0 elsewhere. There is no window.

    Returns:
        (frequencies, amplitudes), each (num_samples // 2 + 1,): 0 Hz to half the sample rate, in the unit of the samples.

    Example:
        >>> frequencies, amplitudes = amplitude_spectrum(0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000))
        >>> float(frequencies[amplitudes.argmax()]), round(float(amplitudes.max()), 6)
        (1000.0, 0.5)
    """
    num_samples = len(samples)
    amplitudes = np.abs(np.fft.rfft(np.asarray(samples, np.float64))) * 2 / num_samples
    amplitudes[0] /= 2  # the constant part has no twin at a negative frequency,
    if num_samples % 2 == 0:
        amplitudes[-1] /= 2  # nor has half the sample rate
    return np.fft.rfftfreq(num_samples, 1 / sample_rate), amplitudes


def long_term_spectrum(samples: np.ndarray) -> np.ndarray:
    """Mean power density of a clip over all frames of 20 ms, in dB: a portrait of voice, microphone and room.

    Args:
        samples: (num_samples,) at 16 kHz in -1..1.

    Returns:
        float64 (161,), bins from 0 to 8,000 Hz, in dB relative to 1/Hz; -140 for digital silence.
    """
    power = np.exp(spectrogram(samples).astype(np.float64))
    return 10 * np.log10(np.maximum(power.mean(axis=0), LOG_FLOOR))


def level(samples: np.ndarray) -> float:
    """Return the root mean square of a waveform in dB relative to 1; -140 for digital silence."""
    return float(10 * np.log10(max(np.square(samples, dtype=np.float64).mean(), LOG_FLOOR)))
