"""Figures of the final model: what it hears in training, how far it sees, what it guesses on the way, what company does to it,
what each part brought. Each `..._figure` returns the figure and its alternative text; a `path` is that of a recording, `truth`
what is said in it.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.figure import Figure

from vuilab.audio import SAMPLE_RATE, read_audio
from vuilab.augment import Augmentation, speed_perturb
from vuilab.corpus.manifest import Utterance
from vuilab.corpus.phonemes import PHONEMES
from vuilab.data.splicing import Splicer
from vuilab.decoding.greedy import class_labels, greedy_decode
from vuilab.features import FeatureSettings
from vuilab.figures import curve_style, plot_image
from vuilab.inference.transcribe import Recogniser
from vuilab.models.acoustic import INTERMEDIATE, heads_of
from vuilab.reports.ablation import final_rows
from vuilab.scoring.error_rates import edit_counts

LIMITS = (-2.5, 2.5)  # standard deviations: the darkest and the brightest colour of features
LABEL_WIDTH = 60  # characters of a line beside the bars of the ablation
LONGEST_SHOWN = 6.0  # seconds of a sentence made of stretches
LEAST_SHOWN = 0.1  # classes that never get this probability are left out
SMALLEST_SHOWN = 1e-9  # differences of probabilities below this are drawn here


def augmentation_figure(path: str | Path, speed: float = 1.1) -> tuple[Figure, str]:
    """Draw an utterance as it was recorded, played faster, and as training may hear it, with masks and warping."""
    settings, samples = FeatureSettings("logmel"), read_audio(path)
    plain, fast = (_normalised(settings.extract(wave)) for wave in (samples, speed_perturb(samples, speed)))
    masked = Augmentation(warp=0.12).apply(fast, np.random.default_rng(0))
    titles = "as recorded", f"{speed:g} times as fast, and so higher", "stretched along the frequency axis, with masks"
    panels = dict(zip(titles, (plain, fast, masked), strict=True))
    figure, axes = plt.subplots(3, 1, figsize=(10, 6), sharex=True, layout="constrained")
    for ax, (title, features) in zip(axes, panels.items(), strict=True):
        plot_image(features, len(features) / settings.frames_per_second, (0, features.shape[1]), ax, limits=LIMITS)
        ax.set(ylabel="mel band", title=title)
    axes[-1].set(xlabel="time (s)", xlim=(0, len(plain) / settings.frames_per_second))
    told = "; ".join(f"{title} ({len(features)} frames)" for title, features in panels.items())
    return figure, f"Log-mel spectrograms of one utterance: {told}."


def splicing_figure(utterances: Sequence[Utterance]) -> tuple[Figure, str]:
    """Draw a novel sentence made of stretches that one speaker said; see `data/splicing.py`.

    Args:
        utterances: with the times of their words; one of at most 6 s and others of its speaker are taken.
    """
    base = min(utterances, key=lambda item: (item.duration > LONGEST_SHOWN, abs(LONGEST_SHOWN - item.duration)))
    spoken = [item for item in utterances if item.speaker == base.speaker]
    settings, index = FeatureSettings("logmel"), spoken.index(base)
    rate, bands = settings.frames_per_second, settings.num_features

    def features_of(index: int) -> np.ndarray:
        return settings.extract(read_audio(spoken[index].path))

    splicer = Splicer(spoken, rate)
    stretches = splicer.choose(index, len(features_of(index)), len(base.text), np.random.default_rng(0))
    pieces = [features_of(item.utterance)[item.first_frame : item.last_frame] for item in stretches]
    features, ends = _normalised(np.concatenate(pieces)), np.cumsum([len(piece) for piece in pieces]) / rate
    figure, ax = plt.subplots(figsize=(10, 2.9), layout="constrained")
    plot_image(features, ends[-1], (0, bands), ax, limits=LIMITS)
    for number, (item, start, end) in enumerate(zip(stretches, [0, *ends[:-1]], ends, strict=True)):
        ax.axvline(end, color="white", linewidth=2)
        place = bands * (1.03 if number % 2 else 1.13)  # in turn, so that they do not run into each other
        ax.text((start + end) / 2, place, " ".join(item.words), ha="center", va="bottom", fontsize=9)
    ax.set(xlabel="time (s)", ylabel="mel band")
    ax.set_title(f"A sentence that speaker {base.speaker} never said", pad=38)
    told = "; ".join(" ".join(item.words) for item in stretches)
    return figure, f"Log-mel spectrogram of {ends[-1]:.1f} s with lines where {len(stretches)} stretches meet: {told}."


def _normalised(features: np.ndarray) -> np.ndarray:
    return (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-3)


def convolution_context(model: keras.Model, step: float = 10.0) -> dict[str, float]:
    """Return how many milliseconds of features one frame behind each convolution depends on, by the layer's name.

    Args:
        model: whose convolutions follow one another, with residual branches or without.
        step: milliseconds between feature frames.

    Example:
        >>> from vuilab.models.residual_birnn import residual_birnn_model
        >>> list(convolution_context(residual_birnn_model(units=2, filters=2, print_summary=False)).values())
        [110.0, 190.0, 350.0, 670.0]
    """
    seen, spacing, found = 1, 1, {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv1D):
            seen += (layer.kernel_size[0] - 1) * layer.dilation_rate[0] * spacing
            spacing *= layer.strides[0]
            found[layer.name] = seen * step
    return found


def context_figure(model: keras.Model) -> tuple[Figure, str]:
    """Draw how much sound each convolution sees; see `convolution_context`."""
    context = convolution_context(model)
    figure, ax = plt.subplots(figsize=(8, 0.5 * len(context) + 0.9), layout="constrained")
    for row, seen in enumerate(context.values()):
        ax.barh(row, seen, left=-seen / 2, color=seaborn.color_palette("colorblind")[row % 10])
        ax.annotate(f"{seen:.0f} ms", (seen / 2, row), (6, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(context)), list(context))
    ax.invert_yaxis()
    ax.set(xlabel="time around an output frame (ms)", title="What the convolutions see")
    ax.margins(x=0.12)
    told = ", ".join(f"{name} {seen:.0f} ms" for name, seen in context.items())
    return figure, f"Bars, each longer than the last: {told}. The recurrent layers see the whole utterance."


def company_difference(recogniser: Recogniser, samples: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """Return how much the probabilities of an utterance change when it shares a batch with a longer one, both at 16 kHz.

    Returns:
        (num_output_frames,): the largest change of a probability in each output frame.

    Raises:
        ValueError: when the neighbour is not longer.
    """
    if len(neighbour) <= len(samples):
        raise ValueError(f"Expected a neighbour longer than {len(samples)} samples. Received: {len(neighbour)} samples")
    rows = [recogniser.normalise(recogniser.settings.extract(wave)) for wave in (samples, neighbour)]
    batch = np.zeros((2, *rows[1].shape), np.float32)
    for place, row in zip(batch, rows, strict=True):
        place[: len(row)] = row
    alone, together = (
        np.asarray(recogniser.model.predict_on_batch(features))[0] for features in (rows[0][None], batch)
    )
    return np.abs(together[: len(alone)] - alone).max(axis=1)


def company_figure(
    recognisers: Mapping[str, Recogniser], path: str | Path, neighbour: str | Path
) -> tuple[Figure, str]:
    """Draw for several models, by name, how much a longer neighbour in the batch changes what they make of an utterance."""
    samples, other = read_audio(path), read_audio(neighbour)
    figure, ax = plt.subplots(figsize=(10, 3.2), layout="constrained")
    told = []
    for index, (name, recogniser) in enumerate(recognisers.items()):
        change = company_difference(recogniser, samples, other)
        seconds = (np.arange(len(change)) + 0.5) * len(samples) / SAMPLE_RATE / len(change)
        style = {key: value for key, value in curve_style(index).items() if "marker" not in key}
        ax.plot(seconds, np.maximum(change, SMALLEST_SHOWN), label=f"{name}: at most {change.max():.1g}", **style)
        told.append(f"{name} at most {change.max():.1g}")
    ax.set(yscale="log", xlabel="time (s)", ylabel="change of a probability", ylim=(SMALLEST_SHOWN / 2, 2))
    ax.set_title("The same utterance alone, and beside a longer one")
    ax.legend(loc="center left")
    return figure, f"Largest change of a probability in each output frame, on a logarithmic scale: {'; '.join(told)}."


def sounds_figure(recogniser: Recogniser, path: str | Path, truth: str) -> tuple[Figure, str]:
    """Draw the probabilities of phonemes and of letters of one utterance, with what is read from each and from both.

    Raises:
        ValueError: for a recogniser that reads letters alone.
    """
    letters, phonemes = recogniser.posteriors(read_audio(path))
    if phonemes is None:
        raise ValueError(
            "This recogniser reads letters alone: its model learnt no phonemes, or its decoder reads none."
        )
    by_sound, by_letter = recogniser.decoder.by_phonemes(phonemes)[0], recogniser.decode(letters)
    both = recogniser.decode(letters, phonemes)
    panels = [
        (phonemes, [*PHONEMES, "blank"], f"phonemes, with the language model: {by_sound}"),
        (letters, class_labels(letters.shape[1]), f"letters, with the language model: {by_letter}"),
    ]
    told = f"Read from phonemes alone: {by_sound}; from letters alone: {by_letter}; from both: {both}"
    return _panels(panels, 4.0, f"both: {both}\ntrue: {truth}"), (
        f"Probabilities of phonemes and letters. {told}; said was: {truth}."
    )


def drafts_figure(recogniser: Recogniser, path: str | Path, truth: str) -> tuple[Figure, str]:
    """Draw the letters that a network guesses on the way, and those it ends with, with what is read from each greedily.

    Raises:
        ValueError: for a model that guesses no letters before its end.
    """
    model, heads = recogniser.model, heads_of(recogniser.model, INTERMEDIATE)
    if not heads:
        raise ValueError(f"{model.name} guesses no letters on the way. Expected a model built with heads=(1,), say.")
    guesses = [keras.layers.Activation("softmax", name=f"draft_{head.name}")(head.output) for head in heads]
    drafts = keras.Model(model.inputs, [*guesses, model.outputs[0]])
    features = recogniser.normalise(recogniser.settings.extract(read_audio(path)))
    panels = []
    for head, output in zip([*heads, None], drafts.predict_on_batch(features[None]), strict=True):
        letters = np.asarray(output)[0]
        text = greedy_decode(letters)
        where = f"behind recurrent layer {head.name.removeprefix(INTERMEDIATE)}" if head else "at the end"
        title = f"{where}: {text} (CER {100 * sum(edit_counts(truth, text)) / len(truth):.0f} %)"
        panels.append((letters, class_labels(letters.shape[1]), title))
    told = "; ".join(title for _, _, title in panels)
    figure = _panels(panels, 3.6, f"true: {truth}")
    return figure, f"Probabilities of letters, and what is read from them, {told}; said was: {truth}."


def _panels(panels: Sequence[tuple[np.ndarray, Sequence[str], str]], height: float, heading: str) -> Figure:
    """Draw panels of (num_output_frames, num_classes), names of classes, title; without the blank and what is never probable."""
    figure, axes = plt.subplots(len(panels), 1, figsize=(10, height * len(panels)), sharex=True, layout="constrained")
    for ax, (probabilities, names, title) in zip(axes, panels, strict=True):
        rows = probabilities[:, :-1]
        shown = np.flatnonzero(rows.max(axis=0) >= min(LEAST_SHOWN, rows.max()))
        ax.imshow(rows[:, shown].T, aspect="auto", cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
        ax.set_yticks(range(len(shown)), ["␣" if names[row] == " " else names[row] for row in shown], fontsize=7)
        ax.set_title(title, loc="left", fontsize=10)
        ax.grid(visible=False)
    axes[-1].set_xlabel("output frame")
    figure.suptitle(heading, x=0.01, ha="left", fontsize=10)
    return figure


def ablation_figure(folder: str | Path) -> tuple[Figure, str]:
    """Draw the character error rate of every row of the ablation, greedy, with number and what differs as in the table."""
    rows = final_rows(folder)
    names = [f"{k}: {row.label} ({row.passes} pass{'es' * (row.passes > 1)})" for k, row in enumerate(rows, start=1)]
    lines = [textwrap.fill(name, LABEL_WIDTH, break_on_hyphens=False) for name in names]
    heights = np.array([0.25 + 0.18 * (1 + text.count("\n")) for text in lines])  # inches
    places = np.cumsum(heights) - heights / 2
    figure, ax = plt.subplots(figsize=(10, heights.sum() + 0.8), layout="constrained")
    told, highest = [], 0.0
    for place, row, name in zip(places, rows, names, strict=True):
        values = 100 * np.array(row.values("cer"))
        ax.barh(place, values.mean(), height=0.3, color=seaborn.color_palette("colorblind")[0], alpha=0.6)
        ax.plot(values, np.full(len(values), place), "o", color="0.2", markersize=4)
        ax.annotate(f"{values.mean():.1f}", (values.max(), place), (8, 0), textcoords="offset points", va="center")
        told.append(f"{name} {values.mean():.1f} %")
        highest = max(highest, values.max())
    ax.set_yticks(places, lines)
    ax.set_ylim(heights.sum(), 0)
    ax.set(xlabel="character error rate, greedy (%)", xlim=(0, 1.16 * highest))  # with room for the numbers
    return figure, f"Character error rates: {'; '.join(told)}."
