"""Figures of keyword classifiers; each function returns the figure and the numbers in it."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures import curve_style
from keyword_evaluation import KeywordScore, Proportion


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


def plot_words(score: KeywordScore) -> tuple[Figure, dict[str, dict[str, Proportion]]]:
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
        curve: from `keyword_evaluation.noise_curve`.
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
        histories: name -> history, as `records.load_history` gives it.

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
    for ax, label in zip(panels, ("loss (nats per clip)", "accuracy (%)"), strict=True):
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1].legend()
    return figure, numbers
