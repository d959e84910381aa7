import re

import pytest

from vuilab.corpus import sentences
from vuilab.corpus.demo import SCALES
from vuilab.corpus.manifest import MANIFESTS


def test_grammar_has_hundreds_of_words_written_in_the_alphabet():
    text = " ".join(part for parts in sentences._ALTERNATIVES.values() for part in parts)
    words = set(re.sub(r"\{\w+\}", " ", text).split())
    assert len(words - sentences.HELD_OUT) >= 330
    assert len(sentences.HELD_OUT) == 30
    assert words >= sentences.HELD_OUT
    assert all(re.fullmatch("[a-z']+", word) for word in words)
    assert {"don't", "it's"} <= words


def test_full_split_shares_no_sentence_and_a_fifth_of_the_test_has_an_unseen_word():
    texts = sentences.split_sentences(1, *SCALES["full"])
    assert tuple(len(texts[split]) for split in MANIFESTS) == SCALES["full"]
    everything = [text for part in texts.values() for text in part]
    assert len(set(everything)) == len(everything)
    trained = {word for text in texts["train"] for word in text.split()}
    assert len(trained) >= 330
    assert not trained & sentences.HELD_OUT
    unseen = [text for text in texts["test"] if set(text.split()) - trained]
    assert len(unseen) == round(0.2 * len(texts["test"]))
    assert not [text for text in texts["validation"] if set(text.split()) - trained]


def test_sentences_use_the_right_article():
    texts = sentences.split_sentences(2, *SCALES["full"])
    wrong = [text for part in texts.values() for text in part if re.search(r"\ba [aeiou]", text)]
    assert wrong == []


def test_too_many_sentences_for_the_words_of_training_are_refused():
    with pytest.raises(ValueError, match=r"Found only \d+ of 500 sentences.*more training sentences"):
        sentences.split_sentences(0, 1, 500, 1)
