"""Views of many clips: how many and how long, mean spectra of each word, one frequency across words.

Clips come as a mapping of words to waveforms (num_samples,) at 16 kHz in -1..1. Each function returns a figure and its `Numbers`.
"""

from collections.abc import Mapping, Sequence, Sized

import matplotlib.pyplot as plt
import numpy as np
import pandas
import scipy.spatial.distance
import seaborn
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE
from vuilab.exploration.spectra import BINS, DECIBELS, Numbers, amplitude_spectrum, check_clip, check_clips
from vuilab.features import LOG_FLOOR, spectrogram
from vuilab.figures import curve_style, plot_image
from vuilab.text import escape_markdown, markdown_rows

PANELS = 4  # words in a row of a figure


def class_counts(clips: Mapping[str, Sized]) -> tuple[Figure, Numbers]:
    """Draw how many clips each word has, if any; they may be their names or paths, since only their number is used.

    Returns:
        The figure, and `counts`: word -> number of clips, in the given order.

    Raises:
        ValueError: when there is no clip at all.
    """
    counts = {word: len(waves) for word, waves in clips.items()}
    total = sum(counts.values())
    if not total:
        raise ValueError(
            f"There are no clips to count: expected a mapping of words to clips. Received: {len(counts)} words. Check the folder."
        )
    most, least = max(counts, key=counts.get), min(counts, key=counts.get)
    facts = {
        "clips": f"{total:,}",
        "words": f"{len(counts)}",
        "most": f"{most}: {counts[most]:,}",
        "fewest": f"{least}: {counts[least]:,}",
        "accuracy of always answering the most frequent": f"{100 * counts[most] / total:.1f} %",
    }
    figure, ax = plt.subplots(figsize=(10, 3.2), layout="constrained")
    bars = ax.bar(range(len(counts)), list(counts.values()), color=curve_style(0)["color"])
    ax.bar_label(bars, [f"{count:,}" for count in counts.values()])
    ax.margins(y=0.12)
    ax.set(xlabel="word", ylabel="clips", title="Clips of each word")
    ax.set_xticks(range(len(counts)), list(counts))
    ax.grid(visible=False, axis="x")
    return figure, Numbers(facts, counts=counts)


class Durations(Numbers):
    """How long clips are: `words` has a row for each word, `target` is in seconds."""

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


