"""Where a clip holds speech, and where one of its sounds ends and the next begins.

Each function takes samples (num_samples,) at 16 kHz in -1..1; the views return a figure and its `Numbers`.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE, VoiceBand
from vuilab.exploration.clips import STEP, draw_spectrogram
from vuilab.exploration.spectra import SILENT, Numbers, amplitude_spectrum, check_clip, level
from vuilab.features import LOG_FLOOR, logmel, spectrogram
from vuilab.figures import curve_style, plot_raw_audio
from vuilab.inference.pieces import AGGRESSIVENESS

ENERGY_RANGE = 30.0  # decibels below the loudest frame that the energy rule still takes for speech
MARGIN = 0.03  # seconds kept before and after a word when silence is cut off

Spans = list[tuple[float, float]]  # (start, end) in seconds


def silence_removal(
    samples: np.ndarray, energy_range: float = ENERGY_RANGE, aggressiveness: int = AGGRESSIVENESS, title: str = ""
) -> tuple[Figure, Numbers]:
    """Compare a voice-activity detector with an energy rule on one clip.

    The detector is that of WebRTC, which compares the power in six bands with models of speech and of noise that it adapts.
    It goes on saying "speech" for about 90 ms after a word, so the clip is also given to it backwards, and speech is what it
    hears both ways. The energy rule keeps the frames that are at most `energy_range` below the loudest.

    Args:
        energy_range: decibels, above 0.
        aggressiveness: 0 takes much for speech, 3 little.
        title: of the figure.

    Returns:
        The figure, and for frames of 10 ms `speech` (what the detector takes for it), `loud` (what the energy rule takes for it)
        and `energy`, their level in dB relative to 1, with its `threshold`; `speech_spans` and `loud_spans`, stretches (start,
        end) in seconds; `trimmed` and `trimmed_by_energy`: the samples from the first to the last such frame, 30 ms more at each
        end; may be empty.

    Raises:
        ValueError: when the clip cannot be used, `energy_range` is not positive or `aggressiveness` is not 0, 1, 2 or 3.
    """
    if not energy_range > 0:
        raise ValueError(f"energy_range is a positive number of decibels. Received: energy_range={energy_range}")
    samples = check_clip(samples)
    energy = 10 * np.log10(np.square(_frames(_in_voice_band(samples)), dtype=np.float64).mean(axis=1) + LOG_FLOOR)
    threshold = float(energy.max() - energy_range)
    loud, speech = energy > max(threshold, SILENT), speech_frames(samples, aggressiveness)
    stretches = [spans(kept, len(samples) / SAMPLE_RATE) for kept in (speech, loud)]
    trimmed = [_trim(samples, kept) for kept in (speech, loud)]
    facts = {}
    for name, found, kept in zip(("detector", "energy rule"), stretches, trimmed, strict=True):
        facts[f"speech by the {name}"] = f"{found[0][0]:.2f} to {found[-1][1]:.2f} s" if found else "none"
        facts[f"kept by the {name}"] = f"{100 * len(kept) / len(samples):.0f} % of the clip"
    facts["frames on which they disagree"] = f"{100 * (speech != loud).mean():.0f} %"
    figure, axes = plt.subplots(2, 1, figsize=(10, 5), sharex=True, layout="constrained")
    plot_raw_audio(samples, ax=axes[0])
    axes[0].set(title=title or "Speech and silence", xlabel="")
    for index, (ax, found, name) in enumerate(zip(axes, stretches, ("detector", "energy rule"), strict=True)):
        style = {"color": curve_style(index)["color"], "alpha": 0.3, "hatch": ("//", "..")[index], "linewidth": 0}
        for number, (start, end) in enumerate(found):
            ax.axvspan(start, end, label=f"speech by the {name}" if number == 0 else None, **style)
    axes[1].plot((np.arange(len(energy)) + 0.5) * STEP, energy, color="0.2")
    axes[1].axhline(threshold, color="0.2", linestyle="--", label=f"{energy_range:.0f} dB below the loudest frame")
    axes[1].set(xlabel="time (s)", ylabel="level (dB)", ylim=(max(energy.min(), SILENT) - 5, energy.max() + 5))
    for ax in axes:
        if ax.get_legend_handles_labels()[1]:
            ax.legend(loc="upper left")
    named = {"speech_spans": stretches[0], "loud_spans": stretches[1]}
    named |= {"trimmed": trimmed[0], "trimmed_by_energy": trimmed[1]}
    return figure, Numbers(facts, speech=speech, loud=loud, energy=energy, threshold=threshold, **named)


def speech_frames(samples: np.ndarray, aggressiveness: int = AGGRESSIVENESS) -> np.ndarray:
    """Return for each frame of 10 ms whether WebRTC's detector hears speech in it, forwards and backwards in time.

    Args:
        samples: the clip; the last frame is filled up with zeros.
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

    frames = _frames(_in_voice_band(samples))
    return heard(frames) & heard(frames[::-1, ::-1])[::-1]


