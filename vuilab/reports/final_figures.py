"""Figures of the final model: what it hears in training, and what it guesses on the way.

Each `..._figure` returns the figure and its alternative text; a `path` is that of a recording, `truth` what is said in it.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vuilab.audio import read_audio
from vuilab.augment import Augmentation, speed_perturb
from vuilab.corpus.phonemes import PHONEMES
from vuilab.decoding.greedy import class_labels, greedy_decode
from vuilab.features import FeatureSettings
from vuilab.figures import plot_image
from vuilab.inference.transcribe import Recogniser
from vuilab.models.acoustic import heads_of
from vuilab.models.frames import INTERMEDIATE
from vuilab.scoring.error_rates import edit_counts

LIMITS = (-2.5, 2.5)  # standard deviations: the darkest and the brightest colour of features
LEAST_SHOWN = 0.1  # classes that never get this probability are left out


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


def _normalised(features: np.ndarray) -> np.ndarray:
    return (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-3)


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
