"""Sentences of the notebook are computed: other runs, other words."""

import math
from pathlib import Path

import numpy as np
import pytest

from sample_models import highest_probability_of_tanh_logits
from vuilab.corpus.manifest import Utterance
from vuilab.reports.explain import EvaluationReport, best_run, explain_clipping, explain_model_0
from vuilab.scoring.comparison import RunResult
from vuilab.scoring.error_rates import score


def test_model_0_is_measured_against_the_ceiling_of_tanh():
    ceiling = highest_probability_of_tanh_logits()
    text = explain_model_0(np.full((50, 29), 0.1), ceiling)
    assert f"at least {-math.log(ceiling):.2f} nats per frame; over the 50 frames" in text
    assert "not the outputs of a layer that ends in tanh" in explain_model_0(np.full((50, 29), 0.9), ceiling)


@pytest.mark.parametrize(
    ("clipped", "unclipped", "words"),
    [
        ([300, 250], [300, math.nan], "clipping alone makes the difference"),
        ([math.nan], [300, 200], "Clipping did not save this run"),
        ([300, 200], [300, 250], "ends 25 % higher"),
        ([300, 200], [300, 201], "made little difference"),
    ],
)
def test_what_clipping_did_depends_on_the_losses(clipped, unclipped, words):
    assert words in explain_clipping({"loss": clipped}, {"loss": unclipped})


def test_the_best_run_has_the_lowest_error_rate_else_the_lowest_loss():
    low_loss = RunResult("low_loss", {"loss": [9], "val_loss": [10], "val_cer": [0.5]})
    low_rate = RunResult("low_rate", {"loss": [9], "val_loss": [20], "val_cer": [0.4]})
    lost = RunResult("lost", {"loss": [math.nan], "val_loss": [math.nan], "val_cer": [math.nan]})
    assert best_run([low_loss, low_rate, lost]).name == "low_rate"
    assert best_run([lost, RunResult("plain", {"loss": [9], "val_loss": [10]})]).name == "plain"
    with pytest.raises(ValueError, match="finite validation result"):
        best_run([lost])


def report(texts, unseen=(), name="a"):
    references = ["the cat", "a dog", "the zebra"]
    utterances = [
        Utterance(Path("x.flac"), 1.0, text, speaker) for text, speaker in zip(references, "uvw", strict=True)
    ]

    def part(rows):
        return score([references[i] for i in rows], [texts[i] for i in rows]) if unseen and rows else None

    known = [i for i in range(3) if i not in unseen]
    whole = score(references, list(texts), list("uvw"))
    return EvaluationReport(name, "test", utterances, list(texts), whole, part(list(unseen)), part(known))


def test_an_evaluation_names_errors_and_confusions():
    found = report(["the bat", "a dog", "the zebra"])
    assert "**a** on the test set (3 speakers)" in found.markdown()
    assert "1 substitutions, 0 deletions, 0 insertions" in found.markdown()
    assert "| c → b | 1 | cat → bat | 1 |" in found.confusions_markdown()
    assert report(["the cat", "a dog", "the zebra"]).confusions_markdown() == "There are no errors to confuse."


def test_the_conclusion_changes_with_the_runs():
    runs = [
        RunResult("a", {"loss": [9], "val_loss": [10], "val_cer": [0.2]}),
        RunResult("b", {"loss": [9], "val_loss": [12], "val_cer": [0.3]}),
    ]
    text = report(["the cat", "a dog", "the zebu"], unseen=[2]).conclusion(runs)
    assert "next best model, b, 30.0 %" in text and "have one" not in text
    assert "a word that training never had cost more: 22.2 % against 0.0 %" in text
    text = report(["the bat", "a dog", "the zebra"], unseen=[2]).conclusion(runs[:1])
    assert "next best" not in text and "cost no more than known ones" in text
