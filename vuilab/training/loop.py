"""The loop over epochs and steps: learning rate, validation, best weights, checkpoints, and stopping cleanly.

One epoch trains on every batch of the plan, then scores the validation set in one pass that gives the losses and the
transcripts. What the loop knows is in `Run`; a checkpoint holds all of it, so that a run that was killed at any point goes on
from the last checkpoint as if nothing had happened.
"""

import concurrent.futures
import contextlib
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from vuilab.data.feature_cache import cache_bytes
from vuilab.data.generator import BatchGenerator
from vuilab.decoding.greedy import greedy_decode
from vuilab.models.acoustic import output_length
from vuilab.runs.checkpoint import load_checkpoint, save_checkpoint
from vuilab.runs.history import save_history
from vuilab.runs.weights import save_weights
from vuilab.scoring.error_rates import score
from vuilab.training.devices import is_chief, predict_step, train_step
from vuilab.training.run import Progress, Run

STEP_LINE_SECONDS = 20  # within a long epoch, a line of progress this often
VALIDATION_COST = 0.4  # of a training step, for a batch of the same size; used by the estimate only


def model_output_length(model: keras.Model) -> Callable:
    """Return the function from feature frames to output frames: the model's own, or derived from its layers."""
    return getattr(model, "output_length", None) or (lambda input_length: output_length(model, input_length))


