"""Views of one clip: spectrograms, MFCCs with deltas, its sine waves, and what a lower sample rate leaves of it.

Each function returns a figure and its numbers, a dataclass whose `facts()` are what a table under the figure shows.
"""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import scipy.signal
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE, resample
from vuilab.exploration.spectra import SILENT, amplitude_spectrum, check_clip, level
from vuilab.features import LOG_FLOOR, MFCC_WINDOW, mfcc, spectrogram
from vuilab.figures import plot_image, plot_raw_audio

STEP = 0.01  # seconds between frames
AMPLITUDE_FLOOR = -140.0  # dB relative to 1, the lowest shown of a sine's amplitude
DYNAMIC_RANGE = 80.0  # decibels shown of a mel spectrogram


@dataclasses.dataclass(frozen=True)
class LogSpectrogram:
    """The spectrogram of a clip."""

    values: np.ndarray  # (num_frames, num_features): natural logarithm of the power density, as features.spectrogram
    frequencies: np.ndarray  # (num_features,) in Hz
    times: np.ndarray  # (num_frames,): the middle of each frame in seconds
    below_1_khz: float  # share of the power below 1 kHz, 0..1; NaN for digital silence
    level: float  # of the whole clip, dB relative to 1

    def facts(self) -> dict[str, str]:
        """Return how large it is and where the power lies."""
        sizes = {"frames": f"{len(self.values)}", "frequencies": f"{len(self.frequencies)}"}
        if self.level < SILENT:
            return sizes | {"level": "digital silence"}
        strongest = self.frequencies[np.exp(self.values.astype(np.float64)).mean(axis=0).argmax()]
        return sizes | {
            "level": f"{self.level:.0f} dB",
            "strongest frequency": f"{strongest:.0f} Hz",
            "power below 1 kHz": f"{100 * self.below_1_khz:.0f} %",
        }


def log_spectrogram(
    samples: np.ndarray, sample_rate: int = SAMPLE_RATE, step: float = 10, window: float = 20, title: str = ""
) -> tuple[Figure, LogSpectrogram]:
    """Draw the waveform of a clip above its log spectrogram, on one time axis.

    Args:
        samples: (num_samples,) in -1..1.
        sample_rate: in Hz.
        step: milliseconds between frames.
        window: milliseconds per frame.
        title: of the figure.

    Raises:
        ValueError: when the clip cannot be used (see `spectra.check_clip`) or is shorter than a window.
    """
    samples = check_clip(samples, sample_rate)
    values = spectrogram(samples, step, window, sample_rate / 2, sample_rate)
    frequencies = np.linspace(0, sample_rate / 2, values.shape[1])
    times = (np.arange(len(values)) * step + window / 2) / 1000
    power = np.maximum(np.exp(values.astype(np.float64)) - LOG_FLOOR, 0).sum(axis=0)
    share = power[frequencies < 1000].sum() / power.sum() if level(samples) >= SILENT else np.nan
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(10, 5), sharex=True, height_ratios=(1, 1.6), layout="constrained"
    )
    plot_raw_audio(samples, sample_rate, ax=top)
    top.set(title=title, xlabel="")
    draw_spectrogram(values, samples, sample_rate, bottom)
    return figure, LogSpectrogram(values, frequencies, times, float(share), level(samples))


def draw_spectrogram(values: np.ndarray, samples: np.ndarray, sample_rate: int, ax: Axes) -> None:
    """Draw a log spectrogram (num_frames, num_features) from 0 Hz to half the sample rate, with axes and colour bar."""
    seconds = len(samples) / sample_rate
    plot_image(values, seconds, (0, sample_rate / 2000), ax, "ln of power density (1/Hz)")
    ax.set(xlabel="time (s)", ylabel="frequency (kHz)")


