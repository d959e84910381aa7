"""The probability of a text, summed over all frame-by-frame paths that read as it (Graves et al., ICML 2006, section 4.1).

Spaces count as people read them: a path may begin or end with spaces and may have several between two words.
"""

import math
from collections.abc import Sequence

import numpy as np

from vuilab.files import compiled

NEVER = -1e30  # a logarithm that stands for probability zero
TINY = 1e-250  # where sums of probabilities are no longer trusted
SMALLEST = 1e-280  # set to zero: processors are slow with numbers at the end of their range
RESCALED = 1e-60  # below it numbers are made larger
NEGLIGIBLE = 1e-60  # of the probability of the best state at the same frame
TOLERANCE = 1e-10  # of a text's probability


@compiled()
def log_add(a, b):
    """Return ln(exp a + exp b)."""
    if a < b:
        a, b = b, a
    return a if b < a - 40.0 else a + math.log1p(math.exp(b - a))


def require_finite(probabilities: np.ndarray) -> np.ndarray:
    """Return the probabilities as an array.

    Raises:
        ValueError: when they are no finite matrix.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or not np.isfinite(probabilities).all():
        raise ValueError(
            "Expected probabilities (num_output_frames, num_classes) without NaN. Received: shape "
            f"{probabilities.shape}. A model whose training diverged gives NaN; train it again with clipping."
        )
    return probabilities


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithms (num_output_frames, num_classes) that a search works on; see `require_finite`."""
    return np.log(np.maximum(require_finite(probabilities), 1e-37)).astype(np.float32)


def text_log_probs(log_probs: np.ndarray, texts: Sequence[Sequence[int]], space: int) -> np.ndarray:
    """Return ln p(text | audio) of each text.

    The states are those of CTC: the characters with blanks around them. Blanks at the ends and after a space stand for spaces
    too, and a space is left after one frame, so that every path is counted once. Probabilities are summed as they are, rescaled
    now and then (Rabiner 1989, section V.A), which is faster than sums of logarithms; those are for texts so improbable that a
    number has no room for it.

    Args:
        log_probs: (num_frames, num_classes), the blank being the last class.
        texts, space: classes of each text, with single spaces between its words, and the class of those.
    """
    if not len(texts):
        return np.zeros(0)
    labels = np.array([label for text in texts for label in text], np.int64)
    return _of_all(np.asarray(log_probs, np.float64), labels, np.cumsum([len(text) for text in texts]), space)


@compiled(nogil=True)
def _of_all(log_probs, labels, ends, space):
    """Return what `text_log_probs` does, of texts that stand one after the other in `labels`."""
    probs = np.exp(log_probs)
    ahead = np.zeros(len(probs))  # ln of the most that any path can have after each frame
    for t in range(len(probs) - 2, -1, -1):
        ahead[t] = ahead[t + 1] + log_probs[t + 1].max()
    found = np.empty(len(ends))
    start = 0
    for number in range(len(ends)):
        text = labels[start : ends[number]]
        found[number] = _by_numbers(probs, ahead, text, space, NEGLIGIBLE)
        if found[number] == NEVER:
            found[number] = _by_numbers(probs, ahead, text, space, 0.0)
        if found[number] == NEVER:
            found[number] = _by_logarithms(log_probs, text, space)
        start = ends[number]
    return found


@compiled(nogil=True)
def _by_numbers(probs, ahead, labels, space, negligible):
    """Return ln p of one text, or NEVER where this way is not exact enough.

    Labels and the blanks before them have arrays of their own, and conditions are factors of 0 or 1, so that the loops over
    states have no branches. They run over a window of states: what lies before and behind it has less than `negligible` of the
    best state's probability, and is left out. The most that this can have lost in all must be less than `TOLERANCE` of what
    remains.
    """
    num_labels = len(labels)
    stay = (labels != space) * 1.0  # a space is left after one frame
    skip = np.zeros(num_labels)  # no blank is needed between different labels
    quiet = np.zeros(num_labels + 1)  # blanks that may be spaces
    quiet[0] = quiet[num_labels] = 1.0
    for number in range(num_labels):
        skip[number] = number > 0 and labels[number] != labels[number - 1]
        if labels[number] == space:
            quiet[number + 1] = 1.0
    label, label_before = np.zeros(num_labels + 2), np.zeros(num_labels + 2)  # of label n at n + 1
    blank, blank_before = np.zeros(num_labels + 2), np.zeros(num_labels + 2)  # of the blank before label n at n
    heard = np.empty(num_labels)
    blank[0] = 1.0  # before the first frame
    first, last, scale, lost = 0, 0, 0.0, NEVER  # window from blank to blank, with the labels between
    for t in range(len(probs)):
        label, label_before = label_before, label
        blank, blank_before = blank_before, blank
        last = min(last + 1, num_labels)
        for number in range(first, last):
            heard[number] = probs[t, labels[number]]
        largest = 0.0
        for number in range(first, last):
            total = stay[number] * label_before[number + 1] + blank_before[number] + skip[number] * label_before[number]
            value = total * heard[number]
            label[number + 1] = value if value > SMALLEST else 0.0
            largest = max(largest, value)
        for number in range(first, last + 1):
            value = (blank_before[number] + label_before[number]) * (probs[t, -1] + quiet[number] * probs[t, space])
            blank[number] = value if value > SMALLEST else 0.0
            largest = max(largest, value)
        if largest < TINY:
            return NEVER
        if largest < RESCALED:
            for number in range(first, last + 1):
                label[number] /= largest
                blank[number] /= largest
            scale += math.log(largest)
            largest = 1.0
        before = first, last
        while first < last and blank[first] <= negligible * largest and label[first + 1] <= negligible * largest:
            first += 1
        while last > first and blank[last] <= negligible * largest and label[last] <= negligible * largest:
            last -= 1
        if negligible and before != (first, last):
            lost = max(lost, math.log(negligible * largest) + scale + ahead[t])
        label[first] = 0.0  # the arrays hold older frames outside the window, of which the next one reads these
        label[last + 1] = blank[last + 1] = 0.0
    total = label[num_labels] + blank[num_labels] if last == num_labels else 0.0
    if total <= TINY:
        return NEVER
    found = scale + math.log(total)
    return found if found + math.log(TOLERANCE / (2 * len(probs) * (num_labels + 1))) > lost else NEVER


@compiled()
def _by_logarithms(log_probs, labels, space):
    """Return ln p of one text, any text that a path can read."""
    num_frames, num_classes = log_probs.shape
    blank = num_classes - 1
    num_states = 2 * len(labels) + 1
    score = np.full(num_states, NEVER)
    before = np.full(num_states, NEVER)
    score[0] = 0.0
    for t in range(num_frames):
        score, before = before, score
        gap = log_add(log_probs[t, blank], log_probs[t, space])
        for state in range(num_states):
            number, is_label = state // 2, state % 2 == 1
            label = labels[number] if is_label else blank
            # a blank that may be a space
            quiet = not is_label and (number == 0 or number == len(labels) or labels[number - 1] == space)
            total = NEVER if label == space else before[state]
            if state >= 1:
                total = log_add(total, before[state - 1])
            if is_label and state >= 3 and label != labels[number - 1]:
                total = log_add(total, before[state - 2])
            score[state] = total + (gap if quiet else log_probs[t, label])
    total = score[num_states - 1]
    return total if num_states == 1 else log_add(total, score[num_states - 2])
