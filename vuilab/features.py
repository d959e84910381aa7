"""Features of a waveform: log spectrogram, MFCCs, log-mel bands, or the samples themselves."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from vuilab.audio import SAMPLE_RATE, read_audio
from vuilab.options import option, require_choices

LOG_FLOOR = 1e-14  # added to the power density before the logarithm, so that digital silence stays finite
MFCC_WINDOW = 0.025  # seconds, the default of python_speech_features
FEATURE_KINDS = ("spectrogram", "mfcc", "logmel", "raw")


def spectrogram(
    samples: np.ndarray,
    step: float = 10,
    window: float = 20,
    max_freq: float = 8000,
    sample_rate: int = SAMPLE_RATE,
) -> np.ndarray:
    """Log power density of Hann-windowed frames.

    The natural logarithm of `scipy.signal.spectrogram(..., detrend=False, scaling="density")` plus 1e-14,
    with time first and the bins above `max_freq` dropped. No padding: the frames are those that fit.

    Args:
        samples: waveform (num_samples,).
        step, window: distance and length of the frames in milliseconds.
        max_freq, sample_rate: highest frequency kept, at most half the sample rate; in Hz.

    Returns:
        float32 array (num_frames, num_features); 161 features for the defaults.

    Raises:
        ValueError: when the waveform is shorter than one window, or `max_freq` is out of range.
    """
    if not 0 < max_freq <= sample_rate / 2:
        raise ValueError(f"max_freq must be in 0..{sample_rate / 2:.0f} Hz. Received: max_freq={max_freq}")
    frame_length, frame_step = _samples(window, sample_rate), _samples(step, sample_rate)
    _require_length(samples, frame_length)
    samples = np.asarray(samples)
    hann = hann_window(frame_length).astype(samples.dtype if samples.dtype == np.float32 else np.float64)
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(samples, frame_length)[::frame_step] * hann)
    density = (spectra.real**2 + spectra.imag**2).astype(np.float64) / (sample_rate * np.sum(np.square(hann)))
    density[:, 1 : (frame_length + 1) // 2] *= 2  # the negative frequencies
    kept = density[:, np.fft.rfftfreq(frame_length, 1 / sample_rate) <= max_freq + 1e-6]
    return np.log(kept + LOG_FLOOR).astype(np.float32)


def hann_window(num_samples: int) -> np.ndarray:
    """Return the periodic Hann window (num_samples,), as `scipy.signal.get_window("hann", num_samples)`."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(num_samples) / num_samples)


def mfcc(samples: np.ndarray, step: float = 10, mfcc_dim: int = 13) -> np.ndarray:
    """Mel-frequency cepstral coefficients as python_speech_features computes them (16 kHz, 25 ms window).

    Args:
        samples: waveform (num_samples,) in -1..1.
        step: distance of two frames in milliseconds.
        mfcc_dim: number of coefficients, 1..26.

    Returns:
        float32 array (num_frames, mfcc_dim). Its frame count can differ by one from the spectrogram's.

    Raises:
        ValueError: when `mfcc_dim` is out of range or the waveform is shorter than one window.
    """
    import python_speech_features

    if not 1 <= mfcc_dim <= 26:
        raise ValueError(f"mfcc_dim must be in 1..26 (there are 26 mel filters). Received: mfcc_dim={mfcc_dim}")
    _require_length(samples, round(MFCC_WINDOW * SAMPLE_RATE))
    options = {"winlen": MFCC_WINDOW, "winstep": step / 1000, "numcep": mfcc_dim}
    return python_speech_features.mfcc(samples, SAMPLE_RATE, **options).astype(np.float32)


def logmel(
    samples: np.ndarray, step: float = 10, window: float = 20, max_freq: float = 8000, num_mels: int = 80
) -> np.ndarray:
    """Log energies (num_frames, num_mels) in mel bands: the power density of `spectrogram`, summed by `mel_filters`."""
    density = np.exp(spectrogram(samples, step, window, max_freq).astype(np.float64))
    filters = mel_filters(num_mels, _samples(window, SAMPLE_RATE), max_freq)
    return np.log(density @ filters[:, : density.shape[1]].T + LOG_FLOOR).astype(np.float32)


def spectrogram_from_file(path: str | Path, step: float = 10, window: float = 20, max_freq: float = 8000) -> np.ndarray:
    """Read an audio file and return its log spectrogram (num_frames, 161); see `spectrogram`."""
    return spectrogram(read_audio(path), step, window, max_freq)


