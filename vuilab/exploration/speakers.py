"""Views of recordings by who speaks: two clips side by side, and whether their sound gives a speaker away.

Clips are (num_samples,) at 16 kHz in -1..1. Each function returns a figure and its `Numbers`.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import scipy.spatial.distance
import scipy.stats
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE
from vuilab.exploration.spectra import BINS, DECIBELS, Numbers, check_clip, check_clips, level, long_term_spectrum
from vuilab.features import spectrogram
from vuilab.figures import curve_style, plot_image


def two_recordings(
    first: np.ndarray, second: np.ndarray, names: Sequence[str] = ("first", "second")
) -> tuple[Figure, Numbers]:
    """Draw two recordings of any lengths, such as two of one speaker, as spectrograms and by their mean spectra.

    Returns:
        The figure, and `spectra` (2, 161): mean power density at 0 to 8,000 Hz, dB relative to 1/Hz; `levels` of both, dB
        relative to 1; `difference`: dB, root mean square over frequencies, the level set aside.

    Raises:
        ValueError: when a clip cannot be used.
    """
    clips = [check_clip(clip, what=f"The clip {name!r}") for clip, name in zip((first, second), names, strict=True)]
    spectra, levels = np.stack([long_term_spectrum(clip) for clip in clips]), [level(clip) for clip in clips]
    (difference,) = _distances(spectra).tolist()
    facts = {
        "difference in level": f"{abs(levels[0] - levels[1]):.1f} dB",
        "difference of the mean spectra, level aside": f"{difference:.1f} dB",
    }
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
    return figure, Numbers(facts, spectra=spectra, levels=levels, difference=difference)


def _distances(spectra: np.ndarray) -> np.ndarray:
    """Return for each pair of rows, in SciPy's order, the root mean square between them, their means set aside."""
    centred = spectra - spectra.mean(axis=1, keepdims=True)
    return scipy.spatial.distance.pdist(centred) / np.sqrt(spectra.shape[1])


def speaker_distances(recordings: Mapping[str, Sequence[np.ndarray]]) -> tuple[Figure, Numbers]:
    """Compare mean spectra of one speaker's recordings with those of different speakers: speaker -> clips, best of one word.

    Returns:
        The figure, and `same` (num_pairs,): dB between the mean spectra of two recordings of one speaker, the level set aside;
        `different`: likewise of two speakers; `closer`: probability that a pair of one speaker is closer than a pair of two,
        0..1; 0.5 is chance.

    Raises:
        ValueError: when there are not two speakers, none has two recordings, or a clip cannot be used.
    """
    speakers = check_clips(recordings)
    if len(speakers) < 2 or max(map(len, speakers.values())) < 2:
        raise ValueError(
            "Expected at least two speakers, one of them with two recordings. Received: "
            f"{len(speakers)} speakers, at most {max(map(len, speakers.values()))} recordings of one."
        )
    pairs = _distances(np.stack([long_term_spectrum(clip) for clips in speakers.values() for clip in clips]))
    owner = np.repeat(np.arange(len(speakers)), [len(clips) for clips in speakers.values()])
    first, second = np.triu_indices(len(owner), 1)
    same, different = pairs[owner[first] == owner[second]], pairs[owner[first] != owner[second]]
    # Mann and Whitney's U counts the comparisons that a pair of two speakers wins, ties half
    wins = scipy.stats.mannwhitneyu(different, same, method="asymptotic").statistic
    closer = float(wins / (len(same) * len(different)))
    facts = {
        "one speaker, median": f"{np.median(same):.1f} dB ({len(same):,} pairs)",
        "two speakers, median": f"{np.median(different):.1f} dB ({len(different):,} pairs)",
        "the pair of one speaker is closer": f"{100 * closer:.0f} % of the comparisons (chance: 50 %)",
    }
    figure, ax = plt.subplots(figsize=(10, 3), layout="constrained")
    bins = np.linspace(0, float(np.percentile(pairs, 99.5)) or 1.0, 50)
    for index, (values, name) in enumerate([(same, "one speaker"), (different, "two speakers")]):
        style = {key: curve_style(index)[key] for key in ("color", "linestyle")}
        ax.stairs(100 * np.histogram(values, bins)[0] / len(values), bins, label=name, linewidth=2, **style)
    ax.set(xlabel="difference of the mean spectra (dB)", ylabel="share of pairs (%)", xlim=(0, bins[-1]))
    ax.legend()
    return figure, Numbers(facts, same=same, different=different, closer=closer)
