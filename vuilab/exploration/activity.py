"""Where a clip holds speech, and where one of its sounds ends and the next begins.

Each function returns a figure and its numbers, a dataclass whose `facts()` are what a table under the figure shows.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE
from vuilab.exploration.clips import STEP, draw_spectrogram
from vuilab.exploration.spectra import SILENT, amplitude_spectrum, check_clip, level
from vuilab.features import LOG_FLOOR, logmel, spectrogram
from vuilab.figures import curve_style, plot_raw_audio
from vuilab.inference.pieces import AGGRESSIVENESS

ENERGY_RANGE = 30.0  # decibels below the loudest frame that the energy rule still takes for speech
MARGIN = 0.03  # seconds kept before and after a word when silence is cut off


@dataclasses.dataclass(frozen=True)
class SilenceRemoval:
    """What a voice-activity detector and an energy rule keep of a clip, in frames of 10 ms."""

    speech: np.ndarray  # (num_frames,) bool: what the detector takes for speech
    loud: np.ndarray  # (num_frames,) bool: what the energy rule takes for speech
    energy: np.ndarray  # (num_frames,): level of each frame, dB relative to 1
    threshold: float  # dB: the energy rule keeps what is above
    duration: float  # of the clip, seconds
    trimmed: np.ndarray  # the waveform from the first to the last frame of speech, 30 ms more at each end; may be empty
    trimmed_by_energy: np.ndarray  # the same by the energy rule

    @property
    def speech_spans(self) -> list[tuple[float, float]]:
        """Stretches of speech by the detector, (start, end) in seconds."""
        return spans(self.speech, self.duration)

    @property
    def loud_spans(self) -> list[tuple[float, float]]:
        """Stretches of speech by the energy rule, (start, end) in seconds."""
        return spans(self.loud, self.duration)

    def facts(self) -> dict[str, str]:
        """Return what each of the two keeps, and where they disagree."""
        found = {}
        for name, kept, stretches in (
            ("detector", self.trimmed, self.speech_spans),
            ("energy rule", self.trimmed_by_energy, self.loud_spans),
        ):
            share = 100 * len(kept) / (self.duration * SAMPLE_RATE)
            found[f"speech by the {name}"] = (
                f"{stretches[0][0]:.2f} to {stretches[-1][1]:.2f} s" if stretches else "none"
            )
            found[f"kept by the {name}"] = f"{share:.0f} % of the clip"
        return found | {"frames on which they disagree": f"{100 * (self.speech != self.loud).mean():.0f} %"}


def silence_removal(
    samples: np.ndarray, energy_range: float = ENERGY_RANGE, aggressiveness: int = AGGRESSIVENESS, title: str = ""
) -> tuple[Figure, SilenceRemoval]:
    """Compare a voice-activity detector with an energy rule on one clip.

    The detector is that of WebRTC, which compares the power in six bands with models of speech and of noise that it adapts.
    It goes on saying "speech" for about 90 ms after a word, so the clip is also given to it backwards, and speech is what it
    hears both ways. The energy rule keeps the frames that are at most `energy_range` below the loudest.

    Args:
        samples: (num_samples,) at 16 kHz in -1..1.
        energy_range: decibels, above 0.
        aggressiveness: 0 takes much for speech, 3 little.
        title: of the figure.

    Raises:
        ValueError: when the clip cannot be used, `energy_range` is not positive or `aggressiveness` is not 0, 1, 2 or 3.
    """
    if not energy_range > 0:
        raise ValueError(f"energy_range is a positive number of decibels. Received: energy_range={energy_range}")
    samples = check_clip(samples)
    frames = _frames(samples)
    energy = 10 * np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + LOG_FLOOR)
    threshold = float(energy.max() - energy_range)
    loud = energy > max(threshold, SILENT)
    speech = speech_frames(samples, aggressiveness)
    numbers = SilenceRemoval(
        speech, loud, energy, threshold, len(samples) / SAMPLE_RATE, _trim(samples, speech), _trim(samples, loud)
    )
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 5), sharex=True, layout="constrained")
    plot_raw_audio(samples, ax=top)
    top.set(title=title or "Speech and silence", xlabel="")
    for ax, found, index, name in (
        (top, numbers.speech_spans, 0, "speech by the detector"),
        (bottom, numbers.loud_spans, 1, "speech by the energy rule"),
    ):
        style = {"color": curve_style(index)["color"], "alpha": 0.3, "hatch": ("//", "..")[index], "linewidth": 0}
        for number, (start, end) in enumerate(found):
            ax.axvspan(start, end, label=name if number == 0 else None, **style)
    bottom.plot((np.arange(len(energy)) + 0.5) * STEP, energy, color="0.2")
    bottom.axhline(threshold, color="0.2", linestyle="--", label=f"{energy_range:.0f} dB below the loudest frame")
    bottom.set(xlabel="time (s)", ylabel="level (dB)", ylim=(max(energy.min(), SILENT) - 5, energy.max() + 5))
    for ax in (top, bottom):
        if ax.get_legend_handles_labels()[1]:
            ax.legend(loc="upper left")
    return figure, numbers


def speech_frames(samples: np.ndarray, aggressiveness: int = AGGRESSIVENESS) -> np.ndarray:
    """Return for each frame of 10 ms whether WebRTC's detector hears speech in it, forwards and backwards in time.

    Args:
        samples: (num_samples,) at 16 kHz; the last frame is filled up with zeros.
        aggressiveness: 0 takes much for speech, 3 little.

    Returns:
        bool array (num_frames,).

    Raises:
        ValueError: when `aggressiveness` is not 0, 1, 2 or 3.
    """
    import webrtcvad

    if aggressiveness not in (0, 1, 2, 3):
        raise ValueError(f"aggressiveness must be 0, 1, 2 or 3. Received: aggressiveness={aggressiveness!r}")

    def heard(frames: np.ndarray) -> np.ndarray:
        detector = webrtcvad.Vad(aggressiveness)
        pcm = (np.clip(frames, -1, 1) * 32767).astype("<i2")
        return np.array([detector.is_speech(frame.tobytes(), SAMPLE_RATE) for frame in pcm])

    frames = _frames(samples)
    return heard(frames) & heard(frames[::-1, ::-1])[::-1]


def spans(mask: np.ndarray, duration: float = np.inf) -> list[tuple[float, float]]:
    """Return the stretches of True in a mask of 10 ms frames as (start, end) in seconds.

    Example:
        >>> spans(np.array([False, True, True, False, True]))
        [(0.01, 0.03), (0.04, 0.05)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, int), [0]])))
    return [
        (round(float(start) * STEP, 6), min(round(float(end) * STEP, 6), duration))
        for start, end in edges.reshape(-1, 2)
    ]


