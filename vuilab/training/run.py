"""One training run: its options, where it stands, its files, and whether it needs to be made at all.

What is trained does not matter here: the loop over epochs (`training/loop.py`) and the two tasks, recognition
(`training/recogniser.py`) and keywords (`keywords/training.py`), share this.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from vuilab.files import require_writable
from vuilab.runs.checkpoint import checkpoint_path, peek
from vuilab.runs.history import load_history
from vuilab.runs.record import append_to_ledger, has_fingerprint, read_record, write_json
from vuilab.runs.weights import WEIGHT_SUFFIXES, load_weights, save_weights
from vuilab.training.devices import is_chief

SCHEDULES = ("constant", "cosine")
LEARNING_RATE = 0.02  # of the references; `default_optimizer` has the rest


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is trained, apart from model, data and optimiser.

    Raises:
        ValueError: at construction, for values out of range.
    """

    MONITORS: ClassVar[tuple[str, ...]] = ("val_loss", "val_cer", "val_wer")
    HIGHEST: ClassVar[tuple[str, ...]] = ()  # those of them of which the highest value is best, instead of the lowest

    epochs: int
    monitor: str = "val_loss"  # the best value of this chooses the weights that are kept
    schedule: str = "constant"  # of the learning rate after the warm-up; or 'cosine'
    warmup_epochs: float = 0.0  # the learning rate rises linearly so long
    patience: int | None = None  # epochs without a better value before the run stops

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1. Received: epochs={self.epochs}")
        if self.monitor not in self.MONITORS:
            raise ValueError(f"monitor must be one of {self.MONITORS}. Received: monitor={self.monitor!r}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}. Received: schedule={self.schedule!r}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1, or None. Received: patience={self.patience}")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"warmup_epochs must be in 0..epochs ({self.epochs}). Received: warmup_epochs={self.warmup_epochs}"
            )

    @property
    def best_is(self) -> str:
        """Whether the 'lowest' or the 'highest' value of the monitor is best."""
        return "highest" if self.monitor in self.HIGHEST else "lowest"

    @property
    def changes_learning_rate(self) -> bool:
        """Whether the loop sets the learning rate before each step."""
        return self.schedule != "constant" or self.warmup_epochs > 0

    def learning_rate_factor(self, progress: float) -> float:
        """Return what the learning rate is multiplied by after this many epochs (a fraction counts)."""
        if progress < self.warmup_epochs:
            return progress / self.warmup_epochs
        if self.schedule == "constant" or self.epochs == self.warmup_epochs:
            return 1.0
        return 0.5 + 0.5 * float(np.cos(np.pi * (progress - self.warmup_epochs) / (self.epochs - self.warmup_epochs)))


@dataclasses.dataclass
class Progress:
    """Where a run is: plain data, kept in its checkpoints."""

    fingerprint: str  # of the settings and data
    epoch: int = 0
    step: int = 0  # the next one of this epoch
    total: float = 0.0  # loss summed over the utterances (or clips) of this epoch
    count: int = 0  # utterances of this epoch
    seconds: float = 0.0  # spent in this epoch before the last interruption
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    best: float = float("inf")  # of the monitor; with the sign changed where the highest is best
    best_epoch: int = -1
    best_scores: dict = dataclasses.field(default_factory=dict)
    status: str = "running"  # then 'finished', 'interrupted' or 'diverged'


@dataclasses.dataclass
class Run:
    """One training run while it goes on."""

    name: str
    model: keras.Model  # features to softmax
    trainer: keras.Model  # with the loss on top, compiled
    evaluator: keras.Model  # what the validation needs, in one pass
    generator: Any  # of the batches: a BatchGenerator, or what has its plan, assemble, step_rng and num_frames
    validate: Callable[["Run"], tuple[dict[str, float], dict]]  # -> what the epoch logs, scores for the record
    describe: Callable[[dict[str, float]], str]  # logs of an epoch -> its line
    history_path: Path
    weights_path: Path
    checkpoint_path: Path
    checkpoint_steps: int  # between checkpoints within an epoch
    options: Options
    learning_rate: float | None  # the optimiser's own; None when it has a schedule of its own
    verbose: int
    metadata: dict  # goes into the weights file
    progress: Progress
    notes: dict = dataclasses.field(default_factory=dict)  # of the caller, for the run record
    stop_requested: bool = False  # by Ctrl-C
    unit: str = "utterances"  # what is counted

    def say(self, text: str) -> None:
        """Print unless the run is silent; of several processes one speaks."""
        if self.verbose and is_chief():
            print(text, flush=True)


def default_optimizer(learning_rate: float | None = None) -> keras.optimizers.Optimizer:
    """Return a fresh optimiser as the references had it: SGD with Nesterov momentum, clipped by the norm of all gradients.

    The references' Keras 2 called this `clipnorm`. In Keras 3 `clipnorm` clips each weight by itself, which stalls deep
    convolutional models; the counterpart is `global_clipnorm`.

    Args:
        learning_rate: None: 0.02.
    """
    return keras.optimizers.SGD(learning_rate or LEARNING_RATE, momentum=0.9, nesterov=True, global_clipnorm=5)


