"""The probability of a text, summed over all frame-by-frame paths that read as it (Graves et al., ICML 2006, section 4.1).

Spaces count as people read them: a path may begin or end with spaces and may have several between two words.
"""

import math

import numba
import numpy as np

NEVER = -1e30  # a logarithm that stands for probability zero
TINY = 1e-250  # where sums of probabilities are no longer trusted


@numba.njit(cache=True)
def log_add(a, b):
    """Return ln(exp a + exp b)."""
    if a < b:
        a, b = b, a
    return a if b < a - 40.0 else a + math.log1p(math.exp(b - a))


@numba.njit(cache=True, nogil=True)
def text_log_prob(log_probs, labels, space):
    """Return ln p(text | audio).

    The states are those of CTC: the characters with blanks around them. Blanks at the ends and after a space stand for spaces
    too, and a space is left after one frame, so that every path is counted once. Probabilities are summed as they are, rescaled
    in each frame (Rabiner 1989, section V.A), which is faster than sums of logarithms; those are for texts so improbable that a
    number has no room for it.

    Args:
        log_probs: (num_frames, num_classes), the blank being the last class.
        labels: (label_length,) classes of a text with single spaces between its words.
        space: class of the space.
    """
    num_frames, num_classes = log_probs.shape
    blank = num_classes - 1
    quiet = _quiet_states(labels, space)
    num_states = len(quiet)
    score = np.zeros(num_states)
    before = np.zeros(num_states)
    score[0] = 1.0  # before the first frame
    scale = 0.0
    for t in range(num_frames):
        score, before = before, score
        probs = np.exp(log_probs[t].astype(np.float64))
        gap = probs[blank] + probs[space]
        largest = 0.0
        for state in range(num_states):
            is_label = state % 2 == 1
            label = labels[state // 2] if is_label else blank
            total = 0.0 if label == space else before[state]
            if state >= 1:
                total += before[state - 1]
            if is_label and state >= 3 and label != labels[state // 2 - 1]:
                total += before[state - 2]
            score[state] = total * (gap if quiet[state] else probs[label])
            largest = max(largest, score[state])
        if largest < TINY:
            return _by_logarithms(log_probs, labels, space, quiet)
        score /= largest
        scale += math.log(largest)
    total = score[num_states - 1] + (score[num_states - 2] if num_states > 1 else 0.0)
    return scale + math.log(total) if total > TINY else _by_logarithms(log_probs, labels, space, quiet)


@numba.njit(cache=True)
def _quiet_states(labels, space):
    """Return which states are blanks that may be spaces."""
    num_states = 2 * len(labels) + 1
    quiet = np.zeros(num_states, np.bool_)
    quiet[0] = quiet[num_states - 1] = True
    for number in range(len(labels)):
        if labels[number] == space:
            quiet[2 * number + 2] = True
    return quiet


@numba.njit(cache=True)
def _by_logarithms(log_probs, labels, space, quiet):
    """Return what `text_log_prob` does, for any text that a path can read."""
    num_frames, num_classes = log_probs.shape
    blank = num_classes - 1
    num_states = len(quiet)
    score = np.full(num_states, NEVER)
    before = np.full(num_states, NEVER)
    score[0] = 0.0
    for t in range(num_frames):
        score, before = before, score
        gap = log_add(log_probs[t, blank], log_probs[t, space])
        for state in range(num_states):
            is_label = state % 2 == 1
            label = labels[state // 2] if is_label else blank
            total = NEVER if label == space else before[state]
            if state >= 1:
                total = log_add(total, before[state - 1])
            if is_label and state >= 3 and label != labels[state // 2 - 1]:
                total = log_add(total, before[state - 2])
            score[state] = total + (gap if quiet[state] else log_probs[t, label])
    total = score[num_states - 1]
    return total if num_states == 1 else log_add(total, score[num_states - 2])
