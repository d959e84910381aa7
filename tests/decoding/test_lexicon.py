"""The vocabulary of a beam search, worked out by hand on five words: nodes, best scores, and words that sound alike."""

import numpy as np
import pytest

from vuilab.decoding.kneser_ney import train_ngram
from vuilab.decoding.lexicon import Lexicon, Weights, begin_word, end_word, in_letters
from vuilab.decoding.paths import NEVER
from vuilab.text import text_to_int_sequence

TEXT = ["to be", "to tea", "a bee", "two bees"]
ALPHA, LETTER = 0.5, -3.0


@pytest.fixture
def model():
    return train_ngram(TEXT, 2)


def unigram(model, word):
    return float(model.log_prob[1 + model.word_id(word)])


def node_of(lexicon, text):
    node = 0
    for label in text_to_int_sequence(text):
        node = lexicon.words.children[node, label]
        if node < 0:
            return -1
    return node


def test_words_share_the_nodes_of_their_beginnings(model):
    lexicon = in_letters(model, {}, ALPHA, LETTER)
    assert len(lexicon.parents) == 1 + len("to") + len("ea") + len("wo") + len("bees") + len("a")
    assert node_of(lexicon, "bx") == -1 and node_of(lexicon, "bees") > node_of(lexicon, "bee") > 0
    ends = {
        word
        for word in ("t", "to", "tw", "two", "b", "be", "bee", "bees")
        if lexicon.words.word_of[node_of(lexicon, word)] > 0
    }
    assert ends == {"to", "two", "be", "bee", "bees"}
    assert lexicon.words.depth_of[node_of(lexicon, "bees")] == 4


def test_a_beginning_is_worth_the_best_word_that_it_can_become(model):
    lexicon = in_letters(model, {"tower": 9.0}, ALPHA, LETTER)
    unknown = ALPHA * unigram(model, "<unk>")
    for beginning, words in (("be", ("be", "bee", "bees")), ("tw", ("two",)), ("a", ("a",))):
        outside = unknown + ALPHA * LETTER * len(beginning)
        expected = max(outside, *(ALPHA * unigram(model, word) for word in words))
        assert lexicon.words.best_of[node_of(lexicon, beginning)] == pytest.approx(expected)
    assert lexicon.words.best_of[node_of(lexicon, "to")] == pytest.approx(
        unknown + 9.0
    )  # the hot word, outside the vocabulary
    lighter = lexicon.weighted(0.1, 0.1 * LETTER)
    assert lighter.words.best_of[node_of(lighter, "tw")] == pytest.approx(
        max(0.1 * unigram(model, "two"), 0.1 * (unigram(model, "<unk>") + 2 * LETTER))
    )
    assert lexicon.words.best_of[node_of(lexicon, "to")] == pytest.approx(unknown + 9.0)  # which is left as it was


def test_a_beginning_of_no_word_counts_its_letters(model):
    lexicon = in_letters(model, {}, ALPHA, LETTER)
    (x,) = text_to_int_sequence("x")
    outside, guess = begin_word(node_of(lexicon, "be"), x, 1.5, lexicon.words)
    assert outside == -3 and guess == pytest.approx(1.5 + ALPHA * unigram(model, "<unk>") + 3 * ALPHA * LETTER)
    assert begin_word(outside, x, 1.5, lexicon.words)[0] == -4
    inside, guess = begin_word(node_of(lexicon, "be"), *text_to_int_sequence("e"), 1.5, lexicon.words)
    assert inside == node_of(lexicon, "bee") and guess == pytest.approx(1.5 + lexicon.words.best_of[inside])


def test_a_word_that_ends_pays_its_probability_and_an_unknown_one_its_letters_too(model):
    lexicon, weights = in_letters(model, {}, ALPHA, LETTER), Weights(ALPHA, 2.0, 0)
    gain, after = end_word(model.begin_state, node_of(lexicon, "to"), weights, lexicon.words, lexicon.ngrams)
    value, state = model.score("to", model.begin_state)
    assert gain == pytest.approx(ALPHA * value + 2.0) and after == state
    gain, _ = end_word(model.begin_state, -4, weights, lexicon.words, lexicon.ngrams)
    value, _ = model.score("<unk>", model.begin_state)
    assert gain == pytest.approx(ALPHA * value + 4 * ALPHA * LETTER + 2.0)


def test_of_words_that_sound_alike_the_most_probable_one_ends(model):
    sounds = {"to": [0, 1], "two": [0, 1], "tea": [0, 2], "be": [3, 2], "bee": [3, 2], "bees": [3, 2, 4], "a": [5]}
    lexicon, weights = Lexicon(model, sounds, 6, 1.0, NEVER, {}), Weights(1.0, 0.0, 0)
    node = lexicon.words.children[lexicon.words.children[0, 3], 2]
    for before, word in (("to", "be"), ("a", "bee")):
        _, state = model.score(before, model.begin_state)
        gain, after = end_word(state, node, weights, lexicon.words, lexicon.ngrams)
        assert (gain, after) == (pytest.approx(model.score(word, state)[0]), model.score(word, state)[1])


def test_hot_words_alone_make_a_vocabulary_and_none_makes_no_use_of_it():
    lexicon = in_letters(None, {"oak": 5.0}, ALPHA, LETTER)
    assert lexicon.words.use and lexicon.words.bonus_of[node_of(lexicon, "oak")] == 5.0
    assert np.all(lexicon.words.best_of[[node_of(lexicon, text) for text in ("o", "oa", "oak")]] == 5.0)
    assert not in_letters(None, {}, ALPHA, LETTER).words.use
