"""Forced alignment: when each character and word of a known text was spoken.

The most probable frame-by-frame path that reads as the text (Viterbi over its characters with blanks between them) tells at
which output frame each character appears. CTC models put characters into few frames, so a character is taken to last until the
middle between its last frame and the next character's first one.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from vuilab.alphabet import ALPHABET
from vuilab.audio import SAMPLE_RATE
from vuilab.decoding.paths import NEVER, require_finite
from vuilab.features import MFCC_WINDOW, FeatureSettings
from vuilab.files import compiled
from vuilab.models.frames import TimeChange
from vuilab.text import text_to_int_sequence

SPACE = ALPHABET.index(" ")
LONGEST_TAIL = 0.06  # seconds that a word goes on at most after the last frame of its last character
WIDTH = 2**12  # states of a text that are looked at in one frame: more than two minutes of speech
FRAMES = 1024  # from one score that is kept to the next
LONGEST_ONSET = 0.12  # seconds that a word begins at most before the first frame of its first character


@dataclasses.dataclass(frozen=True)
class Span:
    """A stretch of a recording."""

    text: str  # a character or a word
    start: float  # seconds
    end: float
    confidence: float  # geometric mean of the probabilities at its frames, 0..1


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Where a text stands in a recording."""

    characters: list[Span]  # spaces included
    words: list[Span]
    log_prob: float  # of the best path, in nats


@dataclasses.dataclass(frozen=True)
class FrameClock:
    """Maps output frames to seconds: frame t is centred at `offset + t * step`."""

    step: float
    offset: float

    def __call__(self, frame):
        """Return the time of an output frame, or of an array of them (fractions lie between frames)."""
        return self.offset + self.step * frame


def frame_clock(changes: Iterable[TimeChange], settings: FeatureSettings) -> FrameClock:
    """Derive when each output frame of an acoustic model happens, from what its layers do to the time axis and the features.

    Raises:
        ValueError: for a layer behind which times are not known.
    """
    stride, centre = 1.0, 0.0  # of output frames, in feature frames
    for change in changes:
        if change.repeats != 1:
            raise ValueError(f"Times are not known behind the layer {change.layer!r}, which repeats frames.")
        reach = {"valid": (change.window - 1) * change.dilation / 2, "same": (change.stride - 1) / 2, "causal": 0.0}
        centre += stride * (reach[change.padding] - change.before)
        stride *= change.stride
    frame = 1 / settings.frames_per_second
    window = {"raw": 1 / SAMPLE_RATE, "mfcc": MFCC_WINDOW}.get(settings.kind, settings.window / 1000)
    return FrameClock(stride * frame, centre * frame + window / 2)


def align(probabilities: np.ndarray, text: str, clock: FrameClock) -> Alignment:
    """Find when a text was spoken.

    Args:
        probabilities: (num_output_frames, num_classes); the blank is the last class.
        text: what was said, in the alphabet.
        clock: see `frame_clock`.

    Raises:
        ValueError: for an empty text or one outside the alphabet, for probabilities that are no finite matrix, and when the
            recording is too short for the text.
    """
    text = " ".join(text.split())
    if not text:
        raise ValueError("There is no text to align. Expected what was said in the recording.")
    labels = np.array(text_to_int_sequence(text), np.int64)
    probabilities = require_finite(probabilities)
    needed = len(labels) + int(np.sum(labels[1:] == labels[:-1]))
    if len(probabilities) < needed:
        raise ValueError(
            f"The recording is too short for the text: {len(probabilities)} output frames for {needed} that its {len(labels)} "
            "characters need. Check that text and recording belong together."
        )
    log_probs = np.log(np.maximum(probabilities, 1e-37)).astype(np.float64)
    path, total = best_path(log_probs, labels)
    shown = np.flatnonzero(path >= 0)
    frames = np.split(shown, np.searchsorted(path[shown], np.arange(1, len(labels))))  # of each character
    first, last = np.array([(seen[0], seen[-1]) for seen in frames]).T
    means = np.array([log_probs[seen, label].mean() for seen, label in zip(frames, labels, strict=True)])
    starts, ends = _boundaries(clock(first), clock(last), labels == SPACE, clock.step)
    characters = [
        Span(letter, max(0.0, start), max(0.0, end), math.exp(mean))
        for letter, start, end, mean in zip(text, starts.tolist(), ends.tolist(), means, strict=True)
    ]
    return Alignment(characters, _words(text, characters, means), float(total))


