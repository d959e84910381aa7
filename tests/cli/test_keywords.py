"""The commands about keywords, from a corpus of synthetic words to the figures of an evaluation."""

import json

import pytest

from vuilab import files
from vuilab.cli import main

pytestmark = pytest.mark.usefixtures("without_compiling")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_words_are_spoken_trained_and_evaluated(folder, capsys):
    assert main.main(["data", "speech_commands", "--demo", "--scale", "tiny", "--words", "yes", "go", "cat"]) == 0
    corpus = "data/speech_commands_demo"
    assert "it lacks: no up" in capsys.readouterr().out
    train = [
        "keywords",
        "train",
        corpus,
        "--model",
        "perceptron",
        "--words",
        "challenge",
        "--epochs",
        "2",
        "--batch-size",
        "16",
    ]
    assert main.main(train) == 0
    out = capsys.readouterr().out
    assert "4 labels: yes go silence unknown" in out and "the corpus has no clips of: no up" in out
    assert "on the 16 clips of the validation part" in out
    manifest = json.loads((folder / "results/keywords/perceptron.clips").read_text())
    assert manifest["labels"] == ["yes", "go", "silence", "unknown"] and manifest["missing"][0] == "no"
    evaluate = ["keywords", "evaluate", corpus, "--model", "results/keywords/perceptron.h5"]
    assert main.main([*evaluate, "--json", "--noise", "--figures", "figures"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["version"] == 1 and result["num_clips"] == 16 and len(result["confusion"]) == 4
    record = json.loads((folder / "results/keywords/perceptron.json").read_text())
    assert result["accuracy"] == record["report"]["accuracy"] and result["errors"] == record["report"]["errors"]
    assert set(result["noise"]["accuracy"]) == {"white", "pink", "blue", "brown", "violet"}
    assert sorted(path.name for path in (folder / "figures").iterdir()) == ["confusion.png", "noise.png", "words.png"]
    assert "evaluation" not in record
    assert main.main([*evaluate, "--record"]) == 0
    record = json.loads((folder / "results/keywords/perceptron.json").read_text())
    assert record["evaluation"]["accuracy"] == result["accuracy"] and record["evaluation"]["latency"]["total_ms"] > 0
    assert record["evaluation"]["versions"] and "noise" not in record["evaluation"]
    capsys.readouterr()
    assert main.main(evaluate) == 0
    text = capsys.readouterr().out
    assert "16 clips of 4 speakers, the validation part: accuracy" in text and "precision" in text
    assert main.main([*evaluate, "--part", "train"]) == 1
    assert "--allow-training-speakers" in capsys.readouterr().err
    assert main.main([*evaluate, "--part", "train", "--allow-training-speakers", "--json"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere"], "No folder nowhere"),
        (["train", "WORDS", "--words", "bed", "zebra"], "has no clips of: zebra"),
        (["train", "WORDS", "--model", "resnet"], "Unknown model 'resnet'. Expected one of: perceptron, one_conv"),
        (["train", "WORDS", "--learning-rate", "0"], "learning_rate must be positive"),
        (["train", "WORDS", "--features", "chroma"], "kind must be one of"),
        (["evaluate", "WORDS", "--model", "none.h5"], "No weights at none.h5"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(folder, spoken_words, capsys, arguments, message):
    arguments = [str(spoken_words) if argument == "WORDS" else argument for argument in arguments]
    assert main.main(["keywords", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err and err.startswith("Error:")
    assert not list(folder.rglob("*.json"))


def test_without_weights_the_error_names_the_command(folder, spoken_words, capsys, monkeypatch):
    monkeypatch.setattr(files, "released_folder", lambda: folder / "none")
    assert main.main(["keywords", "evaluate", str(spoken_words)]) == 1
    assert "no released weights" in capsys.readouterr().err
