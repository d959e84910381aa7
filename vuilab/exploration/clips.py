"""Views of one clip: spectrograms, MFCCs with deltas, its sine waves, and what a lower sample rate leaves of it.

Each function takes samples (num_samples,) in -1..1 and returns a figure and its `Numbers`.
"""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import scipy.signal
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE, resample
from vuilab.exploration.spectra import SILENT, Numbers, amplitude_spectrum, check_clip, level
from vuilab.features import LOG_FLOOR, MFCC_WINDOW, mfcc, spectrogram
from vuilab.figures import plot_image, plot_raw_audio

STEP = 0.01  # seconds between frames
AMPLITUDE_FLOOR = -140.0  # dB relative to 1, the lowest shown of a sine's amplitude
DYNAMIC_RANGE = 80.0  # decibels shown of a mel spectrogram


def log_spectrogram(samples: np.ndarray, sample_rate: int = SAMPLE_RATE, title: str = "") -> tuple[Figure, Numbers]:
    """Draw the waveform of a clip above its log spectrogram, on one time axis.

    Returns:
        The figure, and `values` (num_frames, num_features): natural logarithm of the power density, as `features.spectrogram`;
        `frequencies` (num_features,) in Hz; `times` (num_frames,): the middle of each frame in seconds; `below_1_khz`: share of
        the power, NaN for digital silence; `level` of the clip, dB relative to 1.

    Raises:
        ValueError: when the clip cannot be used (see `spectra.check_clip`).
    """
    samples = check_clip(samples, sample_rate)
    values = spectrogram(samples, max_freq=sample_rate / 2, sample_rate=sample_rate)
    frequencies = np.linspace(0, sample_rate / 2, values.shape[1])
    power = np.maximum(np.exp(values.astype(np.float64)) - LOG_FLOOR, 0).sum(axis=0)
    loudness, facts = level(samples), {"frames": f"{len(values)}", "frequencies": f"{len(frequencies)}"}
    share = float(power[frequencies < 1000].sum() / power.sum()) if loudness >= SILENT else np.nan
    facts |= (
        {"level": "digital silence"}
        if loudness < SILENT
        else {
            "level": f"{loudness:.0f} dB",
            "strongest frequency": f"{frequencies[power.argmax()]:.0f} Hz",
            "power below 1 kHz": f"{100 * share:.0f} %",
        }
    )
    ratios = {"height_ratios": (1, 1.6)}
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 5), sharex=True, layout="constrained", **ratios)
    plot_raw_audio(samples, sample_rate, ax=top)
    top.set(title=title, xlabel="")
    draw_spectrogram(values, samples, sample_rate, bottom)
    times = STEP * (np.arange(len(values)) + 1)  # a frame lasts two steps
    return figure, Numbers(
        facts, values=values, frequencies=frequencies, times=times, below_1_khz=share, level=loudness
    )


def draw_spectrogram(values: np.ndarray, samples: np.ndarray, sample_rate: int, ax: Axes) -> None:
    """Draw a log spectrogram (num_frames, num_features) from 0 Hz to half the sample rate, with axes and colour bar."""
    seconds = len(samples) / sample_rate
    plot_image(values, seconds, (0, sample_rate / 2000), ax, "ln of power density (1/Hz)")
    ax.set(xlabel="time (s)", ylabel="frequency (kHz)")


