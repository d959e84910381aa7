"""Training: the CTC training model, the loop over epochs, checkpoints, histories, run records and GPU memory.

`train_model` is the one entry. It prints first about how long it will take, then a line per epoch; after every epoch the
history and, when it is the best so far, the weights are on disk. A finished run with the same model, settings and data
is loaded instead of trained again.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

import records
from augment import Augmentation
from char_map import ALPHABET
from comparison import plot_comparison
from corpora import MANIFESTS, summarize
from ctc import add_ctc_loss, mean_loss
from data_generator import AudioGenerator
from decoding import greedy_decode
from evaluation import Score, get_predictions, print_predictions, score
from sample_models import output_length
from utils import FeatureSettings

__all__ = [
    "add_ctc_loss",
    "configure_gpu",
    "get_predictions",
    "plot_comparison",
    "print_predictions",
    "train_model",
]

STEP_LINE_SECONDS = 20  # within a long epoch, a line of progress this often
MONITORS = ("val_loss", "val_cer", "val_wer")
SCHEDULES = ("constant", "cosine")
VALIDATION_COST = 0.4  # of a training step, for a batch of the same size; used by the estimate only


def configure_gpu(memory_fraction: float | None = None, allow_growth: bool = True) -> str:
    """Limit how much graphics memory is taken; call it before the first model is built.

    Args:
        memory_fraction: share of the memory that may be used, in 0..1; None: no limit.
        allow_growth: take memory as it is needed instead of all at once (where no fraction is given).

    Returns:
        A sentence that says what was set, also when there is no GPU.

    Raises:
        ValueError: for a fraction outside 0..1.
    """
    if memory_fraction is not None and not 0 < memory_fraction <= 1:
        raise ValueError(f"memory_fraction must be in 0..1, or None. Received: memory_fraction={memory_fraction}")
    if keras.backend.backend() == "jax":
        return _configure_jax(memory_fraction, allow_growth)
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "No GPU was found; training runs on the processor."
    try:
        for gpu in gpus:
            if memory_fraction is None:
                tf.config.experimental.set_memory_growth(gpu, allow_growth)
            else:
                limit = memory_fraction * _gpu_megabytes(gpu)
                tf.config.set_logical_device_configuration(
                    gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=limit)]
                )
    except RuntimeError:
        return "The GPU is in use already; restart the kernel and call configure_gpu first to change its memory limit."
    how = f"at most {memory_fraction:.0%} of its memory" if memory_fraction else f"memory growth {allow_growth}"
    return f"{len(gpus)} GPU, {how}."


def _gpu_megabytes(gpu) -> float:
    """Ask the driver for the memory of a GPU in MB, since TensorFlow tells it only after taking it."""
    import subprocess

    index = gpu.name.rsplit(":", 1)[-1]
    command = ["nvidia-smi", f"--id={index}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _configure_jax(memory_fraction: float | None, allow_growth: bool) -> str:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false" if allow_growth and memory_fraction is None else "true"
    if memory_fraction is not None:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(memory_fraction)
    import jax

    cache = Path(os.environ.get("VUI_CACHE") or ".cache") / "jax"
    jax.config.update("jax_compilation_cache_dir", str(cache.resolve()))
    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    if not gpus:
        return "No GPU was found; training runs on the processor."
    return f"{len(gpus)} GPU through JAX, memory fraction {memory_fraction or 'free'}."


# ------------------------------------------------------------------------------------------------- the run


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is trained, apart from model, data and optimiser.

    Raises:
        ValueError: at construction, for values out of range.
    """

    epochs: int
    monitor: str = "val_loss"  # the lowest value of this chooses the weights that are kept
    schedule: str = "constant"  # of the learning rate after the warm-up; or 'cosine'
    warmup_epochs: float = 0.0  # the learning rate rises linearly so long

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1. Received: epochs={self.epochs}")
        if self.monitor not in MONITORS:
            raise ValueError(f"monitor must be one of {MONITORS}. Received: monitor={self.monitor!r}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}. Received: schedule={self.schedule!r}")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"warmup_epochs must be in 0..epochs ({self.epochs}). Received: warmup_epochs={self.warmup_epochs}"
            )

    def learning_rate_factor(self, progress: float) -> float:
        """Return what the learning rate is multiplied by after this many epochs (a fraction counts)."""
        if progress < self.warmup_epochs:
            return progress / self.warmup_epochs
        if self.schedule == "constant" or self.epochs == self.warmup_epochs:
            return 1.0
        return 0.5 + 0.5 * float(np.cos(np.pi * (progress - self.warmup_epochs) / (self.epochs - self.warmup_epochs)))


