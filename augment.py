"""Changing training examples so that a model cannot learn them by heart.

What is random takes a seeded generator; all functions leave their input as it is.
"""

import dataclasses
import fractions

import numpy as np
import scipy.signal


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
        samples: waveform (num_samples,).
        factor: 1.1 is a tenth faster and higher; between 0.5 and 2, in steps of a hundredth.

    Returns:
        Waveform of about num_samples / factor samples at the same rate, float32.

    Raises:
        ValueError: for a factor outside 0.5..2.
    """
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
        features: normalised, (num_frames, num_features).
        rng: source of the random numbers.
        freq_masks: number of bands; each is 0 to `freq_width` features wide, placed uniformly.
        freq_width: highest width of a band.
        time_masks: number of stretches; each is 0 to `time_width` frames long.
        time_width: longest stretch.

    Returns:
        A changed copy.
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