def fresh_optimizer(optimizer: keras.optimizers.Optimizer, ema: float | None) -> keras.optimizers.Optimizer:
    """Return a copy of an optimiser, since one instance serves one model only; with `ema` it averages the weights.

    Raises:
        ValueError: when it is no optimiser, or `ema` no momentum between 0 and 1.
    """
    if ema is not None and not 0 < ema < 1:
        raise ValueError(f"ema is a momentum between 0 and 1, such as 0.999, or None. Received: ema={ema}")
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(f"optimizer must be a keras.optimizers.Optimizer or None. Received: {optimizer!r}")
    averaging = {} if ema is None else {"use_ema": True, "ema_momentum": ema, "ema_overwrite_frequency": None}
    return optimizer.__class__.from_config({**optimizer.get_config(), **averaging})


def own_learning_rate(optimizer: keras.optimizers.Optimizer) -> float | None:
    """Return the learning rate of an optimiser; None where a schedule of its own changes it."""
    if isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def early_stopping(options: Options) -> list[keras.callbacks.Callback]:
    """Return the callback that stops a run after `options.patience` epochs without a better value, or none."""
    if options.patience is None:
        return []
    mode = {"lowest": "min", "highest": "max"}[options.best_is]
    return [keras.callbacks.EarlyStopping(options.monitor, mode=mode, patience=options.patience)]


def require_weights_suffix(path: str | Path) -> None:
    """Refuse a name that no weights file can have."""
    if not str(path).endswith(WEIGHT_SUFFIXES):
        raise ValueError(f"save_model_path must end in one of {WEIGHT_SUFFIXES}. Received: {str(path)!r}")


def prepare_files(history_path: Path, weights_path: Path) -> Path:
    """Make sure that the folders can be written, and return where the checkpoint goes."""
    for folder in {history_path.parent, weights_path.parent}:
        require_writable(folder)
    return checkpoint_path(history_path)


def finished_run(
    configuration: dict, history_path: Path, weights_path: Path, model: keras.Model, verbose: int
) -> dict[str, list[float]] | None:
    """Return the history of a finished run with this configuration and load its weights, or None."""
    record_path = history_path.with_suffix(".json")
    if not (record_path.is_file() and history_path.is_file() and weights_path.is_file()):
        return None
    try:
        record = read_record(record_path)
        if not has_fingerprint(record, configuration) or record.get("status") == "interrupted":
            return None
        history = load_history(history_path)
        load_weights(model, weights_path)
    except ValueError as error:
        if verbose:
            print(f"{history_path.stem} is trained again, since what an earlier run left is damaged: {error}")
        return None
    if verbose:
        print(
            f"{record['name']} was trained before with the same settings and data: loaded {len(history['loss'])} epochs from "
            f"{history_path} and the best weights from {weights_path}. Pass force=True to train it again."
        )
    return history


def can_resume(run: Run, configuration: dict) -> bool:
    """Say whether there is a checkpoint to go on from; refuse one of another run."""
    if not run.checkpoint_path.is_file():
        run.say(f"There is no checkpoint {run.checkpoint_path}; {run.name} begins with its first epoch.")
        return False
    if not has_fingerprint(peek(run.checkpoint_path), configuration):
        raise ValueError(
            f"The checkpoint {run.checkpoint_path} belongs to a run with other settings, model or data, so it cannot go on as "
            f"{run.name}. Call train_model with the arguments of that run, or without resume=True to begin anew."
        )
    return True


def finish(run: Run, configuration: dict, made_with: dict, wall_seconds: float, corpus: dict, more: dict) -> None:
    """Write the run record beside the history and add it to the ledger; a run that ended needs no checkpoint.

    Args:
        run: the run.
        configuration: what decides the result.
        made_with: of the code that ran (`record.environment`).
        wall_seconds: of the whole run.
        corpus: what it was trained and validated on.
        more: further keys of the record.
    """
    progress = run.progress
    if not is_chief():
        return
    if progress.status != "interrupted":
        run.checkpoint_path.unlink(missing_ok=True)
    if not progress.history:  # interrupted within the first epoch
        if not run.weights_path.exists():  # else they belong to the history and record of an earlier run
            save_weights(run.model, run.weights_path, run.metadata)
        return
    record = {
        **run.notes,
        "name": run.name,
        "status": progress.status,
        "model": run.model.name,
        "parameters": run.model.count_params(),
        "configuration": {key: value for key, value in configuration.items() if key != "architecture"},
        "fingerprint": progress.fingerprint,
        "corpus": corpus,
        "epochs": len(progress.history["loss"]),
        "best_epoch": progress.best_epoch + 1,
        "chosen_by": f"{run.options.best_is} {run.options.monitor} on the validation set",
        "scores": {
            "loss": progress.history["loss"][progress.best_epoch],
            "val_loss": progress.history["val_loss"][progress.best_epoch],
            **progress.best_scores,
        },
        "seconds_per_epoch": float(np.median(progress.history["seconds"])),
        "wall_seconds": wall_seconds,
        "weights": run.weights_path.name,
        **more,
        **made_with,
    }
    write_json(run.history_path.with_suffix(".json"), record)
    append_to_ledger(run.history_path.parent, record)