@dataclasses.dataclass
class Run:
    """One training run while it goes on."""

    name: str
    model: keras.Model  # the acoustic model
    trainer: keras.Model  # with the CTC loss on top
    evaluator: keras.Model  # loss and probabilities in one pass
    generator: AudioGenerator
    history_path: Path
    weights_path: Path
    options: Options
    learning_rate: float | None  # the optimiser's own; None when it has a schedule of its own
    verbose: int
    metadata: dict
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    best: float = np.inf
    best_epoch: int = -1
    best_score: Score | None = None
    status: str = "finished"  # or 'interrupted', 'diverged'

    def say(self, text: str) -> None:
        """Print unless the run is silent."""
        if self.verbose:
            print(text, flush=True)


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
    monitor: str = "val_loss",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seed: int = 0,
    force: bool = False,
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
        optimizer: any Keras optimiser; None: SGD with learning rate 0.02, Nesterov momentum 0.9 and `clipnorm=5`. A
            fresh copy is used, so the same instance may train several models.
        epochs: passes over the training data.
        verbose: 0 silent, 1 a line per epoch.
        sort_by_duration: shortest utterances first in the first epoch.
        max_duration: seconds; longer utterances take no part.
        features: settings to use instead of `spectrogram` and `mfcc_dim`.
        schedule: 'constant', or 'cosine': the learning rate falls to 0 along half a cosine.
        warmup_epochs: the learning rate rises linearly from 0 during so many epochs.
        augmentation: changes the training features, anew in each epoch; None: no change.
        monitor: 'val_loss', 'val_cer' or 'val_wer': the lowest chooses the weights that are kept.
        callbacks: Keras callbacks, called with the same logs as the history.
        seed: of the order of the batches.
        force: train even when a finished run with the same settings and data is there.

    Returns:
        The history: lists 'loss', 'val_loss' (nats per utterance), 'val_cer', 'val_wer' (shares), 'learning_rate' and
        'seconds', one entry per epoch.

    Raises:
        ValueError: for arguments out of range, features that do not fit the model, or data that cannot be used.
        FileNotFoundError: when a manifest is missing.
    """
    options = Options(epochs, monitor, schedule, warmup_epochs)
    if not str(save_model_path).endswith(records.WEIGHT_SUFFIXES):
        raise ValueError(
            f"save_model_path must end in one of {records.WEIGHT_SUFFIXES}. Received: {str(save_model_path)!r}"
        )
    settings = features or FeatureSettings("spectrogram" if spectrogram else "mfcc", mfcc_dim=mfcc_dim)
    if input_to_softmax.input_shape[-1] != settings.num_features:
        raise ValueError(
            f"The model takes {input_to_softmax.input_shape[-1]} features per frame and {settings.kind} features have "
            f"{settings.num_features}. Build the model with input_dim={settings.num_features}, or choose other features."
        )
    optimizer = _fresh_optimizer(optimizer)
    generator = AudioGenerator(
        minibatch_size=minibatch_size,
        max_duration=max_duration,
        sort_by_duration=sort_by_duration,
        seed=seed,
        augmentation=augmentation,
        settings=settings,
    )
    generator.load_train_data(train_json)
    generator.load_validation_data(valid_json)
    configuration = _configuration(generator, input_to_softmax, optimizer, options)
    history_path, weights_path = records.results_path(pickle_path), records.results_path(save_model_path)
    if not force:
        finished = _finished_run(configuration, history_path, weights_path, input_to_softmax, verbose)
        if finished is not None:
            return finished
    run = _start(input_to_softmax, optimizer, generator, options, history_path, weights_path, verbose)
    run.metadata["fingerprint"] = records.fingerprint(configuration)
    started = time.perf_counter()
    _train(run, keras.callbacks.CallbackList(list(callbacks), model=run.trainer))
    _finish(run, configuration, time.perf_counter() - started)
    return run.history


def _fresh_optimizer(optimizer: keras.optimizers.Optimizer | None) -> keras.optimizers.Optimizer:
    """Return a new optimiser: the contract's default, or a copy, since one instance serves one model only."""
    if optimizer is None:
        return keras.optimizers.SGD(learning_rate=0.02, momentum=0.9, nesterov=True, clipnorm=5)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(f"optimizer must be a keras.optimizers.Optimizer or None. Received: {optimizer!r}")
    return optimizer.__class__.from_config(optimizer.get_config())


