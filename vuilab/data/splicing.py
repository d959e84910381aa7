"""Novel sentences from recorded words: stretches of a speaker's utterances, put together anew in every epoch.

A network that hears two hours of speech over and over learns whole sentences by heart. Cut at word boundaries and joined
in another order, the same recordings give sentences without end, and only the sounds are left to learn from (aligned data
augmentation: Lam et al., arXiv:2104.01393, who replace single words). The manifest has to tell when each word is spoken,
`"words": [[word, start, end], ...]` in seconds: the demo corpus does, and `vui.py data words` adds it to any other.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vuilab.corpus.manifest import Utterance
from vuilab.text import text_to_int_sequence

MOST_WORDS = 6  # of one stretch; each number from 1 on is equally likely
TRIES = 4  # stretches in a row that do not fit before the sentence ends


class Stretch(NamedTuple):
    """Successive words of one utterance."""

    utterance: int
    words: tuple[str, ...]
    first_frame: int
    last_frame: int  # the first one behind it


class Splicer:
    """Makes sentences of features and labels from a training set's utterances, whose words have times.

    Raises:
        ValueError: for an utterance without the times of its words, or with those of other words.
    """

    def __init__(self, utterances: Sequence[Utterance], frames_per_second: float):
        self.words = [_words(utterance) for utterance in utterances]
        self.bounds = [_bounds(utterance, frames_per_second) for utterance in utterances]
        groups: dict[tuple[str | None, float], list[int]] = {}
        for index, utterance in enumerate(utterances):
            groups.setdefault((utterance.speaker, utterance.speed), []).append(index)
        self.companions = {}  # utterance -> (utterances of the speaker at that speed, how likely each is chosen)
        for members in groups.values():
            counts = np.array([len(self.words[index]) for index in members], float)
            entry = np.array(members), counts / counts.sum()
            self.companions.update(dict.fromkeys(members, entry))

    def splice(
        self, index: int, features_of: Callable[[int], np.ndarray], most_labels: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a sentence at most as long as an utterance, in stretches that its speaker said at the same speed.

        Args:
            index, features_of: of the utterance; index -> features (num_frames, num_features).
            most_labels: characters of the sentence at most.
            rng: source of the random numbers.

        Returns:
            (features (num_frames, num_features), labels (label_length,) int32); the utterance as it is when nothing fits.
        """
        chosen = self.choose(index, len(features_of(index)), most_labels, rng)
        pieces = [features_of(stretch.utterance)[stretch.first_frame : stretch.last_frame] for stretch in chosen]
        text = " ".join(word for stretch in chosen for word in stretch.words)
        return np.concatenate(pieces), np.asarray(text_to_int_sequence(text), np.int32)

    def choose(self, index: int, num_frames: int, most_labels: int, rng: np.random.Generator) -> list["Stretch"]:
        """Return the stretches of a sentence of at most `num_frames`, those of the utterance in whose place it stands."""
        members, probabilities = self.companions[index]
        room, letters_left, found, misses = num_frames, most_labels + 1, [], 0
        while misses < TRIES:
            chosen = int(rng.choice(members, p=probabilities))
            start = int(rng.integers(0, len(self.words[chosen])))
            count = int(rng.integers(1, MOST_WORDS + 1))
            words, bounds = tuple(self.words[chosen][start : start + count]), self.bounds[chosen]
            stretch = Stretch(chosen, words, int(bounds[start]), int(bounds[start + len(words)]))
            letters = sum(len(word) + 1 for word in stretch.words)
            if stretch.last_frame - stretch.first_frame > room or letters > letters_left:
                misses += 1
                continue
            found.append(stretch)
            room -= stretch.last_frame - stretch.first_frame
            letters_left -= letters
        return found or [Stretch(index, tuple(self.words[index]), 0, num_frames)]


def _words(utterance: Utterance) -> list[str]:
    """Return the words of an utterance, having made sure that each has its time."""
    words, times = utterance.text.split(), utterance.extra.get("words")
    if times is None:
        raise ValueError(
            f"Splicing needs to know when each word is spoken, and the manifest does not say so for {utterance.path}. Add the "
            "times with `python vui.py data words CORPUS --out NEW`, and train on NEW; or train without novel sentences "
            "(--splice 0)."
        )
    if [time[0] for time in times] != words:
        raise ValueError(
            f"The manifest gives times for other words than {utterance.path} has. Expected: {' '.join(words)}. Received: "
            f"{' '.join(str(time[0]) for time in times)}."
        )
    return words


def _bounds(utterance: Utterance, frames_per_second: float) -> np.ndarray:
    """Return the frames at which an utterance is cut: its begin, the middle between words, its end; (num_words + 1,)."""
    times = np.array([time[1:] for time in utterance.extra["words"]], float) / utterance.speed
    middle = (times[:-1, 1] + times[1:, 0]) / 2
    cuts = np.concatenate([[0.0], middle, [utterance.duration]]) * frames_per_second
    return np.maximum.accumulate(np.round(cuts).astype(int))
