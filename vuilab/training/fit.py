"""`fit(task, options)`: train a model, whatever it recognises, and leave history, weights, record and a line in the ledger.

It prints first about how long the run will take, then a line per epoch; after every epoch the history and, when it is the best
so far, the weights are on disk. A finished run with the same model, settings and data is loaded instead of trained again.
"""

import time
from pathlib import Path
from typing import Any

import keras

from vuilab.files import require_writable
from vuilab.runs.record import environment, file_hash, fingerprint
from vuilab.runs.weights import architecture, load_weights
from vuilab.training.loop import announce, train
from vuilab.training.optimizer import run_optimizer, with_schedule
from vuilab.training.options import TrainingOptions
from vuilab.training.run import Progress, Run, can_resume, finish, finished_run, speaker
from vuilab.training.sharing import prepare_optimizer
from vuilab.training.task import Say, Task


def fit(task: Task, options: TrainingOptions | None = None) -> dict[str, list[float]]:
    """Train a model and leave its history, best weights and run record on disk.

    Args:
        task: the model, its data and its files.
        options: how it is trained; None: the defaults of the task's kind.

    Returns:
        The history: lists 'loss' (nats per utterance or clip), what the task's validation logs, 'learning_rate' and 'seconds',
        one entry per epoch; empty with `options.plan`.

    Raises:
        ValueError: for options, weights, features or data that do not fit each other.
        FileNotFoundError: when the weights to begin with are missing.
    """
    options = task.options_kind() if options is None else options
    if not isinstance(options, task.options_kind):
        raise ValueError(
            f"A {type(task).__name__} is trained with {task.options_kind.__name__}. Received: {type(options).__name__}"
        )
    say, optimizer = speaker(options.verbose), run_optimizer(task.optimizer, options)
    if options.start_from is not None:
        _begin_with(task, options.start_from)
    configuration = configuration_of(task, options, optimizer)
    if not (options.force or options.plan):
        history = finished_run(task, configuration, say)
        if history is not None:
            return history
    resume = options.resume and not options.plan and can_resume(task, configuration, say)
    for folder in {task.history_path.parent, task.weights_path.parent}:
        require_writable(folder)
    task.prepare(say, progress=options.verbose > 0)
    run = _start(task, options, optimizer, Progress(fingerprint(configuration), task.contents()), say)
    if options.verbose or options.plan:
        announce(run)
    if options.plan:
        return {}
    started = time.perf_counter()
    made_with = environment()  # of the code that runs, whatever is edited meanwhile
    train(run, [*task.callbacks, *_early_stopping(options)], resume)
    finish(run, configuration, made_with, time.perf_counter() - started)
    return run.progress.history


def configuration_of(task: Task, options: TrainingOptions, optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Return what decides the result; two runs with the same configuration need not both be trained.

    What older records and checkpoints hold must go on meaning the same: a key that is added stands there only where it is used.
    """
    begin = {} if options.start_from is None else {"start_from": file_hash(options.start_from)}
    return {
        "architecture": architecture(task.model),
        "optimizer": keras.optimizers.serialize(optimizer),
        **task.configuration(),
        **options.relevant(),
        "backend": keras.backend.backend(),
        **begin,
    }


def _begin_with(task: Task, path: Path) -> None:
    """Load the weights to begin with; they must have been trained on the same features and alphabet."""
    metadata, settings = load_weights(task.model, path), task.generator.settings
    features, alphabet = metadata.get("features"), getattr(task.generator, "alphabet", None)
    if metadata.get("alphabet", alphabet) != alphabet:
        raise ValueError(f"{path} was trained on another alphabet, {metadata['alphabet']!r}. Received: {alphabet!r}")
    if features is not None and type(settings)(**features) != settings:
        raise ValueError(
            f"{path} was trained on other features. Received: {settings}; expected those of the file: {features}"
        )


def _start(
    task: Task, options: TrainingOptions, optimizer: keras.optimizers.Optimizer, progress: Progress, say: Say
) -> Run:
    """Build and compile the training model."""
    trainer, loss = task.training_model(options)
    optimizer = with_schedule(optimizer, options, len(task.generator.plan("train", 0)))
    # XLA around recurrent layers on TensorFlow's CPU build can end the process, and is no faster there
    compiled = keras.backend.backend() != "tensorflow"
    trainer.compile(optimizer=prepare_optimizer(optimizer), loss=loss, jit_compile=compiled)
    metadata = {"name": task.name, **task.metadata(), "fingerprint": progress.fingerprint, **task.notes}
    return Run(task, options, trainer, task.evaluator(trainer), say, metadata, progress)


def _early_stopping(options: TrainingOptions) -> list[keras.callbacks.Callback]:
    """Return the callback that stops a run after `options.patience` epochs without a better value, or none."""
    if options.patience is None:
        return []
    mode = {"lowest": "min", "highest": "max"}[options.best_is]
    return [keras.callbacks.EarlyStopping(options.monitor, mode=mode, patience=options.patience)]
