"""Views of recordings by who speaks: two clips side by side, and whether their sound gives a speaker away.

Each function returns a figure and its numbers, a dataclass whose `facts()` are what a table under the figure shows.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import scipy.spatial.distance
import scipy.stats
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE
from vuilab.exploration.spectra import BINS, DECIBELS, check_clip, check_clips, level, long_term_spectrum
from vuilab.features import spectrogram
from vuilab.figures import curve_style, plot_image


@dataclasses.dataclass(frozen=True)
class TwoRecordings:
    """Two clips side by side."""

    names: tuple[str, str]
    spectra: np.ndarray  # (2, 161): mean power density at 0 to 8,000 Hz, dB relative to 1/Hz
    levels: tuple[float, float]  # dB relative to 1
    difference: float  # dB, root mean square over frequencies, the level set aside

    def facts(self) -> dict[str, str]:
        """Return how much they differ in level and in spectrum."""
        return {
            "difference in level": f"{abs(self.levels[0] - self.levels[1]):.1f} dB",
            "difference of the mean spectra, level aside": f"{self.difference:.1f} dB",
        }


def two_recordings(
    first: np.ndarray, second: np.ndarray, names: Sequence[str] = ("first", "second")
) -> tuple[Figure, TwoRecordings]:
    """Draw two recordings, such as two of one speaker, as spectrograms and by their mean spectra.

    Args:
        first: (num_samples,) at 16 kHz in -1..1.
        second: the other one; its length may differ.
        names: what to call them.

    Raises:
        ValueError: when a clip cannot be used.
    """
    clips = [check_clip(clip, what=f"The clip {name!r}") for clip, name in zip((first, second), names, strict=True)]
    spectra = np.stack([long_term_spectrum(clip) for clip in clips])
    difference = float(scipy.spatial.distance.pdist(_without_level(spectra))[0] / np.sqrt(spectra.shape[1]))
    numbers = TwoRecordings(tuple(names), spectra, (level(clips[0]), level(clips[1])), difference)
    matrices = [spectrogram(clip) * DECIBELS for clip in clips]
    limits = tuple(np.percentile(np.concatenate(matrices), [1, 99.5]))
    figure, axes = plt.subplot_mosaic("01;22", figsize=(10, 5.6), layout="constrained")
    for index, (name, matrix) in enumerate(zip(names, matrices, strict=True)):
        ax = axes[str(index)]
        plot_image(matrix, len(clips[index]) / SAMPLE_RATE, (0, 8), ax, "dB (1/Hz)" if index else "", limits)
        ax.set(xlabel="time (s)", ylabel="frequency (kHz)", title=name)
        style = {**curve_style(index), "marker": "none"}
        axes["2"].plot(BINS / 1000, spectra[index], label=name, **style)
    axes["2"].set(xlabel="frequency (kHz)", ylabel="power density (dB, 1/Hz)", xlim=(0, 8))
    axes["2"].legend()
    return figure, numbers


def _without_level(spectra: np.ndarray) -> np.ndarray:
    return spectra - spectra.mean(axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class SpeakerDistances:
    """How much recordings of one speaker differ, against recordings of different speakers."""

    same: np.ndarray  # (num_pairs,): dB between the mean spectra of two recordings of one speaker, the level set aside
    different: np.ndarray  # (num_pairs,): the same of two speakers
    closer: float  # probability that a pair of one speaker is closer than a pair of two, 0..1; 0.5 is chance

    def facts(self) -> dict[str, str]:
        """Return how far the sound of a recording gives its speaker away."""
        return {
            "one speaker, median": f"{np.median(self.same):.1f} dB ({len(self.same):,} pairs)",
            "two speakers, median": f"{np.median(self.different):.1f} dB ({len(self.different):,} pairs)",
            "the pair of one speaker is closer": f"{100 * self.closer:.0f} % of the comparisons (chance: 50 %)",
        }


def speaker_distances(recordings: Mapping[str, Sequence[np.ndarray]]) -> tuple[Figure, SpeakerDistances]:
    """Compare the mean spectra of recordings of one speaker with those of different speakers.

    Args:
        recordings: speaker -> waveforms at 16 kHz, best all of one word.

    Raises:
        ValueError: when there are not two speakers, none has two recordings, or a clip cannot be used.
    """
    speakers = check_clips(recordings)
    if len(speakers) < 2 or max(map(len, speakers.values())) < 2:
        raise ValueError(
            "Expected at least two speakers, one of them with two recordings. Received: "
            f"{len(speakers)} speakers, at most {max(map(len, speakers.values()))} recordings of one."
        )
    spectra = _without_level(np.stack([long_term_spectrum(clip) for clips in speakers.values() for clip in clips]))
    owner = np.repeat(np.arange(len(speakers)), [len(clips) for clips in speakers.values()])
    pairs = scipy.spatial.distance.pdist(spectra) / np.sqrt(spectra.shape[1])
    first, second = np.triu_indices(len(owner), 1)
    same, different = pairs[owner[first] == owner[second]], pairs[owner[first] != owner[second]]
    # Mann and Whitney's U counts the comparisons that a pair of two speakers wins, ties half
    wins = scipy.stats.mannwhitneyu(different, same, method="asymptotic").statistic
    numbers = SpeakerDistances(same, different, float(wins / (len(same) * len(different))))
    figure, ax = plt.subplots(figsize=(10, 3), layout="constrained")
    bins = np.linspace(0, float(np.percentile(pairs, 99.5)) or 1.0, 50)
    for index, (values, name) in enumerate([(same, "one speaker"), (different, "two speakers")]):
        style = {**curve_style(index), "marker": "none", "linewidth": 2}
        heights, _ = np.histogram(values, bins)
        ax.stairs(
            100 * heights / len(values),
            bins,
            label=name,
            color=style["color"],
            linestyle=style["linestyle"],
            linewidth=2,
        )
    ax.set(xlabel="difference of the mean spectra (dB)", ylabel="share of pairs (%)", xlim=(0, bins[-1]))
    ax.legend()
    return figure, numbers