@dataclasses.dataclass(frozen=True)
class FeatureSettings:
    """What is computed from a waveform; equal settings give equal features.

    Raises:
        ValueError: at construction, for an unknown kind or times that are not positive.
    """

    kind: str = option(
        "spectrogram", "raw: the samples themselves, one feature wide", flag="features", choices=FEATURE_KINDS
    )
    step: float = option(10, "milliseconds between frames", metavar="MS")
    window: float = option(20, "milliseconds per frame (MFCCs always use 25)", metavar="MS")
    max_freq: float = option(8000, "Hz, the highest frequency", metavar="HZ")
    mfcc_dim: int = option(13, "coefficients, for mfcc", metavar="N")
    num_mels: int = option(80, "bands, for logmel", metavar="N")

    def __post_init__(self) -> None:
        require_choices(self)
        if self.step <= 0 or self.window <= 0:
            raise ValueError(f"step and window are positive milliseconds. Received: {self.step}, {self.window}")

    @property
    def num_features(self) -> int:
        """Width of a feature frame."""
        bins = int(self.max_freq * _samples(self.window, SAMPLE_RATE) / SAMPLE_RATE + 1e-6) + 1
        return {"spectrogram": bins, "mfcc": self.mfcc_dim, "logmel": self.num_mels, "raw": 1}[self.kind]

    @property
    def frames_per_second(self) -> float:
        """Frames of a second of speech; of raw audio the samples."""
        return SAMPLE_RATE if self.kind == "raw" else 1000 / self.step

    def extract(self, samples: np.ndarray) -> np.ndarray:
        """Compute the features of a 16 kHz waveform: float32 (num_frames, num_features)."""
        if self.kind == "raw":
            return np.asarray(samples, np.float32)[:, None]
        options = {key: value for key, value in self.relevant().items() if key != "kind"}
        return {"spectrogram": spectrogram, "mfcc": mfcc, "logmel": logmel}[self.kind](samples, **options)

    def relevant(self) -> dict:
        """Return only the settings that this kind depends on (the others do not make a new cache)."""
        fields = {
            "spectrogram": ("kind", "step", "window", "max_freq"),
            "mfcc": ("kind", "step", "mfcc_dim"),
            "logmel": ("kind", "step", "window", "max_freq", "num_mels"),
            "raw": ("kind",),
        }[self.kind]
        return {field: getattr(self, field) for field in fields}


def _samples(milliseconds: float, sample_rate: int) -> int:
    return round(milliseconds * sample_rate / 1000)


def _require_length(samples: np.ndarray, frame_length: int) -> None:
    if np.ndim(samples) != 1 or len(samples) < frame_length:
        raise ValueError(
            f"A waveform of at least {frame_length} samples (one window) is needed, shape (num_samples,)."
            f" Received: shape {np.shape(samples)}, {1000 * np.size(samples) / SAMPLE_RATE:.0f} ms at 16 kHz."
            " Record it again with the pauses around it, or leave it out."
        )


@functools.cache
def mel_filters(num_mels: int, frame_length: int, max_freq: float = SAMPLE_RATE / 2) -> np.ndarray:
    """Return triangular filters on the mel scale (num_mels, frame_length // 2 + 1), each with an area of 1 in Hz.

    Those of `librosa.filters.mel` at 16 kHz (Slaney's scale: linear up to 1 kHz, then 27 steps for a factor of 6.4), without the
    import of librosa, which takes longer than a short recording.
    """
    linear, step = 200 / 3, np.log(6.4) / 27  # Hz a mel up to 1 kHz, then the logarithm of the ratio of neighbours
    highest = max_freq / linear if max_freq < 1000 else 15 + np.log(max_freq / 1000) / step
    mels = np.linspace(0, highest, num_mels + 2)
    edges = np.where(mels < 15, mels * linear, 1000 * np.exp(step * (mels - 15)))[:, None]
    frequencies = np.fft.rfftfreq(frame_length, 1 / SAMPLE_RATE)
    rising = (frequencies - edges[:-2]) / np.diff(edges, axis=0)[:-1]
    falling = (edges[2:] - frequencies) / np.diff(edges, axis=0)[1:]
    return (np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])).astype(np.float32)
