"""Training: the CTC training model, the loop over epochs, checkpoints, histories, run records and GPU memory.

`train_model` is the one entry. It prints first about how long it will take, then a line per epoch; after every epoch the
history and, when it is the best so far, the weights are on disk. A finished run with the same model, settings and data
is loaded instead of trained again.
"""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import keras

from vuilab.alphabet import ALPHABET
from vuilab.augment import Augmentation
from vuilab.corpus.manifest import MANIFESTS, summarize
from vuilab.data.feature_cache import cache_bytes, is_cached
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.models.ctc import add_ctc_loss, mean_loss, needs_phonemes
from vuilab.runs.record import environment, file_hash, fingerprint, results_path
from vuilab.runs.weights import architecture, load_weights
from vuilab.scoring.comparison import plot_comparison
from vuilab.scoring.predictions import get_predictions, print_predictions
from vuilab.training.devices import configure_gpu, prepare_optimizer
from vuilab.training.loop import announce, describe_transcripts, model_output_length, score_transcripts, train
from vuilab.training.run import (
    Options,
    Progress,
    Run,
    can_resume,
    default_optimizer,
    early_stopping,
    finish,
    finished_run,
    fresh_optimizer,
    own_learning_rate,
    prepare_files,
    require_weights_suffix,
)

LARGE_CACHE = 1e8  # bytes; what takes less needs no word

__all__ = [
    "add_ctc_loss",
    "configure_gpu",
    "get_predictions",
    "plot_comparison",
    "print_predictions",
    "train_model",
]


