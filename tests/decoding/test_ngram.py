"""Looking up n-grams: contexts, perplexity, and the guard against known sentences."""

import itertools
import math

import numpy as np
import pytest

from vuilab.decoding import kneser_ney, ngram
from vuilab.decoding.kneser_ney import train_ngram
from vuilab.decoding.ngram import find_child, hash_sentences

TEXT = ["a b c a b", "a b d", "c a b", "d a", "a b c"]


def test_longer_contexts_are_used_where_they_were_seen():
    model = train_ngram(["the cat sat", "the cat sat", "a cat ran", "a cat ran", "the dog ran"], order=3)
    scores = {}
    for first in ("the", "a"):
        state = model.begin_state
        for word in (first, "cat"):
            state = model.score(word, state)[1]
        scores[first] = {word: model.score(word, state)[0] for word in ("sat", "ran")}
    assert scores["the"]["sat"] > scores["the"]["ran"] and scores["a"]["ran"] > scores["a"]["sat"]


def test_perplexities_of_models_of_characters_are_per_word():
    model = train_ngram(["a cab", "bad cab"], 3, characters=True)
    scores = model.sentence_scores("bad a") + model.sentence_scores("cab")
    result = model.perplexity(["bad a", "cab"])
    assert (result.num_words, result.num_unknown) == (3, 0)
    assert result.perplexity == result.known_perplexity == pytest.approx(math.exp(-sum(scores) / 5))


def test_perplexity_is_the_inverse_geometric_mean():
    model = train_ngram(TEXT, 2)
    result = model.perplexity(["a b", "", "c zebra"])
    scores = model.sentence_scores("a b") + model.sentence_scores("c zebra")
    assert (result.num_sentences, result.num_words, result.num_unknown) == (2, 4, 1)
    assert result.perplexity == pytest.approx(math.exp(-sum(scores) / 6))
    assert result.known_perplexity < result.perplexity
    with pytest.raises(ValueError, match="no sentence"):
        model.perplexity(["", " "])


def test_the_guard_counts_long_sentences_that_the_text_holds():
    long = "the quick brown fox jumps over it"
    model = train_ngram([long, "hello there", "one two three four five six"], 2)
    assert model.overlap([long, "the slow brown fox jumps over it", "hello there"]) == 0.5
    assert model.overlap(["hello there"]) == 0.0  # short sentences prove nothing
    assert hash_sentences([" a  b "]) == hash_sentences(["a b"]) != hash_sentences(["ab"])


@pytest.mark.parametrize("size", [1, 3, 7, 100, 10_000])
def test_the_guard_finds_sentences_however_the_text_is_cut(size):
    rng = np.random.default_rng(0)
    known, other = rng.choice(
        [f"w{k}".translate(str.maketrans("0123456789", "abcdefghij")) for k in range(200)], (2, 100, 9)
    )
    words = np.concatenate([["before"], known.ravel(), ["after"]])
    model = train_ngram([" ".join(words[start : start + size]) for start in range(0, len(words), size)], 2)
    asked = [*map(" ".join, known[:30]), *map(" ".join, other[:70])]
    assert model.overlap(asked) == pytest.approx(0.3)


def test_the_guard_of_a_long_text_keeps_a_sample(monkeypatch):
    monkeypatch.setattr(ngram, "SKETCH", 200)
    monkeypatch.setattr(kneser_ney, "SKETCH", 200)
    rng = np.random.default_rng(0)
    known, other = rng.choice([*map("".join, itertools.product("abcdef", repeat=3))], (2, 300, 9))
    model = train_ngram([" ".join(known.ravel())], 1)
    assert len(model.window_hashes) == 200
    assert model.overlap(map(" ".join, known)) == 1.0
    assert model.overlap(map(" ".join, other)) == 0.0
    assert model.overlap([*map(" ".join, known[:150]), *map(" ".join, other[:150])]) == pytest.approx(0.5, abs=0.15)


def test_children_are_found_by_binary_search():
    model = train_ngram(TEXT, 2)
    a, b = model.word_id("a"), model.word_id("b")
    node = find_child(1 + a, b, model.word, model.first_child)
    assert model.level_starts[2] <= node < model.level_starts[3] and model.word[node] == b
    assert find_child(1 + b, b, model.word, model.first_child) == -1