def mel_spectrogram(samples: np.ndarray, num_mels: int = 128) -> tuple[Figure, Numbers]:
    """Draw the power of a clip at 16 kHz in bands that are as wide as the ear's, in decibels below the strongest.

    Frames of 25 ms, one every 10 ms, zero-padded to a transform of 64 ms, so that even the narrowest of 128 bands holds a bin;
    the bands are librosa's (Slaney's mel scale, area 1).

    Args:
        num_mels: number of bands, 1..128.

    Returns:
        The figure, and `decibels` (num_frames, num_mels): power in each band below the strongest, at least -80, as which digital
        silence is shown; `frequencies` (num_mels,): centre of each band in Hz.

    Raises:
        ValueError: when the clip cannot be used or `num_mels` is out of range.
    """
    import librosa

    if not 1 <= num_mels <= 128:
        raise ValueError(f"num_mels must be in 1..128: more bands would be empty. Received: num_mels={num_mels}")
    samples = check_clip(samples)
    window, step, padded = (round(seconds * SAMPLE_RATE) for seconds in (0.025, STEP, 0.064))
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, window // 2), window)[::step]
    spectra = np.fft.rfft(frames * scipy.signal.get_window("hann", window), padded)
    power = np.square(np.abs(spectra)) @ librosa.filters.mel(sr=SAMPLE_RATE, n_fft=padded, n_mels=num_mels).T
    silent = level(samples) < SILENT
    power = np.zeros_like(power) if silent else power / power.max()
    decibels = 10 * np.log10(np.maximum(power, 10 ** (-DYNAMIC_RANGE / 10)))
    # the lowest and the highest of num_mels + 2 points are edges, the others centres
    centres = librosa.mel_frequencies(num_mels + 2, fmin=0, fmax=SAMPLE_RATE / 2)[1:-1]
    facts = {
        "bands": f"{num_mels}",
        "half of them below": f"{np.median(centres):.0f} Hz",
        "highest": f"{centres[-1]:.0f} Hz",
        "within 40 dB of the strongest point": "digital silence"
        if silent
        else f"{100 * (decibels > -40).mean():.0f} %",
    }
    figure, ax = plt.subplots(figsize=(10, 3.4), layout="constrained")
    seconds, height = len(samples) / SAMPLE_RATE, (-0.5, num_mels - 0.5)
    plot_image(decibels, seconds, height, ax, "dB below the strongest", (-DYNAMIC_RANGE, 0))
    marks = [hertz for hertz in (250, 500, 1000, 2000, 4000) if hertz < centres[-1]]
    ax.set_yticks(np.interp(marks, centres, np.arange(num_mels)), [f"{hertz / 1000:g}" for hertz in marks])
    ax.set(xlabel="time (s)", ylabel="frequency (kHz), mel scale", title="Mel spectrogram")
    return figure, Numbers(facts, decibels=decibels, frequencies=centres)