def announce(run: Run, hours: Sequence[float] = ()) -> None:
    """Time a few steps, put all weights back, and say how long the run will take and how much memory.

    Args:
        run: the run.
        hours: of speech; say also what training on so much would take.
    """
    generator = run.generator
    num_frames = generator.num_frames("train")
    plan = generator.plan("train", 0)
    size = [num_frames[batch].max() * len(batch) for batch in plan]
    order = np.argsort(size)
    middle = order[len(order) // 2]
    seconds = _time_steps(run, [plan[order[0]], plan[order[-1]], plan[middle], plan[middle]])
    training = seconds * sum(size) / size[middle]
    per_epoch = training + seconds * VALIDATION_COST * len(generator.plan("validation"))
    run.say(
        f"{run.name}: {run.model.count_params():,} parameters, {len(num_frames)} training and "
        f"{len(generator.num_frames('validation'))} validation {run.unit}, {len(plan)} steps an epoch. "
        f"About {duration(per_epoch * run.options.epochs)} for {run.options.epochs} epochs here ({seconds:.2f} s a step"
        f"{_memory_text()})."
    )
    for amount in hours:
        one = (
            training
            * amount
            * len(generator.options.speeds)
            * 3600
            * generator.settings.frames_per_second
            / num_frames.sum()
        )
        disk = len(generator.options.speeds) * cache_bytes(3600 * amount, generator.settings)
        run.say(
            f"{amount:g} h of speech would take about {duration(one)} an epoch, {duration(one * run.options.epochs)} for "
            f"{run.options.epochs}, and {disk / 1e9:.1f} GB of disk for the features, which are read from there, so that "
            "the memory stays the same."
        )


def _time_steps(run: Run, batches: Sequence[np.ndarray]) -> float:
    """Train on batches, put all weights back, and return the seconds of the last step; the first ones pay for compilation."""
    run.trainer.optimizer.build(run.trainer.trainable_variables)
    variables = [*run.trainer.variables, *run.trainer.optimizer.variables]
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    seconds = 0.0
    for batch in batches:
        inputs, outputs = run.generator.assemble("train", batch)
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
    """Run the epochs from wherever the run is; afterwards `run.progress` says how it ended.

    Args:
        run: the run.
        callbacks: Keras callbacks; their counters are part of the checkpoints.
        resume: begin with the checkpoint.
    """
    progress, every = run.progress, keras.callbacks.CallbackList(callbacks, model=run.trainer)
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
            logs = _close_epoch(run)
            left = (time.perf_counter() - started) / (progress.epoch - first) * (run.options.epochs - progress.epoch)
            run.say(_epoch_line(run, progress.epoch - 1, logs, left))
            every.on_epoch_end(progress.epoch - 1, logs)
            _save(run, callbacks)
            if run.trainer.stop_training or run.stop_requested:
                break
    if progress.status == "running":
        stopped = run.stop_requested and progress.epoch < run.options.epochs
        progress.status = "interrupted" if stopped else "finished"
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
    plan = run.generator.plan("train", progress.epoch)
    epoch_started = last_line = time.perf_counter()
    before = progress.seconds
    for indices, batch in _batches_ahead(run.generator, progress.epoch, plan, progress.step):
        loss = _train_step(run, batch, len(plan), every)
        progress.total += loss * len(indices)
        progress.count += len(indices)
        progress.step += 1
        progress.seconds = before + time.perf_counter() - epoch_started
        if not np.isfinite(loss):
            progress.status = "diverged"
            progress.total = float("nan")
            names = [Path(run.generator.train_audio_paths[index]).stem for index in indices[:5]]
            run.say(
                f"The loss is {loss} at epoch {progress.epoch + 1}, step {progress.step} of {len(plan)} ({run.unit} "
                f"{', '.join(names)}, ...). Training stops here. A smaller learning rate or gradient clipping (global_clipnorm) "
                "usually helps."
            )
            return
        if run.stop_requested and progress.step < len(plan):
            progress.status = "interrupted"
            _save(run, callbacks)
            return
        if progress.step % run.checkpoint_steps == 0 and progress.step < len(plan):
            _save(run, callbacks)
        if time.perf_counter() - last_line > STEP_LINE_SECONDS:
            last_line = time.perf_counter()
            mean = progress.total / progress.count
            run.say(f"  epoch {progress.epoch + 1}: step {progress.step} of {len(plan)}, loss {mean:.4g}")


def _batches_ahead(
    generator: BatchGenerator, epoch: int, plan: list[np.ndarray], first: int
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


def _train_step(run: Run, batch: tuple[dict, dict], num_steps: int, every: keras.callbacks.CallbackList) -> float:
    """Train on one batch and return its mean loss in nats per utterance."""
    epoch, step = run.progress.epoch, run.progress.step
    inputs, outputs = batch
    if run.learning_rate is not None and run.options.changes_learning_rate:
        factor = run.options.learning_rate_factor(epoch + (step + 1) / num_steps)
        run.trainer.optimizer.learning_rate = run.learning_rate * factor
    every.on_train_batch_begin(step)
    loss = train_step(run.trainer, inputs, outputs)
    every.on_train_batch_end(step, {"loss": loss})
    return loss


def _close_epoch(run: Run) -> dict[str, float]:
    """Validate, write the history, and move on to the next epoch; return what the epoch gave."""
    progress = run.progress
    started = time.perf_counter()
    if is_chief():  # the record of a run whose files are replaced now
        run.history_path.with_suffix(".json").unlink(missing_ok=True)
    with averaged_weights(run.trainer):
        logs = {"loss": progress.total / progress.count, **_validate(run)}
    logs["learning_rate"] = float(keras.ops.convert_to_numpy(run.trainer.optimizer.learning_rate))
    logs["seconds"] = progress.seconds + time.perf_counter() - started
    for key, value in logs.items():
        progress.history.setdefault(key, []).append(value)
    if is_chief():
        save_history(run.history_path, progress.history)
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
        return dict.fromkeys(run.options.MONITORS, float("nan"))
    logs, scores = run.validate(run)
    value = logs[run.options.monitor] * (-1 if run.options.best_is == "highest" else 1)
    if value < progress.best or progress.best_epoch < 0:
        progress.best, progress.best_epoch = value if np.isfinite(value) else float("inf"), progress.epoch
        progress.best_scores = scores
        _keep(run, progress.epoch, logs)
    return logs


def score_transcripts(run: Run) -> tuple[dict[str, float], dict]:
    """Return the loss and the error rates of greedy transcripts of the validation set, and the scores in full."""
    utterances = run.generator.partitions["validation"].utterances
    losses, texts = np.zeros(len(utterances)), [""] * len(utterances)
    for indices in run.generator.plan("validation"):
        inputs, _ = run.generator.assemble("validation", indices)
        outputs = predict_step(run.evaluator, inputs)
        losses[indices] = np.asarray(outputs["ctc"])
        lengths = model_output_length(run.model)(inputs["input_length"])
        for index, row, length in zip(indices, np.asarray(outputs["probabilities"]), lengths, strict=True):
            texts[index] = greedy_decode(row, int(length)) if np.isfinite(row).all() else ""
    result = score([u.text for u in utterances], texts, [u.speaker for u in utterances])
    return {"val_loss": float(losses.mean()), "val_cer": result.cer.rate, "val_wer": result.wer.rate}, result.as_dict()


def describe_transcripts(logs: dict[str, float]) -> str:
    """Return what the line of an epoch says of losses and error rates."""
    return (
        f"loss {logs['loss']:7.2f}  val_loss {logs['val_loss']:7.2f}  val_cer {100 * logs['val_cer']:5.1f} %  "
        f"val_wer {100 * logs['val_wer']:5.1f} %"
    )


def _keep(run: Run, epoch: int, logs: dict[str, float]) -> None:
    if not is_chief():
        return
    best = {"epoch": epoch + 1, **{key: value for key, value in logs.items() if np.isfinite(value)}}
    save_weights(run.model, run.weights_path, {**run.metadata, "best": best})


def _epoch_line(run: Run, epoch: int, logs: dict[str, float], left: float) -> str:
    mark = " *" if epoch == run.progress.best_epoch else "  "
    return f"epoch {epoch + 1:3d}/{run.options.epochs}  {run.describe(logs)}{mark} {logs['seconds']:5.1f} s" + (
        f"  ({duration(left)} left)" if epoch + 1 < run.options.epochs else ""
    )


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
