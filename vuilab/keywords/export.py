"""A keyword classifier for small devices: LiteRT files with float32 numbers and with 8-bit integers, and what each recognises.

The files take normalised features of one clip, since integers hold numbers of a similar size best, and give a
probability for each label. The JSON file beside each says how to compute and normalise the features. Ranges of the 8-bit
numbers come from training clips; accuracy before and after is measured on clips that had no part in that.
"""

import dataclasses
import tempfile
import types
from pathlib import Path

import numpy as np

from vuilab.audio import SAMPLE_RATE
from vuilab.inference import formats
from vuilab.inference.export import TOLERANCE, metadata_path
from vuilab.keywords.clips import LabelledAudio, load_part
from vuilab.keywords.corpus import CLIP_SAMPLES, Dataset
from vuilab.keywords.scores import Classifier, KeywordScore, predict, require_labels, score_predictions
from vuilab.runs.record import write_json

VERSION = 1  # of the JSON file
NUM_EXAMPLES = 300  # training clips that give the ranges of the activations
SUFFIX = "_int8"  # of the name of the file with integers


@dataclasses.dataclass(frozen=True)
class ExportedKeywords:
    """One of the files, with what it makes of the clips."""

    path: Path
    num_bytes: int
    score: KeywordScore  # of the clips of the part that was asked for
    agreement: float  # share of these clips to which it gives the same label as Keras

    def as_dict(self) -> dict:
        """Return plain data for records."""
        return {"num_bytes": self.num_bytes, "accuracy": self.score.accuracy.as_dict(), "agreement": self.agreement}

    def __str__(self) -> str:
        return (
            f"{self.path.name}: {self.num_bytes / 1e3:.0f} kB, accuracy {self.score.accuracy} of {self.score.num_clips:,} clips, "
            f"the same label as Keras on {100 * self.agreement:.1f} %"
        )


def export_keywords(
    classifier: Classifier, dataset: Dataset, path: str | Path, part: str = "validation", progress: bool = True
) -> dict[str, ExportedKeywords]:
    """Write a classifier as two LiteRT files and measure both on one part of a dataset.

    Args:
        classifier: what to write.
        dataset: clips with the classifier's labels; the part 'train' gives the ranges of the integers.
        path: of the float32 file, ending in `.tflite`; the other one gets `_int8` before the suffix.
        part: whose clips are counted.

    Returns:
        {'float32': ..., 'int8': ...}.

    Raises:
        ValueError: for other labels, a wrong suffix, a model that LiteRT cannot hold, or a file whose labels are others than
            Keras' too often; no file is left then.
        RuntimeError: on another backend than TensorFlow.
    """
    formats.require("litert")
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"A LiteRT file ends in .tflite. Received: {path.name!r}")
    require_labels(classifier, dataset)
    train, heard = load_part(dataset, "train", progress), load_part(dataset, part, progress)
    chosen = np.random.default_rng(0).permutation(len(train))[:NUM_EXAMPLES]
    examples = classifier.features(train.samples(np.sort(chosen)))
    expected = predict(classifier, heard)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = {"float32": path.name, "int8": f"{path.stem}{SUFFIX}{path.suffix}"}
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        partial = {numbers: Path(folder) / name for numbers, name in names.items()}
        formats.write(classifier.model, partial["float32"], "litert")
        activations = formats.quantise(classifier.model, examples, partial["int8"])["activations"]
        found = {numbers: _probabilities(file, classifier, heard) for numbers, file in partial.items()}
        largest = float(np.abs(found["float32"] - expected).max())
        if not largest <= TOLERANCE:
            raise ValueError(
                f"The LiteRT file of {classifier.model.name!r} disagrees with Keras: a probability is off by {largest:.2g} (at "
                f"most {TOLERANCE:g} is allowed). It was not kept."
            )
        exported = {}
        for numbers, file in partial.items():
            score = score_predictions(classifier.labels, heard.targets, found[numbers], heard.clips)
            agreement = float(np.mean(found[numbers].argmax(axis=1) == expected.argmax(axis=1)))
            exported[numbers] = ExportedKeywords(path.with_name(file.name), file.stat().st_size, score, agreement)
            about = {"numbers": numbers, "activations": activations if numbers == "int8" else "float32"}
            write_json(metadata_path(file), _metadata(classifier, exported[numbers], about, part))
        for file in partial.values():
            file.replace(path.with_name(file.name))
            metadata_path(file).replace(metadata_path(path.with_name(file.name)))
    return exported


def _probabilities(file: Path, classifier: Classifier, heard: LabelledAudio) -> np.ndarray:
    """Return the probabilities that a file, in the place of the network, gives for clips."""
    network = types.SimpleNamespace(predict_on_batch=formats.open_file(file).run)
    return predict(dataclasses.replace(classifier, model=network), heard)


def _metadata(classifier: Classifier, exported: ExportedKeywords, about: dict[str, str], part: str) -> dict:
    kind, shape = classifier.settings.kind, classifier.settings.shape
    mean, std = classifier.mean.tolist(), classifier.std.tolist()
    return {
        "version": VERSION,
        "file": exported.path.name,
        "format": "litert",
        **about,
        "model": classifier.model.name,
        "labels": list(classifier.labels),
        "sample_rate": SAMPLE_RATE,
        "num_samples": CLIP_SAMPLES,
        "features": {"kind": kind, "shape": list(shape), "definition": "vuilab/keywords/clips.py of this project"},
        "normalisation": {"by": "the caller: (features - mean) / std", "mean": mean, "std": std},
        "bytes": exported.num_bytes,
        "accuracy": {"part": part, **exported.score.accuracy.as_dict()},
        "agreement_with_keras": exported.agreement,
    }
