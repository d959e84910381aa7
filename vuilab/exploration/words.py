"""Views of many clips: how many and how long, mean spectra of each word, one frequency across words.

Clips come as a mapping of words to waveforms (num_samples,) at 16 kHz in -1..1. Each function returns a figure and its numbers,
a dataclass whose `facts()` are what a table under the figure shows.
"""

import dataclasses
from collections.abc import Mapping, Sequence, Sized

import matplotlib.pyplot as plt
import numpy as np
import scipy.spatial.distance
import seaborn
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE
from vuilab.exploration.spectra import BINS, DECIBELS, amplitude_spectrum, check_clip, check_clips
from vuilab.features import LOG_FLOOR, spectrogram
from vuilab.figures import curve_style, plot_image
from vuilab.text import escape_markdown, markdown_rows

PANELS = 4  # words in a row of a figure


# ------------------------------------------------------------------------------------------------ how many, how long


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """How many clips each word has."""

    counts: dict[str, int]  # word -> number of clips, in the given order

    def facts(self) -> dict[str, str]:
        """Return how even the words are and what a classifier is worth that does not listen."""
        total = sum(self.counts.values())
        most, least = max(self.counts, key=self.counts.get), min(self.counts, key=self.counts.get)
        return {
            "clips": f"{total:,}",
            "words": f"{len(self.counts)}",
            "most": f"{most}: {self.counts[most]:,}",
            "fewest": f"{least}: {self.counts[least]:,}",
            "accuracy of always answering the most frequent": f"{100 * self.counts[most] / total:.1f} %",
        }


def class_counts(clips: Mapping[str, Sized]) -> tuple[Figure, ClassCounts]:
    """Draw how many clips each word has.

    Args:
        clips: word -> its clips, or their names or paths: only their number is used. A word may have none.

    Raises:
        ValueError: when there is no clip at all.
    """
    counts = {word: len(waves) for word, waves in clips.items()}
    if not sum(counts.values()):
        raise ValueError(
            f"There are no clips to count: expected a mapping of words to clips. Received: {len(counts)} words. Check the folder."
        )
    figure, ax = plt.subplots(figsize=(10, 3.2), layout="constrained")
    bars = ax.bar(range(len(counts)), list(counts.values()), color=curve_style(0)["color"])
    ax.bar_label(bars, [f"{count:,}" for count in counts.values()])
    ax.margins(y=0.12)
    ax.set(xlabel="word", ylabel="clips", title="Clips of each word")
    ax.set_xticks(range(len(counts)), list(counts))
    ax.grid(visible=False, axis="x")
    return figure, ClassCounts(counts)


@dataclasses.dataclass(frozen=True)
class WordDurations:
    """How long the clips of a word are, in seconds."""

    word: str
    num_clips: int
    shortest: float
    median: float
    mean: float
    longest: float
    num_short: int  # clips shorter than the target
    padding: float  # seconds of zeros that bring these to the target


@dataclasses.dataclass(frozen=True)
class Durations:
    """How long clips are and what padding them costs."""

    target: float  # seconds
    words: tuple[WordDurations, ...]

    def markdown(self) -> str:
        """Return a Markdown table, one row per word."""
        short = f"shorter than {self.target:g} s"
        rows = [
            [
                escape_markdown(row.word),
                f"{row.num_clips:,}",
                *(f"{seconds:.3f}" for seconds in (row.shortest, row.median, row.mean, row.longest)),
                f"{row.num_short:,} ({100 * row.num_short / row.num_clips:.1f} %)",
            ]
            for row in self.words
        ]
        return markdown_rows(["word", "clips", "shortest s", "median s", "mean s", "longest s", short], rows)

    def facts(self) -> dict[str, str]:
        """Return how many clips are too short and how much of the padded clips would be zeros."""
        total, short = sum(row.num_clips for row in self.words), sum(row.num_short for row in self.words)
        padding = sum(row.padding for row in self.words)
        return {
            f"clips shorter than {self.target:g} s": f"{short:,} of {total:,} ({100 * short / total:.1f} %)",
            "zeros that they need": f"{padding:.1f} s ({100 * padding / (total * self.target):.1f} % of all sound then)",
            "shortest": f"{min(row.shortest for row in self.words):.3f} s",
            "longest": f"{max(row.longest for row in self.words):.3f} s",
        }