def _configuration(
    generator: AudioGenerator, model: keras.Model, optimizer: keras.optimizers.Optimizer, options: Options
) -> dict:
    """Collect what decides the result; two runs with the same configuration need not both be trained."""
    parts = generator.partitions
    return {
        "architecture": records.architecture(model),
        "optimizer": keras.optimizers.serialize(optimizer),
        "features": generator.settings.relevant(),
        "train": records.file_hash(parts["train"].manifest),
        "validation": records.file_hash(parts["validation"].manifest),
        "minibatch_size": generator.minibatch_size,
        "max_duration": generator.max_duration,
        "sort_by_duration": generator.sort_by_duration,
        "seed": generator.seed,
        "augmentation": dataclasses.asdict(generator.augmentation) if generator.augmentation else None,
        **dataclasses.asdict(options),
        "backend": keras.backend.backend(),
    }


def _finished_run(
    configuration: dict, history_path: Path, weights_path: Path, model: keras.Model, verbose: int
) -> dict[str, list[float]] | None:
    """Return the history of a finished run with this configuration and load its weights, or None."""
    record_path = history_path.with_suffix(".json")
    if not (record_path.is_file() and history_path.is_file() and weights_path.is_file()):
        return None
    record = records.read_record(record_path)
    if record.get("fingerprint") != records.fingerprint(configuration) or record.get("status") == "interrupted":
        return None
    history = records.load_history(history_path)
    records.load_weights(model, weights_path)
    if verbose:
        print(
            f"{record['name']} was trained before with the same settings and data: loaded {len(history['loss'])} epochs from "
            f"{history_path} and the best weights from {weights_path}. Pass force=True to train it again."
        )
    return history


def _start(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    generator: AudioGenerator,
    options: Options,
    history_path: Path,
    weights_path: Path,
    verbose: int,
) -> Run:
    """Prepare data, training model and paths; say what takes part and how long it will take."""
    trainer = add_ctc_loss(model)
    # XLA around recurrent layers on TensorFlow's CPU build can end the process, and is no faster there
    trainer.compile(optimizer=optimizer, loss=mean_loss, jit_compile=keras.backend.backend() != "tensorflow")
    evaluator = keras.Model(trainer.inputs, {"ctc": trainer.outputs[0], "probabilities": model.outputs[0]})
    history_path.parent.mkdir(parents=True, exist_ok=True)
    weights_path.parent.mkdir(parents=True, exist_ok=True)
    run = Run(
        name=history_path.stem,
        model=model,
        trainer=trainer,
        evaluator=evaluator,
        generator=generator,
        history_path=history_path,
        weights_path=weights_path,
        options=options,
        learning_rate=_own_learning_rate(optimizer),
        verbose=verbose,
        metadata={},
    )
    for partition in ("train", "validation"):
        dropped = generator.drop_infeasible(partition, _output_length(model))
        if dropped:
            more = f" ... and {len(dropped) - 5} more" if len(dropped) > 5 else ""
            run.say(f"Left out of {partition}, since CTC cannot align them:\n  " + "\n  ".join(dropped[:5]) + more)
        if generator.left_out[partition]:
            run.say(
                f"{generator.left_out[partition]} {partition} utterances are longer than {generator.max_duration} s and take "
                "no part." + (" (vui.py evaluate scores all of them.)" if partition == "validation" else "")
            )
    generator.fit_train()
    run.metadata = {
        "name": run.name,
        "alphabet": ALPHABET,
        "features": dataclasses.asdict(generator.settings),
        "mean": generator.feats_mean.tolist(),
        "std": generator.feats_std.tolist(),
        "train_speakers": summarize(generator.partitions["train"].utterances)["speakers"],
    }
    if verbose:
        _announce(run)
    return run


