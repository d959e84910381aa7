"""How good is a spotter: false alarms per hour of other speech, recall of words that stand in a recording, and a threshold.

The windows of a recording are classified once; events at any threshold come from their scores. False alarms are counted on
utterances with transcripts, leaving out for each word those that hold it. Recall is measured on recordings made of clips on a
background, in which the true times are known.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.stats

from vuilab.audio import SAMPLE_RATE, blocks
from vuilab.corpus.manifest import Utterance
from vuilab.files import progress_bar
from vuilab.keywords.clips import LabelledAudio
from vuilab.keywords.corpus import CLIP_SAMPLES, SILENCE, UNKNOWN
from vuilab.keywords.scores import Proportion
from vuilab.keywords.spotting import BLOCK, Event, SpotSettings, WindowScores, find_events

if TYPE_CHECKING:
    from vuilab.keywords.scores import Classifier

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)
CLIPS_TOGETHER = 40  # clips in one recording made for recall
GAPS = (1.0, 3.0)  # shortest and longest time in seconds before, between and after them


@dataclasses.dataclass(frozen=True)
class Track:
    """The scores of a recording's windows."""

    name: str  # path of the recording, or what it is made of
    probabilities: np.ndarray  # (num_windows, num_words)
    duration: float  # seconds
    text: str = ""  # what is said in it, where that is known

    def holds(self, word: str) -> bool:
        """Whether a word is said: whole, or before an apostrophe."""
        return word in re.split(r"[ ']", self.text)


def track(classifier: "Classifier", chunks: Iterable[np.ndarray], hop: float, name: str = "", text: str = "") -> Track:
    """Classify the windows of a recording that comes in chunks of samples at 16 kHz."""
    windows = WindowScores(classifier, SpotSettings(hop=hop).hop_samples)
    rows = [windows.add(samples) for samples in chunks]
    return Track(name, np.concatenate([*rows, windows.finish()]), windows.num_samples / SAMPLE_RATE, text)


@dataclasses.dataclass(frozen=True)
class Alarm:
    """A word that was found where nobody said it."""

    name: str  # of the recording
    event: Event
    text: str  # of the recording


@dataclasses.dataclass(frozen=True)
class FalseAlarms:
    """How often words are found in speech that does not hold them."""

    hours: dict[str, float]  # word -> hours of speech without it
    alarms: tuple[Alarm, ...]  # highest score first

    @property
    def counts(self) -> dict[str, int]:
        """Word -> number of its alarms."""
        found = Counter(alarm.event.word for alarm in self.alarms)
        return {word: found[word] for word in self.hours}

    @property
    def per_hour(self) -> float:
        """Alarms of any word in an hour of speech that holds none: the sum over the words."""
        return math.fsum(count / self.hours[word] if count else 0.0 for word, count in self.counts.items())

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper limit (95 %) of `per_hour`."""
        return rate_interval(list(self.counts.values()), list(self.hours.values()))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.per_hour:.2f} [{low:.2f}, {high:.2f}] false alarms per hour"

    def as_dict(self) -> dict:
        """Return plain data for records and `--json`; a limit that there is not is None."""
        low, high = (limit if math.isfinite(limit) else None for limit in self.interval)
        words = {word: {"num_alarms": count, "hours": self.hours[word]} for word, count in self.counts.items()}
        return {"per_hour": self.per_hour, "low": low, "high": high, "num_alarms": len(self.alarms), "words": words}


def rate_interval(counts: Sequence[int], hours: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % limits per hour of a sum of Poisson rates, `sum(counts / hours)`; infinite without any time.

    The gamma interval of Fay and Feuer (Statistics in Medicine 16, 1997, 791-801, section 2); where all hours are equal it is
    the exact Poisson interval. Kinds of events without any time are left out.

    Example:
        >>> low, high = rate_interval([0], [2.0])  # the "rule of three": 0 in 2 hours, one-sided 97.5 %: 3.69 / 2
        >>> low, round(high, 3)
        (0.0, 1.844)
    """
    kinds = [(count, 1 / time) for count, time in zip(counts, hours, strict=True) if time > 0]
    if not kinds:
        return 0.0, math.inf
    numbers, weights = np.array(kinds).T
    rate, variance, largest = float(weights @ numbers), float(weights**2 @ numbers), float(weights.max())
    low = variance / (2 * rate) * scipy.stats.chi2.ppf(0.025, 2 * rate**2 / variance) if rate else 0.0
    raised, spread = rate + largest, variance + largest**2
    return float(low), float(spread / (2 * raised) * scipy.stats.chi2.isf(0.025, 2 * raised**2 / spread))


