"""The loop over epochs and steps: validation, best weights, checkpoints, and stopping cleanly.

One epoch trains on every batch of the plan, then scores the validation set in one pass. What the loop knows is in `Run`; a
checkpoint holds all of it, so that a run that was killed at any point goes on from the last one as if nothing had happened.
"""

import concurrent.futures
import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from vuilab.runs.checkpoint import load_checkpoint, save_checkpoint
from vuilab.runs.history import save_history
from vuilab.runs.weights import save_weights
from vuilab.training.devices import is_chief
from vuilab.training.run import Progress, Run
from vuilab.training.sharing import train_step
from vuilab.training.task import Batches

STEP_LINE_SECONDS = 20  # within a long epoch, a line of progress this often
VALIDATION_COST = 0.4  # of a training step, for a batch of the same size; used by the estimate only


def announce(run: Run) -> None:
    """Time a few steps, put all weights back, and say how long the run will take, how much memory, and what is planned."""
    generator, task = run.task.generator, run.task
    num_frames = generator.num_frames("train")
    plan = generator.plan("train", 0)
    size = [num_frames[batch].max() * len(batch) for batch in plan]
    order = np.argsort(size)
    middle = order[len(order) // 2]
    seconds = _time_steps(run, [plan[order[0]], plan[order[-1]], plan[middle], plan[middle]])
    training = seconds * sum(size) / size[middle]
    per_epoch = training + seconds * VALIDATION_COST * len(generator.plan("validation"))
    epochs = run.options.epochs
    run.say(
        f"{task.name}: {task.model.count_params():,} parameters, {len(num_frames)} training and "
        f"{len(generator.num_frames('validation'))} validation {task.unit}, {len(plan)} steps an epoch. "
        f"About {duration(per_epoch * epochs)} for {epochs} epochs here ({seconds:.2f} s a step{_memory_text()})."
    )
    for hours in run.options.plan:
        frames, disk = task.size_of(hours)
        one = training * frames / num_frames.sum()
        run.say(
            f"{hours:g} h of speech would take about {duration(one)} an epoch, {duration(one * epochs)} for {epochs}, and "
            f"{disk / 1e9:.1f} GB of disk for the features, which are read from there, so that the memory stays the same."
        )


def _time_steps(run: Run, batches: Sequence[np.ndarray]) -> float:
    """Train on batches, put all weights back, and return the seconds of the last step; the first ones pay for compilation."""
    run.trainer.optimizer.build(run.trainer.trainable_variables)
    variables = [*run.trainer.variables, *run.trainer.optimizer.variables]
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    seconds = 0.0
    for batch in batches:
        inputs, outputs = run.task.generator.assemble("train", batch)
        started = time.perf_counter()
        train_step(run.trainer, inputs, outputs)
        seconds = time.perf_counter() - started
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    return seconds


def _memory_text() -> str:
    """Return the peak memory of this process so far, or nothing on Windows; the longest batch has run by then."""
    try:
        import resource
    except ImportError:
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return f", {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB of memory"


def train(run: Run, callbacks: list[keras.callbacks.Callback], resume: bool) -> None:
    """Run the epochs from the start or, to `resume`, from the checkpoint, which has the counters of the callbacks too.

    Afterwards `run.progress` says how it ended.
    """
    progress, steps = run.progress, len(run.task.generator.plan("train", 0))
    known = {"epochs": run.options.epochs, "steps": steps, "verbose": run.options.verbose}
    every = keras.callbacks.CallbackList(callbacks, model=run.trainer, **known)
    run.trainer.stop_training = False
    every.on_train_begin()
    if resume:
        progress = run.progress = Progress(**load_checkpoint(run.checkpoint_path, run.trainer, callbacks))
        run.say(f"Going on with epoch {progress.epoch + 1}, step {progress.step + 1}.")
    progress.status = "running"
    started, first = time.perf_counter(), progress.epoch
    with _stop_after_batch(run):
        while progress.epoch < run.options.epochs and progress.status == "running":
            every.on_epoch_begin(progress.epoch)
            _train_epoch(run, callbacks, every)
            if progress.status == "interrupted":
                break
            logs = _close_epoch(run, every)
            left = (time.perf_counter() - started) / (progress.epoch - first) * (run.options.epochs - progress.epoch)
            mark = " *" if progress.epoch == progress.best_epoch + 1 else "  "
            line = f"epoch {progress.epoch:3d}/{run.options.epochs}  {run.task.describe(logs)}{mark} {logs['seconds']:5.1f} s"
            run.say(f"{line}  ({duration(left)} left)" if left else line)
            every.on_epoch_end(progress.epoch - 1, logs)
            _save(run, callbacks)
            if run.trainer.stop_training or run.stop_requested:
                break
    if progress.status == "running":
        unfinished = run.stop_requested and progress.epoch < run.options.epochs
        progress.status = "interrupted" if unfinished else "finished"
    if progress.status == "interrupted":
        run.say(
            f"Stopped by hand in epoch {progress.epoch + 1} after {progress.step} steps. What there is was kept; the same "
            "call with resume=True (vui.py train ... --resume) goes on from here."
        )
    every.on_train_end()


def _save(run: Run, callbacks: list[keras.callbacks.Callback]) -> None:
    if is_chief():
        save_checkpoint(run.checkpoint_path, run.trainer, dataclasses.asdict(run.progress), callbacks)


def _train_epoch(run: Run, callbacks: list[keras.callbacks.Callback], every: keras.callbacks.CallbackList) -> None:
    """Train the rest of the current epoch; stop at a loss that is no number, or by hand after a batch."""
    progress = run.progress
    plan = run.task.generator.plan("train", progress.epoch)
    epoch_started = last_line = time.perf_counter()
    before = progress.seconds
    for indices, (inputs, outputs) in _batches_ahead(run.task.generator, progress.epoch, plan, progress.step):
        every.on_train_batch_begin(progress.step)
        loss = train_step(run.trainer, inputs, outputs)
        every.on_train_batch_end(progress.step, {"loss": loss})
        progress.total += loss * len(indices)
        progress.count += len(indices)
        progress.step += 1
        progress.seconds = before + time.perf_counter() - epoch_started
        if not np.isfinite(loss):
            progress.status, progress.total = "diverged", float("nan")
            names = ", ".join(Path(run.task.generator.train_audio_paths[index]).stem for index in indices[:5])
            run.say(
                f"The loss is {loss} at epoch {progress.epoch + 1}, step {progress.step} of {len(plan)} ({run.task.unit} "
                f"{names}, ...). Training stops here. A smaller learning rate or gradient clipping (global_clipnorm) "
                "usually helps."
            )
            return
        if run.trainer.stop_training:  # by a callback: the epoch ends here
            return
        if run.stop_requested and progress.step < len(plan):
            progress.status = "interrupted"
            _save(run, callbacks)
            return
        if progress.step % run.options.checkpoint_steps == 0 and progress.step < len(plan):
            _save(run, callbacks)
        if time.perf_counter() - last_line > STEP_LINE_SECONDS:
            last_line, mean = time.perf_counter(), progress.total / progress.count
            run.say(f"  epoch {progress.epoch + 1}: step {progress.step} of {len(plan)}, loss {mean:.4g}")


def _batches_ahead(
    generator: Batches, epoch: int, plan: list[np.ndarray], first: int
) -> Iterator[tuple[np.ndarray, tuple[dict, dict]]]:
    """Yield the utterance numbers and arrays of each step of an epoch; the next batch is put together while one trains."""

    def assemble(step: int) -> tuple[dict, dict]:
        return generator.assemble("train", plan[step], generator.step_rng(epoch, step))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(assemble, first)
        for step in range(first, len(plan)):
            batch = coming.result()
            if step + 1 < len(plan):
                coming = pool.submit(assemble, step + 1)
            yield plan[step], batch


def _close_epoch(run: Run, every: keras.callbacks.CallbackList) -> dict[str, float]:
    """Validate, write the history, and move on to the next epoch; return what the epoch gave."""
    progress = run.progress
    started = time.perf_counter()
    if is_chief():  # the record of a run whose files are replaced now
        run.task.history_path.with_suffix(".json").unlink(missing_ok=True)
    with averaged_weights(run.trainer):
        every.on_test_begin()
        scores = _validate(run)
        every.on_test_end(scores)
    logs = {"loss": progress.total / progress.count, **scores}
    logs["learning_rate"] = float(keras.ops.convert_to_numpy(run.trainer.optimizer.learning_rate))
    logs["seconds"] = progress.seconds + time.perf_counter() - started
    for key, value in logs.items():
        progress.history.setdefault(key, []).append(value)
    if is_chief():
        save_history(run.task.history_path, progress.history)
    progress.epoch += 1
    progress.step, progress.total, progress.count, progress.seconds = 0, 0.0, 0, 0.0
    return logs


@contextlib.contextmanager
def averaged_weights(trainer: keras.Model) -> Iterator[None]:
    """Put the optimiser's running averages in the place of the weights for a while, where it keeps any (`use_ema`).

    Weight averaging (Polyak and Juditsky, 1992) in the exponential form that Keras' optimisers keep: after each step
    average = momentum * average + (1 - momentum) * weight.
    """
    optimizer = getattr(trainer.optimizer, "inner_optimizer", trainer.optimizer)
    if not optimizer.use_ema or not int(optimizer.iterations):
        yield
        return
    pairs = list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))
    weights = [np.array(keras.ops.convert_to_numpy(variable)) for variable, _ in pairs]
    for variable, average in pairs:
        variable.assign(np.array(keras.ops.convert_to_numpy(average)))  # a copy: JAX gives buffers away in each step
    try:
        yield
    finally:
        for (variable, _), weight in zip(pairs, weights, strict=True):
            variable.assign(weight)


