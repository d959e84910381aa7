"""Beam search: exact where the beam holds everything, against TensorFlow's search, and against scores worked out by hand."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from vuilab.alphabet import BLANK, char_map
from vuilab.decoding.beam import BeamDecoder, Hypothesis, _kth_largest
from vuilab.decoding.greedy import collapse, greedy_decode
from vuilab.decoding.kneser_ney import train_ngram
from vuilab.decoding.ngram import NGramModel
from vuilab.decoding.settings import BeamSettings

UNPRUNED = {"token_margin": math.inf, "score_margin": math.inf, "blank_skip": 1.0}
EVERYTHING = BeamSettings(beam_width=4000, **UNPRUNED)


def random_probabilities(seed, num_frames=6, num_classes=4, sharpness=1.0):
    logits = sharpness * np.random.default_rng(seed).standard_normal((num_frames, num_classes))
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def brute_force(probabilities):
    """Text (class indices) -> probability, summed over every path."""
    totals = {}
    num_frames, num_classes = probabilities.shape
    for path in itertools.product(range(num_classes), repeat=num_frames):
        labels = tuple(collapse(np.array(path), blank=num_classes - 1).tolist())
        totals[labels] = totals.get(labels, 0.0) + float(np.prod(probabilities[range(num_frames), path]))
    return totals


@pytest.mark.parametrize("seed", range(12))
def test_an_exhaustive_beam_finds_what_brute_force_finds(seed):
    probabilities = random_probabilities(seed)  # classes: apostrophe, space, a, blank
    texts = {}
    for labels, value in brute_force(probabilities).items():
        text = " ".join("".join("' a"[label] for label in labels).split())
        texts.setdefault(text, []).append(value)
    found = BeamDecoder(settings=EVERYTHING).decode(probabilities, n_best=5)
    plain = {text: math.fsum(values) for text, values in texts.items()}  # whatever their spaces
    expected = sorted(plain.items(), key=lambda item: -item[1])[:5]
    assert [item.text for item in found] == [text for text, _ in expected]
    for item, (_, value) in zip(found, expected, strict=True):
        assert item.acoustic == pytest.approx(math.log(value), abs=1e-4) and item.language == 0


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_at_least_those_of_tensorflow_s_search(seed):
    import tensorflow as tf

    probabilities = random_probabilities(seed, num_frames=40, num_classes=BLANK + 1, sharpness=2.5)
    decoded, scores = tf.nn.ctc_beam_search_decoder(
        np.log(probabilities)[:, None].astype(np.float32), [40], beam_width=50, top_paths=1
    )
    ours = BeamDecoder(settings=BeamSettings(beam_width=50, **UNPRUNED)).decode(probabilities)[0]
    assert ours.acoustic >= float(scores[0, 0]) - 1e-3
    assert len(decoded[0].values) > 5


def spelled(text, doubt=0.0, other=" "):
    """Probabilities that spell a text, one frame a character and a blank after it, with some doubt."""
    rows = []
    for letter in text:
        row = np.full(BLANK + 1, 1e-9)
        row[char_map[letter]] += 1 - doubt
        row[char_map[other]] += doubt
        blank = np.full(BLANK + 1, 1e-9)
        blank[BLANK] = 1.0
        rows += [row, blank]
    return np.array(rows)


@pytest.fixture(scope="module")
def model() -> NGramModel:
    return train_ngram(["the cat sat", "the cat ran", "a cat sat", "the dog sat", "the cat sat down"], order=3)


def test_the_fused_score_is_the_one_worked_out_by_hand(model):
    settings = BeamSettings(alpha=0.7, beta=1.5)
    best = BeamDecoder(model, settings).decode(spelled("the cat sat"))[0]
    assert best.text == "the cat sat"
    words = sum(model.sentence_scores("the cat sat"))  # three words and the end of the sentence
    assert best.language == pytest.approx(0.7 * words + 3 * 1.5, abs=1e-4)
    assert best.acoustic == pytest.approx(0.0, abs=1e-3)
    assert best.score == best.acoustic + best.language


@pytest.mark.parametrize("word", ["ox", "do", "cats", "downs", "wolfhound"])  # some begin as known words do
def test_an_unknown_word_costs_its_probability_and_that_of_its_letters(model, word):
    text = f"the {word} sat"
    for settings, letter in (
        (BeamSettings(alpha=1.0, beta=0.0), math.log(1 / 28)),
        (BeamSettings(alpha=0.5, beta=2.0, letter_log_prob=-2.0), -2.0),
    ):
        best = BeamDecoder(model, settings).decode(spelled(text))[0]
        words = sum(model.sentence_scores(text)) + len(word) * letter
        assert best.text == text
        assert best.language == pytest.approx(settings.alpha * words + 3 * settings.beta, abs=1e-4)


def test_a_long_word_that_the_model_does_not_know_is_no_cheap_way_out(model):
    probabilities = spelled("the sat")
    for place, letter in zip(range(9, 14, 2), "xyz", strict=True):  # each letter in doubt, "xyz" the likelier
        truth = probabilities[place - 1].argmax()
        probabilities[place - 1] = 1e-9
        probabilities[place - 1, char_map[letter]], probabilities[place - 1, truth] = 0.8, 0.2
    assert greedy_decode(probabilities) == "the xyz"
    assert BeamDecoder(model, BeamSettings(letter_log_prob=0.0)).decode(probabilities)[0].text == "the xyz"
    assert BeamDecoder(model).decode(probabilities)[0].text == "the sat"


def test_what_no_letter_can_have_as_its_probability_is_refused():
    for value in (0.5, -math.inf, math.nan):
        with pytest.raises(ValueError, match=r"not above 0\. Received: letter_log_prob"):
            BeamSettings(letter_log_prob=value)


def test_the_language_model_decides_where_the_sound_is_in_doubt(model):
    probabilities = spelled("the cat sat")
    place = 2 * "the cat sat".index("c")
    probabilities[place] = 1e-9
    probabilities[place, char_map["k"]], probabilities[place, char_map["c"]] = 0.6, 0.4
    assert greedy_decode(probabilities) == "the kat sat"
    assert BeamDecoder().decode(probabilities)[0].text == "the kat sat"
    assert BeamDecoder(model).decode(probabilities)[0].text == "the cat sat"


def test_hot_words_are_preferred_also_unknown_ones(model):
    probabilities = spelled("the cat sat")
    place = 2 * "the cat sat".index("c")
    probabilities[place] = 1e-9
    probabilities[place, char_map["k"]], probabilities[place, char_map["c"]] = 0.4, 0.6
    for language_model in (None, model):
        assert BeamDecoder(language_model).decode(probabilities)[0].text == "the cat sat"
        hot = BeamDecoder(language_model, hot_words={"kat": 12.0}).decode(probabilities)[0]
        assert hot.text == "the kat sat"
    assert BeamDecoder(hot_words={"kat": 12.0}).decode(spelled("the dog"))[0].language == 0
    with pytest.raises(ValueError, match="one word"):
        BeamDecoder(hot_words={"new york": 1.0})
    with pytest.raises(ValueError, match="ö"):
        BeamDecoder(hot_words={"björk": 1.0})


@pytest.fixture(scope="module")
def speller() -> NGramModel:
    return train_ngram(["a 'a", "aa a", "a a a", "'a"], order=4, characters=True)


@pytest.mark.parametrize("seed", range(8))
def test_with_a_model_of_characters_an_exhaustive_beam_finds_what_brute_force_finds(seed, speller):
    settings = BeamSettings(beam_width=4000, alpha=0.7, beta=1.5, **UNPRUNED)
    probabilities, texts = random_probabilities(seed), {}
    for labels, value in brute_force(probabilities).items():
        text = " ".join("".join("' a"[label] for label in labels).split())
        texts[text] = texts.get(text, 0.0) + value
    scores = {
        text: math.log(value) + 0.7 * sum(speller.sentence_scores(text)) + 1.5 * len(text.split())
        for text, value in texts.items()
    }
    found = BeamDecoder(speller, settings).decode(probabilities, n_best=5)
    expected = sorted(scores.items(), key=lambda item: -item[1])[:5]
    assert [item.text for item in found] == [text for text, _ in expected]
    assert [item.score for item in found] == pytest.approx([score for _, score in expected], abs=1e-3)


def test_a_model_of_characters_prefers_what_looks_like_its_text_in_words_that_it_never_saw():
    speller = train_ngram(["queen quick quiet", "the queen", "a quill"], order=4, characters=True)
    doubtful = np.concatenate([spelled("the q"), spelled("u", doubt=0.55, other="o"), spelled("iz")])
    assert greedy_decode(doubtful) == "the qoiz"
    assert BeamDecoder(speller, BeamSettings(alpha=0.5)).decode(doubtful)[0].text == "the quiz"


def test_hot_words_are_preferred_beside_a_model_of_characters():
    speller = train_ngram(["the cat sat", "a cat ran"], order=4, characters=True)
    rows = np.concatenate([spelled("the "), spelled("c", doubt=0.4, other="b"), spelled("at sat")])
    plain, hot = BeamDecoder(speller), BeamDecoder(speller, hot_words={"bat": 12.0})
    assert plain.decode(rows)[0].text == "the cat sat"
    found = hot.decode(rows)[0]
    scores = 0.8 * sum(speller.sentence_scores("the bat sat")) + 3 * 1.0 + 12.0
    assert found.text == "the bat sat" and found.language == pytest.approx(scores, abs=1e-4)


def test_n_best_are_different_texts_in_falling_order(model):
    found = BeamDecoder(model, BeamSettings(score_margin=60)).decode(random_probabilities(1, 12, 29, 2.0), n_best=8)
    assert len({item.text for item in found}) == len(found) == 8
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    assert all(isinstance(item, Hypothesis) for item in found)


@pytest.mark.parametrize("seed", range(4))
def test_pruning_finds_the_text_of_the_unpruned_search_where_frames_are_clear(model, seed):
    probabilities = random_probabilities(seed, 60, 29, 6.0)
    settings = BeamSettings()
    pruned = BeamDecoder(model, settings).decode(probabilities)[0]
    unpruned = BeamDecoder(model, dataclasses.replace(settings, **UNPRUNED)).decode(probabilities)[0]
    assert pruned.score >= unpruned.score - 0.5


def test_a_batch_in_parallel_gives_what_one_at_a_time_gives(model):
    decoder = BeamDecoder(model)
    batch = [random_probabilities(seed, 30 + 5 * seed, 29, 3.0) for seed in range(6)]
    alone = [decoder.decode(item, n_best=2) for item in batch]
    assert decoder.decode_batch(batch, n_best=2) == alone


def test_no_frames_give_an_empty_text(model):
    assert BeamDecoder(model).decode(np.zeros((0, 29)))[0].text == ""


@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_the_kth_largest_value_is_the_one_of_the_sorted_values(distinct):
    rng = np.random.default_rng(distinct)
    for number in (1, 2, 7, 40):
        values = rng.integers(0, distinct, number) / distinct
        before = values.copy()
        assert [_kth_largest(values, k + 1) for k in range(number)] == sorted(values, reverse=True)
        assert (values == before).all()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: BeamSettings(beam_width=0), "beam_width"),
        (lambda: BeamSettings(token_margin=0), "Margins"),
        (lambda: BeamSettings(blank_skip=0), "blank_skip"),
        (lambda: BeamSettings(alpha=-1), "alpha"),
        (lambda: BeamDecoder().decode(np.full((3, 4), np.nan)), "without NaN"),
        (lambda: BeamDecoder().decode(np.ones(4)), "num_output_frames"),
        (lambda: BeamDecoder().decode(np.ones((3, 4)), n_best=0), "n_best"),
    ],
)
def test_wrong_input_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