def durations(clips: Mapping[str, Sequence[np.ndarray]], target: float = 1.0) -> tuple[Figure, Durations]:
    """Draw how long clips are, and which share of each word's is shorter than the target.

    Args:
        clips: word -> waveforms at 16 kHz.
        target: seconds to which a classifier brings every clip.

    Returns:
        The figure, and `words`, for each its `word`, `num_clips`, `shortest`, `median`, `mean` and `longest` in seconds,
        `num_short` clips under the target and `padding`, seconds of zeros that bring these to it.

    Raises:
        ValueError: when there are no clips, a clip cannot be used, or the target is not positive.
    """
    if not target > 0:
        raise ValueError(f"target is a positive number of seconds. Received: target={target}")
    pairs = [(word, len(wave) / SAMPLE_RATE) for word, waves in check_clips(clips).items() for wave in waves]
    every = pandas.DataFrame(pairs, columns=["word", "seconds"])
    every["missing"] = (target - every.seconds).clip(lower=0)
    every["short"] = every.missing > 0
    table = every.groupby("word", sort=False).agg(
        num_clips=("seconds", "count"),
        shortest=("seconds", "min"),
        median=("seconds", "median"),
        mean=("seconds", "mean"),
        longest=("seconds", "max"),
        num_short=("short", "sum"),
        padding=("missing", "sum"),
    )
    facts = {
        f"clips shorter than {target:g} s": f"{every.short.sum():,} of {len(every):,} ({100 * every.short.mean():.1f} %)",
        "zeros that they need": f"{every.missing.sum():.1f} s ({100 * every.missing.mean() / target:.1f} % of all sound then)",
        "shortest": f"{every.seconds.min():.3f} s",
        "longest": f"{every.seconds.max():.3f} s",
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    left.hist(every.seconds, bins=40, color=curve_style(0)["color"], log=True)
    left.axvline(target, color="0.2", linestyle="--", label=f"target, {target:g} s")
    left.set(xlabel="duration (s)", ylabel="clips (logarithmic)", title="All clips")
    left.legend(loc="upper left")
    right.barh(range(len(table)), 100 * table.num_short / table.num_clips, color=curve_style(1)["color"])
    right.set(xlabel="share of clips (%)", xlim=(0, None), title=f"Shorter than {target:g} s")
    right.set_yticks(range(len(table)), table.index)
    right.invert_yaxis()
    right.grid(visible=False, axis="y")
    return figure, Durations(facts, target=target, words=tuple(table.reset_index().itertuples(index=False)))


def mean_spectra(clips: Mapping[str, Sequence[np.ndarray]], duration: float = 1.0) -> tuple[Figure, Numbers]:
    """Draw the mean log spectrogram of each word above the mean amplitudes of its sine waves.

    Args:
        clips: word -> waveforms at 16 kHz; words without clips are left out.
        duration: seconds; shorter clips get zeros at their end, longer ones are cut. Zeros are no speech: they count in the
            amplitudes as they are, and in the spectrograms a frame counts only where the clip has it.

    Returns:
        The figure, and `words`, `num_clips` of each, `spectrograms` (num_words, num_frames, num_features): mean natural
        logarithm of the power density, `fft` (num_words, num_bins): mean amplitudes in the unit of the samples, their
        `frequencies` in Hz, and `distances` (num_words, num_words): dB, root mean square between mean spectrograms.

    Raises:
        ValueError: when there are no clips or a clip cannot be used, or the duration is under 100 ms.
    """
    num_samples = round(duration * SAMPLE_RATE)
    check_clip(np.zeros(max(num_samples, 0)), what=f"A clip of duration={duration} s")
    checked = check_clips(clips)
    spectrograms, ffts = [], []
    for waves in checked.values():
        fitted = [np.pad(wave[:num_samples], (0, max(0, num_samples - len(wave)))) for wave in waves]
        ffts.append(np.mean([amplitude_spectrum(wave)[1] for wave in fitted], axis=0))
        spectrograms.append(
            _mean_frames([spectrogram(wave[:num_samples]) for wave in waves], len(spectrogram(fitted[0])))
        )
    words, flat = tuple(checked), np.stack(spectrograms).reshape(len(checked), -1) * DECIBELS
    pairs = scipy.spatial.distance.pdist(flat) / np.sqrt(flat.shape[1])
    first, second = np.triu_indices(len(words), 1)
    extremes = {"most alike": pairs.argmin(), "least alike": pairs.argmax()} if len(pairs) else {}
    facts = {
        name: f"{words[first[place]]} and {words[second[place]]}, {pairs[place]:.1f} dB"
        for name, place in extremes.items()
    }
    numbers = Numbers(
        facts or {"words": words[0]},
        words=words,
        num_clips=tuple(len(waves) for waves in checked.values()),
        spectrograms=np.stack(spectrograms),
        fft=np.stack(ffts),
        frequencies=np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE),
        distances=scipy.spatial.distance.squareform(pairs),
    )
    return _draw_mean_spectra(numbers, duration), numbers


def _mean_frames(matrices: Sequence[np.ndarray], num_frames: int) -> np.ndarray:
    """Average matrices (at most num_frames, num_features) of different length, frame by frame, over those that have it."""
    total, count = np.zeros((num_frames, matrices[0].shape[1])), np.zeros((num_frames, 1))
    for matrix in matrices:
        total[: len(matrix)] += matrix
        count[: len(matrix)] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.log(LOG_FLOOR))


