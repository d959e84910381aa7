"""Training a keyword classifier: cross-entropy in the same loop, with the same files, as a recogniser.

`train_keywords` is the one entry. Weights are chosen on the development part, a tenth of the training speakers; what is
reported at the end is measured on the corpus's validation part, once.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np

from vuilab.keywords.batches import ClipGenerator
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.corpus import Dataset
from vuilab.keywords.models import FEATURES
from vuilab.keywords.options import ClipAugmentation
from vuilab.keywords.scores import Classifier, evaluate_part, score_predictions, softmax
from vuilab.models.ctc import logits_of
from vuilab.runs.record import environment, fingerprint, results_path
from vuilab.runs.weights import architecture, load_weights
from vuilab.training.devices import predict_step, prepare_optimizer
from vuilab.training.loop import announce, train
from vuilab.training.run import (
    Options,
    Progress,
    Run,
    can_resume,
    early_stopping,
    finish,
    finished_run,
    fresh_optimizer,
    own_learning_rate,
    prepare_files,
    require_weights_suffix,
)

TASK = "keywords"  # in weights files and records


@dataclasses.dataclass(frozen=True)
class KeywordOptions(Options):
    """How a classifier is trained; see `run.Options`."""

    MONITORS: ClassVar[tuple[str, ...]] = ("val_loss", "val_accuracy")
    HIGHEST: ClassVar[tuple[str, ...]] = ("val_accuracy",)


def train_keywords(
    model: keras.Model,
    dataset: Dataset,
    pickle_path: str | Path,
    save_model_path: str | Path,
    *,
    features: KeywordFeatures | None = None,
    minibatch_size: int = 64,
    optimizer: keras.optimizers.Optimizer | None = None,
    epochs: int = 30,
    schedule: str = "cosine",
    warmup_epochs: float = 1.0,
    label_smoothing: float = 0.0,
    augmentation: ClipAugmentation | None = None,
    ema: float | None = None,
    monitor: str = "val_loss",
    patience: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seed: int = 0,
    verbose: int = 1,
    force: bool = False,
    resume: bool = False,
    checkpoint_steps: int = 200,
    notes: dict | None = None,
) -> dict[str, list[float]]:
    """Train a classifier and leave its history, best weights and run record on disk; it then has its best weights.

    Args:
        model: from `keyword_models`, or any that ends in a layer named 'softmax'.
        dataset: from `corpus.choose_clips`; its labels in order are the classes.
        pickle_path: where the history goes; a bare name goes under `results/`.
        save_model_path: where the best weights go; `.h5`, `.weights.h5` or `.keras`.
        features: what the model sees; None: what `models.FEATURES` says for its name.
        minibatch_size: clips per step.
        optimizer: any Keras optimiser, of which a copy is used; None: AdamW with learning rate 0.002 and weight decay 0.001.
        epochs: passes over the training clips.
        schedule: 'constant' or 'cosine'; see `recogniser.train_model`.
        warmup_epochs: the learning rate rises linearly from 0 during so many epochs; at most `epochs` of them.
        label_smoothing: share of the target spread over all classes, in 0..1 (Szegedy et al., 2016).
        augmentation: of the training clips, anew in each epoch; None: no change.
        ema: average the weights with this momentum and keep the averages.
        monitor: 'val_loss' (lowest) or 'val_accuracy' (highest) on the development part chooses the weights.
        patience: stop after so many epochs without a better value; None: never.
        callbacks: Keras callbacks.
        seed: of order and augmentation.
        verbose: 0 silent, 1 a line per epoch.
        force: train even when a finished run with the same settings and data is there.
        resume: go on from the last checkpoint of a run that was killed or stopped.
        checkpoint_steps: within an epoch, a checkpoint after this many steps.
        notes: plain data for the run record.

    Returns:
        The history: lists 'loss', 'val_loss' (nats per clip, without label smoothing in the latter), 'val_accuracy',
        'learning_rate' and 'seconds', one entry per epoch.

    Raises:
        ValueError: for arguments out of range, data that cannot be used, or a model that does not fit features or labels.
    """
    options = KeywordOptions(epochs, monitor, schedule, min(warmup_epochs, epochs), patience)
    if checkpoint_steps < 1 or not 0 <= label_smoothing < 1:
        raise ValueError(
            "checkpoint_steps must be at least 1 and label_smoothing in 0..1. Received: "
            f"checkpoint_steps={checkpoint_steps}, label_smoothing={label_smoothing}"
        )
    require_weights_suffix(save_model_path)
    settings = features or KeywordFeatures(FEATURES.get(model.name, "mfcc"))
    require_fit(model, settings, dataset.labels)
    generator = ClipGenerator(dataset, settings, minibatch_size, seed, augmentation, verbose > 0)
    optimizer = fresh_optimizer(
        keras.optimizers.AdamW(2e-3, weight_decay=1e-3) if optimizer is None else optimizer, ema
    )
    configuration = _configuration(generator, model, optimizer, options, label_smoothing)
    history_path, weights_path = results_path(pickle_path), results_path(save_model_path)
    if not force:
        finished = finished_run(configuration, history_path, weights_path, model, verbose)
        if finished is not None:
            return finished
    run = _start(model, optimizer, generator, options, label_smoothing, history_path, weights_path, configuration)
    run.verbose, run.checkpoint_steps, run.notes = verbose, checkpoint_steps, dict(notes or {})
    for text in generator.skipped:
        run.say(f"Skipped {text}")
    resume = resume and can_resume(run, configuration)
    if verbose:
        announce(run)
    started = time.perf_counter()
    made_with = environment()
    train(run, [*callbacks, *early_stopping(options)], resume)
    wall_seconds = time.perf_counter() - started
    finish(run, configuration, made_with, wall_seconds, _corpus(generator), _report(run))
    return run.progress.history


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


def _configuration(
    generator: ClipGenerator,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    options: Options,
    label_smoothing: float,
) -> dict:
    return {
        "task": TASK,
        "architecture": architecture(model),
        "optimizer": keras.optimizers.serialize(optimizer),
        "features": dataclasses.asdict(generator.settings),
        "data": generator.dataset.fingerprint(),
        "labels": list(generator.dataset.labels),
        "skipped": len(generator.skipped),
        "minibatch_size": generator.minibatch_size,
        "seed": generator.seed,
        "label_smoothing": label_smoothing,
        "augmentation": dataclasses.asdict(generator.augmentation) if generator.augmentation else None,
        **{key: value for key, value in dataclasses.asdict(options).items() if value is not None},
        "backend": keras.backend.backend(),
    }


def _start(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    generator: ClipGenerator,
    options: Options,
    label_smoothing: float,
    history_path: Path,
    weights_path: Path,
    configuration: dict,
) -> Run:
    trainer = keras.Model({"the_input": model.inputs[0]}, {"logits": logits_of(model)}, name=f"{model.name}_training")
    optimizer = prepare_optimizer(optimizer)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)
    trainer.compile(optimizer=optimizer, loss={"logits": loss}, jit_compile=keras.backend.backend() != "tensorflow")
    dataset = generator.dataset
    progress = Progress(fingerprint(configuration))
    metadata = {
        "name": history_path.stem,
        "task": TASK,
        "labels": list(dataset.labels),
        "features": dataclasses.asdict(generator.settings),
        "mean": generator.feats_mean.tolist(),
        "std": generator.feats_std.tolist(),
        "train_speakers": sorted({*dataset.speakers("train"), *dataset.speakers("development")}),
        "fingerprint": progress.fingerprint,
    }
    return Run(
        name=history_path.stem,
        model=model,
        trainer=trainer,
        evaluator=trainer,
        generator=generator,
        validate=_validate,
        describe=_describe,
        history_path=history_path,
        weights_path=weights_path,
        checkpoint_path=prepare_files(history_path, weights_path),
        checkpoint_steps=1,
        options=options,
        learning_rate=own_learning_rate(optimizer),
        verbose=1,
        metadata=metadata,
        progress=progress,
        unit="clips",
    )


def _validate(run: Run) -> tuple[dict[str, float], dict]:
    """Return loss and accuracy on the development part, and the scores in full."""
    generator = run.generator
    audio = generator.audio["validation"]
    logits = np.zeros((len(audio), len(generator.dataset.labels)))
    for indices in generator.plan("validation"):
        inputs, _ = generator.assemble("validation", indices)
        logits[indices] = np.asarray(predict_step(run.evaluator, inputs)["logits"])
    if not np.isfinite(logits).all():
        return dict.fromkeys(run.options.MONITORS, float("nan")), {}
    probabilities = softmax(logits)
    chosen = probabilities[np.arange(len(audio)), audio.targets]
    score = score_predictions(generator.dataset.labels, audio.targets, probabilities)
    logs = {"val_loss": float(-np.log(np.maximum(chosen, 1e-30)).mean()), "val_accuracy": score.accuracy.rate}
    return logs, {"accuracy": score.accuracy.as_dict(), "num_errors": score.num_errors}


def _describe(logs: dict[str, float]) -> str:
    return (
        f"loss {logs['loss']:7.4f}  val_loss {logs['val_loss']:7.4f}  val_accuracy {100 * logs['val_accuracy']:5.1f} %"
    )


def _corpus(generator: ClipGenerator) -> dict:
    dataset, counts = generator.dataset, generator.dataset.counts()
    parts = {
        partition: {
            "part": part,
            "num_clips": len(generator.audio[partition]),
            "num_speakers": len(dataset.speakers(part)),
            "clips_by_label": counts[part],
        }
        for partition, part in (("train", "train"), ("validation", "development"))
    }
    more = {"labels": list(dataset.labels), "missing": list(dataset.missing), "seed": dataset.seed}
    return {"name": dataset.folder.name, **more, **parts, "skipped": generator.skipped}


def _report(run: Run) -> dict:
    """Load the best weights and measure them on the corpus's validation part."""
    chosen_by = (
        f"{run.options.best_is} {run.options.monitor} on the development part (a tenth of the training speakers)"
    )
    dataset = run.generator.dataset
    if not run.weights_path.is_file() or not run.progress.history:
        return {"chosen_by": chosen_by}
    metadata = load_weights(run.model, run.weights_path)
    if run.progress.status == "interrupted" or not dataset.part("validation"):
        return {"chosen_by": chosen_by}
    score = evaluate_part(Classifier.of(run.model, metadata), dataset, "validation", progress=False)
    run.say(f"{run.name}: {score.accuracy} on the {score.num_clips} clips of the validation part")
    return {"chosen_by": chosen_by, "report": {"part": "validation", **score.as_dict()}}