def _own_learning_rate(optimizer: keras.optimizers.Optimizer) -> float | None:
    if isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _output_length(model: keras.Model) -> Callable:
    return getattr(model, "output_length", None) or (lambda input_length: output_length(model, input_length))


def _announce(run: Run) -> None:
    """Time a few steps, put all weights back, and say how long the run will take."""
    generator = run.generator
    plan = generator.plan("train", 0)
    size = [generator.num_frames("train")[batch].max() * len(batch) for batch in plan]
    order = np.argsort(size)
    probes = [plan[order[0]], plan[order[-1]], plan[order[len(order) // 2]], plan[order[len(order) // 2]]]
    run.trainer.optimizer.build(run.trainer.trainable_variables)
    variables = [*run.trainer.variables, *run.trainer.optimizer.variables]
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    seconds = 0.0
    for batch in probes:  # the first ones pay for compilation, the last one counts
        inputs, outputs = generator.assemble("train", batch)
        started = time.perf_counter()
        run.trainer.train_on_batch(inputs, outputs)
        seconds = time.perf_counter() - started
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    num_valid = len(generator.plan("validation"))
    per_epoch = seconds * (sum(size) / size[order[len(order) // 2]] + VALIDATION_COST * num_valid)
    run.say(
        f"{run.name}: {run.model.count_params():,} parameters, {len(generator.train_texts)} training and "
        f"{len(generator.valid_texts)} validation utterances, {len(plan)} steps an epoch. "
        f"About {_duration(per_epoch * run.options.epochs)} for {run.options.epochs} epochs here ({seconds:.2f} s a step)."
    )


def _train(run: Run, callbacks: keras.callbacks.CallbackList) -> None:
    """Run the epochs; Ctrl-C and a loss that is no number end the loop and keep what there is."""
    run.trainer.stop_training = False
    callbacks.on_train_begin()
    started = time.perf_counter()
    try:
        for epoch in range(run.options.epochs):
            callbacks.on_epoch_begin(epoch)
            epoch_started = time.perf_counter()
            loss = _train_epoch(run, epoch, callbacks)
            if not np.isfinite(loss):
                run.status = "diverged"
            logs = {"loss": loss, **_validate(run, epoch, loss)}
            logs["learning_rate"] = float(keras.ops.convert_to_numpy(run.trainer.optimizer.learning_rate))
            logs["seconds"] = time.perf_counter() - epoch_started
            for key, value in logs.items():
                run.history.setdefault(key, []).append(value)
            records.save_history(run.history_path, run.history)
            left = (time.perf_counter() - started) / (epoch + 1) * (run.options.epochs - epoch - 1)
            run.say(_epoch_line(run, epoch, logs, left))
            callbacks.on_epoch_end(epoch, logs)
            if run.trainer.stop_training or run.status == "diverged":
                break
    except KeyboardInterrupt:
        run.status = "interrupted"
        run.say(f"Stopped by hand after {len(run.history.get('loss', []))} finished epochs; what there is was kept.")
    callbacks.on_train_end()


def _train_epoch(run: Run, epoch: int, callbacks: keras.callbacks.CallbackList) -> float:
    """Train one epoch and return its mean loss per utterance; stop at the first loss that is no number."""
    plan = run.generator.plan("train", epoch)
    total, count, last_line = 0.0, 0, time.perf_counter()
    constant = run.options.schedule == "constant" and not run.options.warmup_epochs
    for step, indices in enumerate(plan):
        inputs, outputs = run.generator.assemble("train", indices, run.generator.step_rng(epoch, step))
        if run.learning_rate is not None and not constant:
            factor = run.options.learning_rate_factor(epoch + (step + 1) / len(plan))
            run.trainer.optimizer.learning_rate = run.learning_rate * factor
        callbacks.on_train_batch_begin(step)
        loss = float(run.trainer.train_on_batch(inputs, outputs))
        callbacks.on_train_batch_end(step, {"loss": loss})
        total, count = total + loss * len(indices), count + len(indices)
        if not np.isfinite(loss):
            names = [Path(run.generator.train_audio_paths[index]).stem for index in indices[:5]]
            run.say(
                f"The loss is {loss} at epoch {epoch + 1}, step {step + 1} of {len(plan)} (utterances {', '.join(names)}, ...). "
                "Training stops here. A smaller learning rate or gradient clipping (clipnorm) usually helps."
            )
            return float("nan")
        if time.perf_counter() - last_line > STEP_LINE_SECONDS:
            last_line = time.perf_counter()
            run.say(f"  epoch {epoch + 1}: step {step + 1} of {len(plan)}, loss {total / count:.1f}")
    return total / count


def _validate(run: Run, epoch: int, train_loss: float) -> dict[str, float]:
    """Score the validation set in one pass, and keep the weights when they are the best so far."""
    if not np.isfinite(train_loss):
        if run.best_epoch < 0:
            _keep(run, epoch, {"val_loss": float("nan")})
        return {"val_loss": float("nan"), "val_cer": float("nan"), "val_wer": float("nan")}
    utterances = run.generator.partitions["validation"].utterances
    losses, texts = np.zeros(len(utterances)), [""] * len(utterances)
    for indices in run.generator.plan("validation"):
        inputs, _ = run.generator.assemble("validation", indices)
        outputs = run.evaluator.predict_on_batch(inputs)
        losses[indices] = np.asarray(outputs["ctc"])
        lengths = _output_length(run.model)(inputs["input_length"])
        for index, row, length in zip(indices, np.asarray(outputs["probabilities"]), lengths, strict=True):
            texts[index] = greedy_decode(row, int(length)) if np.isfinite(row).all() else ""
    result = score([u.text for u in utterances], texts, [u.speaker for u in utterances])
    logs = {"val_loss": float(losses.mean()), "val_cer": result.cer.rate, "val_wer": result.wer.rate}
    if logs[run.options.monitor] < run.best or run.best_epoch < 0:
        run.best, run.best_epoch, run.best_score = logs[run.options.monitor], epoch, result
        _keep(run, epoch, logs)
    return logs


def _keep(run: Run, epoch: int, logs: dict[str, float]) -> None:
    best = {"epoch": epoch + 1, **{key: value for key, value in logs.items() if np.isfinite(value)}}
    records.save_weights(run.model, run.weights_path, {**run.metadata, "best": best})


def _epoch_line(run: Run, epoch: int, logs: dict[str, float], left: float) -> str:
    mark = " *" if epoch == run.best_epoch else "  "
    return (
        f"epoch {epoch + 1:3d}/{run.options.epochs}  loss {logs['loss']:7.2f}  val_loss {logs['val_loss']:7.2f}  "
        f"val_cer {100 * logs['val_cer']:5.1f} %  val_wer {100 * logs['val_wer']:5.1f} %{mark} {logs['seconds']:5.1f} s"
        + (f"  ({_duration(left)} left)" if epoch + 1 < run.options.epochs else "")
    )


def _finish(run: Run, configuration: dict, wall_seconds: float) -> None:
    """Write the run record beside the history and add it to the ledger."""
    if not run.history:  # interrupted within the first epoch
        records.save_weights(run.model, run.weights_path, run.metadata)
        return
    parts = run.generator.partitions
    record = {
        "name": run.name,
        "status": run.status,
        "model": run.model.name,
        "parameters": run.model.count_params(),
        "configuration": {key: value for key, value in configuration.items() if key != "architecture"},
        "fingerprint": run.metadata["fingerprint"],
        "corpus": {
            partition: {
                "manifest": _short(parts[partition].manifest),
                **summarize(parts[partition].utterances),
            }
            for partition in ("train", "validation")
        },
        "epochs": len(run.history["loss"]),
        "best_epoch": run.best_epoch + 1,
        "chosen_by": f"lowest {run.options.monitor} on the validation set",
        "scores": {
            "loss": run.history["loss"][run.best_epoch],
            "val_loss": run.history["val_loss"][run.best_epoch],
            **(run.best_score.as_dict() if run.best_score else {}),
        },
        "seconds_per_epoch": float(np.median(run.history["seconds"])),
        "wall_seconds": wall_seconds,
        "weights": run.weights_path.name,
        **records.environment(),
    }
    records.write_json(run.history_path.with_suffix(".json"), record)
    records.append_to_ledger(run.history_path.parent, record)


def _short(path: Path) -> str:
    """Return a path relative to the current folder where possible, so that records name no machine."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
