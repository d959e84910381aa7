"""Figures of keyword classifiers; each function returns the figure and the numbers in it."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import scipy.signal
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vuilab.audio import SAMPLE_RATE
from vuilab.augment import NOISES
from vuilab.figures import curve_style, plot_image
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.scores import KeywordScore, Proportion


def plot_confusion(score: KeywordScore, title: str = "") -> tuple[Figure, np.ndarray]:
    """Draw the confusion matrix: shares of each row as grey, counts as text.

    Returns:
        The figure, and the counts (num_classes, num_classes): true label by row.
    """
    size = 1.8 + 0.45 * len(score.labels)
    figure, ax = plt.subplots(figsize=(size + 0.6, size), layout="constrained")
    shares = score.confusion / np.maximum(score.confusion.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(score.confusion):
        if count:
            ax.text(
                column, row, str(count), ha="center", va="center", color="white" if shares[row, column] > 0.5 else "0.1"
            )
    ticks = range(len(score.labels))
    ax.set_xticks(ticks, score.labels, rotation=90)
    ax.set_yticks(ticks, score.labels)
    ax.set(xlabel="predicted", ylabel="spoken", title=title or f"Accuracy {score.accuracy}")
    ax.grid(visible=False)
    return figure, score.confusion


def plot_word_scores(score: KeywordScore) -> tuple[Figure, dict[str, dict[str, Proportion]]]:
    """Draw precision and recall of each label with their 95 % intervals."""
    numbers = {"precision": score.precision, "recall": score.recall}
    figure, ax = plt.subplots(figsize=(2 + 0.6 * len(score.labels), 3), layout="constrained")
    for index, (name, found) in enumerate(numbers.items()):
        rates = np.array([found[label].rate for label in score.labels])
        limits = np.array([found[label].interval for label in score.labels])
        places = np.arange(len(score.labels)) + 0.2 * index - 0.1
        distance = np.nan_to_num(np.abs(limits.T - rates))
        style = curve_style(index) | {"linestyle": "none"}
        ax.errorbar(places, 100 * rates, 100 * distance, label=name, capsize=2, **style)
    ax.set_xticks(range(len(score.labels)), score.labels, rotation=45)
    ax.set(ylabel="%", title="Precision and recall, 95 % intervals")
    ax.legend()
    return figure, numbers


def plot_noise_curve(
    curve: Mapping[str, Sequence[Proportion]], snrs: Sequence[float], clean: Proportion | None = None
) -> tuple[Figure, dict[str, list[float]]]:
    """Draw accuracy against the signal-to-noise ratio, one line for each colour of noise.

    Args:
        curve: from `scores.noise_curve`.
        snrs: its ratios in dB.
        clean: accuracy without noise, drawn as a level.

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
    """Draw loss and accuracy on the development part against the epoch, one line for each run.

    Args:
        histories: name -> history, as `history.load_history` gives it.

    Returns:
        The figure, and name -> {'val_loss': ..., 'val_accuracy': ...}.
    """
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    numbers = {}
    for index, (name, history) in enumerate(histories.items()):
        numbers[name] = {key: list(history[key]) for key in ("val_loss", "val_accuracy")}
        for ax, (key, factor) in zip(panels, (("val_loss", 1), ("val_accuracy", 100)), strict=True):
            values = factor * np.array(history[key])
            ax.plot(np.arange(1, len(values) + 1), values, label=name, **curve_style(index))
    longest = max((len(found["val_loss"]) for found in numbers.values()), default=1)
    for ax, label in zip(panels, ("loss (nats per clip)", "accuracy (%)"), strict=True):
        ax.set(xlabel="epoch", ylabel=label, xlim=(0.5, longest + 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[1].legend()
    return figure, numbers


def plot_accuracies(
    runs: Mapping[str, tuple[int, Proportion]], title: str = ""
) -> tuple[Figure, dict[str, tuple[int, Proportion]]]:
    """Draw accuracy with its 95 % interval against the number of parameters, one point for each model.

    Args:
        runs: name -> (number of parameters, accuracy).
        title: of the figure.
    """
    figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for index, (name, (parameters, accuracy)) in enumerate(runs.items()):
        rate, (low, high) = accuracy.rate, accuracy.interval
        style = curve_style(index) | {"linestyle": "none", "markersize": 6}
        error = [[100 * (rate - low)], [100 * (high - rate)]]
        ax.errorbar([parameters], [100 * rate], error, label=name, capsize=3, **style)
    ax.set(xlabel="parameters", ylabel="accuracy (%)", xscale="log", title=title)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure, dict(runs)


def plot_mfcc_image(image: np.ndarray, label: str = "") -> tuple[Figure, np.ndarray]:
    """Draw the features of one clip as the image that a small network sees.

    Args:
        image: (num_features, num_frames, 1), of the kind 'mfcc_image'.
        label: what the clip says.

    Returns:
        The figure, and the image (num_features, num_frames).
    """
    values = image[..., 0]
    limit = max(float(np.percentile(np.abs(values), 99)), 1e-6)
    figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
    shown = ax.imshow(values, origin="lower", aspect="auto", cmap="RdGy", vmin=-limit, vmax=limit)
    ax.set(xlabel="frame", ylabel="coefficient", title=label)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(visible=False)
    figure.colorbar(shown, ax=ax, label="standard deviations")
    return figure, values


def plot_noises(num_seconds: float = 8.0, seed: int = 0) -> tuple[Figure, dict[str, float]]:
    """Draw the power density of each colour of noise by octaves, in dB.

    Args:
        num_seconds: of noise that is made.
        seed: of the noise.

    Returns:
        The figure, and colour -> measured slope in dB per octave, over the octaves from 125 Hz to 8 kHz.
    """
    figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
    slopes = {}
    for index, (colour, make) in enumerate(NOISES.items()):
        noise = make(round(num_seconds * SAMPLE_RATE), np.random.default_rng([seed, index]))
        centres, levels = octave_levels(noise)
        slopes[colour] = float(np.polyfit(np.arange(len(levels)), levels, 1)[0])
        ax.plot(centres, levels, label=f"{colour} ({round(slopes[colour], 1) + 0:+.1f})", **curve_style(index))
    ax.set_xscale("log", base=2)
    ax.set_xticks(centres, [f"{centre / 1000:.2g}" for centre in centres])
    ax.set(xlabel="frequency (kHz)", ylabel="power density (dB, 1/Hz)", title="Colours of noise, dB per octave")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure, slopes


def octave_levels(samples: np.ndarray, lowest: float = 125.0, num_octaves: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of octaves in Hz (the geometric one) and the mean power density in each, in dB relative to 1/Hz.

    Args:
        samples: (num_samples,) at 16 kHz, several times 4096 of them.
        lowest: Hz at which the first octave begins.
        num_octaves: how many.
    """
    frequencies, density = scipy.signal.welch(samples, SAMPLE_RATE, nperseg=4096)
    edges = lowest * 2.0 ** np.arange(num_octaves + 1)
    bands = [(frequencies >= low) & (frequencies < high) for low, high in itertools.pairwise(edges)]
    return edges[:-1] * np.sqrt(2), np.array([10 * np.log10(density[band].mean()) for band in bands])


def plot_changes(clips: Mapping[str, np.ndarray], kind: str = "logmel") -> tuple[Figure, dict[str, np.ndarray]]:
    """Draw the features of several versions of a clip side by side, on one scale.

    Args:
        clips: what was done -> waveform (CLIP_SAMPLES,), or features of the kind.
        kind: of the features, 'logmel' or 'mfcc'.

    Returns:
        The figure, and what was done -> features (num_features, num_frames).
    """
    settings = KeywordFeatures(kind)
    numbers = {}
    for name, values in clips.items():
        features = settings.extract(values[None])[0] if values.ndim == 1 else values
        features = features.reshape(features.shape[:2])
        numbers[name] = features.T if settings.time_axis == 0 else features
    limits = np.percentile(next(iter(numbers.values())), [1, 99.5])
    columns = min(3, len(numbers))
    rows = -(-len(numbers) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(10, 2.1 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat[len(numbers) :]:
        ax.set_axis_off()
    for ax, (name, values) in zip(axes.flat, numbers.items(), strict=False):
        plot_image(values.T, 1.0, (-0.5, len(values) - 0.5), ax, limits=tuple(limits))
        ax.set(title=name, xlabel="time (s)")
    for ax in axes[:, 0]:
        ax.set_ylabel("mel band" if kind == "logmel" else "coefficient")
    return figure, numbers
