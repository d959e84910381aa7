"""One training run: where it stands, its files, and whether it needs to be made at all.

What is trained does not matter here; `Task` knows it.
"""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vuilab.runs.checkpoint import checkpoint_path, peek
from vuilab.runs.history import load_history
from vuilab.runs.record import append_to_ledger, has_fingerprint, read_record, same_recordings, write_json
from vuilab.runs.weights import load_weights, save_weights
from vuilab.training.devices import is_chief
from vuilab.training.options import TrainingOptions
from vuilab.training.task import Say, Task


@dataclasses.dataclass
class Progress:
    """Where a run is: plain data, kept in its checkpoints."""

    fingerprint: str  # of the settings and data
    contents: dict[str, str | None] = dataclasses.field(default_factory=dict)  # see `Task.contents`
    epoch: int = 0
    step: int = 0  # the next one of this epoch
    total: float = 0.0  # loss summed over the utterances (or clips) of this epoch
    count: int = 0  # utterances of this epoch
    seconds: float = 0.0  # spent in this epoch before the last interruption
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    best: float = float("inf")  # of the monitor; with the sign changed where the highest is best
    best_epoch: int = -1
    best_scores: dict[str, Any] = dataclasses.field(default_factory=dict)
    status: str = "running"  # then 'finished', 'interrupted' or 'diverged'


@dataclasses.dataclass
class Run:
    """One training run while it goes on."""

    task: Task
    options: TrainingOptions
    trainer: keras.Model  # with the loss on top, compiled
    evaluator: keras.Model  # what the validation needs, in one pass
    say: Say
    metadata: dict[str, Any]  # goes into the weights file
    progress: Progress
    stop_requested: bool = False  # by Ctrl-C

    @property
    def checkpoint_path(self) -> Path:
        """Where its checkpoint goes."""
        return checkpoint_path(self.task.history_path)


def speaker(verbose: int) -> Say:
    """Return a function that prints unless the run is silent; of several processes one speaks."""

    def say(text: str) -> None:
        if verbose and is_chief():
            print(text, flush=True)

    return say


def finished_run(task: Task, configuration: dict[str, Any], say: Say) -> dict[str, list[float]] | None:
    """Return the history of a finished run with this configuration and load its weights, or None."""
    record_path = task.history_path.with_suffix(".json")
    if not all(path.is_file() for path in (record_path, task.history_path, task.weights_path)):
        return None
    try:
        record = read_record(record_path)
        if not has_fingerprint(record, configuration):
            say(
                f"{task.history_path.with_suffix('')}.* hold a run with other settings, model or data ({record['model']}, "
                f"{record['parameters']:,} parameters, {record['epochs']} epochs). This run replaces it; another name keeps both."
            )
            return None
        if not same_recordings(record, task.contents()):
            say(
                f"Recordings were replaced since {task.name} was trained, so it is trained again. Another name keeps both."
            )
            return None
        if record.get("status") == "interrupted":
            return None
        history = load_history(task.history_path)
        load_weights(task.model, task.weights_path)
    except ValueError as error:
        say(f"{task.name} is trained again, since what an earlier run left is damaged: {error}")
        return None
    say(
        f"{record['name']} was trained before with the same settings and data: loaded {len(history['loss'])} epochs from "
        f"{task.history_path} and the best weights from {task.weights_path}. Pass force=True to train it again."
    )
    if record.get("status") == "diverged":
        say(f"That run diverged: its loss became undefined (NaN) in epoch {len(history['loss'])}.")
    return history


def can_resume(task: Task, configuration: dict[str, Any], say: Say) -> bool:
    """Say whether there is a checkpoint to go on from.

    Raises:
        ValueError: when it is of another run, or damaged; and when a finished run stands there, over which nothing goes on.
    """
    path = checkpoint_path(task.history_path)
    if not path.is_file():
        record = task.history_path.with_suffix(".json")
        if record.is_file() and read_record(record)["status"] != "interrupted":
            raise ValueError(
                f"{record} is of a run that ended after {read_record(record)['epochs']} epochs, with other settings, model or "
                "data. The state of its optimiser was not kept, so it cannot go on. Begin another run with its weights "
                f"(start_from={str(task.weights_path)!r}; --start-from) under another name, or train without resume=True to "
                "replace it."
            )
        say(f"There is no checkpoint {path}; {task.name} begins with its first epoch.")
        return False
    if not has_fingerprint(peek(path), configuration):
        raise ValueError(
            f"The checkpoint {path} belongs to a run with other settings, model or data, so it cannot go on as {task.name}. "
            "Train with the arguments of that run, or without resume=True to begin anew."
        )
    if not same_recordings(peek(path), task.contents()):
        raise ValueError(
            f"Recordings were replaced since the checkpoint {path} was written, so {task.name} cannot go on. Put them back, or "
            "train without resume=True to begin anew."
        )
    return True


def finish(run: Run, configuration: dict[str, Any], made_with: dict[str, Any], wall_seconds: float) -> None:
    """Write the run record beside the history and add it to the ledger; a run that ended needs no checkpoint.

    What decides the result is its `configuration`; `made_with` is `record.environment` when it began.
    """
    progress, task = run.progress, run.task
    report = task.report(progress.status, run.say) if progress.history else {}
    if not is_chief():
        return
    if progress.status != "interrupted":
        run.checkpoint_path.unlink(missing_ok=True)
    if not progress.history:  # interrupted within the first epoch
        if not task.weights_path.exists():  # else they belong to the history and record of an earlier run
            save_weights(task.model, task.weights_path, run.metadata)
        return
    record = {
        **task.notes,
        "name": task.name,
        "status": progress.status,
        "model": task.model.name,
        "parameters": task.model.count_params(),
        "configuration": {key: value for key, value in configuration.items() if key != "architecture"},
        "fingerprint": progress.fingerprint,
        "contents": progress.contents,
        "corpus": task.corpus(),
        "epochs": len(progress.history["loss"]),
        "best_epoch": progress.best_epoch + 1,
        "chosen_by": f"{run.options.best_is} {run.options.monitor} on {task.validation_set}",
        "scores": {
            "loss": progress.history["loss"][progress.best_epoch],
            "val_loss": progress.history["val_loss"][progress.best_epoch],
            **progress.best_scores,
        },
        "seconds_per_epoch": float(np.median(progress.history["seconds"])),
        "wall_seconds": wall_seconds,
        "weights": task.weights_path.name,
        **report,
        **made_with,
    }
    write_json(task.history_path.with_suffix(".json"), record)
    append_to_ledger(task.history_path.parent, record)
