"""Choosing the weights of the language model: on other speakers than those that are reported.

Weights chosen on the utterances that they are then measured on flatter the result. With few speakers no set can be spared for the
choice alone, so that each speaker is decoded with the weights that are best for the others (leave one speaker out).
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from vuilab.decoding.beam import BeamDecoder
from vuilab.decoding.ngram import NGramModel
from vuilab.decoding.settings import BeamSettings, SoundWeights
from vuilab.decoding.sounds import Candidates
from vuilab.files import progress_bar
from vuilab.scoring.error_rates import count_matrix

ALPHAS = (0.3, 0.6, 0.9, 1.2, 1.6, 2.0, 2.5)
BETAS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
# of letters and phonemes together
SOUND_GRID = (
    (0.35, 0.5, 0.65, 0.8),  # weight of the phonemes
    (0.3, 0.45, 0.6, 0.75, 0.9, 1.2, 1.6),  # alpha
    (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0),  # beta
)
# of the search that compares weights, which ranks them as a wider one does in a third of the time
CHOICE_BEAM_WIDTH = 32


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The result of choosing weights speaker by speaker: (alpha, beta), or those of letters, phonemes and language model."""

    texts: list[str]  # of each utterance, with weights chosen on the other speakers, by the search as it was set
    weights: dict[str, Any]  # speaker -> (alpha, beta) or `SoundWeights`, chosen without that speaker
    best: Any  # chosen on all speakers: for other recordings
    # (alpha, beta) -> WER on all speakers, by the narrower search
    word_errors: dict[tuple[float, float], float] = dataclasses.field(default_factory=dict)


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
        references, speakers: true text and speaker of each.
        model, settings: the language model, and the search apart from its weights.
        alphas, betas: weights of the model and bonuses per word to try.
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
    settings = settings or BeamSettings()
    pairs, errors = _errors_of_all(probabilities, references, model, settings, alphas, betas, progress)
    weights, texts = _best_for_the_others(pairs, errors, names), [""] * len(references)
    for name, pair in weights.items():
        indices = np.flatnonzero(names == name)
        found = _decode([probabilities[index] for index in indices], model, settings, *pair)
        for index, text in zip(indices, found, strict=True):
            texts[index] = text
    totals = errors.sum(axis=1)
    num_words = sum(len(reference.split()) for reference in references)
    rates = {pair: float(total / num_words) for pair, total in zip(pairs, totals, strict=True)}
    return Tuned(texts, weights, pairs[int(totals.argmin())], rates)


def tune_sounds(
    candidates: Sequence[Candidates],
    references: Sequence[str],
    speakers: Sequence[str],
    grid: Sequence[Sequence[float]] = SOUND_GRID,
) -> Tuned:
    """Rank candidates with many weights, and choose by word and character error rate together, leaving one speaker out at a time.

    Args:
        candidates, references, speakers: of each utterance; at least two different speakers.
        grid: phoneme weights, alphas and betas to try.
    """
    triples = [SoundWeights(*triple) for triple in itertools.product(*grid)]
    num_words, num_characters = (sum(map(len, parts)) for parts in (map(str.split, references), references))
    errors = np.zeros((len(triples), len(references)))
    for column, (found, reference) in enumerate(zip(candidates, references, strict=True)):
        wrong_words = count_matrix([reference.split()] * len(found.texts), [text.split() for text in found.texts])
        wrong_characters = count_matrix([reference] * len(found.texts), found.texts)
        costs = wrong_words[:, :3].sum(axis=1) / num_words + wrong_characters[:, :3].sum(axis=1) / num_characters
        errors[:, column] = [costs[found.ranks(triple).argmax()] for triple in triples]
    names = np.array([str(speaker) for speaker in speakers])
    weights = _best_for_the_others(triples, errors, names)
    texts = [found.best(weights[name]) for found, name in zip(candidates, names, strict=True)]
    return Tuned(texts, weights, triples[int(errors.sum(axis=1).argmin())])


def _best_for_the_others(settings: Sequence, errors: np.ndarray, names: np.ndarray) -> dict[str, Any]:
    """Return for each speaker the setting with the fewest errors (num_settings, num_utterances) of all other speakers."""
    return {str(name): settings[int(errors[:, names != name].sum(axis=1).argmin())] for name in np.unique(names)}


def choose(
    probabilities: Sequence[np.ndarray],
    references: Sequence[str],
    model: NGramModel,
    settings: BeamSettings | None = None,
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
) -> tuple[float, float]:
    """Return (alpha, beta) with the lowest word error rate, for other recordings than these; arguments as for `tune`."""
    pairs, errors = _errors_of_all(probabilities, references, model, settings or BeamSettings(), alphas, betas, False)
    return pairs[int(errors.sum(axis=1).argmin())]


def _errors_of_all(
    probabilities: Sequence[np.ndarray],
    references: Sequence[str],
    model: NGramModel,
    settings: BeamSettings,
    alphas: Sequence[float],
    betas: Sequence[float],
    progress: bool,
) -> tuple[list[tuple[float, float]], np.ndarray]:
    """Return the pairs of weights and the word errors (num_pairs, num_utterances) of a narrow search with each."""
    narrow = dataclasses.replace(settings, beam_width=min(settings.beam_width, CHOICE_BEAM_WIDTH))
    pairs = [(alpha, beta) for alpha in alphas for beta in betas]
    words = [reference.split() for reference in references]
    errors = np.zeros((len(pairs), len(references)))
    for number, pair in enumerate(progress_bar(pairs, "choosing weights", len(pairs), " pairs", progress)):
        found = [text.split() for text in _decode(probabilities, model, narrow, *pair)]
        errors[number] = count_matrix(words, found)[:, :3].sum(axis=1)
    return pairs, errors


def _decode(
    probabilities: Sequence[np.ndarray], model: NGramModel, settings: BeamSettings, alpha: float, beta: float
) -> list[str]:
    decoder = BeamDecoder(model, dataclasses.replace(settings, alpha=alpha, beta=beta))
    return [hypotheses[0].text for hypotheses in decoder.decode_batch(probabilities)]