@dataclasses.dataclass(frozen=True)
class MelSpectrogram:
    """The mel spectrogram of a clip."""

    decibels: np.ndarray  # (num_frames, num_mels): power in each band, dB below the strongest; at least -80
    frequencies: np.ndarray  # (num_mels,): centre of each band in Hz
    silent: bool  # whether the clip is digital silence; all values are -80 then

    def facts(self) -> dict[str, str]:
        """Return how the bands lie and how much of the picture is loud."""
        return {
            "bands": f"{len(self.frequencies)}",
            "half of them below": f"{np.median(self.frequencies):.0f} Hz",
            "highest": f"{self.frequencies[-1]:.0f} Hz",
            "within 40 dB of the strongest point": (
                "digital silence" if self.silent else f"{100 * (self.decibels > -40).mean():.0f} %"
            ),
        }


def mel_spectrogram(
    samples: np.ndarray, num_mels: int = 128, sample_rate: int = SAMPLE_RATE, title: str = "Mel spectrogram"
) -> tuple[Figure, MelSpectrogram]:
    """Draw the power in bands that are as wide as the ear's, in decibels below the strongest.

    Frames of 25 ms, one every 10 ms, zero-padded to a transform of 64 ms, so that even the narrowest of 128 bands holds a bin;
    the bands are librosa's (Slaney's mel scale, area 1).

    Args:
        samples: (num_samples,) in -1..1.
        num_mels: number of bands, 1..128.
        sample_rate: in Hz.
        title: of the figure.

    Raises:
        ValueError: when the clip cannot be used or `num_mels` is out of range.
    """
    import librosa

    if not 1 <= num_mels <= 128:
        raise ValueError(f"num_mels must be in 1..128: more bands would be empty. Received: num_mels={num_mels}")
    samples = check_clip(samples, sample_rate)
    window, step, padded = (round(seconds * sample_rate) for seconds in (0.025, STEP, 0.064))
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, window // 2), window)[::step]
    spectra = np.fft.rfft(frames * scipy.signal.get_window("hann", window), padded)
    power = np.square(np.abs(spectra)) @ librosa.filters.mel(sr=sample_rate, n_fft=padded, n_mels=num_mels).T
    silent = level(samples) < SILENT
    power = np.zeros_like(power) if silent else power / power.max()
    decibels = 10 * np.log10(np.maximum(power, 10 ** (-DYNAMIC_RANGE / 10)))
    # the lowest and the highest of num_mels + 2 points are edges, the others centres
    centres = librosa.mel_frequencies(num_mels + 2, fmin=0, fmax=sample_rate / 2)[1:-1]
    figure, ax = plt.subplots(figsize=(10, 3.4), layout="constrained")
    seconds = len(samples) / sample_rate
    plot_image(decibels, seconds, (-0.5, num_mels - 0.5), ax, "dB below the strongest", (-DYNAMIC_RANGE, 0))
    marks = [hertz for hertz in (250, 500, 1000, 2000, 4000) if hertz < centres[-1]]
    ax.set_yticks(np.interp(marks, centres, np.arange(num_mels)), [f"{hertz / 1000:g}" for hertz in marks])
    ax.set(xlabel="time (s)", ylabel="frequency (kHz), mel scale", title=title)
    return figure, MelSpectrogram(decibels, centres, silent)


@dataclasses.dataclass(frozen=True)
class MfccDeltas:
    """Mel-frequency cepstral coefficients and how they move."""

    coefficients: np.ndarray  # (num_frames, mfcc_dim); the first is the log energy of the frame
    deltas: np.ndarray  # the same shape: slope per frame, by regression over five frames
    second_deltas: np.ndarray  # the slope of the slope

    @property
    def fastest(self) -> float:
        """The time in seconds, the middle of a frame, at which the coefficients but the first move fastest."""
        return float(np.linalg.norm(self.deltas[:, 1:], axis=1).argmax() * STEP + MFCC_WINDOW / 2)

    def facts(self) -> dict[str, str]:
        """Return how large a frame becomes and when the sound changes most."""
        num_frames, mfcc_dim = self.coefficients.shape
        moves = np.abs(self.deltas[:, 1:]).max(initial=0) > 1e-6
        return {
            "frames": f"{num_frames}",
            "coefficients": f"{mfcc_dim}",
            "numbers a frame, with both deltas": f"{3 * mfcc_dim}",
            "fastest change": f"{self.fastest:.2f} s" if moves else "none",
        }


