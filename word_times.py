"""When each word of a corpus is spoken, found by a trained model and written into a copy of the manifests."""

import dataclasses
from pathlib import Path

import numpy as np

import corpora
from alignment import align
from evaluation import generator_for, predict_probabilities
from transcription import load_recogniser

BATCH_SIZE = 8
SHOWN = 5  # utterances that could not be aligned, of those that the report names


@dataclasses.dataclass(frozen=True)
class WordTimesReport:
    """What `add_word_times` did."""

    folder: Path
    num_utterances: int
    num_words: int
    left_out: tuple[str, ...]  # a line for each utterance whose text cannot be aligned

    def __str__(self) -> str:
        lines = [f"{self.folder}: {self.num_words} words of {self.num_utterances} training utterances have times"]
        lines += [f"  left out: {line}" for line in self.left_out[:SHOWN]]
        more = len(self.left_out) - SHOWN
        return "\n".join(lines + ([f"  ... and {more} more"] if more > 0 else []))


def add_word_times(corpus: str | Path, out: str | Path, weights: str | Path | None = None) -> WordTimesReport:
    """Align a corpus's training utterances with their transcripts, and write manifests that tell the words' times.

    Training lines get `"words": [[word, start, end], ...]` in seconds; those that cannot be aligned are left out, since
    `splicing.py` needs all. The manifests for validation and test are copied.

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
    utterances = {split: corpora.read_manifest(path) for split, path in manifests.items() if split != "train"}
    recogniser = load_recogniser(weights)
    model, metadata, clock = recogniser.model, recogniser.metadata, recogniser.clock
    manifest = manifests.get("train", corpus / corpora.MANIFESTS["train"])
    generator = generator_for(
        metadata, model.input_shape[-1], manifest, "train", max_duration=None, minibatch_size=BATCH_SIZE
    )
    probabilities = predict_probabilities(model, generator, "train")
    timed, left_out = [], []
    for item, rows in zip(generator.partitions["train"].utterances, probabilities, strict=True):
        try:
            timed.append(_with_words(item, rows, clock))
        except ValueError as error:
            left_out.append(f"{item.path}: {error}")
    if not timed:
        raise ValueError(f"No training utterance of {corpus} could be aligned, for example {left_out[0]}")
    out.mkdir(parents=True, exist_ok=True)
    for split, items in {"train": timed, **utterances}.items():
        corpora.write_manifest(out / corpora.MANIFESTS[split], items)
    num_words = sum(len(item.extra["words"]) for item in timed)
    return WordTimesReport(out, len(timed), num_words, tuple(left_out))


def _with_words(item: corpora.Utterance, probabilities: np.ndarray, clock) -> corpora.Utterance:
    """Return the utterance with the times of its words, none of which lies behind its end."""
    words = [
        [word.text, round(min(word.start, item.duration), 3), round(min(word.end, item.duration), 3)]
        for word in align(probabilities, item.text, clock).words
    ]
    return dataclasses.replace(item, extra={**item.extra, "words": words})
