"""`vui train`: what it leaves, what it passes on, and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import pytest
from tiny_training import TRAIN

from vui import main
from vuilab.augment import Augmentation
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.training.options import TrainingOptions


def test_train_leaves_history_weights_and_record(trained, tiny_corpus):
    folder = trained / "results"
    assert {path.name for path in folder.iterdir()} >= {"tiny.h5", "tiny.json", "tiny.pickle", "ledger.jsonl"}
    record = json.loads((folder / "tiny.json").read_text())
    assert record["configuration"]["features"]["kind"] == "mfcc" and record["epochs"] == 1
    assert record["builder"] == {"name": "model_0", "options": {}}
    assert record["corpus"]["train"]["num_speakers"] >= 2


def test_train_again_loads_the_finished_run(trained, tiny_corpus, tmp_path, monkeypatch, capsys):
    shutil.copytree(trained / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN.split(), "--corpus", str(tiny_corpus)]) == 0
    printed = capsys.readouterr().out
    assert "tiny was trained before with the same settings and data" in printed
    assert "Weights: results/tiny.h5   record: results/tiny.json" in printed


def test_train_passes_every_option_on(project, monkeypatch):
    seen = []
    monkeypatch.setattr("vuilab.training.fit.fit", lambda *arguments: seen.extend(arguments))
    command = (
        "train model_2 --name try --epochs 7 --features mfcc --mfcc-dim 20 --batch-size 9 --max-duration 4 --optimizer adamw "
        "--learning-rate 0.003 --schedule cosine --warmup-epochs 0.5 --augment --monitor val_cer --speeds 0.9 1.1 --ema 0.99 "
        "--sort-by-duration --seed 3 --force --resume --patience 5 "
        "--start-from first.h5 --plan 100 960 --splice 0.7 --model-options units=8"
    )
    assert main(command.split()) == 0
    task, options = seen
    assert [path.as_posix() for path in (task.history_path, task.weights_path)] == [
        "results/try.pickle",
        "results/try.h5",
    ]
    assert type(task.optimizer).__name__ == "AdamW" and float(task.optimizer.learning_rate) == pytest.approx(0.003)
    assert task.generator.settings == FeatureSettings("mfcc", mfcc_dim=20)
    # of cepstral coefficients there is no frequency axis to stretch
    assert task.generator.options == DataOptions(9, 4.0, True, (0.9, 1.1), 0.7, Augmentation(warp=0.0), seed=3)
    assert task.notes == {"builder": {"name": "model_2", "options": {"units": 8}}, "start_from": "first.h5"}
    assert options == TrainingOptions(
        epochs=7,
        monitor="val_cer",
        schedule="cosine",
        warmup_epochs=0.5,
        patience=5,
        ema=0.99,
        start_from=Path("first.h5"),
        force=True,
        resume=True,
        plan=(100.0, 960.0),
    )


def test_train_takes_a_run_name_of_the_study(project, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("vuilab.training.fit.fit", lambda *arguments: seen.extend(arguments))
    name = "MFCC GRU(30 x1) BN relu DO(0.2) TD(D)"
    assert main(["train", name]) == 1 and "--name" in capsys.readouterr().err
    assert main(["train", name, "--name", "mine", "--mfcc-dim", "26"]) == 0
    task, _ = seen
    assert task.model.input_shape[-1] == 26 and task.generator.settings.kind == "mfcc"
    assert task.notes == {"full_name": name, "builder": {"name": name, "options": {}}}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("train model_9", r"Unknown model 'model_9'\. Expected one of: model_0, model_1"),
        ("train model_0 --corpus nowhere", r"No manifest at nowhere/train_corpus\.json\. Make the demo corpus"),
        ("train model_0 --epochs 0", r"epochs must be at least 1"),
        ("train model_0 --learning-rate 0", r"learning_rate must be positive\. Received: learning_rate=0\.0"),
        ("train model_0 --patience 0", r"patience must be at least 1, or None"),
        ("train model_0 --batch-size 0", r"minibatch_size must be at least 1"),
    ],
)
def test_train_refuses_what_it_cannot_do(arguments, message, project, capsys):
    assert main(arguments.split()) == 1
    assert re.search("Error: .*" + message, capsys.readouterr().err)
    assert not list(project.rglob("*.h5"))
