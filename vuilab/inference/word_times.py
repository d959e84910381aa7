"""When each word of a corpus is spoken, found by a trained model and written into a copy of the manifests.

A network that is trained with CTC answers somewhere within a sound, or a little before or after it, and always in the same
way. So the times of forced alignment are moved by as much as makes the boundaries between words quietest on average, and
then each boundary within a short stretch to the quietest frame.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vuilab.alphabet import using
from vuilab.corpus import manifest as corpora
from vuilab.data.feature_cache import recording_hashes
from vuilab.decoding.alignment import align
from vuilab.inference.transcribe import Recogniser, load_recogniser
from vuilab.scoring.predictions import generator_for, predict_probabilities

BATCH_SIZE = 8
LARGEST_DELAY = 0.1  # seconds between what is heard and the model's answer, at most
NEAR = 0.05  # seconds that one boundary is moved at most, after all have been
PAUSE = 0.1  # seconds from which words have a pause between them, which keeps its two ends
SHOWN = 5  # utterances that could not be aligned, of those that the report names


@dataclasses.dataclass(frozen=True)
class WordTimesReport:
    """What `add_word_times` did."""

    folder: Path
    num_utterances: int
    num_words: int
    delay: float  # seconds by which all times were moved
    left_out: tuple[str, ...]  # a line for each utterance whose text cannot be aligned

    def __str__(self) -> str:
        lines = [
            f"{self.folder}: {self.num_words} words of {self.num_utterances} training utterances have times",
            f"  all were moved by {1000 * self.delay:+.0f} ms, to where it is quiet between words",
        ]
        lines += [f"  left out: {line}" for line in self.left_out[:SHOWN]]
        more = len(self.left_out) - SHOWN
        return "\n".join(lines + ([f"  ... and {more} more"] if more > 0 else []))


def add_word_times(corpus: str | Path, out: str | Path, weights: str | Path | None = None) -> WordTimesReport:
    """Align a corpus's training utterances with their transcripts, and write manifests that tell the words' times.

    Training lines get `"words": [[word, start, end], ...]` in seconds and the hash of the `"recording"`; those that cannot be
    aligned are left out, since `data/splicing.py` needs all. The manifests for validation and test are copied.

    Args:
        corpus: folder with manifests.
        out: folder for the new ones; the recordings stay where they are.
        weights: of the model that aligns, best one trained on this corpus; None: the released ones.

    Raises:
        FileNotFoundError: when there is no training manifest, or no weights.
        ValueError: when `out` is the corpus itself, or no utterance can be aligned.
    """
    corpus, out = Path(corpus), Path(out)
    if out.resolve() == corpus.resolve():
        raise ValueError(f"The manifests of {corpus} would be replaced. Choose another --out.")
    manifests = {split: corpus / name for split, name in corpora.MANIFESTS.items() if (corpus / name).is_file()}
    recogniser = load_recogniser(weights)
    with using(recogniser.alphabet):
        return _with_times(corpus, out, manifests, recogniser)


def _with_times(corpus: Path, out: Path, manifests: dict[str, Path], recogniser: Recogniser) -> WordTimesReport:
    utterances = {split: corpora.read_manifest(path) for split, path in manifests.items() if split != "train"}
    model, metadata, clock = recogniser.model, recogniser.metadata, recogniser.clock
    manifest = manifests.get("train", corpus / corpora.MANIFESTS["train"])
    generator = generator_for(metadata, model.input_shape[-1], manifest, "train", minibatch_size=BATCH_SIZE)
    probabilities = predict_probabilities(model, generator, "train")
    hashes = recording_hashes(manifest, generator.partitions["train"].everything)
    found, loudness, left_out = [], [], []
    for index, item in enumerate(generator.partitions["train"].utterances):
        try:
            spans = align(probabilities[index], item.text, clock).words
        except ValueError as error:
            left_out.append(f"{item.path}: {error}")
            continue
        found.append((item, np.array([(span.start, span.end) for span in spans])))
        loudness.append(generator.features("train", index).mean(axis=1))
    if not found:
        raise ValueError(f"No training utterance of {corpus} could be aligned, for example {left_out[0]}")
    rate = generator.settings.frames_per_second
    delay = measure_delay([times for _, times in found], loudness, rate)
    timed = []
    for (item, times), rows in zip(found, loudness, strict=True):
        spans = np.minimum(settle(times + delay, rows, rate), item.duration).round(3).tolist()
        words = [[word, *span] for word, span in zip(item.text.split(), spans, strict=True)]
        timed.append(dataclasses.replace(item, extra={**item.extra, "words": words, "recording": hashes[item.path]}))
    out.mkdir(parents=True, exist_ok=True)
    for split, items in {"train": timed, **utterances}.items():
        corpora.write_manifest(out / corpora.MANIFESTS[split], items)
    num_words = sum(len(item.extra["words"]) for item in timed)
    return WordTimesReport(out, len(timed), num_words, delay, tuple(left_out))


def measure_delay(times: Sequence[np.ndarray], loudness: Sequence[np.ndarray], frames_per_second: float) -> float:
    """Return by how much later than told boundaries between words are quietest on average, in seconds; 0 where that is unclear.

    Args:
        times: for each utterance (num_words, 2): starts and ends in seconds.
        loudness, frames_per_second: for each utterance (num_frames,), such as the mean of its log-mel bands.
    """
    reach = round(LARGEST_DELAY * frames_per_second)
    total = np.zeros(2 * reach + 1)
    for words, rows in zip(times, loudness, strict=True):
        frames = np.round((words[:-1, 1] + words[1:, 0]) / 2 * frames_per_second).astype(int)
        shifted = frames[:, None] + np.arange(-reach, reach + 1)
        total += rows[np.clip(shifted, 0, len(rows) - 1)].sum(axis=0)
    quietest = int(np.argmin(total))
    at_the_edge = quietest in (0, len(total) - 1)  # then it is no minimum: the next pause is near, or nothing fits
    return 0.0 if at_the_edge else (quietest - reach) / frames_per_second


def settle(times: np.ndarray, loudness: np.ndarray, frames_per_second: float) -> np.ndarray:
    """Move each boundary between words that follow each other without a pause to the quietest frame nearby.

    Args:
        times: (num_words, 2): starts and ends in seconds; so is the result, in order and inside the utterance.
        loudness, frames_per_second: (num_frames,), such as the mean of the log-mel bands.
    """
    times, reach = times.copy(), round(NEAR * frames_per_second)
    middle = (times[:-1, 1] + times[1:, 0]) / 2
    frames = np.round(middle * frames_per_second).astype(int)
    near = np.clip(frames[:, None] + np.arange(-reach, reach + 1), 0, len(loudness) - 1)
    quietest = near[np.arange(len(near)), np.argmin(loudness[near], axis=1)] / frames_per_second
    together = times[1:, 0] - times[:-1, 1] < PAUSE
    times[:-1, 1][together] = times[1:, 0][together] = quietest[together]
    flat = np.maximum.accumulate(times.ravel())
    return np.clip(flat, 0, len(loudness) / frames_per_second).reshape(times.shape)