def mfcc_deltas(samples: np.ndarray, mfcc_dim: int = 13) -> tuple[Figure, Numbers]:
    """Draw the MFCCs of a clip at 16 kHz with their first and second deltas.

    A delta is the slope of a coefficient by linear regression over the frames t-2..t+2 (Young et al., The HTK Book, eq. 5.16);
    the first and last frame are repeated beyond the ends.

    Args:
        mfcc_dim: number of coefficients, 1..26; the first is the log energy of the frame.

    Returns:
        The figure, and `coefficients`, `deltas` (slope per frame) and `second_deltas` (slope of the slope), each (num_frames,
        mfcc_dim); `fastest`: seconds, the middle of the frame in which the coefficients but the first move fastest.

    Raises:
        ValueError: when the clip cannot be used or `mfcc_dim` is out of range.
    """
    import python_speech_features

    samples = check_clip(samples)
    whole = 1 + int((len(samples) - MFCC_WINDOW * SAMPLE_RATE) // (STEP * SAMPLE_RATE))
    # what follows is a window half of zeros, which would seem to move
    coefficients = mfcc(samples, mfcc_dim=mfcc_dim)[:whole]
    deltas = python_speech_features.delta(coefficients, 2)
    second_deltas = python_speech_features.delta(deltas, 2)
    fastest = float(np.linalg.norm(deltas[:, 1:], axis=1).argmax() * STEP + MFCC_WINDOW / 2)
    facts = {
        "frames": f"{len(coefficients)}",
        "coefficients": f"{mfcc_dim}",
        "numbers a frame, with both deltas": f"{3 * mfcc_dim}",
        "fastest change": f"{fastest:.2f} s" if np.abs(deltas[:, 1:]).max(initial=0) > 1e-6 else "none",
    }
    figure, axes = plt.subplots(3, 1, figsize=(10, 6), sharex=True, layout="constrained")
    names, units = ("MFCC", "first deltas", "second deltas"), ("value", "per frame", "per frame²")
    for ax, name, unit, values in zip(axes, names, units, (coefficients, deltas, second_deltas), strict=True):
        limit = max(float(np.percentile(np.abs(values), 99)), 1e-6)
        height = (-0.5, mfcc_dim - 0.5)
        plot_image(values, len(samples) / SAMPLE_RATE, height, ax, unit, (-limit, limit), "RdGy")
        ax.set(ylabel="coefficient", title=name)
    axes[-1].set_xlabel("time (s)")
    return figure, Numbers(
        facts, coefficients=coefficients, deltas=deltas, second_deltas=second_deltas, fastest=fastest
    )


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


def fft_magnitude(samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> tuple[Figure, FftMagnitude]:
    """Draw the amplitudes of the sine waves that make up a clip, without a window.

    Raises:
        ValueError: when the clip cannot be used.
    """
    numbers = FftMagnitude(*amplitude_spectrum(check_clip(samples, sample_rate), sample_rate), sample_rate)
    figure, ax = plt.subplots(figsize=(10, 3), layout="constrained")
    ax.plot(numbers.frequencies / 1000, numbers.amplitudes, color="0.2", linewidth=0.7)
    ax.set(xlabel="frequency (kHz)", ylabel="amplitude", xlim=(0, sample_rate / 2000), ylim=(0, None))
    ax.set_title(f"Amplitude spectrum at {sample_rate / 1000:g} kHz")
    return figure, numbers


def resampling(samples: np.ndarray, new_rate: int = 8000, title: str = "") -> tuple[Figure, Numbers]:
    """Bring a clip at 16 kHz to a lower rate and compare the amplitude spectra before and after.

    A filter removes what the new rate cannot hold before samples are left out (soxr, high quality); without it those
    frequencies would come back mirrored at half the new rate.

    Args:
        new_rate: Hz, below 16,000.
        title: of the figure.

    Returns:
        The figure, and `samples` at the new `rate` in Hz; the spectra `before` and `after`; `lost`: share of the power that was
        above half the new rate, 0..1; `change`: dB, what happened to the power below 0.9 of that, 0 where nothing did.

    Raises:
        ValueError: when the clip cannot be used or the rate is not lower.
    """
    if not 0 < new_rate < SAMPLE_RATE:
        raise ValueError(f"new_rate must lie between 0 and {SAMPLE_RATE} Hz. Received: new_rate={new_rate}")
    samples = check_clip(samples)
    lower = resample(samples, SAMPLE_RATE, new_rate)
    before = FftMagnitude(*amplitude_spectrum(samples), SAMPLE_RATE)
    after = FftMagnitude(*amplitude_spectrum(lower, new_rate), new_rate)
    powers = [np.square(each.amplitudes[each.frequencies < 0.45 * new_rate]).sum() for each in (before, after)]
    change, lost = 10 * np.log10((powers[1] + LOG_FLOOR) / (powers[0] + LOG_FLOOR)), before.power_above(new_rate / 2)
    facts = {
        "samples that remain": f"{100 * new_rate / SAMPLE_RATE:.0f} %",
        f"power lost above {new_rate / 2000:g} kHz": f"{100 * lost:.2g} %",
        f"change below {0.45 * new_rate / 1000:.1f} kHz": f"{change + 0:+.2f} dB",
    }
    figure, axes = plt.subplots(2, 1, figsize=(10, 4.5), sharex=True, sharey=True, layout="constrained")
    for ax, each, name in zip(axes, (before, after), ("recorded", "resampled"), strict=True):
        decibels = 20 * np.log10(np.maximum(each.amplitudes, 10 ** (AMPLITUDE_FLOOR / 20)))
        ax.plot(each.frequencies / 1000, decibels, color="0.2", linewidth=0.5)
        ax.set(ylabel="amplitude (dB)", title=f"{title + ', ' if title else ''}{name}: {each.sample_rate / 1000:g} kHz")
        ax.axvline(new_rate / 2000, color="0.2", linestyle=":", linewidth=1)
    axes[-1].set(xlabel="frequency (kHz)", xlim=(0, SAMPLE_RATE / 2000), ylim=(AMPLITUDE_FLOOR, None))
    return figure, Numbers(
        facts, samples=lower, rate=new_rate, before=before, after=after, lost=lost, change=float(change)
    )