def durations(clips: Mapping[str, Sequence[np.ndarray]], target: float = 1.0) -> tuple[Figure, Durations]:
    """Draw how long clips are, and which share of each word's is shorter than the target.

    Args:
        clips: word -> waveforms at 16 kHz.
        target: seconds to which a classifier brings every clip.

    Raises:
        ValueError: when there are no clips, a clip cannot be used, or the target is not positive.
    """
    if not target > 0:
        raise ValueError(f"target is a positive number of seconds. Received: target={target}")
    num_target = round(target * SAMPLE_RATE)
    rows, everything = [], []
    for word, waves in check_clips(clips).items():
        lengths = np.array([len(wave) for wave in waves])
        missing = np.maximum(num_target - lengths, 0)
        seconds = lengths / SAMPLE_RATE
        everything.append(seconds)
        summary = [float(statistic(seconds)) for statistic in (np.min, np.median, np.mean, np.max)]
        padding = float(missing.sum() / SAMPLE_RATE)
        rows.append(WordDurations(word, len(waves), *summary, int((missing > 0).sum()), padding))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    left.hist(np.concatenate(everything), bins=40, color=curve_style(0)["color"], log=True)
    left.axvline(target, color="0.2", linestyle="--", label=f"target, {target:g} s")
    left.set(xlabel="duration (s)", ylabel="clips (logarithmic)", title="All clips")
    left.legend(loc="upper left")
    right.barh(range(len(rows)), [100 * row.num_short / row.num_clips for row in rows], color=curve_style(1)["color"])
    right.set(xlabel="share of clips (%)", xlim=(0, None), title=f"Shorter than {target:g} s")
    right.set_yticks(range(len(rows)), [row.word for row in rows])
    right.invert_yaxis()
    right.grid(visible=False, axis="y")
    return figure, Durations(target, tuple(rows))


# ------------------------------------------------------------------------------------------------ what words sound like


@dataclasses.dataclass(frozen=True)
class MeanSpectra:
    """What the clips of each word have in common."""

    words: tuple[str, ...]
    num_clips: tuple[int, ...]
    spectrograms: np.ndarray  # (num_words, num_frames, num_features): mean log power density, natural logarithm
    fft: np.ndarray  # (num_words, num_bins): mean amplitude, in the unit of the samples
    frequencies: np.ndarray  # (num_bins,) of the FFT, Hz

    def distances(self) -> np.ndarray:
        """Return the root mean square difference between the mean spectrograms, in dB: (num_words, num_words)."""
        flat = self.spectrograms.reshape(len(self.words), -1).astype(np.float64) * DECIBELS
        return scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(flat)) / np.sqrt(flat.shape[1])

    def facts(self) -> dict[str, str]:
        """Return which words look most alike and which least."""
        if len(self.words) < 2:
            return {"words": self.words[0]}
        apart = self.distances()
        first, second = np.triu_indices(len(self.words), 1)
        pairs = apart[first, second]
        return {
            name: f"{self.words[first[place]]} and {self.words[second[place]]}, {pairs[place]:.1f} dB"
            for name, place in (("most alike", pairs.argmin()), ("least alike", pairs.argmax()))
        }


def mean_spectra(clips: Mapping[str, Sequence[np.ndarray]], duration: float = 1.0) -> tuple[Figure, MeanSpectra]:
    """Draw the mean log spectrogram of each word above the mean amplitudes of its sine waves.

    Args:
        clips: word -> waveforms at 16 kHz; words without clips are left out.
        duration: seconds; shorter clips get zeros at their end, longer ones are cut. Zeros are no speech: they count in the
            amplitudes as they are, and in the spectrograms a frame counts only where the clip has it.

    Raises:
        ValueError: when there are no clips or a clip cannot be used, or the duration is under 100 ms.
    """
    num_samples = round(duration * SAMPLE_RATE)
    check_clip(np.zeros(max(num_samples, 0)), what=f"A clip of duration={duration} s")
    words = check_clips(clips)
    spectrograms, ffts = [], []
    for waves in words.values():
        fitted = [np.pad(wave[:num_samples], (0, max(0, num_samples - len(wave)))) for wave in waves]
        ffts.append(np.mean([amplitude_spectrum(wave)[1] for wave in fitted], axis=0))
        spectrograms.append(
            _mean_frames([spectrogram(wave[:num_samples]) for wave in waves], len(spectrogram(fitted[0])))
        )
    counts = tuple(len(waves) for waves in words.values())
    frequencies = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
    numbers = MeanSpectra(tuple(words), counts, np.stack(spectrograms), np.stack(ffts), frequencies)
    return _draw_mean_spectra(numbers, duration), numbers


def _mean_frames(matrices: Sequence[np.ndarray], num_frames: int) -> np.ndarray:
    """Average matrices (at most num_frames, num_features) of different length, frame by frame, over those that have it."""
    total, count = np.zeros((num_frames, matrices[0].shape[1])), np.zeros((num_frames, 1))
    for matrix in matrices:
        total[: len(matrix)] += matrix
        count[: len(matrix)] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.log(LOG_FLOOR))