def _draw_mean_spectra(numbers: Numbers, duration: float) -> Figure:
    columns = min(PANELS, len(numbers.words))
    rows = -(-len(numbers.words) // columns)
    size = {"figsize": (11, 3.4 * rows), "height_ratios": (1.3, 1) * rows}
    figure, axes = plt.subplots(2 * rows, columns, layout="constrained", squeeze=False, **size)
    panels = axes.reshape(rows, 2, columns).swapaxes(1, 2).reshape(-1, 2)  # (word, above and below)
    limits = tuple(np.percentile(numbers.spectrograms * DECIBELS, [2, 99.5]))
    decibels = 20 * np.log10(np.maximum(numbers.fft, 1e-7))
    for ax in panels[len(numbers.words) :].flat:
        ax.set_axis_off()
    for index, (word, (top, bottom)) in enumerate(zip(numbers.words, panels, strict=False)):
        last = "dB (1/Hz)" if index % columns == columns - 1 else ""
        plot_image(numbers.spectrograms[index] * DECIBELS, duration, (0, 8), top, last, limits)
        top.set(title=f"{word} ({numbers.num_clips[index]:,})", xlabel="time (s)")
        bottom.plot(numbers.frequencies / 1000, decibels[index], color="0.2", linewidth=0.6)
        bottom.set(xlabel="frequency (kHz)", xlim=(0, 8), ylim=(decibels.min() - 2, decibels.max() + 2))
    for top, bottom in panels[::columns]:
        top.set_ylabel("frequency (kHz)")
        bottom.set_ylabel("amplitude (dB)")
    return figure


def violin_frequency(clips: Mapping[str, Sequence[np.ndarray]], frequency: float = 1000.0) -> tuple[Figure, Numbers]:
    """Draw how much of one frequency the frames of each word hold, and how much every frequency says about the word.

    The share of the variance that the word explains is eta squared: the sum of squares between words over the total.

    Args:
        clips: word -> waveforms at 16 kHz; words without clips are left out.
        frequency: Hz, 0 to 8,000; the nearest multiple of 50 is taken.

    Returns:
        The figure, and that `frequency` in Hz; word -> `values`, its power density in every frame in dB relative to 1/Hz; word ->
        their `quartiles`; and `explained` (161,): the share of the variance of each frequency that the word explains, 0..1.

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
    quartiles = {word: tuple(np.percentile(column, [25, 50, 75]).tolist()) for word, column in values.items()}
    explained = _explained(list(matrices.values()))
    high, low = (choose(values, key=lambda word: quartiles[word][1]) for choose in (max, min))
    best, name = int(explained.argmax()), f"{BINS[index]:.0f} Hz"
    facts = {
        "frequency": name,
        "highest median": f"{high}, {quartiles[high][1]:.0f} dB",
        "lowest median": f"{low}, {quartiles[low][1]:.0f} dB",
        "variance that the word explains": f"{100 * explained[index]:.1f} %",
        "most that one frequency explains": f"{100 * explained[best]:.1f} %, at {BINS[best]:.0f} Hz",
    }
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 6), height_ratios=(2, 1), layout="constrained")
    style = {"inner": "quart", "cut": 0, "color": curve_style(9)["color"], "linewidth": 1}
    seaborn.violinplot(data=values, density_norm="width", ax=top, **style)
    top.set(xlabel="word", ylabel="power density (dB, 1/Hz)", title=f"Frames of each word at {name}")
    bottom.plot(BINS / 1000, 100 * explained, color="0.2")
    bottom.axvline(BINS[index] / 1000, color=curve_style(1)["color"], linestyle="--", label=name)
    bottom.set(title="Share of the variance that the word explains")
    bottom.set(xlabel="frequency (kHz)", ylabel="explained (%)", xlim=(0, 8), ylim=(0, None))
    bottom.legend()
    return figure, Numbers(facts, frequency=float(BINS[index]), values=values, quartiles=quartiles, explained=explained)


def _explained(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return eta squared of each column over groups of rows; 0 where a column is constant."""
    everything = np.concatenate(groups)
    mean = everything.mean(axis=0)
    between = sum(len(group) * np.square(group.mean(axis=0) - mean) for group in groups)
    total = np.square(everything - mean).sum(axis=0)
    return np.where(total > 1e-9, between / np.maximum(total, 1e-9), 0.0)
