"""What the notebook shows of models and their decoding follows runs, transcripts and the true times of the demo corpus."""

import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sample_models import highest_probability_of_tanh_logits
from vuilab.corpus.manifest import Utterance
from vuilab.figures import plot_words
from vuilab.reports.explain import (
    DecodingReport,
    EvaluationReport,
    best_run,
    boundary_table,
    ceiling_table,
    compare_decoding,
    divergence_table,
    error_table,
    word_figure,
)
from vuilab.scoring.comparison import RunResult


def test_model_0_stands_beside_the_ceiling_of_tanh():
    ceiling = highest_probability_of_tanh_logits()
    probabilities = np.full((50, 29), 0.1)
    probabilities[3, 4] = 0.15
    cells = [line.split("|")[2].strip() for line in ceiling_table(probabilities, ceiling).splitlines()[2:]]
    loss = -math.log(ceiling)
    assert cells == [f"{ceiling:.3f}", "0.150", "0.101", f"{loss:.2f} nats", f"{50 * loss:.0f} nats"]


def test_runs_that_diverge_are_shown_with_their_last_finite_loss():
    table = divergence_table(
        {"clipped": {"loss": [300, 250]}, "not": {"loss": [300, math.nan]}, "at once": {"loss": [math.inf]}}
    )
    assert table.splitlines()[2:] == [
        "| clipped | 2 | 250.0 | never |", "| not | 2 | 300.0 | epoch 2 |", "| at once | 1 |  | epoch 1 |",
    ]  # fmt: skip


def test_the_best_run_has_the_lowest_error_rate_else_the_lowest_loss():
    low_loss = RunResult("low_loss", {"loss": [9], "val_loss": [10], "val_cer": [0.5]})
    low_rate = RunResult("low_rate", {"loss": [9], "val_loss": [20], "val_cer": [0.4]})
    lost = RunResult("lost", {"loss": [math.nan], "val_loss": [math.nan], "val_cer": [math.nan]})
    assert best_run([low_loss, low_rate, lost]).name == "low_rate"
    assert best_run([lost, RunResult("plain", {"loss": [9], "val_loss": [10]})]).name == "plain"
    with pytest.raises(ValueError, match="finite validation result"):
        best_run([lost])


def report(texts, unseen=()):
    references = ["the cat", "a dog", "the zebra"]
    utterances = [
        Utterance(Path("x.flac"), 1.0, text, speaker, {"unseen_words": ["zebra"]} if row in unseen else {})
        for row, (text, speaker) in enumerate(zip(references, "uvw", strict=True))
    ]
    return EvaluationReport(utterances, list(texts))


def test_an_evaluation_shows_errors_and_confusions():
    found = report(["the bat", "a dog", "the zebra"])
    table = found.markdown()
    assert re.search(r"\| all \| 3 \| 4.8 \[[^|]*\| 16.7 \[[^|]*\| 1, 0, 0 \|", table)  # 1 of 21 characters, of 6 words
    assert "3 speakers" in table and "known words" not in table
    assert "| c → b | 1 | cat → bat | 1 |" in found.confusions_markdown()
    assert error_table({"x": found.score}, "model").startswith("| model | number |")


def test_sentences_with_words_that_training_never_had_are_scored_apart():
    rows = report(["the cat", "a dog", "the zebu"], unseen=[2]).markdown().splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:4]] for row in rows[2:5]]
    assert [cell[:2] for cell in cells] == [
        ["all", "3"],
        ["with a word that training never had", "1"],
        ["known words only", "2"],
    ]
    assert cells[1][2].startswith("22.2 [") and cells[2][2].startswith("0.0 [")


# ---------------------------------------------------------------------- explain decoding


TRUE = ["the cat sat down", "a dog ran off", "the bird flew up", "we saw a zebra"] * 5
NEW = [False, False, False, True] * 5  # whether a word is new


