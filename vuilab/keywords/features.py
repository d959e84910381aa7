"""What a keyword classifier sees of one second of sound: images of a fixed size, computed for whole batches at once.

| kind | shape | for |
|---|---|---|
| mfcc_image | (20, 11, 1) | perceptron, convolutions, LSTM: 20 coefficients of 11 long windows |
| spectrogram | (99, 81, 1) | light CNN: log spectrogram at 8 kHz, 20 ms window, 10 ms step |
| raw, raw8k | (16000, 1), (8000, 1) | WavCeption: the samples themselves |
| mfcc | (98, 64) | MatchboxNet: 64 coefficients, 25 ms window, 10 ms step |
| logmel | (40, 98, 1) | BC-ResNet: 40 mel bands, 30 ms window, 10 ms step |
"""

import dataclasses
import functools

import numpy as np
import scipy.fft
import scipy.signal

from vuilab.audio import SAMPLE_RATE
from vuilab.features import LOG_FLOOR
from vuilab.keywords.corpus import CLIP_SAMPLES

KINDS = ("mfcc_image", "spectrogram", "raw", "raw8k", "mfcc", "logmel")
ENERGY_FLOOR = 1e-8  # added to mel energies before the logarithm: about what the last of 16 bits holds
HALF_RATE = SAMPLE_RATE // 2


@dataclasses.dataclass(frozen=True)
class KeywordFeatures:
    """A kind of features; equal settings give equal features.

    Raises:
        ValueError: at construction, for an unknown kind.
    """

    kind: str = "mfcc"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}. Received: kind={self.kind!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features."""
        return self.extract(np.zeros((1, CLIP_SAMPLES), np.float32)).shape[1:]

    @property
    def time_axis(self) -> int | None:
        """Axis of a clip's features along which time runs; None for samples, which are no frames."""
        return {"mfcc_image": 1, "spectrogram": 0, "mfcc": 0, "logmel": 1}.get(self.kind)

    def extract(self, waveforms: np.ndarray) -> np.ndarray:
        """Compute the features of clips.

        Args:
            waveforms: (num_clips, CLIP_SAMPLES) in -1..1 at 16 kHz.

        Returns:
            float32 array (num_clips, *shape).

        Raises:
            ValueError: for another shape.
        """
        if np.ndim(waveforms) != 2 or waveforms.shape[1] != CLIP_SAMPLES:
            raise ValueError(
                f"Expected waveforms of shape (num_clips, {CLIP_SAMPLES}). Received: shape {np.shape(waveforms)}. "
                "keyword_audio.fit_length brings a waveform to that length."
            )
        return _EXTRACTORS[self.kind](np.asarray(waveforms, np.float32)).astype(np.float32, copy=False)

    def statistics(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation over clips and time, in a shape that broadcasts with a clip's features."""
        axes = (0, 1, 2) if self.time_axis is None else (0, self.time_axis + 1)
        mean = features.mean(axis=axes, keepdims=True, dtype=np.float64)[0]
        std = features.std(axis=axes, keepdims=True, dtype=np.float64)[0]
        return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)


# ---------------------------------------------------------------------------------------------- extractors


def power_frames(waveforms: np.ndarray, window: int, step: int, fft_length: int) -> np.ndarray:
    """Return the power spectra of Hann-windowed frames that fit: (num_clips, num_frames, fft_length // 2 + 1)."""
    frames = np.lib.stride_tricks.sliding_window_view(waveforms, window, axis=1)[:, ::step]
    spectra = scipy.fft.rfft(frames * scipy.signal.get_window("hann", window).astype(np.float32), fft_length, axis=-1)
    return spectra.real**2 + spectra.imag**2


def log_mel(waveforms: np.ndarray, window: int, step: int, fft_length: int, num_mels: int) -> np.ndarray:
    """Return the natural logarithm of mel band energies: (num_clips, num_frames, num_mels)."""
    power = power_frames(waveforms, window, step, fft_length) / window
    rows = power.reshape(-1, power.shape[-1])  # one large product instead of one for each clip
    return np.log((rows @ _mel_filters(num_mels, fft_length).T).reshape(*power.shape[:2], num_mels) + ENERGY_FLOOR)


def cepstra(log_energies: np.ndarray, num_coefficients: int) -> np.ndarray:
    """Return the first coefficients of the orthonormal cosine transform (DCT-II) of log mel energies, over the last axis."""
    return scipy.fft.dct(log_energies, type=2, norm="ortho", axis=-1)[..., :num_coefficients]


def _mfcc(waveforms: np.ndarray) -> np.ndarray:
    return cepstra(log_mel(waveforms, 400, 160, 512, 64), 64)


def _mfcc_image(waveforms: np.ndarray) -> np.ndarray:
    step = CLIP_SAMPLES // 11 + 1  # 91 ms, so that 11 frames reach from end to end
    padded = np.pad(waveforms, ((0, 0), (1024, 1024)))
    image = cepstra(log_mel(padded, 2048, step, 2048, 40), 20)[:, :11]
    return image.transpose(0, 2, 1)[..., None]  # (num_clips, 20, 11, 1)


def _logmel(waveforms: np.ndarray) -> np.ndarray:
    return log_mel(waveforms, 480, 160, 512, 40).transpose(0, 2, 1)[..., None]  # (num_clips, 40, 98, 1)


def _spectrogram(waveforms: np.ndarray) -> np.ndarray:
    window, step = HALF_RATE // 50, HALF_RATE // 100  # 20 ms, 10 ms
    power = power_frames(half_rate(waveforms), window, step, window)
    power[..., 1:-1] *= 2  # one-sided
    density = power / (HALF_RATE * np.sum(scipy.signal.get_window("hann", window) ** 2))
    return np.log(density + LOG_FLOOR)[..., None]  # (num_clips, 99, 81, 1)


def half_rate(waveforms: np.ndarray) -> np.ndarray:
    """Resample from 16 to 8 kHz: (num_clips, num_samples) -> (num_clips, num_samples / 2)."""
    import soxr

    return np.ascontiguousarray(soxr.resample(np.ascontiguousarray(waveforms.T), SAMPLE_RATE, HALF_RATE).T)


@functools.cache
def _mel_filters(num_mels: int, fft_length: int) -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=fft_length, n_mels=num_mels).astype(np.float32)


_EXTRACTORS = {
    "mfcc_image": _mfcc_image,
    "spectrogram": _spectrogram,
    "raw": lambda waveforms: waveforms[..., None],
    "raw8k": lambda waveforms: half_rate(waveforms)[..., None],
    "mfcc": _mfcc,
    "logmel": _logmel,
}
