"""Finding commands in long recordings and in live sound: a classifier of one second, applied to a window that slides.

The window moves on by a hop (0.1 s); its probabilities of each word are averaged over a few windows, and a word is found where
this score reaches a threshold, once until the score has fallen again. Silence and unknown words are never found. Sound comes in
chunks of any size, from a file of any length or from a microphone, and what is found does not depend on the chunks.
"""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vuilab.audio import SAMPLE_RATE, blocks
from vuilab.keywords.corpus import CLIP_SAMPLES, SILENCE, UNKNOWN
from vuilab.options import option

if TYPE_CHECKING:
    from vuilab.keywords.scores import Classifier

HALF = CLIP_SAMPLES // 2  # samples before and after the middle of a window
FAINTEST = 2.0**-15  # a window in which no sample is louder holds nothing: the last of 16 bits
NUM_TOGETHER = 64  # windows that the classifier takes at once
BLOCK = 5.0  # seconds of a file read at a time


@dataclasses.dataclass(frozen=True)
class SpotSettings:
    """How windows become events.

    Raises:
        ValueError: at construction, for values out of range.
    """

    threshold: float = option(0.8, "0..1: score from which a word is found")
    hop: float = option(0.1, "seconds from one window to the next", metavar="S")
    smoothing: int = option(
        3, "windows that are averaged; an odd number, so that the score belongs to the middle one", metavar="N"
    )
    refractory: float = option(0.5, "seconds after an event in which the same word does not begin again", metavar="S")

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1. Received: threshold={self.threshold}")
        if not 1 <= self.hop * SAMPLE_RATE <= CLIP_SAMPLES:
            raise ValueError(f"hop must be above 0 and at most 1 second. Received: hop={self.hop}")
        if self.smoothing < 1 or self.smoothing % 2 == 0:
            raise ValueError(f"smoothing must be an odd number of windows. Received: smoothing={self.smoothing}")
        if not self.refractory >= 0:
            raise ValueError(f"refractory must be 0 seconds or more. Received: refractory={self.refractory}")

    @property
    def hop_samples(self) -> int:
        """Samples from one window to the next."""
        return round(self.hop * SAMPLE_RATE)


@dataclasses.dataclass(frozen=True)
class Event:
    """A word that was found."""

    word: str
    time: float  # seconds from the beginning: where the word is: mean over the windows that know it, weighted with their scores
    start: float  # seconds: the second of sound around it, as far as the recording goes
    end: float
    score: float  # 0..1: the highest smoothed probability


def spotted_words(labels: Sequence[str]) -> tuple[str, ...]:
    """Return which labels of a classifier are words to be found: all but silence and unknown.

    Raises:
        ValueError: when none is.
    """
    words = tuple(label for label in labels if label not in (SILENCE, UNKNOWN))
    if not words:
        raise ValueError(
            f"Nothing can be spotted by a classifier without words. Received: the labels {' '.join(labels)}"
        )
    return words


def label_warning(labels: Iterable[str]) -> str:
    """Return what a classifier's labels mean for false alarms; '' when it knows silence and unknown words."""
    sounds = {UNKNOWN: "other speech", SILENCE: "noise"}
    missing = [label for label in sounds if label not in set(labels)]
    if not missing:
        return ""
    names, taken = " or ".join(f"'{name}'" for name in missing), " and ".join(sounds[name] for name in missing)
    return (
        f"The classifier has no label {names}, so it takes {taken} for one of its words. Train one that has both: "
        "python vui.py keywords train DIR --words WORD ... silence unknown"
    )


