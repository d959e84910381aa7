"""Estimating n-grams: by hand, against KenLM, discounts, pruning, and what is refused."""

import hashlib
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from vuilab.decoding.kneser_ney import discounts, train_ngram
from vuilab.decoding.language_model import load_language_model

GOLDEN = Path(__file__).parent / "golden"
TEXT = ["a b c a b", "a b d", "c a b", "d a", "a b c"]


def contexts(model, length):
    for words in itertools.product(["<s>", *model.words[3:]], repeat=length):
        state = 0
        for number, word in enumerate(words):
            if word == "<s>" and number == 0:
                state = model.begin_state
            elif word != "<s>":
                state = model.score(word, state)[1]
        yield state


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("prune", [(), (0, 1), (0, 0, 1)])
def test_probabilities_of_all_words_sum_to_one_in_every_context(order, prune):
    model = train_ngram(TEXT, order, prune[:order])
    for length in range(order):
        for state in contexts(model, length):
            assert sum(math.exp(model.score(word, state)[0]) for word in model.words) == pytest.approx(1, abs=1e-5)


def test_bigram_probabilities_are_those_worked_out_by_hand():
    """Counts of counts are too few to estimate discounts, so they are 0.5, 1 and 1.5.

    The text "a b", "a b", "a c" has the bigrams <s>a 3, ab 2, ac 1, b</s> 2, c</s> 1. Different words before a: 1, b: 1, c: 1,
    </s>: 2; six types but for <s>: 5 continuations. Discounts of the unigrams: 0.5 three times and 1 once, together 2.5 of 5;
    the vocabulary without <s> has 5 words.
    """
    model = train_ngram(["a b", "a b", "a c"], order=2)
    uniform = (2.5 / 5) / 5
    unigram = {word: 0.5 / 5 + uniform for word in "abc"} | {"</s>": (2 - 1) / 5 + uniform, "<unk>": uniform}
    for word, value in unigram.items():
        assert math.exp(model.score(word, 0)[0]) == pytest.approx(value, rel=1e-5)
    _, after_a = model.score("a", 0)
    weight = (1 + 0.5) / 3  # what ab (count 2) and ac (count 1) gave up
    expected = {"b": (2 - 1) / 3 + weight * unigram["b"], "c": (1 - 0.5) / 3 + weight * unigram["c"]}
    expected["</s>"] = weight * unigram["</s>"]
    for word, value in expected.items():
        assert math.exp(model.score(word, after_a)[0]) == pytest.approx(value, rel=1e-5)


def test_discounts_follow_chen_and_goodman():
    counts = np.repeat([1, 2, 3, 4, 9], [50, 20, 10, 6, 30])
    share = 50 / (50 + 2 * 20)
    expected = (1 - 2 * share * 20 / 50, 2 - 3 * share * 10 / 20, 3 - 4 * share * 6 / 10)
    assert discounts(counts) == pytest.approx(expected)
    assert discounts(np.array([1, 1, 2])) == (0.5, 1.0, 1.5)  # too small a text


@pytest.mark.parametrize(("file", "prune"), [("kenlm_order3", ()), ("kenlm_order3_pruned", (0, 0, 1))])
def test_training_gives_the_model_of_kenlm(file, prune):
    """The ARPA files were made by KenLM's lmplz; `golden/README.md` has the commands."""
    golden = load_language_model(GOLDEN / f"{file}.arpa.gz")
    sentences = (GOLDEN / "fauntleroy.txt").read_text().splitlines()
    model = train_ngram(sentences, 3, prune)
    assert model.num_ngrams == golden.num_ngrams
    others = ["little lord is a", "a zebra the earl a a", "earl"]  # back off, and words that are not known
    for sentence in [*sentences, *others]:
        assert model.sentence_scores(sentence) == pytest.approx(golden.sentence_scores(sentence), abs=1e-5)


def test_golden_files_are_those_that_were_made():
    table = re.findall(r"\| `(\S+)` \| (\w{64}) \|", (GOLDEN / "README.md").read_text())
    assert len(table) == 3
    for name, digest in table:
        assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == digest


def test_a_model_of_characters_is_one_of_words_that_are_characters():
    model = train_ngram(["a cab", "bad cab"], 3, (0, 0, 1), characters=True)
    words = train_ngram(["a x c a b", "b a d x c a b"], 3, (0, 0, 1))
    assert model.of_characters and not words.of_characters
    assert model.sentence_scores("a  bad cab ") == pytest.approx(words.sentence_scores("a x b a d x c a b"))
    assert model.overlap(["a cab"], min_words=2) == 1.0  # its text is one of words
    long = train_ngram(TEXT, 10, characters=True)
    assert long.sentence_scores("a b c a b")[-1] > math.log(0.5)


def test_pruning_leaves_out_rare_ngrams_and_every_context_of_those_that_stay():
    text = [*TEXT, *TEXT, "b d c", "c c d"]
    full, pruned = train_ngram(text, 3), train_ngram(text, 3, (0, 0, 1))
    assert pruned.num_ngrams[:2] == full.num_ngrams[:2] and pruned.num_ngrams[2] < full.num_ngrams[2]
    tighter = train_ngram(text, 3, (0, 1, 3))
    assert tighter.num_ngrams[1] < full.num_ngrams[1]
    assert full.perplexity(text).perplexity < tighter.perplexity(text).perplexity


def test_rare_words_become_unknown_and_keep_probability():
    model = train_ngram(["a b", "a b", "a zebra"], 2, min_count=2)
    assert model.words == ["<unk>", "<s>", "</s>", "a", "b"]
    _, after_a = model.score("a", model.begin_state)
    assert model.score("zebra", after_a)[0] == model.score("lion", after_a)[0] > math.log(0.05)
    assert train_ngram(["a a a b b c"], 1, max_words=2).words[3:] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"order": 0}, "order"),
        ({"order": 11}, "order"),
        ({"prune": (1,)}, "prune"),
        ({"prune": (0, 2, 1)}, "prune"),
    ],
)
def test_wrong_arguments_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        train_ngram(TEXT, **options)


def test_text_outside_the_alphabet_and_no_text_are_refused():
    with pytest.raises(ValueError, match=r"outside the alphabet: .*B.*in 'Bad'"):
        train_ngram(["good", "Bad one"])
    with pytest.raises(ValueError, match="no text"):
        train_ngram(["", "  "])