def _validate(run: Run) -> dict[str, float]:
    """Score the validation set in one pass, and keep the weights when they are the best so far."""
    progress = run.progress
    if progress.status == "diverged":
        if progress.best_epoch < 0:
            _keep(run, progress.epoch, {})
        return dict.fromkeys(run.options.monitors, float("nan"))
    logs, scores = run.task.validate(run.evaluator)
    value = logs[run.options.monitor] * (-1 if run.options.best_is == "highest" else 1)
    if value < progress.best or progress.best_epoch < 0:
        progress.best, progress.best_epoch = value if np.isfinite(value) else float("inf"), progress.epoch
        progress.best_scores = scores
        _keep(run, progress.epoch, logs)
    return logs


def _keep(run: Run, epoch: int, logs: dict[str, float]) -> None:
    best = {"epoch": epoch + 1, **{key: value for key, value in logs.items() if np.isfinite(value)}}
    if is_chief():
        save_weights(run.task.model, run.task.weights_path, {**run.metadata, "best": best})


@contextlib.contextmanager
def _stop_after_batch(run: Run) -> Iterator[None]:
    """Let the first Ctrl-C end training after the batch at work, and a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return

    def remember(signum: int, frame) -> None:
        if run.stop_requested:
            raise KeyboardInterrupt
        run.stop_requested = True

    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield
    except KeyboardInterrupt:
        run.progress.status = "interrupted"
    finally:
        signal.signal(signal.SIGINT, previous)


def duration(seconds: float) -> str:
    """Return seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