def train_model(
    input_to_softmax: keras.Model,
    pickle_path: str | Path,
    save_model_path: str | Path,
    train_json: str | Path = MANIFESTS["train"],
    valid_json: str | Path = MANIFESTS["validation"],
    minibatch_size: int = 20,
    spectrogram: bool = True,
    mfcc_dim: int = 13,
    optimizer: keras.optimizers.Optimizer | None = None,
    epochs: int = 20,
    verbose: int = 1,
    sort_by_duration: bool = False,
    max_duration: float | None = 10.0,
    *,
    features: FeatureSettings | None = None,
    schedule: str = "constant",
    warmup_epochs: float = 0.0,
    augmentation: Augmentation | None = None,
    speeds: Sequence[float] = (1.0,),
    splice: float = 0.0,
    ema: float | None = None,
    start_from: str | Path | None = None,
    monitor: str = "val_loss",
    patience: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seed: int = 0,
    force: bool = False,
    resume: bool = False,
    checkpoint_steps: int = 200,
    generator: BatchGenerator | None = None,
    notes: dict | None = None,
    plan: Sequence[float] = (),
) -> dict[str, list[float]]:
    """Train an acoustic model with CTC and leave its history, best weights and run record on disk.

    Args:
        input_to_softmax: the model, ending in a layer named 'softmax'.
        pickle_path: where the history goes; a bare name goes under `results/`.
        save_model_path: where the best weights go; `.h5`, `.weights.h5` or `.keras`.
        train_json: manifest; a bare name means the active corpus.
        valid_json: manifest for validation.
        minibatch_size: utterances per step.
        spectrogram: True for spectrograms, False for MFCCs.
        mfcc_dim: number of MFCCs.
        optimizer: any Keras optimiser; None: SGD with learning rate 0.02, Nesterov momentum 0.9 and `global_clipnorm=5`.
            A fresh copy is used, so the same instance may train several models.
        epochs: passes over the training data.
        verbose: 0 silent, 1 a line per epoch.
        sort_by_duration: shortest utterances first in the first epoch.
        max_duration: seconds; longer utterances take no part.
        features: settings to use instead of `spectrogram` and `mfcc_dim`.
        schedule: 'constant', or 'cosine': the learning rate falls to 0 along half a cosine.
        warmup_epochs: the learning rate rises linearly from 0 during so many epochs.
        augmentation: changes the training features, anew in each epoch; None: no change.
        speeds: every epoch has each training utterance once at each of these speeds, such as (0.9, 1.0, 1.1).
        splice: share of the training utterances in whose place stands a novel sentence of stretches that the same speaker said,
            anew in each epoch; the manifest has to tell when each word is spoken (see `data/splicing.py`).
        ema: average the weights over the steps with this momentum, such as 0.999, and validate and keep the averages; the
            training goes on with the weights themselves. None: no averaging.
        start_from: weights of the same architecture to begin with, such as those of a larger corpus; what the optimiser
            remembers begins anew. None: begin with the model's weights as they are.
        monitor: 'val_loss', 'val_cer' or 'val_wer': the lowest chooses the weights that are kept.
        patience: stop when `monitor` has not fallen for so many epochs (early stopping); None: never.
        callbacks: Keras callbacks, called with the same logs as the history.
        seed: of the order of the batches.
        force: train even when a finished run with the same settings and data is there.
        resume: go on with a run that was killed or stopped, from its last checkpoint; the result is the same as without
            the interruption (on TensorFlow up to rounding). Without a checkpoint the run begins anew.
        checkpoint_steps: within an epoch, a checkpoint after this many steps; there is one after every epoch anyway.
        generator: one with training and validation data loaded, which several models may share; what it decides (data, batch
            size, features, durations, augmentation, speeds) is then its own, and the arguments for that are not looked at.
        notes: plain data that go into the run record, such as {"full_name": ...}.
        plan: hours of speech: say what training on so much would take here (time, disk), and train nothing.

    Returns:
        The history: lists 'loss', 'val_loss' (nats per utterance), 'val_cer', 'val_wer' (shares), 'learning_rate' and
        'seconds', one entry per epoch; empty with `plan`.

    Raises:
        ValueError: for arguments out of range, features or weights that do not fit the model, or data that cannot be used.
        FileNotFoundError: when a manifest or the weights to begin with are missing.
    """
    options = Options(epochs, monitor, schedule, warmup_epochs, patience)
    if checkpoint_steps < 1:
        raise ValueError(f"checkpoint_steps must be at least 1. Received: checkpoint_steps={checkpoint_steps}")
    if any(hours <= 0 for hours in plan):
        raise ValueError(f"plan holds hours of speech, which are positive. Received: plan={tuple(plan)}")
    require_weights_suffix(save_model_path)
    if generator is None:
        generator = BatchGenerator(
            features or FeatureSettings("spectrogram" if spectrogram else "mfcc", mfcc_dim=mfcc_dim),
            DataOptions(
                minibatch_size,
                max_duration,
                sort_by_duration,
                speeds=tuple(speeds),
                splice=splice,
                augmentation=augmentation,
                seed=seed,
            ),
        )
        _require_width(input_to_softmax, generator.settings)
        generator.load("train", train_json)
        generator.load_validation_data(valid_json)
    else:
        generator = generator.copy(seed)
        _require_width(input_to_softmax, generator.settings)
    generator.progress, generator.phonemes = verbose > 0, needs_phonemes(input_to_softmax)
    if optimizer is None:
        optimizer = default_optimizer()
    optimizer = fresh_optimizer(optimizer, ema)
    configuration = _configuration(generator, input_to_softmax, optimizer, options)
    if start_from is not None:
        _begin_with(input_to_softmax, start_from, generator.settings)
        configuration["start_from"] = file_hash(start_from)
    history_path, weights_path = results_path(pickle_path), results_path(save_model_path)
    if not (force or plan):
        finished = finished_run(configuration, history_path, weights_path, input_to_softmax, verbose)
        if finished is not None:
            return finished
    run = _start(
        input_to_softmax, optimizer, generator, options, history_path, weights_path, fingerprint(configuration)
    )
    run.verbose, run.checkpoint_steps, run.notes = verbose, checkpoint_steps, dict(notes or {})
    resume = resume and not plan and can_resume(run, configuration)
    _prepare_data(run)
    if verbose or plan:
        announce(run, plan)
    if plan:
        return {}
    started = time.perf_counter()
    made_with = environment()  # of the code that runs, whatever is edited meanwhile
    train(run, [*callbacks, *early_stopping(options)], resume)
    finish(run, configuration, made_with, time.perf_counter() - started, _corpus(run.generator), {})
    return run.progress.history


def _require_width(model: keras.Model, settings: FeatureSettings) -> None:
    if model.input_shape[-1] != settings.num_features:
        raise ValueError(
            f"The model takes {model.input_shape[-1]} features per frame and {settings.kind} features have "
            f"{settings.num_features}. Build the model with input_dim={settings.num_features}, or choose other features."
        )