def mfcc_deltas(samples: np.ndarray, mfcc_dim: int = 13, title: str = "") -> tuple[Figure, MfccDeltas]:
    """Draw the MFCCs of a clip with their first and second deltas.

    A delta is the slope of a coefficient by linear regression over the frames t-2..t+2 (Young et al., The HTK Book, eq. 5.16);
    the first and last frame are repeated beyond the ends.

    Args:
        samples: (num_samples,) at 16 kHz in -1..1.
        mfcc_dim: number of coefficients, 1..26.
        title: of the figure.

    Raises:
        ValueError: when the clip cannot be used or `mfcc_dim` is out of range.
    """
    import python_speech_features

    samples = check_clip(samples)
    whole = 1 + int((len(samples) - MFCC_WINDOW * SAMPLE_RATE) // (STEP * SAMPLE_RATE))
    # what follows is a window half of zeros, which would seem to move
    coefficients = mfcc(samples, mfcc_dim=mfcc_dim)[:whole]
    deltas = python_speech_features.delta(coefficients, 2)
    numbers = MfccDeltas(coefficients, deltas, python_speech_features.delta(deltas, 2))
    figure, axes = plt.subplots(3, 1, figsize=(10, 6), sharex=True, layout="constrained")
    parts = [("MFCC", numbers.coefficients), ("first deltas", deltas), ("second deltas", numbers.second_deltas)]
    seconds = len(samples) / SAMPLE_RATE
    for ax, (name, values) in zip(axes, parts, strict=True):
        limit = max(float(np.percentile(np.abs(values), 99)), 1e-6)
        unit = "value" if name == "MFCC" else "per frame" if name == "first deltas" else "per frame²"
        plot_image(values, seconds, (-0.5, mfcc_dim - 0.5), ax, unit, (-limit, limit), "RdGy")
        ax.set(ylabel="coefficient", title=f"{title}: {name}" if title else name)
    axes[-1].set_xlabel("time (s)")
    return figure, numbers


@dataclasses.dataclass(frozen=True)
class FftMagnitude:
    """The amplitude spectrum of a whole clip."""

    frequencies: np.ndarray  # (num_bins,) in Hz
    amplitudes: np.ndarray  # (num_bins,), in the unit of the samples; see spectra.amplitude_spectrum
    sample_rate: int  # Hz

    @property
    def peak(self) -> tuple[float, float]:
        """Frequency in Hz and amplitude of the strongest sine but the constant part."""
        strongest = 1 + int(self.amplitudes[1:].argmax())
        return float(self.frequencies[strongest]), float(self.amplitudes[strongest])

    def power_above(self, frequency: float) -> float:
        """Return the share of the power above a frequency in Hz, 0..1; 0 for digital silence."""
        power = np.square(self.amplitudes)
        return float(power[self.frequencies > frequency].sum() / max(power.sum(), LOG_FLOOR))

    def facts(self) -> dict[str, str]:
        """Return where the peak is and how far the spectrum reaches."""
        frequency, amplitude = self.peak
        sizes = {"frequencies": f"{len(self.frequencies):,}", "highest": f"{self.sample_rate / 2000:g} kHz"}
        if amplitude < 10 ** (SILENT / 20):
            return sizes | {"strongest sine": "digital silence"}
        return sizes | {
            "strongest sine": f"{frequency:.0f} Hz",
            "its amplitude": f"{amplitude:.4f}",
            "power above 4 kHz": f"{100 * self.power_above(4000):.2g} %",
        }


def fft_magnitude(samples: np.ndarray, sample_rate: int = SAMPLE_RATE, title: str = "") -> tuple[Figure, FftMagnitude]:
    """Draw the amplitudes of the sine waves that make up a clip, without a window.

    Args:
        samples: (num_samples,) in -1..1.
        sample_rate: in Hz.
        title: of the figure.

    Raises:
        ValueError: when the clip cannot be used.
    """
    numbers = FftMagnitude(*amplitude_spectrum(check_clip(samples, sample_rate), sample_rate), sample_rate)
    figure, ax = plt.subplots(figsize=(10, 3), layout="constrained")
    ax.plot(numbers.frequencies / 1000, numbers.amplitudes, color="0.2", linewidth=0.7)
    ax.set(xlabel="frequency (kHz)", ylabel="amplitude", xlim=(0, sample_rate / 2000), ylim=(0, None))
    ax.set_title(title or f"Amplitude spectrum at {sample_rate / 1000:g} kHz")
    return figure, numbers


@dataclasses.dataclass(frozen=True)
class Resampling:
    """A clip at two rates."""

    samples: np.ndarray  # (num_samples,) at the new rate
    rate: int  # Hz, the new one
    before: FftMagnitude
    after: FftMagnitude
    lost: float  # share of the power that was above half the new rate, 0..1
    change: float  # dB: what happened to the power below 0.9 of that; 0 where nothing happened

    def facts(self) -> dict[str, str]:
        """Return what is gone and what stayed."""
        return {
            "samples that remain": f"{100 * self.rate / self.before.sample_rate:.0f} %",
            f"power lost above {self.rate / 2000:g} kHz": f"{100 * self.lost:.2g} %",
            f"change below {0.45 * self.rate / 1000:.1f} kHz": f"{self.change + 0:+.2f} dB",
        }


def resampling(
    samples: np.ndarray, new_rate: int = 8000, sample_rate: int = SAMPLE_RATE, title: str = ""
) -> tuple[Figure, Resampling]:
    """Bring a clip to a lower rate and compare the amplitude spectra before and after.

    A filter removes what the new rate cannot hold before samples are left out (soxr, high quality); without it those
    frequencies would come back mirrored at half the new rate.

    Args:
        samples: (num_samples,) in -1..1.
        new_rate: Hz, below `sample_rate`.
        sample_rate: Hz.
        title: of the figure.

    Raises:
        ValueError: when the clip cannot be used or the rate is not lower.
    """
    if not 0 < new_rate < sample_rate:
        raise ValueError(f"new_rate must lie between 0 and {sample_rate} Hz. Received: new_rate={new_rate}")
    samples = check_clip(samples, sample_rate)
    lower = resample(samples, sample_rate, new_rate)
    before = FftMagnitude(*amplitude_spectrum(samples, sample_rate), sample_rate)
    after = FftMagnitude(*amplitude_spectrum(lower, new_rate), new_rate)
    powers = [np.square(each.amplitudes[each.frequencies < 0.45 * new_rate]).sum() for each in (before, after)]
    change = 10 * np.log10((powers[1] + LOG_FLOOR) / (powers[0] + LOG_FLOOR))
    figure, axes = plt.subplots(2, 1, figsize=(10, 4.5), sharex=True, sharey=True, layout="constrained")
    for ax, each, name in zip(axes, (before, after), ("recorded", "resampled"), strict=True):
        decibels = 20 * np.log10(np.maximum(each.amplitudes, 10 ** (AMPLITUDE_FLOOR / 20)))
        ax.plot(each.frequencies / 1000, decibels, color="0.2", linewidth=0.5)
        ax.set(ylabel="amplitude (dB)", title=f"{title + ', ' if title else ''}{name}: {each.sample_rate / 1000:g} kHz")
        ax.axvline(new_rate / 2000, color="0.2", linestyle=":", linewidth=1)
    axes[-1].set(xlabel="frequency (kHz)", xlim=(0, sample_rate / 2000), ylim=(AMPLITUDE_FLOOR, None))
    return figure, Resampling(lower, new_rate, before, after, before.power_above(new_rate / 2), float(change))