def decoding(greedy, fused, unseen=True):
    utterances = [
        Utterance(Path("x.flac"), 1.0, text, "uvw"[row % 3], {"unseen_words": ["zebra"]} if new and unseen else {})
        for row, (text, new) in enumerate(zip(TRUE, NEW, strict=True))
    ]
    return DecodingReport("test", "chosen on the validation set", utterances, greedy, fused, 0.9, 2.0, 12)


def broken(rows):
    """Texts with the last word wrong where `rows` says so."""
    return [text.rsplit(" ", 1)[0] + " oops" if wrong else text for text, wrong in zip(TRUE, rows, strict=True)]


def test_the_table_has_both_rates_for_all_new_and_known_sentences():
    found = decoding(broken([True] * 20), broken(NEW))
    lines = found.markdown().splitlines()
    assert [line.split("|")[1:3] for line in lines[2:5]] == [
        [" all ", " 20 "],
        [" with a word that training never had ", " 5 "],
        [" known words only ", " 15 "],
    ]
    assert "| 25.0 [25.0, 25.0] | 0.0 [0.0, 0.0] | -25.0 [-25.0, -25.0] |" in lines[4]
    assert lines[2].split("|")[7].strip().startswith("-18.8 [") and lines[3].endswith("| +0.0 [+0.0, +0.0] |")
    raised = decoding(TRUE, broken([True] * 20)).markdown().splitlines()
    assert raised[2].endswith("| +25.0 [+25.0, +25.0] |")
    assert "alpha 0.9 and beta 2 chosen on the validation set" in lines[-1]
    assert len(decoding(TRUE, TRUE, unseen=False).markdown().splitlines()) == 5


def test_examples_show_the_largest_changes_first_and_escape():
    greedy = [TRUE[0], "off ran <b>", *TRUE[2:]]
    table = decoding(greedy, TRUE).examples()
    assert table.count("<tr>") == 2 and "&lt;" in table and "<b>&" in table.replace("<b><", "<b>&")
    assert decoding(TRUE, TRUE).examples().count("<tr>") == 1


@pytest.fixture
def trained_weights(trained, project) -> str:
    return str(trained / "results" / "tiny.h5")


@pytest.mark.parametrize("partition", ["validation", "test"])
def test_a_partition_is_decoded_both_ways(trained_weights, tiny_corpus, partition):
    found = compare_decoding(trained_weights, tiny_corpus, partition, beam_width=4, max_utterances=3)
    assert len(found.greedy) == len(found.fused) == len(found.utterances) > 3
    assert found.markdown() and found.examples()


def test_one_speaker_alone_is_decoded_with_the_default_weights(trained_weights, make_corpus):
    corpus = make_corpus({"train": [("a cat", 0.6), ("a dog", 0.6)], "validation": [("a cat", 0.6), ("a dog", 0.7)]})
    assert "by default" in compare_decoding(trained_weights, corpus, "validation", beam_width=4).markdown()


def test_words_are_placed_and_held_against_true_times(trained_weights, tiny_corpus, make_corpus):
    figure, alt = word_figure(trained_weights, tiny_corpus, "test")
    first = alt.split("puts them: ")[1].split(" ")[0]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["found", "true"]
    assert first == figure.axes[1].texts[0].get_text()
    table = boundary_table(trained_weights, tiny_corpus, "test").splitlines()
    assert len(table) == 6 and table[3].endswith(" ms |")
    plt.close("all")
    silent = make_corpus({"test": [("a cat", 0.6)]})
    assert boundary_table(trained_weights, silent, "test").endswith("true time is known | 0 |")


def test_the_figure_draws_words_at_their_times():
    words = [("a", 0.1, 0.3), ("cat", 0.3, 0.9)]
    top, bottom = plot_words(np.zeros((100, 161)), words, step=10).axes
    assert [patch.get_x() for patch in bottom.patches] == [0.1, 0.3]
    assert [patch.get_width() for patch in bottom.patches] == pytest.approx([0.2, 0.6])
    assert sorted({float(line.get_xdata()[0]) for line in top.lines}) == [0.1, 0.3, 0.9]
    assert bottom.get_xlim() == (0, 1.0)
    plt.close("all")
