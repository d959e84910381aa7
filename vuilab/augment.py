"""Changing training examples so that a model cannot learn them by heart: features masked and stretched, waveforms shifted,
resampled and mixed with noise.

What is random takes a seeded generator; all functions leave their input as it is.
"""

import dataclasses
import fractions
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to the normalised features of a training utterance, anew in every epoch."""

    freq_masks: int = 2  # bands set to the mean (SpecAugment)
    freq_width: int = 16  # highest width of a band, in features
    time_masks: int = 2  # stretches set to the mean (SpecAugment)
    time_share: float = 0.06  # longest stretch, as a share of the utterance
    warp: float = 0.0  # largest relative shift of the frequency axis (vocal tract length)

    def apply(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return changed features of the same shape (num_frames, num_features)."""
        if self.warp:
            features = warp_frequency(features, rng.uniform(1 - self.warp, 1 + self.warp))
        longest = int(self.time_share * len(features))
        return spec_augment(features, rng, self.freq_masks, self.freq_width, self.time_masks, longest)


def speed_perturb(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play a recording faster or slower, as a tape would: tempo and pitch change together (Ko et al., Interspeech 2015).

    Args:
        samples: waveform (num_samples,); about num_samples / factor of them at the same rate are returned, float32.
        factor: 1.1 is a tenth faster and higher; between 0.5 and 2, in steps of a hundredth.

    Raises:
        ValueError: for a factor outside 0.5..2.
    """
    import scipy.signal  # here, since it takes long and options need none of it

    if not 0.5 <= factor <= 2:
        raise ValueError(f"factor must be in 0.5..2. Received: factor={factor}")
    ratio = fractions.Fraction(factor).limit_denominator(100)
    return scipy.signal.resample_poly(samples, ratio.denominator, ratio.numerator).astype(np.float32)


def spec_augment(
    features: np.ndarray,
    rng: np.random.Generator,
    freq_masks: int = 2,
    freq_width: int = 16,
    time_masks: int = 2,
    time_width: int = 20,
) -> np.ndarray:
    """Set random bands and stretches to 0, the mean of normalised features (Park et al., Interspeech 2019, without warping).

    Args:
        features: normalised, (num_frames, num_features); a copy is changed.
        rng: source of the random numbers.
        freq_masks, freq_width: number of bands; each is 0 to `freq_width` features wide, placed uniformly.
        time_masks, time_width: number of stretches; each is 0 to `time_width` frames long.
    """
    features = features.copy()
    num_frames, num_features = features.shape
    for _ in range(freq_masks):
        width = int(rng.integers(0, min(freq_width, num_features) + 1))
        start = int(rng.integers(0, num_features - width + 1))
        features[:, start : start + width] = 0
    for _ in range(time_masks):
        width = int(rng.integers(0, min(time_width, num_frames) + 1))
        start = int(rng.integers(0, num_frames - width + 1))
        features[start : start + width] = 0
    return features


def warp_frequency(features: np.ndarray, factor: float) -> np.ndarray:
    """Stretch the frequency axis, as a shorter or longer vocal tract does (Jaitly and Hinton, 2013).

    Feature k of the result is the input at position k * factor, linearly interpolated; positions beyond the last feature take
    its value. Meant for spectrograms and mel bands, not for cepstra.

    Args:
        features: (num_frames, num_features).
        factor: above 1 moves everything down in frequency.
    """
    num_features = features.shape[1]
    position = np.clip(np.arange(num_features) * factor, 0, num_features - 1)
    lower = np.minimum(position.astype(np.int64), num_features - 2)
    weight = (position - lower).astype(features.dtype)
    return features[:, lower] * (1 - weight) + features[:, lower + 1] * weight


def coloured_noise(
    num_samples: int | None = None,
    rng: np.random.Generator | None = None,
    exponent: float = 0,
    *,
    N: int | None = None,
    state: np.random.RandomState | None = None,
) -> np.ndarray:
    """Return Gaussian noise of unit power whose power density is proportional to frequency ** exponent.

    The spectrum of white noise is multiplied by the square root of that law (Timmer and Koenig, 1995). The constant
    component is 0, except in white noise.

    Args:
        num_samples: of the float32 array that is returned, at least 2.
        rng: source of the random numbers; None: a fresh one.
        exponent: 0 white, -1 pink, 1 blue, -2 brown, 2 violet; 1 is about 3 dB per octave.
        N, state: what the speech-commands reference calls the first two.

    Raises:
        ValueError: for fewer than 2 samples.
    """
    num_samples, rng = N if num_samples is None else num_samples, rng or state or np.random.default_rng()
    if num_samples is None or num_samples < 2:
        raise ValueError(f"Noise has at least 2 samples. Received: num_samples={num_samples}")
    noise = rng.standard_normal(num_samples)
    if exponent:
        spectrum = np.fft.rfft(noise)
        spectrum[0] = 0
        spectrum[1:] *= np.arange(1, len(spectrum)) ** (exponent / 2)
        noise = np.fft.irfft(spectrum, num_samples)
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


# (num_samples, rng) to noise of one colour: the same power density everywhere (white), falling by 3 or 6 dB an octave (pink,
# brown; the latter as a random walk's does), rising by 3 or 6 dB (blue, violet; the latter as that of differences does)
white_noise, pink_noise, blue_noise, brown_noise, violet_noise = (
    functools.partial(coloured_noise, exponent=exponent) for exponent in (0, -1, 1, -2, 2)
)
NOISES = {"white": white_noise, "pink": pink_noise, "blue": blue_noise, "brown": brown_noise, "violet": violet_noise}


def mix_at_snr(signal: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise so that the power of the signal over that of the added noise is `snr_db`.

    Powers are mean squares over the whole length, pauses included.

    Args:
        signal, noise: waveforms (num_samples,), the latter at any level. The float32 result can exceed -1..1.
        snr_db: signal-to-noise ratio in dB.

    Raises:
        ValueError: for different lengths, or where the signal or the noise is silent.
    """
    if np.shape(signal) != np.shape(noise) or np.ndim(signal) != 1:
        raise ValueError(
            f"Signal and noise must be waveforms of one length. Received: shapes {np.shape(signal)} and {np.shape(noise)}. "
            "Cut or repeat the noise first."
        )
    signal_power, noise_power = (np.mean(np.square(wave, dtype=np.float64)) for wave in (signal, noise))
    if not (signal_power > 0 and noise_power > 0):
        raise ValueError(
            f"A signal-to-noise ratio needs sound in both. Received: signal power {signal_power:g}, noise power "
            f"{noise_power:g}. Leave digital silence out, or add the noise at a level of your own."
        )
    gain = np.sqrt(signal_power / noise_power) * 10 ** (-snr_db / 20)
    return (signal + gain * noise).astype(np.float32)


def time_shift(samples: np.ndarray, num_samples: int) -> np.ndarray:
    """Move a waveform later (or earlier, where `num_samples` is negative); zeros follow, what leaves is lost.

    Example:
        >>> time_shift(np.array([1, 2, 3]), 1).tolist(), time_shift(np.array([1, 2, 3]), -1).tolist()
        ([0, 1, 2], [2, 3, 0])
    """
    shifted = np.zeros_like(samples)
    length = len(samples) - abs(num_samples)
    if length > 0:
        to, source = max(num_samples, 0), max(-num_samples, 0)
        shifted[to : to + length] = samples[source : source + length]
    return shifted
