"""Recipes: what `vui.py train NAME` does unless told otherwise."""

import json

import pytest

from sample_models import ZOO, build
from vui import main
from vuilab.cli.main import parse
from vuilab.data.options import DataOptions
from vuilab.files import repository
from vuilab.runs.weights import load_model
from vuilab.training.options import TrainingOptions
from vuilab.training.recipes import RECIPES

ROOT = repository()


@pytest.fixture
def trained_with(monkeypatch, project):
    """The tasks and options that would have been trained."""
    calls = []
    monkeypatch.setattr("vuilab.training.fit.fit", lambda *arguments: calls.append(arguments))
    return calls


def test_a_recipe_stands_in_for_the_defaults_and_what_is_given_for_the_recipe(trained_with, capsys):
    for command in ("train residual_birnn --epochs 3", "train --epochs 3 residual_birnn"):
        assert main([*command.split(), "--model-options", "units=8", "filters=4", "recur_layers=1"]) == 0
        task, options = trained_with.pop()
        data = task.generator.options
        assert task.generator.settings.kind == "logmel" and task.model.input_shape == (None, None, 80)
        assert options.epochs == 3 and options.schedule == "cosine"
        assert data.speeds == (0.9, 1.0, 1.1) and data.max_duration == 16 and data.augmentation is not None
        assert type(task.optimizer).__name__ == "AdamW"
        assert task.model.get_layer("birnn_1").output.shape[-1] == 16
    assert main(["train", "model_1", "--epochs", "2", "--model-options", "units=4"]) == 0
    task, options = trained_with.pop()
    assert task.generator.settings.kind == "spectrogram" and task.generator.options == DataOptions()
    assert type(task.optimizer).__name__ == "SGD" and options == TrainingOptions(2)


def test_what_the_references_trained_on_mfccs_is_trained_on_mfccs(trained_with):
    small = {
        "model_6": "units=2",
        "birnn_final_model": "units=2",
        "wavenet_model": "filters=2",
        "wavenet_2x64": "filters=2",
    }
    for name, size in small.items():
        assert main(["train", name, "--model-options", size]) == 0
        task, options = trained_with.pop()
        assert task.model.input_shape == (None, None, 13) and options == TrainingOptions()


def test_recipes_belong_to_models_and_hold_options_that_there_are():
    for name, recipe in RECIPES.items():
        assert name in ZOO
        options = vars(parse(["train", name]))
        assert set(recipe) <= set(vars(parse(["train", "model_1"])))
        assert {key: options[key] for key in recipe} == recipe


def test_the_help_of_a_model_shows_its_recipe(capsys):
    shown = {}
    for name in ("residual_birnn", "final_model", "model_1"):
        with pytest.raises(SystemExit):
            parse(["train", name, "--help"])
        shown[name] = " ".join(capsys.readouterr().out.split())
    assert "passes over the training data (default: 8)" in shown["residual_birnn"]
    assert "passes over the training data (default: 26)" in shown["final_model"]
    assert "(default: 0.9 1.0 1.1)" in shown["final_model"]
    assert "passes over the training data (default: 20)" in shown["model_1"]


def test_the_released_weights_are_those_of_the_final_recipe(capsys):
    released = ROOT / "results" / "released"
    used = json.loads((released / "recogniser.json").read_text(encoding="utf-8"))["configuration"]
    recipe = RECIPES["final_model"]
    same = ("epochs", "splice", "monitor", "schedule", "warmup_epochs", "max_duration")
    assert {key: used[key] for key in same} == {key: recipe[key] for key in same}
    assert used["speeds"] == list(recipe["speeds"]) and used["minibatch_size"] == recipe["batch_size"]
    assert used["optimizer"]["config"]["ema_momentum"] == recipe["ema"]
    weights, model = load_model(released / "recogniser.h5")[0], build("final_model", 80)
    nets = [
        [(layer.name, [w.shape for w in layer.weights]) for layer in net.layers if layer.weights]
        for net in (weights, model)
    ]
    assert nets[0] == nets[1] and len(nets[0]) > 10
    for name in ("conv", "conv_dropout"):
        assert weights.get_layer(name).get_config() == model.get_layer(name).get_config()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train model_1 --model-options units", "written KEY=VALUE, such as units=128. Received: 'units'"),
        ("train model_1 --model-options 1=2", "written KEY=VALUE"),
        ("train model_1 --model-options width=8", "model_1 has no such option: .*'width'"),
        ("train model_1 --model-options cell=rnn", "cell must be one of .*'rnn'"),
    ],
)
def test_wrong_options_of_a_model_are_named(command, message, trained_with, capsys):
    import re

    assert main(command.split()) == 1
    assert re.search(message, capsys.readouterr().err)


def test_every_model_of_the_zoo_takes_the_options_of_its_builder(capsys):
    assert build("model_2", 13, units=4, filters=3).get_layer("conv1d").filters == 3
    assert build("wavenet_2x64", 13, filters=4, num_layer_grps=1).name == "wavenet_model"
    assert build("model_6", 13, units=4).name == "model_number6"