def speech_tracks(
    classifier: "Classifier", utterances: Sequence[Utterance], hop: float, progress: bool = True
) -> tuple[list[Track], list[str]]:
    """Classify the windows of utterances, and return with the tracks what could not be read and why.

    Raises:
        ValueError: when no utterance can be read.
    """
    tracks, skipped = [], []
    for utterance in progress_bar(utterances, "Speech", len(utterances), " utterances", progress):
        try:
            chunks = blocks(utterance.path, BLOCK)
            tracks.append(track(classifier, chunks, hop, str(utterance.path), utterance.text))
        except (ValueError, OSError) as error:
            skipped.append(f"{utterance.path}: {error}")
    if not tracks:
        raise ValueError(
            "No utterance of the manifest can be read" + (f": {skipped[0]}" if skipped else "; it is empty.")
        )
    return tracks, skipped


def false_alarms(tracks: Iterable[Track], words: tuple[str, ...], settings: SpotSettings) -> FalseAlarms:
    """Count words found in tracks of speech, made with the settings' hop; `words` are their columns.

    For each word, recordings whose text holds it count neither as time nor as alarms.
    """
    hours, alarms = dict.fromkeys(words, 0.0), []
    for one in tracks:
        absent = {word for word in words if not one.holds(word)}
        for word in absent:
            hours[word] += one.duration / 3600
        found = find_events(one.probabilities, words, settings)
        alarms += [Alarm(one.name, event, one.text) for event in found if event.word in absent]
    return FalseAlarms(hours, tuple(sorted(alarms, key=lambda alarm: -alarm.event.score)))


@dataclasses.dataclass(frozen=True)
class Placed:
    """A clip of a word in a recording."""

    word: str
    start: float  # seconds from the beginning
    end: float

    def is_found(self, events: Iterable[Event]) -> bool:
        """Whether one of the events is of its word and lies within it."""
        return any(event.word == self.word and self.start <= event.time < self.end for event in events)


def place_clips(
    clips: Sequence[tuple[str, np.ndarray]], background: np.ndarray, rng: np.random.Generator, snr_db: float = 20.0
) -> tuple[np.ndarray, list[Placed]]:
    """Make a recording in which words stand at known times, 1 to 3 seconds apart.

    Args:
        clips: (word, waveform) in their order.
        background: waveform at any level, repeated as long as it is needed, from a random place on; digital silence is allowed.
        rng: draws the gaps and the place.
        snr_db: mean power of the clips over that of the background, in dB.

    Returns:
        (float32 waveform at 16 kHz, where the clips stand)

    Raises:
        ValueError: without clips or background.
    """
    if not len(clips) or not len(background):
        raise ValueError(f"Expected clips and a background. Received: {len(clips)} clips, {len(background)} samples.")
    silences = np.round(rng.uniform(*GAPS, len(clips) + 1) * SAMPLE_RATE).astype(int)
    lengths = np.array([len(samples) for _, samples in clips])
    starts = np.cumsum(silences[:-1]) + np.concatenate([[0], np.cumsum(lengths[:-1])])
    total = int(starts[-1] + lengths[-1] + silences[-1])
    noise = np.take(background, np.arange(total) + rng.integers(len(background)), mode="wrap").astype(np.float32)
    power = np.mean(np.square(np.concatenate([samples for _, samples in clips]), dtype=np.float64))
    noise_power = np.mean(np.square(noise, dtype=np.float64))
    samples = noise * np.float32(math.sqrt(power / noise_power) * 10 ** (-snr_db / 20) if noise_power else 0)
    placed = []
    for start, (word, clip) in zip(starts, clips, strict=True):
        samples[start : start + len(clip)] += clip
        placed.append(Placed(word, start / SAMPLE_RATE, (start + len(clip)) / SAMPLE_RATE))
    return samples, placed


