"""Classifying single words as a task of `fit`: cross-entropy in the same loop, with the same files, as a recogniser.

Weights are chosen on the development part, a tenth of the training speakers; what is reported at the end is measured on the
corpus's validation part, once.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
from scipy.special import softmax

from vuilab.keywords.batches import ClipGenerator
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.corpus import Dataset
from vuilab.keywords.models import FEATURES
from vuilab.keywords.options import ClipOptions, KeywordOptimizer, KeywordOptions
from vuilab.keywords.scores import Classifier, evaluate_part, score_predictions
from vuilab.models.ctc import logits_of
from vuilab.runs.weights import load_weights
from vuilab.training.fit import fit
from vuilab.training.sharing import predict_step
from vuilab.training.task import Say, Task

TASK = "keywords"  # in weights files and records


def train_keywords(
    model: keras.Model,
    dataset: Dataset,
    pickle_path: str | Path,
    save_model_path: str | Path,
    *,
    features: KeywordFeatures | None = None,
    clips: ClipOptions | None = None,
    options: KeywordOptions | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
) -> dict[str, list[float]]:
    """Train a classifier and leave its history, best weights and run record on disk; it then has its best weights.

    Callbacks and notes are arguments of the task: `fit(KeywordTask(model, ClipGenerator(dataset, features), ...), options)`.

    Args:
        model: from `models.py`, or any that ends in a layer named 'softmax'.
        dataset: from `corpus.choose_clips`; its labels in order are the classes.
        pickle_path: where the history goes; a bare name goes under `results/`.
        save_model_path: where the best weights go; `.h5`, `.weights.h5` or `.keras`.
        features: what the model sees; None: what `models.FEATURES` says for its name.
        clips: how batches are made.
        options: how it is trained.
        optimizer: any Keras optimiser, of which a copy is used; None: AdamW with learning rate 0.002 and weight decay 0.001.

    Returns:
        The history: lists 'loss', 'val_loss' (nats per clip, without label smoothing in the latter), 'val_accuracy',
        'learning_rate' and 'seconds', one entry per epoch.

    Raises:
        ValueError: for data that cannot be used, or a model that does not fit features or labels.
    """
    options = options or KeywordOptions()
    settings = features or KeywordFeatures(FEATURES.get(model.name, "mfcc"))
    require_fit(model, settings, dataset.labels)  # before the clips are read
    generator = ClipGenerator(dataset, settings, clips, progress=options.verbose > 0)
    return fit(KeywordTask(model, generator, pickle_path, save_model_path, optimizer=optimizer), options)


def require_fit(model: keras.Model, settings: KeywordFeatures, labels: Sequence[str]) -> None:
    """Refuse a model whose input is not these features, or whose classes are not as many as the labels.

    Raises:
        ValueError: as said.
    """
    if tuple(model.input_shape[1:]) != settings.shape:
        raise ValueError(
            f"The model takes clips of shape {tuple(model.input_shape[1:])} and {settings.kind} features have {settings.shape}. "
            f"Build it with input_shape={settings.shape}, or choose other features."
        )
    if model.output_shape[-1] != len(labels):
        raise ValueError(
            f"The model has {model.output_shape[-1]} classes and there are {len(labels)} labels ({' '.join(labels)}). Build it "
            f"with num_classes={len(labels)}."
        )


class KeywordTask(Task):
    """A classifier with its clips and files; the arguments are those of `Task`, with a `ClipGenerator`.

    Raises:
        ValueError: when the model does not fit features or labels.
    """

    options_kind = KeywordOptions
    unit: ClassVar[str] = "clips"
    validation_set: ClassVar[str] = "the development part (a tenth of the training speakers)"
    generator: ClipGenerator

    def check(self) -> None:
        """Refuse a model that does not fit."""
        require_fit(self.model, self.generator.settings, self.generator.dataset.labels)

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Return AdamW."""
        return KeywordOptimizer().build()

    def configuration(self) -> dict[str, Any]:
        """Return features, clips, and how batches are made."""
        dataset = self.generator.dataset
        return {
            "task": TASK,
            "features": dataclasses.asdict(self.generator.settings),
            "data": dataset.fingerprint(),
            "labels": list(dataset.labels),
            "skipped": len(self.generator.skipped),
            **dataclasses.asdict(self.generator.options),
        }

    def contents(self) -> dict[str, str | None]:
        """Return the hash of the clips of both parts."""
        return {partition: audio.contents for partition, audio in self.generator.audio.items()}

    def prepare(self, say: Say, progress: bool) -> None:
        """Say what was passed over; the generator has read everything else already."""
        for text in self.generator.skipped:
            say(f"Skipped {text}")

    def training_model(self, options: KeywordOptions) -> tuple[keras.Model, Any]:
        """Return the model without its softmax, and cross-entropy."""
        logits = {"logits": logits_of(self.model)}
        trainer = keras.Model({"the_input": self.model.inputs[0]}, logits, name=f"{self.model.name}_training")
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=options.label_smoothing)
        return trainer, {"logits": loss}

    def validate(self, evaluator: keras.Model) -> tuple[dict[str, float], dict[str, Any]]:
        """Return loss and accuracy on the development part, and the scores in full."""
        audio, labels = self.generator.audio["validation"], self.generator.dataset.labels
        logits = np.zeros((len(audio), len(labels)))
        for indices in self.generator.plan("validation"):
            inputs, _ = self.generator.assemble("validation", indices)
            logits[indices] = np.asarray(predict_step(evaluator, inputs)["logits"])
        if not np.isfinite(logits).all():
            return {"val_loss": float("nan"), "val_accuracy": float("nan")}, {}
        probabilities = softmax(logits, axis=-1)
        chosen = probabilities[np.arange(len(audio)), audio.targets]
        score = score_predictions(labels, audio.targets, probabilities)
        logs = {"val_loss": float(-np.log(np.maximum(chosen, 1e-30)).mean()), "val_accuracy": score.accuracy.rate}
        return logs, {"accuracy": score.accuracy.as_dict(), "num_errors": score.num_errors}

    def describe(self, logs: dict[str, float]) -> str:
        """Return losses (nats per clip) and accuracy."""
        return (
            f"loss {logs['loss']:7.4f}  val_loss {logs['val_loss']:7.4f}  "
            f"val_accuracy {100 * logs['val_accuracy']:5.1f} %"
        )

    def metadata(self) -> dict[str, Any]:
        """Return labels, features with their statistics, and whose voices were learnt."""
        dataset = self.generator.dataset
        return {
            "task": TASK,
            "labels": list(dataset.labels),
            "features": dataclasses.asdict(self.generator.settings),
            "mean": self.generator.feats_mean.tolist(),
            "std": self.generator.feats_std.tolist(),
            "train_speakers": sorted({*dataset.speakers("train"), *dataset.speakers("development")}),
        }

    def corpus(self) -> dict[str, Any]:
        """Return clips and speakers of both parts."""
        dataset, counts = self.generator.dataset, self.generator.dataset.counts()
        parts = {
            partition: {
                "part": part,
                "num_clips": len(self.generator.audio[partition]),
                "num_speakers": len(dataset.speakers(part)),
                "clips_by_label": counts[part],
            }
            for partition, part in (("train", "train"), ("validation", "development"))
        }
        more = {"labels": list(dataset.labels), "missing": list(dataset.missing), "seed": dataset.seed}
        return {"name": dataset.folder.name, **more, **parts, "skipped": self.generator.skipped}

    def report(self, status: str, say: Say) -> dict[str, Any]:
        """Load the best weights, and measure them on the corpus's validation part where the run has ended."""
        dataset = self.generator.dataset
        if not self.weights_path.is_file():
            return {}
        metadata = load_weights(self.model, self.weights_path)
        if status == "interrupted" or not dataset.part("validation"):
            return {}
        score = evaluate_part(Classifier.of(self.model, metadata), dataset, "validation", progress=False)
        say(f"{self.name}: {score.accuracy} on the {score.num_clips} clips of the validation part")
        return {"report": {"part": "validation", **score.as_dict()}}
