"""Figures of keyword classifiers; each function returns the figure and the numbers in it."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import scipy.signal
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vuilab.audio import SAMPLE_RATE
from vuilab.augment import NOISES
from vuilab.figures import curve_style, plot_image, plot_mfcc_feature
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.scores import KeywordScore, Proportion


def plot_confusion(score: KeywordScore, title: str = "") -> tuple[Figure, np.ndarray]:
    """Draw the confusion matrix: shares of each row as grey, counts as text.

    Returns:
        The figure, and the counts (num_classes, num_classes): true label by row.
    """
    size = 1.8 + 0.45 * len(score.labels)
    figure, ax = plt.subplots(figsize=(size + 0.6, size), layout="constrained")
    counts = score.confusion
    shares, style = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), {"cmap": "Greys", "vmin": 0, "vmax": 1}
    ticks = {"xticklabels": score.labels, "yticklabels": score.labels}
    seaborn.heatmap(shares, annot=counts, fmt="d", mask=counts == 0, cbar=False, square=True, ax=ax, **style, **ticks)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    ax.set(xlabel="predicted", ylabel="spoken", title=title or f"Accuracy {score.accuracy}")
    return figure, counts


def plot_word_scores(score: KeywordScore) -> tuple[Figure, dict[str, dict[str, Proportion]]]:
    """Draw precision and recall of each label with their 95 % intervals."""
    numbers = {"precision": score.precision, "recall": score.recall}
    figure, ax = plt.subplots(figsize=(2 + 0.6 * len(score.labels), 3), layout="constrained")
    for index, (name, found) in enumerate(numbers.items()):
        _draw_intervals(ax, np.arange(len(found)) + 0.2 * index - 0.1, list(found.values()), index, name)
    ax.set_xticks(range(len(score.labels)), score.labels, rotation=45)
    ax.set(ylabel="%", title="Precision and recall, 95 % intervals")
    ax.legend()
    return figure, numbers


def _draw_intervals(ax: Axes, places: Sequence[float], values: Sequence[Proportion], index: int, name: str) -> None:
    rates, limits = np.array([value.rate for value in values]), np.array([value.interval for value in values]).T
    distance = np.nan_to_num(np.abs(limits - rates))
    style = curve_style(index) | {"linestyle": "none", "markersize": 5, "capsize": 3}
    ax.errorbar(places, 100 * rates, 100 * distance, label=name, **style)


def plot_noise_curve(
    curve: Mapping[str, Sequence[Proportion]], snrs: Sequence[float], clean: Proportion | None = None
) -> tuple[Figure, dict[str, list[float]]]:
    """Draw accuracy (from `scores.noise_curve`) against its ratios in dB, and that of `clean` clips as a level.

    Returns:
        The figure, and colour -> rates in the order of `snrs`.
    """
    figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    rates = {colour: [value.rate for value in values] for colour, values in curve.items()}
    for index, (colour, values) in enumerate(rates.items()):
        ax.plot(snrs, 100 * np.array(values), label=colour, **curve_style(index))
    if clean is not None:
        ax.axhline(100 * clean.rate, color="0.5", linewidth=1, label="without noise")
    ax.set(xlabel="signal-to-noise ratio (dB)", ylabel="accuracy (%)", title="Robustness against noise")
    ax.legend()
    return figure, rates


def plot_keyword_histories(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
) -> tuple[Figure, dict[str, dict[str, list[float]]]]:
    """Draw loss and accuracy on the development part against the epoch, one line for each run: name -> history.

    Returns:
        The figure, and name -> {'val_loss': ..., 'val_accuracy': ...}.
    """
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    kinds = {"val_loss": (1, "loss (nats per clip)"), "val_accuracy": (100, "accuracy (%)")}
    numbers = {name: {key: list(history[key]) for key in kinds} for name, history in histories.items()}
    longest = max((len(found["val_loss"]) for found in numbers.values()), default=1)
    for ax, (key, (factor, label)) in zip(panels, kinds.items(), strict=True):
        for index, (name, found) in enumerate(numbers.items()):
            values = factor * np.array(found[key])
            ax.plot(np.arange(1, len(values) + 1), values, label=name, **curve_style(index))
        ax.set(xlabel="epoch", ylabel=label, xlim=(0.5, longest + 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[1].legend()
    return figure, numbers


def plot_accuracies(
    runs: Mapping[str, tuple[int, Proportion]], title: str = ""
) -> tuple[Figure, dict[str, tuple[int, Proportion]]]:
    """Draw accuracy with its 95 % interval against the size, for each model: name -> (number of parameters, accuracy)."""
    figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for index, (name, (parameters, accuracy)) in enumerate(runs.items()):
        _draw_intervals(ax, [parameters], [accuracy], index, name)
    ax.set(xlabel="parameters", ylabel="accuracy (%)", xscale="log", title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure, dict(runs)


def plot_mfcc_image(image: np.ndarray, label: str = "") -> tuple[Figure, np.ndarray]:
    """Draw features (num_features, num_frames, 1) as the image that a small network sees, and return figure and image."""
    values = image[..., 0]
    figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
    plot_mfcc_feature(values.T, 1000 / values.shape[1], ax)
    ax.set_title(label)
    return figure, values


def plot_noises(seed: int = 0) -> tuple[Figure, dict[str, float]]:
    """Draw the power density of each colour of noise by octaves, in dB.

    Returns:
        The figure, and colour -> measured slope in dB per octave, over the octaves from 125 Hz to 8 kHz.
    """
    figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    slopes = {}
    for index, (colour, make) in enumerate(NOISES.items()):
        noise = make(8 * SAMPLE_RATE, np.random.default_rng([seed, index]))
        centres, levels = octave_levels(noise)
        slopes[colour] = float(np.polyfit(np.arange(len(levels)), levels, 1)[0])
        ax.plot(centres, levels, label=f"{colour} ({round(slopes[colour], 1) + 0:+.1f})", **curve_style(index))
    ax.set_xscale("log", base=2)
    ax.set_xticks(centres, [f"{centre / 1000:.2g}" for centre in centres])
    ax.set(xlabel="frequency (kHz)", ylabel="power density (dB, 1/Hz)", title="Colours of noise, dB per octave")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure, slopes


def octave_levels(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of six octaves from 125 Hz on in Hz (the geometric one), and the mean power density in each in dB.

    `samples` (num_samples,) are at 16 kHz, several times 4096 of them; densities are relative to 1/Hz.
    """
    frequencies, density = scipy.signal.welch(samples, SAMPLE_RATE, nperseg=4096)
    edges = 125 * 2.0 ** np.arange(7)
    bands = [(frequencies >= low) & (frequencies < high) for low, high in itertools.pairwise(edges)]
    return edges[:-1] * np.sqrt(2), np.array([10 * np.log10(density[band].mean()) for band in bands])