def _frames(samples: np.ndarray) -> np.ndarray:
    length = round(STEP * SAMPLE_RATE)
    return np.pad(samples, (0, -len(samples) % length)).reshape(-1, length)


def _trim(samples: np.ndarray, mask: np.ndarray) -> np.ndarray:
    found = spans(mask)
    if not found:
        return samples[:0]
    start, end = max(0.0, found[0][0] - MARGIN), found[-1][1] + MARGIN
    return samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]


@dataclasses.dataclass(frozen=True)
class Mark:
    """A stretch of a clip with its label."""

    label: str
    start: float  # seconds
    end: float  # seconds
    level: float  # dB relative to 1
    centroid: float  # Hz: mean frequency, weighted by power; NaN for digital silence


@dataclasses.dataclass(frozen=True)
class Marks:
    """The labelled stretches of a clip, in order of time."""

    marks: tuple[Mark, ...]
    guessed: bool  # whether the boundaries were guessed from the sound

    def facts(self) -> dict[str, str]:
        """Return which sound is loudest and which is highest."""
        heard = [mark for mark in self.marks if np.isfinite(mark.centroid)]
        found = {
            "boundaries": "guessed" if self.guessed else "given",
            "marked": f"{self.marks[0].start:.2f} to {self.marks[-1].end:.2f} s",
        }
        if not heard:
            return found | {"loudest": "digital silence"}
        loudest, highest = max(heard, key=lambda mark: mark.level), max(heard, key=lambda mark: mark.centroid)
        return found | {
            "loudest": f"{loudest.label} ({loudest.level:.0f} dB)",
            "highest": f"{highest.label} (mean frequency {highest.centroid:.0f} Hz)",
        }