def _draw_mean_spectra(numbers: MeanSpectra, duration: float) -> Figure:
    columns = min(PANELS, len(numbers.words))
    rows = -(-len(numbers.words) // columns)
    ratios = (1.3, 1) * rows
    figure, axes = plt.subplots(
        2 * rows, columns, figsize=(11, 3.4 * rows), height_ratios=ratios, layout="constrained", squeeze=False
    )
    limits = tuple(np.percentile(numbers.spectrograms * DECIBELS, [2, 99.5]))
    decibels = 20 * np.log10(np.maximum(numbers.fft, 1e-7))
    for ax in axes.flat[len(numbers.words) :]:
        ax.set_axis_off()
    for index, word in enumerate(numbers.words):
        row, column = divmod(index, columns)
        top, bottom = axes[2 * row, column], axes[2 * row + 1, column]
        for ax in (top, bottom):
            ax.set_axis_on()
        last = "dB (1/Hz)" if column == columns - 1 else ""
        plot_image(numbers.spectrograms[index] * DECIBELS, duration, (0, 8), top, last, limits)
        top.set(title=f"{word} ({numbers.num_clips[index]:,})", xlabel="time (s)")
        bottom.plot(numbers.frequencies / 1000, decibels[index], color="0.2", linewidth=0.6)
        bottom.set(xlabel="frequency (kHz)", xlim=(0, 8), ylim=(decibels.min() - 2, decibels.max() + 2))
        if column == 0:
            top.set_ylabel("frequency (kHz)")
            bottom.set_ylabel("amplitude (dB)")
    return figure


@dataclasses.dataclass(frozen=True)
class ViolinFrequency:
    """How much of one frequency the frames of each word hold."""

    frequency: float  # Hz: the bin nearest to what was asked for
    values: dict[str, np.ndarray]  # word -> power density of every frame of its clips, dB relative to 1/Hz
    quartiles: dict[str, tuple[float, float, float]]  # word -> percentiles 25, 50 and 75
    explained: np.ndarray  # (161,): share of the variance of each frequency that the word explains, 0..1

    def facts(self) -> dict[str, str]:
        """Return how far this frequency tells words apart and which one does best."""
        medians = {word: middle for word, (_, middle, _) in self.quartiles.items()}
        high, low = max(medians, key=medians.get), min(medians, key=medians.get)
        best, here = int(self.explained.argmax()), int(np.abs(BINS - self.frequency).argmin())
        return {
            "frequency": f"{self.frequency:.0f} Hz",
            "highest median": f"{high}, {medians[high]:.0f} dB",
            "lowest median": f"{low}, {medians[low]:.0f} dB",
            "variance that the word explains": f"{100 * self.explained[here]:.1f} %",
            "most that one frequency explains": f"{100 * self.explained[best]:.1f} %, at {BINS[best]:.0f} Hz",
        }


def violin_frequency(
    clips: Mapping[str, Sequence[np.ndarray]], frequency: float = 1000.0
) -> tuple[Figure, ViolinFrequency]:
    """Draw how much of one frequency the frames of each word hold, and how much every frequency says about the word.

    The share of the variance that the word explains is eta squared: the sum of squares between words over the total.

    Args:
        clips: word -> waveforms at 16 kHz; words without clips are left out.
        frequency: Hz, 0 to 8,000; the nearest multiple of 50 is taken.

    Raises:
        ValueError: when there are no clips, a clip cannot be used, or the frequency is out of range.
    """
    if not 0 <= frequency <= SAMPLE_RATE / 2:
        raise ValueError(f"frequency must be in 0..{SAMPLE_RATE // 2} Hz. Received: frequency={frequency}")
    matrices = {
        word: np.concatenate([spectrogram(wave) for wave in waves]).astype(np.float64) * DECIBELS
        for word, waves in check_clips(clips).items()
    }
    index = int(np.abs(BINS - frequency).argmin())
    values = {word: matrix[:, index] for word, matrix in matrices.items()}
    quartiles = {
        word: tuple(float(value) for value in np.percentile(column, [25, 50, 75])) for word, column in values.items()
    }
    numbers = ViolinFrequency(float(BINS[index]), values, quartiles, _explained(list(matrices.values())))
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 6), height_ratios=(2, 1), layout="constrained")
    style = {"inner": "quart", "cut": 0, "color": curve_style(9)["color"], "linewidth": 1}
    seaborn.violinplot(data=values, density_norm="width", ax=top, **style)
    top.set(xlabel="word", ylabel="power density (dB, 1/Hz)", title=f"Frames of each word at {BINS[index]:.0f} Hz")
    bottom.plot(BINS / 1000, 100 * numbers.explained, color="0.2")
    bottom.axvline(BINS[index] / 1000, color=curve_style(1)["color"], linestyle="--", label=f"{BINS[index]:.0f} Hz")
    bottom.set(title="Share of the variance that the word explains")
    bottom.set(xlabel="frequency (kHz)", ylabel="explained (%)", xlim=(0, 8), ylim=(0, None))
    bottom.legend()
    return figure, numbers


def _explained(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return eta squared of each column over groups of rows; 0 where a column is constant."""
    everything = np.concatenate(groups)
    mean = everything.mean(axis=0)
    between = sum(len(group) * np.square(group.mean(axis=0) - mean) for group in groups)
    total = np.square(everything - mean).sum(axis=0)
    return np.where(total > 1e-9, between / np.maximum(total, 1e-9), 0.0)