def spans(mask: np.ndarray, duration: float = np.inf) -> Spans:
    """Return the stretches of True in a mask of 10 ms frames as (start, end) in seconds.

    Example:
        >>> spans(np.array([False, True, True, False, True]))
        [(0.01, 0.03), (0.04, 0.05)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, int), [0]])))
    seconds = np.minimum(np.round(edges * STEP, 6), duration)
    return [(start, end) for start, end in seconds.reshape(-1, 2).tolist()]


def _in_voice_band(samples: np.ndarray) -> np.ndarray:
    heard = VoiceBand()
    heard(2 * samples[0] - samples[SAMPLE_RATE // 2 : 0 : -1])  # hum does not begin with the clip
    return heard(samples)


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


def marked_spectrogram(
    samples: np.ndarray, labels: Sequence[str], boundaries: Sequence[float] | None = None
) -> tuple[Figure, Numbers]:
    """Draw a spectrogram with lines where one sound ends and the next begins.

    Args:
        labels: of the parts, such as ["h", "a", "p", "y"].
        boundaries: seconds, rising, one more than labels. None: guessed, by cutting the stretch that holds speech (the whole clip
            where there is none) so that the log mel energies within a part are alike (`librosa.segment.agglomerative`).

    Returns:
        The figure, and `marks`, a `Mark` for each label.

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
    figure, ax = plt.subplots(figsize=(10, 3.6), layout="constrained")
    draw_spectrogram(spectrogram(samples), samples, SAMPLE_RATE, ax)
    marks = [_measure(label, *ends, samples) for label, ends in zip(labels, itertools.pairwise(edges), strict=True)]
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2}
    text = {"ha": "center", "va": "center", "fontsize": 14, "color": "black", "bbox": box}
    for mark in marks:
        ax.text((mark.start + mark.end) / 2, 7.3, mark.label, **text)
    for edge in edges:
        ax.axvline(edge, color="white", linewidth=2.5)
        ax.axvline(edge, color="black", linewidth=1, linestyle="--")
    ax.set(xlim=(0, duration))
    facts = {
        "boundaries": "guessed" if boundaries is None else "given",
        "marked": f"{edges[0]:.2f} to {edges[-1]:.2f} s",
        "loudest": "digital silence",
    }
    heard = [mark for mark in marks if np.isfinite(mark.centroid)]
    if heard:
        loudest, highest = (max(heard, key=lambda mark: getattr(mark, name)) for name in ("level", "centroid"))
        facts["loudest"] = f"{loudest.label} ({loudest.level:.0f} dB)"
        facts["highest"] = f"{highest.label} (mean frequency {highest.centroid:.0f} Hz)"
    return figure, Numbers(facts, marks=marks)


def _guess_boundaries(samples: np.ndarray, number: int) -> list[float]:
    """Cut the speech of a clip into parts that are alike within: `number` + 1 times in seconds."""
    import librosa

    duration = len(samples) / SAMPLE_RATE
    found = spans(speech_frames(samples), duration) or [(0.0, duration)]
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