def marked_spectrogram(
    samples: np.ndarray, labels: Sequence[str], boundaries: Sequence[float] | None = None, title: str = ""
) -> tuple[Figure, Marks]:
    """Draw a spectrogram with lines where one sound ends and the next begins.

    Args:
        samples: (num_samples,) at 16 kHz in -1..1.
        labels: of the parts, such as ["h", "a", "p", "y"].
        boundaries: seconds, rising, one more than labels. None: guessed, by cutting the stretch that holds speech (the whole clip
            where there is none) so that the log mel energies within a part are alike (`librosa.segment.agglomerative`).
        title: of the figure.

    Raises:
        ValueError: when the clip cannot be used, there are no labels, or the boundaries do not fit them or the clip.
    """
    samples = check_clip(samples)
    duration = len(samples) / SAMPLE_RATE
    edges = _guess_boundaries(samples, len(labels)) if boundaries is None else [float(edge) for edge in boundaries]
    rising = all(before < after for before, after in itertools.pairwise(edges))
    if not labels or len(edges) != len(labels) + 1 or not rising or edges[0] < 0 or edges[-1] > duration + 1e-6:
        raise ValueError(
            f"Expected at least one label and one more boundary than labels, rising within 0..{duration:.2f} s. Received: "
            f"{len(labels)} labels, boundaries {[round(edge, 3) for edge in edges]}."
        )
    values = spectrogram(samples)
    figure, ax = plt.subplots(figsize=(10, 3.6), layout="constrained")
    draw_spectrogram(values, samples, SAMPLE_RATE, ax)
    marks = []
    for label, start, end in zip(labels, edges[:-1], edges[1:], strict=True):
        marks.append(_measure(label, start, end, samples))
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2}
        ax.text((start + end) / 2, 7.3, label, ha="center", va="center", fontsize=14, color="black", bbox=box)
    for edge in edges:
        ax.axvline(edge, color="white", linewidth=2.5)
        ax.axvline(edge, color="black", linewidth=1, linestyle="--")
    ax.set(xlim=(0, duration), title=title)
    return figure, Marks(tuple(marks), boundaries is None)


def _guess_boundaries(samples: np.ndarray, number: int) -> list[float]:
    """Cut the speech of a clip into parts that are alike within: `number` + 1 times in seconds."""
    import librosa

    found = spans(speech_frames(samples), len(samples) / SAMPLE_RATE) or [(0.0, len(samples) / SAMPLE_RATE)]
    first, last = round(found[0][0] / STEP), round(found[-1][1] / STEP)
    features = logmel(samples, num_mels=40)[first:last]
    if not 1 <= number <= len(features):
        raise ValueError(
            f"The {len(features)} frames with speech cannot be cut into {number} parts: expected at least one label and no "
            "more labels than frames."
        )
    cuts = librosa.segment.agglomerative(features.T, number)
    return [float((first + cut) * STEP) for cut in cuts] + [found[-1][1]]


def _measure(label: str, start: float, end: float, samples: np.ndarray) -> Mark:
    part = samples[round(start * SAMPLE_RATE) : max(round(end * SAMPLE_RATE), round(start * SAMPLE_RATE) + 2)]
    frequencies, amplitudes = amplitude_spectrum(part)
    power = np.square(amplitudes)
    centroid = float((frequencies * power).sum() / power.sum()) if level(part) >= SILENT else float("nan")
    return Mark(label, start, end, level(part), centroid)
