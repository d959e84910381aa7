"""How good is a keyword classifier: accuracy with an interval, confusions, words, noise, and time.

`load_classifier` gives what applies a weights file to waveforms; everything else works on that.
"""

import dataclasses
import timeit
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vuilab.augment import NOISES, mix_at_snr
from vuilab.keywords.clips import KeywordFeatures, LabelledAudio, load_part
from vuilab.keywords.corpus import CLIP_SAMPLES, Clip, Dataset
from vuilab.models.plain import PlainNetwork
from vuilab.runs.weights_file import read_metadata

if TYPE_CHECKING:
    import keras

SNRS = (-10.0, -5.0, 0.0, 5.0, 10.0, 20.0, 30.0)  # dB, of the noise curve
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Proportion:
    """A share of cases, with the 95 % interval of Wilson (1927)."""

    num_hits: int
    num_cases: int

    @property
    def rate(self) -> float:
        """Hits per case; NaN without cases."""
        return self.num_hits / self.num_cases if self.num_cases else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper limit."""
        if not self.num_cases:
            return float("nan"), float("nan")
        import scipy.stats  # here, since it takes longer than spotting in a short recording

        found = scipy.stats.binomtest(self.num_hits, self.num_cases).proportion_ci(0.95, "wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        if not self.num_cases:
            return "-"
        low, high = self.interval
        return f"{100 * self.rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"

    def as_dict(self) -> dict:
        """Return plain data for records and `--json`; rate and limits are None without cases."""
        low, high = self.interval if self.num_cases else (None, None)
        rate = self.rate if self.num_cases else None
        return {"rate": rate, "low": low, "high": high, "num_hits": self.num_hits, "num_cases": self.num_cases}


@dataclasses.dataclass(frozen=True)
class ClipError:
    """A clip that was taken for something else."""

    key: str  # path below the corpus; of silence what it is made of
    label: str
    predicted: str
    probability: float  # of the predicted label


@dataclasses.dataclass(frozen=True)
class KeywordScore:
    """What a classifier made of a set of clips."""

    labels: tuple[str, ...]
    confusion: np.ndarray  # (num_classes, num_classes): true label by row, predicted label by column
    errors: tuple[ClipError, ...]  # most confident first; empty where the clips are not known

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return int(self.confusion.sum())

    @property
    def num_errors(self) -> int:
        """Clips that were taken for something else."""
        return self.num_clips - int(np.trace(self.confusion))

    @property
    def accuracy(self) -> Proportion:
        """Share of the clips that were recognised."""
        return Proportion(int(np.trace(self.confusion)), self.num_clips)

    @property
    def precision(self) -> dict[str, Proportion]:
        """Of each label: how many of the clips taken for it are it."""
        return self._proportions(self.confusion.sum(axis=0))

    @property
    def recall(self) -> dict[str, Proportion]:
        """Of each label: how many of its clips were recognised."""
        return self._proportions(self.confusion.sum(axis=1))

    def _proportions(self, totals: np.ndarray) -> dict[str, Proportion]:
        hits = np.diag(self.confusion)
        return {label: Proportion(int(hits[n]), int(totals[n])) for n, label in enumerate(self.labels)}

    def as_dict(self) -> dict:
        """Return plain data for records and `--json`."""
        return {
            "accuracy": self.accuracy.as_dict(),
            "num_clips": self.num_clips,
            "num_errors": self.num_errors,
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
            "precision": {label: value.as_dict()["rate"] for label, value in self.precision.items()},
            "recall": {label: value.as_dict()["rate"] for label, value in self.recall.items()},
            "errors": [dataclasses.asdict(error) for error in self.errors],
        }


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained network with all that it takes to apply it to waveforms."""

    model: Any  # a keras.Model, or a PlainNetwork that answers as one
    metadata: dict
    labels: tuple[str, ...]
    settings: KeywordFeatures
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, model: "keras.Model | PlainNetwork | None", metadata: dict) -> "Classifier":
        """Return the classifier of a model and the metadata of its weights.

        Raises:
            ValueError: when the metadata are not those of a keyword classifier.
        """
        if metadata.get("task") != "keywords":
            raise ValueError(
                "These weights are no keyword classifier. Train one: python vui.py keywords train DIR. (Recognisers are for "
                "vui.py evaluate and transcribe.)"
            )
        mean, std = (np.array(metadata[name], np.float32) for name in ("mean", "std"))
        return cls(model, metadata, tuple(metadata["labels"]), KeywordFeatures(**metadata["features"]), mean, std)

    def features(self, waveforms: np.ndarray) -> np.ndarray:
        """Return normalised features (num_clips, *shape) of waveforms (num_clips, CLIP_SAMPLES)."""
        return (self.settings.extract(waveforms) - self.mean) / self.std

    def probabilities(self, waveforms: np.ndarray) -> np.ndarray:
        """Return (num_clips, num_classes), the probability of each label, for waveforms (num_clips, CLIP_SAMPLES) in -1..1."""
        found = np.empty((len(waveforms), len(self.labels)), np.float32)
        for start in range(0, len(waveforms), BATCH):
            piece = waveforms[start : start + BATCH]
            # few sizes to compile for
            padded = np.pad(piece, ((0, (BATCH if len(piece) > 1 else 1) - len(piece)), (0, 0)))
            found[start : start + BATCH] = np.asarray(self.model.predict_on_batch(self.features(padded)))[: len(piece)]
        return found


