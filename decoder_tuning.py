"""Choosing the weights of the language model: on other speakers than those that are reported.

Weights chosen on the utterances that they are then measured on flatter the result. With few speakers no set can be spared for the
choice alone, so that each speaker is decoded with the weights that are best for the others (leave one speaker out).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from beam_search import BeamDecoder, BeamSettings
from evaluation import count_matrix
from ngram_model import NGramModel
from utils import progress_bar

ALPHAS = (0.3, 0.6, 0.9, 1.2, 1.6, 2.0, 2.5)
BETAS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The result of choosing weights speaker by speaker."""

    texts: list[str]  # of each utterance, with weights chosen on the other speakers
    weights: dict[str, tuple[float, float]]  # speaker -> (alpha, beta), chosen without that speaker
    best: tuple[float, float]  # chosen on all speakers: for other recordings
    word_errors: dict[tuple[float, float], float]  # (alpha, beta) -> WER on all speakers


def tune(
    probabilities: Sequence[np.ndarray],
    references: Sequence[str],
    speakers: Sequence[str | None],
    model: NGramModel,
    settings: BeamSettings | None = None,
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
    progress: bool = True,
) -> Tuned:
    """Decode everything with every pair of weights, and choose by word error rate, leaving one speaker out at a time.

    Args:
        probabilities: of each utterance, (num_output_frames, num_classes).
        references: true texts.
        speakers: of each utterance.
        model: the language model.
        settings: of the search, apart from the weights.
        alphas: weights of the model to try.
        betas: bonuses per word to try.
        progress: show a progress bar.

    Raises:
        ValueError: when there are not at least two known speakers.
    """
    names = np.array([str(speaker) for speaker in speakers])
    if len(set(names)) < 2 or None in speakers:
        raise ValueError(
            "Weights are chosen on other speakers than those that are reported, so at least two known speakers are needed. "
            f"Received: {sorted(set(names))}. Give --alpha and --beta instead of --tune."
        )
    pairs, texts, errors = _decode_all(probabilities, references, model, settings, alphas, betas, progress)
    chosen, weights = [""] * len(references), {}
    for name in np.unique(names):
        best = int(errors[:, names != name].sum(axis=1).argmin())
        weights[str(name)] = pairs[best]
        for index in np.flatnonzero(names == name):
            chosen[index] = texts[best][index]
    totals = errors.sum(axis=1)
    num_words = sum(len(reference.split()) for reference in references)
    rates = {pair: float(total / num_words) for pair, total in zip(pairs, totals, strict=True)}
    return Tuned(chosen, weights, pairs[int(totals.argmin())], rates)


def choose(
    probabilities: Sequence[np.ndarray],
    references: Sequence[str],
    model: NGramModel,
    settings: BeamSettings | None = None,
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
) -> tuple[float, float]:
    """Return (alpha, beta) with the lowest word error rate, for other recordings than these; arguments as for `tune`."""
    pairs, _, errors = _decode_all(probabilities, references, model, settings, alphas, betas, False)
    return pairs[int(errors.sum(axis=1).argmin())]


def _decode_all(
    probabilities: Sequence[np.ndarray],
    references: Sequence[str],
    model: NGramModel,
    settings: BeamSettings | None,
    alphas: Sequence[float],
    betas: Sequence[float],
    progress: bool,
) -> tuple[list[tuple[float, float]], list[list[str]], np.ndarray]:
    """Return the pairs of weights, the texts with each, and the word errors (num_pairs, num_utterances)."""
    settings = settings or BeamSettings()
    pairs = [(alpha, beta) for alpha in alphas for beta in betas]
    words = [reference.split() for reference in references]
    texts, errors = [], np.zeros((len(pairs), len(references)))
    for number, (alpha, beta) in enumerate(progress_bar(pairs, "choosing weights", len(pairs), " pairs", progress)):
        decoder = BeamDecoder(model, dataclasses.replace(settings, alpha=alpha, beta=beta))
        found = [hypotheses[0].text for hypotheses in decoder.decode_batch(probabilities)]
        texts.append(found)
        errors[number] = count_matrix(words, [text.split() for text in found])[:, :3].sum(axis=1)
    return pairs, texts, errors