def word_tracks(
    classifier: "Classifier",
    audio: LabelledAudio,
    backgrounds: Sequence[np.ndarray],
    settings: SpotSettings,
    snr_db: float = 20.0,
    seed: int = 0,
    progress: bool = True,
) -> list[tuple[Track, list[Placed]]]:
    """Classify the windows of recordings made of the clips of words in random order, 40 in each; see `place_clips`.

    Args:
        classifier: the network.
        audio: labelled clips.
        backgrounds: waveforms, which take turns; none: digital silence.
        settings: whose hop is used.
        snr_db: mean power of the clips over that of the background, in dB.
        seed: of order, gaps and backgrounds.

    Raises:
        ValueError: when there is no clip of a word.
    """
    spoken = [n for n, clip in enumerate(audio.clips) if clip.label not in (SILENCE, UNKNOWN)]
    if not spoken:
        raise ValueError("There is no clip of a word to be placed. Choose another part or corpus.")
    order = np.random.default_rng([seed, 0]).permutation(spoken)
    parts = np.split(order, range(CLIPS_TOGETHER, len(order), CLIPS_TOGETHER))
    found = []
    for number, part in enumerate(progress_bar(parts, "Placed clips", len(parts), " recordings", progress)):
        background = backgrounds[number % len(backgrounds)] if backgrounds else np.zeros(CLIP_SAMPLES, np.float32)
        clips = [(audio.clips[n].label, samples) for n, samples in zip(part, audio.samples(part), strict=True)]
        samples, placed = place_clips(clips, background, np.random.default_rng([seed, 1, number]), snr_db)
        found.append((track(classifier, [samples], settings.hop, f"placed {number}"), placed))
    return found


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """What a threshold gives."""

    threshold: float
    false_alarms: FalseAlarms
    recall: Proportion | None  # None where no clips were placed
    recall_of: dict[str, Proportion]
    num_wrong: int  # events in the placed recordings that are no hit

    def as_dict(self) -> dict:
        """Return plain data for records and `--json`."""
        found = {"threshold": self.threshold, "false_alarms": self.false_alarms.as_dict()}
        if self.recall is not None:
            words = {word: value.as_dict() for word, value in self.recall_of.items()}
            found |= {"recall": {**self.recall.as_dict(), "words": words}, "num_wrong": self.num_wrong}
        return found


def operating_point(
    speech: Sequence[Track],
    placed: Sequence[tuple[Track, list[Placed]]],
    words: tuple[str, ...],
    settings: SpotSettings,
) -> OperatingPoint:
    """Measure one threshold on the tracks of `speech_tracks`, and on those of `word_tracks`, which may be none."""
    cases, hits, num_events = Counter(), Counter(), 0
    for one, clips in placed:
        events = find_events(one.probabilities, words, settings)
        num_events += len(events)
        cases.update(clip.word for clip in clips)
        hits.update(clip.word for clip in clips if clip.is_found(events))
    recall_of = {word: Proportion(hits[word], cases[word]) for word in words if cases[word]}
    recall = Proportion(hits.total(), cases.total()) if recall_of else None
    alarms = false_alarms(speech, words, settings)
    return OperatingPoint(settings.threshold, alarms, recall, recall_of, num_events - hits.total())


def choose_threshold(points: Iterable[OperatingPoint], per_hour: float) -> OperatingPoint | None:
    """Return the point with the highest recall among those with at most so many false alarms per hour; None: there is none.

    Without recall it is the lowest threshold. Choose on a development part and measure on another one.
    """

    def rank(point: OperatingPoint) -> tuple[float, float]:
        return (point.recall.rate, -point.false_alarms.per_hour) if point.recall else (0.0, -point.threshold)

    return max((point for point in points if point.false_alarms.per_hour <= per_hour), key=rank, default=None)
