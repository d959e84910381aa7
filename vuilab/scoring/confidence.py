"""Does the confidence of a word tell whether it is right? Ranking and calibration over a set of utterances.

The confidence of a word is the geometric mean of the probabilities at the frames where its characters stand
(`decoding/alignment.py`).
Two numbers judge it: how often a right word has a higher one than a wrong word (the area under the ROC curve; Fawcett,
Pattern Recognition Letters 2006), and how far it is from the share of right words (the expected calibration error; Guo et
al., ICML 2017).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.stats import mannwhitneyu

from vuilab.decoding.alignment import FrameClock, align

NUM_BINS = 10
ANY_CLOCK = FrameClock(1.0, 0.0)  # times do not matter here


@dataclasses.dataclass(frozen=True)
class ConfidenceQuality:
    """How much the confidences of recognised words are worth."""

    num_words: int
    share_right: float  # of the recognised words, 0..1
    auc: float  # 0.5: says nothing, 1: every right word is above every wrong one; NaN when all words are alike
    calibration_error: float  # 0..1; 0: of the words at 70 %, 70 % are right

    def as_dict(self) -> dict:
        """Return plain data for records and `--json`; what is not defined is None."""
        return {name: None if value != value else value for name, value in dataclasses.asdict(self).items()}

    def __str__(self) -> str:
        """One line for the terminal."""
        if not self.num_words:
            return "Word confidence: no words."
        return (
            f"Word confidence over {self.num_words:,} recognised words ({100 * self.share_right:.0f} % right): "
            f"AUC {self.auc:.2f}, calibration error {self.calibration_error:.2f}"
        )


def confidence_quality(
    probabilities: Sequence[np.ndarray], references: Sequence[str], hypotheses: Sequence[str]
) -> ConfidenceQuality:
    """Judge the confidences of all words that were recognised.

    Args:
        probabilities: of each utterance, (num_output_frames, num_classes).
        references, hypotheses: true texts, and recognised ones, from any decoder; empty ones are passed over.

    Raises:
        ValueError: when a hypothesis has more characters than its utterance has output frames.
    """
    confidences, right = [], []
    for rows, reference, hypothesis in zip(probabilities, references, hypotheses, strict=True):
        if hypothesis.strip():
            confidences += [word.confidence for word in align(rows, hypothesis, ANY_CLOCK).words]
            right += right_words(reference, hypothesis)
    values, flags = np.array(confidences, float), np.array(right, bool)
    if not len(values):
        return ConfidenceQuality(0, math.nan, math.nan, math.nan)
    return ConfidenceQuality(
        len(values), float(flags.mean()), area_under_roc(values, flags), calibration_error(values, flags)
    )


def right_words(reference: str, hypothesis: str) -> list[bool]:
    """Return for each recognised word whether it is right in the alignment with the fewest errors.

    Example:
        >>> right_words("the cat sat down", "the bat sat")
        [True, False, True]
    """
    words = hypothesis.split()
    right = [False] * len(words)
    for block in Levenshtein.opcodes(reference.split(), words):
        if block.tag == "equal":
            right[block.dest_start : block.dest_end] = [True] * (block.dest_end - block.dest_start)
    return right


def area_under_roc(confidences: np.ndarray, right: np.ndarray) -> float:
    """Return how often a right word has the higher confidence of two; ties count half. NaN when all are right or all wrong.

    Args:
        confidences, right: (num_words,), the latter boolean.
    """
    right = np.asarray(right, bool)
    if right.all() or not right.any():
        return math.nan
    # the approximation is that of a p-value, which nobody asks for
    pairs = mannwhitneyu(confidences[right], confidences[~right], method="asymptotic").statistic
    return float(pairs / (right.sum() * (~right).sum()))


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """Return the mean distance between confidence and share of right words, (num_words,) each, over bins of equal width."""
    place = np.minimum((np.asarray(confidences) * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(place, confidences, NUM_BINS) - np.bincount(place, right, NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidences))