def load_classifier(path: str | Path, plain: bool = False) -> Classifier:
    """Load a weights file of `train_keywords`; it needs nothing else.

    Args:
        path: of the file.
        plain: run the network in NumPy where it can be, without a deep-learning backend.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is none of this project's keyword classifiers.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"No weights at {path}. Train a classifier first: python vui.py keywords train DIR")
    metadata = read_metadata(path)
    Classifier.of(None, {**metadata, "mean": 0, "std": 0})  # a recogniser is refused before it is built
    if plain and (network := PlainNetwork.load_if_known(Path(path), metadata)):
        return Classifier.of(network, metadata)
    from vuilab.keywords import models as keyword_models  # noqa: F401  (registers its layers)
    from vuilab.runs.weights import load_model

    return Classifier.of(*load_model(path))


def require_labels(classifier: Classifier, dataset: Dataset) -> None:
    """Refuse a dataset whose labels are not the classifier's, in its order.

    Raises:
        ValueError: as said.
    """
    if dataset.labels != classifier.labels:
        raise ValueError(
            f"The classifier knows the labels: {' '.join(classifier.labels)}. Received clips with: {' '.join(dataset.labels)}. "
            "Choose clips with the classifier's own labels."
        )


def evaluate_part(
    classifier: Classifier, dataset: Dataset, part: str = "validation", progress: bool = True
) -> KeywordScore:
    """Classify every clip of one part of a dataset.

    Raises:
        ValueError: when the labels differ, or the part has no clips.
    """
    require_labels(classifier, dataset)
    audio = load_part(dataset, part, progress)
    return score_predictions(classifier.labels, audio.targets, predict(classifier, audio), audio.clips)


def predict(classifier: Classifier, audio: LabelledAudio) -> np.ndarray:
    """Return the probabilities (num_clips, num_classes) of clips."""
    steps = np.split(np.arange(len(audio)), range(BATCH, len(audio), BATCH))
    return np.concatenate([classifier.probabilities(audio.samples(indices)) for indices in steps])


def score_predictions(
    labels: Sequence[str], targets: np.ndarray, probabilities: np.ndarray, clips: Sequence[Clip] = ()
) -> KeywordScore:
    """Compare probabilities (num_clips, num_classes) with true classes (num_clips,); `clips` are for the list of errors."""
    predicted = np.argmax(probabilities, axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (targets, predicted), 1)
    wrong = np.flatnonzero(predicted != targets) if len(clips) else []
    errors = []
    for n in sorted(wrong, key=lambda n: -probabilities[n, predicted[n]]):  # most confident first
        names = clips[n].key or clips[n].word, labels[targets[n]], labels[predicted[n]]
        errors.append(ClipError(*names, float(probabilities[n, predicted[n]])))
    return KeywordScore(tuple(labels), confusion, tuple(errors))


def score_of(report: dict) -> KeywordScore:
    """Return the score that `KeywordScore.as_dict` wrote into a record.

    Raises:
        ValueError: when it is none.
    """
    try:
        errors = tuple(ClipError(**error) for error in report["errors"])
        return KeywordScore(tuple(report["labels"]), np.array(report["confusion"], np.int64), errors)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"This is no score of a keyword classifier: {error}. Expected 'labels', 'confusion' and 'errors', as a record of "
            "train_keywords has them under 'report'."
        ) from error


def noise_curve(
    classifier: Classifier,
    audio: LabelledAudio,
    snrs: Sequence[float] = SNRS,
    colours: Sequence[str] = tuple(NOISES),
    seed: int = 0,
) -> dict[str, list[Proportion]]:
    """Return the accuracy on clips mixed with noise, for each colour of `augment.NOISES` and signal-to-noise ratio in dB.

    Every clip meets the same noise at all ratios. Clips of digital silence, which have no ratio, stay as they are.
    """
    found: dict[str, list[Proportion]] = {}
    for number, colour in enumerate(colours):
        hits = np.zeros(len(snrs), np.int64)
        for start in range(0, len(audio), BATCH):
            indices = np.arange(start, min(start + BATCH, len(audio)))
            clean = audio.samples(indices)
            noise = [NOISES[colour](CLIP_SAMPLES, np.random.default_rng([seed, number, index])) for index in indices]
            for position, snr in enumerate(snrs):
                mixed = [mix_at_snr(x, n, snr) if x.any() else x for x, n in zip(clean, noise, strict=True)]
                predicted = classifier.probabilities(np.stack(mixed)).argmax(axis=1)
                hits[position] += int((predicted == audio.targets[indices]).sum())
        found[colour] = [Proportion(int(count), len(audio)) for count in hits]
    return found


def latency(classifier: Classifier, repeats: int = 50) -> dict[str, float]:
    """Return the milliseconds that a clip takes: 'total_ms' of features and network, 'network_ms' of the network alone.

    They are medians after a few calls that pay for compilation.
    """
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, CLIP_SAMPLES)).astype(np.float32)
    features = classifier.features(waveform)
    calls = {
        "total_ms": lambda: classifier.probabilities(waveform),
        "network_ms": lambda: np.asarray(classifier.model.predict_on_batch(features)),
    }
    times = {name: timeit.repeat(call, number=1, repeat=repeats + 3)[3:] for name, call in calls.items()}
    return {name: 1000 * float(np.median(seconds)) for name, seconds in times.items()}
