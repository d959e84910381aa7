"""`vui lm`: language models made and measured."""

import re

import pytest

from vuilab.cli import main
from vuilab.corpus.manifest import MANIFESTS


def test_lm_perplexity_of_a_text_and_of_a_manifest(language_model, project, tiny_corpus, capsys):
    (project / "other.txt").write_text("She left the mill.")
    assert main.main(["lm", "perplexity", language_model, "other.txt"]) == 0
    assert re.search(r"1 sentences, 4 words, 0 unknown \(0\.0 %\); perplexity \d+\.\d", capsys.readouterr().out)
    assert main.main(["lm", "perplexity", language_model, str(tiny_corpus / MANIFESTS["test"])]) == 0
    assert re.search(r"10 sentences, \d+ words, \d+ unknown", capsys.readouterr().out)


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