class WindowScores:
    """The probability of each word in a window that slides over chunks of sound.

    Window n has its middle at n * hop and reaches half a second to both sides; beyond the recording there are zeros. There is one
    for every hop that begins within the recording. Digital silence has probability 0 of every word.
    """

    def __init__(self, classifier: "Classifier", hop_samples: int):
        self.classifier, self.hop_samples = classifier, hop_samples
        self.words = spotted_words(classifier.labels)
        self.columns = [classifier.labels.index(word) for word in self.words]
        self.num_samples = 0  # so far
        self.waiting = np.zeros(HALF, np.float32)  # from the beginning of the next window

    def add(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples (num_samples,) at 16 kHz and return the windows that they complete: (num_windows, num_words).

        Raises:
            ValueError: for another shape, for samples that are not finite numbers, and when the classifier gives NaN.
        """
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise ValueError(f"Expected finite samples (num_samples,) at 16 kHz. Received: shape {samples.shape}.")
        self.num_samples += len(samples)
        self.waiting = np.concatenate([self.waiting, samples])
        return self._take((len(self.waiting) - CLIP_SAMPLES) // self.hop_samples + 1)

    def finish(self) -> np.ndarray:
        """Return the windows that reach beyond the end of the recording: (num_windows, num_words)."""
        left = len(self.waiting) - HALF  # samples behind the middle of the next window
        self.waiting = np.pad(self.waiting, (0, CLIP_SAMPLES))
        return self._take(-(-left // self.hop_samples))

    def _take(self, number: int) -> np.ndarray:
        scores = np.zeros((max(number, 0), len(self.words)), np.float32)
        if number <= 0:
            return scores
        windows = np.lib.stride_tricks.sliding_window_view(self.waiting, CLIP_SAMPLES)[:: self.hop_samples][:number]
        heard = np.flatnonzero([np.ptp(window) > 2 * FAINTEST for window in windows])  # an offset is no sound
        for part in np.split(heard, range(NUM_TOGETHER, len(heard), NUM_TOGETHER)):
            if len(part):
                scores[part] = self.classifier.probabilities(windows[part])[:, self.columns]
        if np.isnan(scores).any():
            raise ValueError("The classifier gives NaN. One whose training diverged does that; train it again.")
        self.waiting = self.waiting[number * self.hop_samples :]
        return scores


class EventDetector:
    """Turns the probabilities of windows into events, as they come.

    The score of a window is the mean over `smoothing` windows around it; windows beyond the recording count as 0. A stretch of
    windows whose score is at least the threshold is an event when it has ended, unless it begins within `refractory` seconds of
    the end of the last event of the same word.
    """

    def __init__(self, words: tuple[str, ...], settings: SpotSettings):
        self.words, self.settings = words, settings
        self.recent = deque([np.zeros(len(words))] * settings.smoothing, settings.smoothing)
        self.num_windows = 0  # whose score is known
        self.stretches: dict[int, list[tuple[int, float]]] = {}  # column -> (window, score) of the one at work
        self.ended = dict.fromkeys(range(len(words)), -np.inf)  # last window of the last event
        self.ahead = settings.smoothing // 2  # windows that the score of one waits for

    def add(self, probabilities: np.ndarray) -> Iterator[Event]:
        """Take the next windows (num_windows, num_words) and yield the events that they end."""
        for row in probabilities:
            self.recent.append(row)
            if self.ahead:
                self.ahead -= 1
                continue
            yield from self._advance(np.mean(self.recent, axis=0, dtype=np.float64))

    def finish(self) -> Iterator[Event]:
        """Yield the events that the end of the recording ends."""
        yield from self.add(np.zeros((self.settings.smoothing // 2, len(self.words))))
        yield from self._advance(np.zeros(len(self.words)))

    def _advance(self, scores: np.ndarray) -> Iterator[Event]:
        for column, score in enumerate(scores):
            if score >= self.settings.threshold:
                self.stretches.setdefault(column, []).append((self.num_windows, float(score)))
            elif column in self.stretches:
                yield from self._end(column, self.stretches.pop(column))
        self.num_windows += 1

    def _end(self, column: int, stretch: list[tuple[int, float]]) -> Iterator[Event]:
        hop = self.settings.hop_samples / SAMPLE_RATE
        if (stretch[0][0] - self.ended[column]) * hop < self.settings.refractory - 1e-9:
            return
        self.ended[column] = stretch[-1][0]
        time = hop * sum(window * score for window, score in stretch) / sum(score for _, score in stretch)
        yield Event(self.words[column], time, max(0.0, time - 0.5), time + 0.5, max(score for _, score in stretch))


def find_events(probabilities: np.ndarray, words: tuple[str, ...], settings: SpotSettings) -> list[Event]:
    """Return the events of a whole recording's windows (num_windows, num_words).

    Example:
        >>> rows = np.array([[0.0], [0.9], [0.9], [0.9], [0.0]])
        >>> (event,) = find_events(rows, ("go",), SpotSettings(threshold=0.5))
        >>> event.word, round(event.time, 3)
        ('go', 0.2)
    """
    detector = EventDetector(words, settings)
    return [*detector.add(probabilities), *detector.finish()]


class Spotter:
    """Finds words in sound that comes in chunks. An event comes when its score has fallen, up to a second after the word.

    Raises:
        ValueError: when the classifier has no words.
    """

    def __init__(self, classifier: "Classifier", settings: SpotSettings | None = None):
        settings = settings or SpotSettings()
        self.windows = WindowScores(classifier, settings.hop_samples)
        self.detector = EventDetector(self.windows.words, settings)

    def add(self, samples: np.ndarray) -> list[Event]:
        """Take samples (num_samples,) in -1..1 at 16 kHz, any number, and return the events that they end."""
        return self._within(self.detector.add(self.windows.add(samples)))

    def finish(self) -> list[Event]:
        """Return the events that the end of the sound ends; use another spotter for the next recording."""
        rest = self.windows.finish()
        return self._within([*self.detector.add(rest), *self.detector.finish()])

    def _within(self, events: Iterable[Event]) -> list[Event]:
        duration = self.windows.num_samples / SAMPLE_RATE  # so far
        return [dataclasses.replace(event, end=min(event.end, duration)) for event in events]


def spot_file(classifier: "Classifier", path: str | Path, settings: SpotSettings | None = None) -> list[Event]:
    """Return the words in an audio file of any length, rate and number of channels; memory does not grow with it.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no audio.
    """
    spotter, events = Spotter(classifier, settings), []
    for samples in blocks(path, BLOCK):
        events += spotter.add(samples)
    return events + spotter.finish()
