"""From probabilities to text."""

from typing import NamedTuple

import numpy as np

from vuilab.alphabet import current
from vuilab.text import int_sequence_to_text


class Posteriors(NamedTuple):
    """What a model makes of an utterance, frame by frame."""

    letters: np.ndarray  # (num_output_frames, num_classes) probabilities, the blank last
    phonemes: np.ndarray | None = None  # (num_output_frames, NUM_PHONEME_CLASSES), where the model learnt those


def collapse(path: np.ndarray, blank: int) -> np.ndarray:
    """Merge repeats, then drop blanks (Graves et al. 2006, the map B).

    Example:
        >>> collapse(np.array([28, 2, 2, 28, 2, 3]), blank=28)
        array([2, 2, 3])
    """
    path = np.asarray(path)
    return path[(np.diff(path, prepend=-1) != 0) & (path != blank)]


def greedy_decode(probabilities: np.ndarray, num_frames: int | None = None) -> str:
    """Decode one utterance by the best class of each frame, without spaces at the ends.

    Args:
        probabilities: (num_output_frames, num_classes), or logarithms or logits; the blank is the last class.
        num_frames: true frames, when the rest is padding.

    Raises:
        ValueError: when the probabilities are no finite matrix.
    """
    probabilities = np.asarray(probabilities)[:num_frames]
    if probabilities.ndim != 2 or np.isnan(probabilities).any():
        raise ValueError(
            "Expected probabilities (num_output_frames, num_classes) without NaN. Received: shape "
            f"{probabilities.shape}. A model whose training diverged gives NaN; train it again with clipping."
        )
    path = collapse(probabilities.argmax(axis=1), blank=probabilities.shape[1] - 1)
    return int_sequence_to_text(path).strip()


def class_labels(num_classes: int) -> list[str]:
    """Return a printable label for each class: letters, a visible sign for space, and 'blank'."""
    names = current()[: num_classes - 1].replace(" ", "␣")
    return [*names, *[""] * (num_classes - 1 - len(names)), "blank"]
