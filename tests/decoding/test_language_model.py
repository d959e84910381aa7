"""Language models: probabilities worked out by hand, ARPA both ways, pruning, the guard, and files that are refused."""

import gzip
import hashlib
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from vuilab.decoding.kneser_ney import discounts
from vuilab.decoding.language_model import load_language_model, save_language_model, train_ngram
from vuilab.decoding.ngram import find_child, hash_sentences

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


def test_longer_contexts_are_used_where_they_were_seen():
    model = train_ngram(["the cat sat", "the cat sat", "a cat ran", "a cat ran", "the dog ran"], order=3)
    scores = {}
    for first in ("the", "a"):
        state = model.begin_state
        for word in (first, "cat"):
            state = model.score(word, state)[1]
        scores[first] = {word: model.score(word, state)[0] for word in ("sat", "ran")}
    assert scores["the"]["sat"] > scores["the"]["ran"] and scores["a"]["ran"] > scores["a"]["sat"]


def test_a_model_of_characters_is_one_of_words_that_are_characters():
    model = train_ngram(["a cab", "bad cab"], 3, (0, 0, 1), characters=True)
    words = train_ngram(["a x c a b", "b a d x c a b"], 3, (0, 0, 1))
    assert model.of_characters and not words.of_characters
    assert model.sentence_scores("a  bad cab ") == pytest.approx(words.sentence_scores("a x b a d x c a b"))
    assert model.overlap(["a cab"], min_words=2) == 1.0  # its text is one of words
    long = train_ngram(TEXT, 10, characters=True)
    assert long.sentence_scores("a b c a b")[-1] > math.log(0.5)


def test_perplexities_of_models_of_characters_are_per_word():
    model = train_ngram(["a cab", "bad cab"], 3, characters=True)
    scores = model.sentence_scores("bad a") + model.sentence_scores("cab")
    result = model.perplexity(["bad a", "cab"])
    assert (result.num_words, result.num_unknown) == (3, 0)
    assert result.perplexity == result.known_perplexity == pytest.approx(math.exp(-sum(scores) / 5))


@pytest.mark.parametrize("suffix", [".npz", ".arpa", ".arpa.gz"])
def test_files_of_models_of_characters_give_the_same_probabilities_back(suffix, tmp_path):
    model = train_ngram(TEXT, 8, (0, 0, 0, 1), characters=True)
    save_language_model(model, tmp_path / f"model{suffix}")
    again = load_language_model(tmp_path / f"model{suffix}")
    assert again.of_characters
    for sentence in [*TEXT, "d d c"]:
        assert again.sentence_scores(sentence) == pytest.approx(model.sentence_scores(sentence), abs=2e-5)


@pytest.mark.parametrize("suffix", [".npz", ".arpa", ".arpa.gz"])
def test_files_give_the_same_probabilities_back(suffix, tmp_path):
    model = train_ngram(TEXT, 3, (0, 0, 1))
    path = tmp_path / f"model{suffix}"
    save_language_model(model, path)
    again = load_language_model(path)
    assert again.num_ngrams == model.num_ngrams and set(again.words) == set(model.words)
    for sentence in [*TEXT, "a b", "c c c", "b zebra a"]:
        assert again.sentence_scores(sentence) == pytest.approx(model.sentence_scores(sentence), abs=2e-5)
    assert len(again.sentence_hashes) == (len(TEXT) if suffix == ".npz" else 0)


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


def test_children_are_found_by_binary_search():
    model = train_ngram(TEXT, 2)
    a, b = model.word_id("a"), model.word_id("b")
    node = find_child(1 + a, b, model.word, model.first_child)
    assert model.level_starts[2] <= node < model.level_starts[3] and model.word[node] == b
    assert find_child(1 + b, b, model.word, model.first_child) == -1


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


# ----------------------------------------------------------------------------------------------------- ARPA

GOOD = """\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-99\t<s>\t-0.30103
-0.60206\t</s>
-0.60206\t<unk>
-0.30103\tno\t-0.1

\\2-grams:
-0.2\t<s> no
-0.4\tno no
-0.5\tno </s>

\\end\\
"""


def test_an_arpa_file_of_another_tool_is_read(tmp_path):
    path = tmp_path / "other.arpa"
    path.write_text(GOOD)
    model = load_language_model(path)
    expected = [-0.2, -0.4, -0.5]
    assert model.sentence_scores("no no") == pytest.approx([value * math.log(10) for value in expected], abs=1e-5)
    assert model.score("zebra", model.begin_state)[0] == pytest.approx((-0.30103 - 0.60206) * math.log(10), abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("\\data\\\n", "hello\n", 1, "a count"),
        ("ngram 2=3", "ngram 3=3", 3, "orders 1, 2"),
        ("ngram 1=4", "ngram 1=5", 11, "promises 5 1-grams, there are 4"),
        ("ngram 2=3", "ngram 2=2", 14, "more 2-grams than the 2"),
        ("-0.4\tno no", "-0.4\tno maybe", 13, "'maybe' is not among the unigrams"),
        ("-0.4\tno no", "minus\tno no", 13, "could not convert"),
        ("-0.4\tno no", "-0.4\tno", 13, "2 words"),
        ("-0.60206\t<unk>", "-0.60206\tno", 9, "stands twice"),
        ("\\2-grams:", "\\3-grams:", 11, r"2-grams: should stand here"),
        ("\\end\\\n", "", 15, "should follow"),
        ("-0.4\tno no", "0.4\tno no", 16, "over 1"),
    ],
)
def test_a_broken_line_is_named(old, new, line, reason, tmp_path):
    path = tmp_path / "broken.arpa"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=reason) as caught:
        load_language_model(path)
    assert f"broken.arpa, line {line}:" in str(caught.value)


def test_what_is_no_language_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vui\.py lm train"):
        load_language_model(tmp_path / "none.npz")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"ends in \.npz, \.arpa or \.arpa\.gz"):
        load_language_model(tmp_path / "text.txt")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ValueError, match="no language model of this project"):
        load_language_model(tmp_path / "cut.npz")
    (tmp_path / "cut.arpa.gz").write_bytes(gzip.compress(GOOD.encode())[:-20])
    with pytest.raises(ValueError, match="line"):
        load_language_model(tmp_path / "cut.arpa.gz")
    model = train_ngram(TEXT, 2)
    wild = {name: getattr(model, name) for name in ("level_starts", "word", "first_child", "log_prob", "backoff")}
    wild["first_child"] = wild["first_child"] + 1000  # compiled code would read outside the array
    words = np.frombuffer("\n".join(model.words).encode(), np.uint8)
    empty = np.empty(0, np.uint64)
    np.savez(tmp_path / "wild.npz", format=1, order=2, words=words, suffix=model.suffix, sentence_hashes=empty, **wild)
    with pytest.raises(ValueError, match="do not fit together"):
        load_language_model(tmp_path / "wild.npz")
