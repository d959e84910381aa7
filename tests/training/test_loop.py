"""An interrupted run that goes on gives what the uninterrupted run gives.

On JAX bit for bit; TensorFlow's threads add in varying order, so there two equal runs differ by rounding.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from sample_models import cnn_birnn_model
from train_utils import train_model
from vuilab.augment import Augmentation
from vuilab.files import repository
from vuilab.runs.checkpoint import checkpoint_path, peek
from vuilab.runs.record import read_record

ROOT = repository()
MINIBATCH = 2
CURVES = ("loss", "val_loss", "val_cer", "val_wer", "learning_rate")


def train(name: str, epochs: int = 3, learning_rate: float = 1e-3, **options):
    keras.utils.set_random_seed(0)
    model = cnn_birnn_model(161, filters=8, units=4, recur_layers=0, dropout=0.2)
    history = train_model(
        model,
        f"{name}.pickle",
        f"{name}.h5",
        minibatch_size=MINIBATCH,
        epochs=epochs,
        optimizer=keras.optimizers.AdamW(learning_rate),
        augmentation=Augmentation(warp=0.1),
        schedule="cosine",
        warmup_epochs=1,
        checkpoint_steps=2,
        verbose=0,
        **options,
    )
    return model, history


def curves(history):
    return {key: history[key] for key in CURVES}


def assert_same_curves(one, other):
    if keras.backend.backend() != "tensorflow":
        assert one == other
    for key in ("loss", "val_loss", "learning_rate"):
        np.testing.assert_allclose(one[key], other[key], rtol=1e-5)


class Interrupt(keras.callbacks.Callback):
    """Sends the signal of Ctrl-C once, after a step."""

    def __init__(self, epoch: int, step: int):
        super().__init__()
        self.where = (epoch, step)
        self.epoch = -1

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, step, logs=None):
        if (self.epoch, step) == self.where:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.contract
def test_ctrl_c_stops_after_the_batch_and_resume_gives_the_uninterrupted_run(corpus):
    model, whole = train("whole")
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=9)
    _, part = train("cut", callbacks=[Interrupt(1, 2), stopping])
    assert len(part["loss"]) == 1
    assert read_record("results/cut.json")["status"] == "interrupted"
    assert peek("results/cut.checkpoint.npz")["step"] == 3
    resumed, history = train("cut", callbacks=[Interrupt(-1, -1), stopping], resume=True)
    assert_same_curves(curves(history), curves(whole))
    for ours, theirs in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    assert read_record("results/cut.json")["status"] == "finished"
    assert not checkpoint_path("results/cut.pickle").exists()


def test_loop_of_a_finished_run_says_so_and_trains_nothing(corpus, capsys):
    _, whole = train("run", epochs=1)
    keras.utils.set_random_seed(0)
    model = cnn_birnn_model(161, filters=8, units=4, recur_layers=0, dropout=0.2)
    capsys.readouterr()
    again = train_model(
        model,
        "run.pickle",
        "run.h5",
        minibatch_size=MINIBATCH,
        epochs=1,
        optimizer=keras.optimizers.AdamW(1e-3),
        augmentation=Augmentation(warp=0.1),
        schedule="cosine",
        warmup_epochs=1,
        resume=True,
    )
    assert again == whole
    assert "was trained before with the same settings and data" in capsys.readouterr().out


def test_loop_from_another_runs_checkpoint_is_refused(corpus):
    train("run", callbacks=[Interrupt(0, 1)])
    with pytest.raises(ValueError, match=r"run\.checkpoint\.npz belongs to a run with other settings, model or data"):
        train("run", learning_rate=2e-3, callbacks=[Interrupt(-1, -1)], resume=True)


CHILD = """
import os, signal, sys
sys.path[:0] = [{root!r}, {tests!r}, {here!r}]
import numpy as np, keras
import test_loop
kill_step, kill_write = {kill_step}, {kill_write}

class Kill(keras.callbacks.Callback):
    steps = 0
    def on_train_batch_end(self, step, logs=None):
        Kill.steps += 1
        if Kill.steps == kill_step:
            os.kill(os.getpid(), signal.SIGKILL)

if kill_write:
    writes, savez = [], np.savez
    def half(file, **arrays):
        writes.append(1)
        if len(writes) == kill_write:
            file.write(b"half a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        savez(file, **arrays)
    np.savez = half
import json
model, history = test_loop.train("run", callbacks=[Kill()], resume=True)
print(json.dumps(test_loop.curves(history)))
"""


def child(folder: Path, corpus: Path, kill_step: int = 0, kill_write: int = 0) -> subprocess.CompletedProcess:
    code = CHILD.format(
        root=str(ROOT),
        tests=str(ROOT / "tests"),
        here=str(ROOT / "tests" / "training"),
        kill_step=kill_step,
        kill_write=kill_write,
    )
    environment = {**os.environ, "VUI_CORPUS": str(corpus)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
def test_runs_killed_at_three_random_instants_equal_the_uninterrupted_run(tmp_path, tiny_corpus):
    (tmp_path / "whole").mkdir()
    whole = child(tmp_path / "whole", tiny_corpus)
    assert whole.returncode == 0, whole.stderr[-2000:]
    steps = sorted(int(step) for step in np.random.default_rng(2026).integers(2, 16, size=2))
    (tmp_path / "killed").mkdir()
    for kill in ({"kill_step": steps[0]}, {"kill_write": 2}, {"kill_step": max(1, steps[1] - steps[0])}):
        killed = child(tmp_path / "killed", tiny_corpus, **kill)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    last = child(tmp_path / "killed", tiny_corpus)
    assert last.returncode == 0, last.stderr[-2000:]
    assert_same_curves(json.loads(last.stdout.splitlines()[-1]), json.loads(whole.stdout.splitlines()[-1]))
