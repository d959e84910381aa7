"""One split of a corpus as training sees it: its utterances, at every speed, with labels, features and what is left out."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vuilab.contents import hash_of_all
from vuilab.corpus.manifest import Utterance, read_manifest
from vuilab.data.feature_cache import FeatureCache, recording_hashes
from vuilab.data.splicing import Splicer
from vuilab.text import text_to_int_sequence


@dataclasses.dataclass
class Partition:
    """One split of a corpus, reduced to the utterances that take part."""

    manifest: Path
    manifest_hash: str  # of its contents when it was read
    everything: list[Utterance]  # the whole manifest, in its order, at each speed
    kept: np.ndarray  # indices into `everything`
    labels: list[np.ndarray]  # class indices of each utterance of `everything`
    cache: FeatureCache | None = None  # loaded at the first batch
    splicer: Splicer | None = None  # where sentences are made of recorded words
    output_length: Callable[[int], int] | None = None  # of the model that trains on it
    buckets: tuple[np.ndarray, np.ndarray] | None = None  # padded lengths and label widths, chosen at the first batch

    @functools.cached_property
    def contents(self) -> str | None:
        """Hash of what the recordings held when it was asked for first; None where one is gone that was never read."""
        return hash_of_all(recording_hashes(self.manifest, self.everything).values())

    @property
    def utterances(self) -> list[Utterance]:
        """The utterances that take part."""
        return [self.everything[index] for index in self.kept]

    def drop_infeasible(self, num_frames: np.ndarray, output_length: Callable[[int], int]) -> list[str]:
        """Leave out utterances whose transcript needs more frames than the model puts out.

        CTC needs a frame per character and one more between equal neighbours; with fewer the loss is infinite.

        Args:
            num_frames: feature frames of each utterance of `everything`.
            output_length: maps feature frames (an integer array) to output frames.

        Returns:
            One line per utterance left out: its path and both numbers.

        Raises:
            ValueError: when nothing is left.
        """
        self.output_length = output_length
        num_output = np.asarray(output_length(num_frames[self.kept]))
        needed = np.array([frames_needed(self.labels[index]) for index in self.kept])
        wrong = np.flatnonzero(num_output < needed)
        lines = [
            f"{self.everything[self.kept[i]].path}: the transcript needs {needed[i]} output frames, the model gives "
            f"{max(int(num_output[i]), 0)}"
            for i in wrong
        ]
        if len(lines) == len(self.kept):
            raise ValueError(
                f"Every utterance of {self.manifest} has a transcript longer than the model's output, for example "
                f"{lines[0]}. Use a smaller stride, or check that transcripts belong to their audio."
            )
        self.kept = np.delete(self.kept, wrong)
        self.buckets = None
        return lines

    def spliced(self, index: int, most_labels: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return features and labels of a novel sentence, or of the utterance where CTC could not align that; see `Splicer`."""
        features, labels = self.splicer.splice(index, self.cache.__getitem__, most_labels, rng)
        if self.output_length is None or self.output_length(len(features)) >= frames_needed(labels):
            return features, labels
        return self.cache[index], self.labels[index]


def require_word_times(part: Partition) -> None:
    """Refuse times of words that were found in recordings which have been replaced since.

    Raises:
        ValueError: when there are any.
    """
    now = recording_hashes(part.manifest, part.everything)
    replaced = [item.path for item in part.everything if item.extra.get("recording", now[item.path]) != now[item.path]]
    if replaced:
        raise ValueError(
            f"{len(set(replaced))} recordings of {part.manifest} were replaced since the times of their words were found, for "
            f"example {replaced[0]}. Run `python vui.py data words` again."
        )


def read_partition(manifest: Path, speeds: Sequence[float] = (1.0,), max_duration: float | None = None) -> Partition:
    """Read a manifest, each utterance once at each speed, leaving out those over `max_duration` seconds.

    Raises:
        FileNotFoundError: when there is no such manifest.
        ValueError: when the manifest is broken, a transcript holds characters outside the alphabet, or no utterance is
            short enough.
    """
    everything = read_manifest(manifest)
    manifest_hash = hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    if tuple(speeds) != (1.0,):
        played = ((speed, item) for speed in speeds for item in everything)
        everything = [dataclasses.replace(item, duration=item.duration / speed, speed=speed) for speed, item in played]
    labels = [np.asarray(text_to_int_sequence(utterance.text), np.int32) for utterance in everything]
    limit = np.inf if max_duration is None else max_duration
    kept = np.flatnonzero([utterance.duration <= limit for utterance in everything])
    if not len(kept):
        shortest = min(utterance.duration for utterance in everything)
        raise ValueError(
            f"No utterance of {manifest} is at most max_duration={max_duration} s long (the shortest has "
            f"{shortest:.1f} s). Raise max_duration or set it to None."
        )
    return Partition(manifest, manifest_hash, everything, kept, labels)


def frames_needed(labels: np.ndarray) -> int:
    """Return the output frames that CTC needs: one for each label, and one between equal neighbours.

    Example:
        >>> frames_needed(np.array([7, 4, 11, 11, 14]))
        6
    """
    return len(labels) + int(np.sum(labels[1:] == labels[:-1]))