def _boundaries(first: np.ndarray, last: np.ndarray, space: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return when each character starts and ends, from the times of its first and last frame.

    A character ends in the middle between its last frame and the next one's first. A space is given only what is a pause: words
    follow each other without one unless the next word's first character comes late.
    """
    middle = (last[:-1] + first[1:]) / 2
    starts = np.concatenate([[first[0] - step / 2], middle])
    ends = np.concatenate([middle, [last[-1] + step / 2]])
    for k in np.flatnonzero(space):
        ends[k - 1] = starts[k] = min(middle[k - 1], last[k - 1] + LONGEST_TAIL)
        ends[k] = starts[k + 1] = max(starts[k], first[k + 1] - LONGEST_ONSET)
    return starts, ends


def boundary_errors(alignment: Alignment, words: Sequence[Sequence]) -> np.ndarray:
    """Return by how many seconds starts and ends of words are late, (2 * num_words,).

    Args:
        alignment: of the text of these words.
        words: (word, start, end) in seconds, as the demo corpus tells them.

    Raises:
        ValueError: when the words are others.
    """
    if [word.text for word in alignment.words] != [word for word, _, _ in words]:
        raise ValueError(
            f"Expected the words of the alignment, {[w.text for w in alignment.words]}. Received: {[w for w, _, _ in words]}"
        )
    found = [(word.start, word.end) for word in alignment.words]
    return (np.array(found).reshape(-1, 2) - np.array([word[1:] for word in words], float).reshape(-1, 2)).ravel()


def shift(alignment: Alignment, seconds: float) -> Alignment:
    """Return an alignment whose recording begins later."""

    def later(spans: list[Span]) -> list[Span]:
        return [dataclasses.replace(span, start=span.start + seconds, end=span.end + seconds) for span in spans]

    return Alignment(later(alignment.characters), later(alignment.words), alignment.log_prob)


def _words(text: str, characters: list[Span], means: np.ndarray) -> list[Span]:
    """Join characters into words."""
    found = [match.span() for match in re.finditer(r"[^ ]+", text)]
    return [Span(text[a:b], characters[a].start, characters[b - 1].end, math.exp(means[a:b].mean())) for a, b in found]


def best_path(
    log_probs: np.ndarray, labels: np.ndarray, width: int = WIDTH, frames: int = FRAMES
) -> tuple[np.ndarray, float]:
    """Return the most probable path through a text (Viterbi; the trellis of Graves et al., ICML 2006).

    Memory is bounded for hours of speech: scores are kept every so many frames only, from which the steps in between are found
    again from behind; and of a text of more states than `width` those around the best one at each frame are looked at.

    Args:
        log_probs: (num_frames, num_classes), the blank being the last class.
        labels: (length,) classes of the text, for which there are frames enough.
        width: states (twice the characters) that are looked at in one frame.
        frames: from one kept score to the next.

    Returns:
        (path, log probability): for each frame the position in the text that it shows, -1 for a blank.
    """
    num_frames, num_states = len(log_probs), 2 * len(labels) + 1
    repeated = np.concatenate([[0], np.cumsum(labels[1:] == labels[:-1])])
    # frames from a character's first one to the end of the text, so that a path that is still possible is always among those kept
    needed = len(labels) - np.arange(len(labels)) + repeated[-1] - repeated
    width = min(width, num_states)
    starts = range(0, num_frames, frames)
    scores, lows = np.full((len(starts), width), NEVER), np.zeros(num_frames, np.int64)
    came = np.zeros((min(frames, num_frames), width), np.int8)  # how many states back
    score = np.full(width, NEVER)
    score[0] = 0.0
    for number, start in enumerate(starts):
        scores[number] = score
        _advance(log_probs, labels, needed, start, min(start + frames, num_frames), score, lows, came)
    last = num_states - 1 - lows[-1]
    state = last if score[last] >= score[last - 1] else last - 1
    total, path = score[state], np.full(num_frames, -1, np.int64)
    state += lows[-1]
    for number, start in reversed(list(enumerate(starts))):
        stop = min(start + frames, num_frames)
        if stop < num_frames:
            _advance(log_probs, labels, needed, start, stop, scores[number], lows, came)
        state = _back(path, start, stop, state, lows, came)
    return path, float(total)


@compiled()
def _advance(log_probs, labels, needed, start, stop, score, lows, came):
    """Go from frame `start` to `stop`: of the states from `lows[t]` on, put scores into `score` and steps back into `came`."""
    num_frames, blank = log_probs.shape[0], log_probs.shape[1] - 1
    width, num_states = len(score), 2 * len(labels) + 1
    before = np.empty(width)
    for t in range(start, stop):
        low = 0 if t == 0 else lows[t - 1]
        before[:] = score
        moved = low
        if width < num_states:
            best = low + np.argmax(before)
            moved = min(max(low, best - width // 2), num_states - width)
            while moved < num_states - width and moved // 2 < len(labels) and needed[moved // 2] > num_frames - t + 1:
                moved += 1
        lows[t] = moved
        for state in range(moved, moved + width):
            at = state - low
            value, back = before[at] if at < width else NEVER, 0
            if t == 0:  # a path begins with the first character or a blank before it
                value = 0.0 if state <= 1 else NEVER
            else:
                if at >= 1 and at - 1 < width and before[at - 1] > value:
                    value, back = before[at - 1], 1
                if (
                    state >= 3
                    and state % 2 == 1
                    and at >= 2
                    and at - 2 < width
                    and labels[state // 2] != labels[state // 2 - 1]
                    and before[at - 2] > value
                ):
                    value, back = before[at - 2], 2
            came[t - start, state - moved] = back
            score[state - moved] = value + log_probs[t, labels[state // 2] if state % 2 == 1 else blank]


@compiled()
def _back(path, start, stop, state, lows, came):
    """Write the path from frame `stop` back to `start`, ending in `state`, and return the state before it."""
    for t in range(stop - 1, start - 1, -1):
        if state % 2 == 1:
            path[t] = state // 2
        state -= came[t - start, state - lows[t]]
    return state
