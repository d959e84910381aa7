"""`vui lm`: language models made and measured."""

import re

import pytest

from vuilab.cli import main
from vuilab.corpus.manifest import MANIFESTS, read_manifest


def test_lm_perplexity_of_a_text_and_of_a_manifest(language_model, project, tiny_corpus, capsys):
    (project / "other.txt").write_text("She left the mill.")
    assert main.main(["lm", "perplexity", language_model, "other.txt"]) == 0
    assert re.search(r"1 sentences, 4 words, 0 unknown \(0\.0 %\); perplexity \d+\.\d", capsys.readouterr().out)
    assert main.main(["lm", "perplexity", language_model, str(tiny_corpus / MANIFESTS["test"])]) == 0
    assert re.search(r"10 sentences, \d+ words, \d+ unknown", capsys.readouterr().out)


@pytest.mark.parametrize("style", [str.lower, str.upper, lambda line: f"{line.capitalize()}."])
def test_lm_train_tells_how_many_sentences_each_text_has(style, project, capsys):
    (project / "lines.txt").write_text("\n".join(map(style, ["she left", "turn left at the mill", "he was there"])))
    assert main.main(["lm", "train", "lines.txt", "--order", "2", "--out", "lm.npz"]) == 0
    assert "lines.txt: 3 sentences, 10 words" in capsys.readouterr().out
    (project / "cut.txt").write_text("She left\nthe mill. Turn left\nat the door. He was\nthere.")
    for more, number in (([], 3), (["--sentences-per-line"], 4)):
        assert main.main(["lm", "train", "cut.txt", "--order", "2", "--out", "lm.npz", *more]) == 0
        assert f"cut.txt: {number} sentences, 12 words" in capsys.readouterr().out
        assert main.main(["lm", "perplexity", "lm.npz", "cut.txt", *more]) == 0
        assert f"{number} sentences, 12 words, 0 unknown" in capsys.readouterr().out


@pytest.mark.parametrize("between", ["\n", " ", "\n\n", ". "])
def test_evaluate_refuses_a_model_of_its_own_sentences_however_they_are_laid_out(
    between, project, tiny_corpus, weights, capsys
):
    manifest = tiny_corpus / MANIFESTS["test"]
    (project / "leak.txt").write_text(between.join(utterance.text.upper() for utterance in read_manifest(manifest)))
    assert main.main(["lm", "train", "leak.txt", "--order", "2", "--out", "lm.npz"]) == 0
    capsys.readouterr()
    assert main.main(["evaluate", str(manifest), "--model", weights, "--lm", "lm.npz"]) == 1
    assert re.search(r"100 % of the sentences, or of their runs of six words, stand in", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("lm train missing.txt --out lm.npz", "No text at missing.txt"),
        ("lm train book.txt --out lm.txt", r"ends in \.npz, \.arpa or \.arpa\.gz"),
        ("lm train book.txt --order 11 --out lm.npz", "order must be in 1..10"),
        ("lm perplexity nothing.npz book.txt", "No language model at nothing.npz"),
        ("evaluate MANIFEST --model x.h5 --tune", "--tune chooses the weights of a language model"),
        ("evaluate MANIFEST --model x.h5 --lm nothing.npz", "No language model at nothing.npz"),
    ],
)
def test_language_model_commands_say_what_is_wrong(command, message, project, tiny_corpus, capsys):
    (project / "book.txt").write_text("Hello there.")
    command = command.replace("MANIFEST", str(tiny_corpus / MANIFESTS["test"]))
    assert main.main(command.split()) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (project / "lm.npz").exists()