def plot_changes(clips: Mapping[str, np.ndarray], kind: str = "logmel") -> tuple[Figure, dict[str, np.ndarray]]:
    """Draw features ('logmel' or 'mfcc') of several versions of a clip side by side, on one scale.

    Args:
        clips: what was done -> waveform (CLIP_SAMPLES,), or features of the kind.
        kind: of the features.

    Returns:
        The figure, and what was done -> features (num_features, num_frames).
    """
    settings = KeywordFeatures(kind)
    numbers = {}
    for name, values in clips.items():
        features = settings.extract(values[None])[0] if values.ndim == 1 else values
        features = features.reshape(features.shape[:2])
        numbers[name] = features.T if settings.time_axis == 0 else features
    limits = tuple(np.percentile(next(iter(numbers.values())), [1, 99.5]))
    columns = min(3, len(numbers))
    rows = -(-len(numbers) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(10, 2.1 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat[len(numbers) :]:
        ax.set_axis_off()
    for ax, (name, values) in zip(axes.flat, numbers.items(), strict=False):
        plot_image(values.T, 1.0, (-0.5, len(values) - 0.5), ax, limits=limits)
        ax.set(title=name, xlabel="time (s)")
    for ax in axes[:, 0]:
        ax.set_ylabel("mel band" if kind == "logmel" else "coefficient")
    return figure, numbers