def _begin_with(model: keras.Model, path: str | Path, settings: FeatureSettings) -> None:
    """Load the weights to begin with; they must have been trained on the same features."""
    features = load_weights(model, path).get("features")
    if features is not None and FeatureSettings(**features) != settings:
        raise ValueError(
            f"{path} was trained on other features. Received: {settings}; expected those of the file: {features}"
        )


def _configuration(
    generator: BatchGenerator, model: keras.Model, optimizer: keras.optimizers.Optimizer, options: Options
) -> dict:
    """Collect what decides the result; two runs with the same configuration need not both be trained."""
    parts = generator.partitions
    return {
        "architecture": architecture(model),
        "optimizer": keras.optimizers.serialize(optimizer),
        "features": generator.settings.relevant(),
        "train": file_hash(parts["train"].manifest),
        "validation": file_hash(parts["validation"].manifest),
        **generator.options.relevant(),
        **{key: value for key, value in dataclasses.asdict(options).items() if value is not None},
        "backend": keras.backend.backend(),
    }


def _start(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    generator: BatchGenerator,
    options: Options,
    history_path: Path,
    weights_path: Path,
    fingerprint: str,
) -> Run:
    """Build the training model and make sure that the folders can be written."""
    trainer = add_ctc_loss(model)
    # XLA around recurrent layers on TensorFlow's CPU build can end the process, and is no faster there
    optimizer = prepare_optimizer(optimizer)
    trainer.compile(optimizer=optimizer, loss=mean_loss, jit_compile=keras.backend.backend() != "tensorflow")
    return Run(
        name=history_path.stem,
        model=model,
        trainer=trainer,
        evaluator=keras.Model(
            trainer.inputs, {"ctc": trainer.get_layer("ctc").output, "probabilities": model.outputs[0]}
        ),
        generator=generator,
        validate=score_transcripts,
        describe=describe_transcripts,
        history_path=history_path,
        weights_path=weights_path,
        checkpoint_path=prepare_files(history_path, weights_path),
        checkpoint_steps=1,
        options=options,
        learning_rate=own_learning_rate(optimizer),
        verbose=1,
        metadata={},
        progress=Progress(fingerprint),
    )


def _prepare_data(run: Run) -> None:
    """Leave out what cannot take part, measure the feature statistics, and collect what goes into the weights file."""
    generator = run.generator
    _announce_features(run)
    for partition in ("train", "validation"):
        dropped = generator.drop_infeasible(partition, model_output_length(run.model))
        if dropped:
            more = f" ... and {len(dropped) - 5} more" if len(dropped) > 5 else ""
            run.say(f"Left out of {partition}, since CTC cannot align them:\n  " + "\n  ".join(dropped[:5]) + more)
        if generator.left_out[partition]:
            longest = generator.options.max_duration
            run.say(
                f"{generator.left_out[partition]} {partition} utterances are longer than {longest} s and take no part."
                + (" (vui.py evaluate scores all of them.)" if partition == "validation" else "")
            )
    if not generator.has_statistics:
        generator.fit_train()
    run.metadata = {
        "name": run.name,
        "alphabet": ALPHABET,
        "features": dataclasses.asdict(generator.settings),
        "mean": generator.feats_mean.tolist(),
        "std": generator.feats_std.tolist(),
        "train_speakers": summarize(generator.partitions["train"].utterances)["speakers"],
        "fingerprint": run.progress.fingerprint,
        **run.notes,
    }


def _announce_features(run: Run) -> None:
    """Say how much disk the features will take, before they are computed (they are refused where the disk is short)."""
    parts = [
        part
        for part in run.generator.partitions.values()
        if not is_cached(part.manifest, run.generator.settings, list(dict.fromkeys(u.speed for u in part.everything)))
    ]
    seconds = sum(utterance.duration for part in parts for utterance in part.everything)
    needed = cache_bytes(seconds, run.generator.settings)
    if needed > LARGE_CACHE:
        free = shutil.disk_usage(parts[0].manifest.parent).free
        run.say(
            f"Features of {seconds / 3600:.1f} h of speech are computed once and take {needed / 1e9:.1f} GB of disk "
            f"({free / 1e9:.0f} GB are free)."
        )


def _corpus(generator: BatchGenerator) -> dict:
    parts = generator.partitions
    return {
        partition: {"manifest": _short(parts[partition].manifest), **summarize(parts[partition].utterances)}
        for partition in ("train", "validation")
    }


def _short(path: Path) -> str:
    """Return a path relative to the current folder where possible, so that records name no machine."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name
