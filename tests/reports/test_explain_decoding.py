"""What the notebook says about decoding: tables and sentences follow the transcripts; true times of the demo corpus."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vuilab.corpus.manifest import Utterance
from vuilab.figures import plot_words
from vuilab.reports.explain_decoding import DecodingReport, boundary_reading, compare_decoding, word_figure

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
    assert "| 25.0 [25.0, 25.0] | 0.0 [0.0, 0.0] |" in lines[4]
    assert "alpha 0.9 and beta 2 chosen on the validation set" in lines[-1]
    assert len(decoding(TRUE, TRUE, unseen=False).markdown().splitlines()) == 5


def test_the_reading_says_where_the_gain_comes_from():
    text = decoding(broken([True] * 20), broken(NEW)).reading()
    assert "lowers the WER by 18.8 points" in text
    assert "by -100 %, in those with a word that it never saw by +0 %: it helps by knowing the words" in text
    assert "known and new words gain alike" in decoding(broken([True] * 20), TRUE).reading()
    known = [not new for new in NEW]
    assert "here it helps the new words' neighbours more" in decoding(broken([True] * 20), broken(known)).reading()
    assert "raises the WER by 25.0 points" in decoding(TRUE, broken([True] * 20)).reading()
    assert "which may be chance" in decoding(broken([True] + [False] * 19), TRUE).reading()
    assert "changes the WER by +0.0 points" in decoding(TRUE, TRUE, unseen=False).reading()


def test_examples_show_the_largest_changes_first_and_escape():
    greedy = [TRUE[0], "off ran <b>", *TRUE[2:]]
    table = decoding(greedy, TRUE).examples()
    assert table.count("<tr>") == 2 and "&lt;" in table and "<b>&" in table.replace("<b><", "<b>&")
    assert "changes no utterance" in decoding(TRUE, TRUE).examples()


@pytest.fixture
def trained_weights(trained, project) -> str:
    return str(trained / "results" / "tiny.h5")


@pytest.mark.parametrize("partition", ["validation", "test"])
def test_a_partition_is_decoded_both_ways(trained_weights, tiny_corpus, partition):
    found = compare_decoding(trained_weights, tiny_corpus, partition, beam_width=4, max_utterances=3)
    assert len(found.greedy) == len(found.fused) == len(found.utterances) > 3
    assert found.markdown() and found.reading() and found.examples()


def test_one_speaker_alone_is_decoded_with_the_default_weights(trained_weights, make_corpus):
    corpus = make_corpus({"train": [("a cat", 0.6), ("a dog", 0.6)], "validation": [("a cat", 0.6), ("a dog", 0.7)]})
    assert "by default" in compare_decoding(trained_weights, corpus, "validation", beam_width=4).markdown()


def test_words_are_placed_and_held_against_true_times(trained_weights, tiny_corpus, make_corpus):
    figure, alt = word_figure(trained_weights, tiny_corpus, "test")
    first = alt.split("puts them: ")[1].split(" ")[0]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["found", "true"]
    assert first == figure.axes[1].texts[0].get_text()
    assert "word boundaries of the test set" in boundary_reading(trained_weights, tiny_corpus, "test")
    plt.close("all")
    silent = make_corpus({"test": [("a cat", 0.6)]})
    assert "cannot be checked" in boundary_reading(trained_weights, silent, "test")


def test_the_figure_draws_words_at_their_times():
    words = [("a", 0.1, 0.3), ("cat", 0.3, 0.9)]
    top, bottom = plot_words(np.zeros((100, 161)), words, step=10).axes
    assert [patch.get_x() for patch in bottom.patches] == [0.1, 0.3]
    assert [patch.get_width() for patch in bottom.patches] == pytest.approx([0.2, 0.6])
    assert sorted({float(line.get_xdata()[0]) for line in top.lines}) == [0.1, 0.3, 0.9]
    assert bottom.get_xlim() == (0, 1.0)
    plt.close("all")
