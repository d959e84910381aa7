"""Words read from phonemes: homophones by context, letters and phonemes weighed, scores as the language model gives them."""

import numpy as np
import pytest

from vuilab.alphabet import BLANK
from vuilab.corpus.phonemes import NUM_PHONEME_CLASSES, classes_of
from vuilab.decoding.greedy import Posteriors
from vuilab.decoding.kneser_ney import train_ngram
from vuilab.decoding.settings import BeamSettings, SoundWeights
from vuilab.decoding.sounds import BOUNDARY, Candidates, SoundDecoder
from vuilab.scoring.tuning import tune_sounds
from vuilab.text import text_to_int_sequence

SENTENCES = [
    "i have two cats",
    "she has two dogs",
    "it is too late",
    "he came too soon",
    "we go to town",
    "i went to town",
]


@pytest.fixture(scope="module")
def model():
    return train_ngram(SENTENCES, order=3)


def frames(classes, num_classes, certainty=0.9):
    """Probabilities in which every class has one frame, followed by one of the blank, the last class."""
    rows = np.full((2 * len(classes), num_classes), (1 - certainty) / (num_classes - 1))
    rows[np.arange(0, len(rows), 2), classes] = certainty
    rows[1::2, num_classes - 1] = certainty
    return rows


def spoken(text, certainty=0.9):
    return frames(classes_of(text.split()), NUM_PHONEME_CLASSES, certainty)


def spelled(text, certainty=0.9):
    return frames(text_to_int_sequence(text), BLANK + 1, certainty)


@pytest.mark.parametrize("text", ["i have two cats", "it is too late", "we go to town", "he went too soon"])
def test_words_that_sound_alike_are_chosen_by_their_sentence(model, text):
    assert SoundDecoder(model).by_phonemes(spoken(text))[0] == text


def test_sounds_of_no_word_become_words_that_are_near(model):
    assert SoundDecoder(model).by_phonemes(spoken("it is too lake"))[0] == "it is too late"


def test_silence_has_no_words(model):
    silence = np.full((6, NUM_PHONEME_CLASSES), 1e-4)
    silence[:, -1] = 1.0
    letters = np.full((6, BLANK + 1), 1e-4)
    letters[:, -1] = 1.0
    assert SoundDecoder(model).by_phonemes(silence)[0] == ""
    assert SoundDecoder(model).decode(letters, silence)[0].text == ""


def test_the_weight_decides_between_letters_and_phonemes(model):
    letters, phonemes = spelled("he came two soon"), np.repeat(spoken("he went to town"), 2, axis=0)
    phonemes = np.concatenate([phonemes, np.tile(phonemes[-1:], (40, 1))])
    letters = np.concatenate([letters, np.tile(letters[-1:], (len(phonemes) - len(letters), 1))])
    for weight, expected in ((0.0, "he came two soon"), (1.0, "he went to town")):
        decoder = SoundDecoder(model, SoundWeights(weight, alpha=0.0, beta=0.0), BeamSettings(alpha=0.1))
        assert decoder.decode(letters, phonemes)[0].text == expected
    assert decoder.decode(letters)[0].text == "he came two soon"  # without phonemes letters alone are read


def test_the_score_is_the_sum_of_its_parts(model):
    text, weights = "he came too soon", SoundWeights(0.3, alpha=0.7, beta=1.5)
    letters, phonemes = spelled(text), spoken(text)
    phonemes = np.concatenate([phonemes, np.tile(phonemes[-1:], (len(letters) - len(phonemes), 1))])
    best = SoundDecoder(model, weights).decode(letters, phonemes)[0]
    language = 0.7 * sum(model.sentence_scores(text)) + 1.5 * 4
    assert best.text == text and best.language == pytest.approx(language)
    # all but a little of the probability lies on the one path that is spelled
    paths = 0.7 * np.log(letters.max(axis=1)).sum() + 0.3 * np.log(phonemes.max(axis=1)).sum()
    assert paths < best.acoustic < paths + 0.5
    assert best.score == pytest.approx(best.acoustic + best.language)


def test_a_hot_word_outside_the_vocabulary_is_found_by_its_letters(model):
    letters, phonemes = spelled("we go to zurich"), spoken("we go to zurich")
    letters = np.concatenate([letters, np.tile(letters[-1:], (max(0, len(phonemes) - len(letters)), 1))])
    phonemes = np.concatenate([phonemes, np.tile(phonemes[-1:], (max(0, len(letters) - len(phonemes)), 1))])
    decoder = SoundDecoder(model, hot_words={"zurich": 8.0})
    assert decoder.decode(letters, phonemes)[0].text == "we go to zurich"


def test_halves_that_were_found_apart_are_put_together(model, monkeypatch):
    decoder, text = SoundDecoder(model), "i went to town"
    monkeypatch.setattr(decoder, "by_letters", lambda letters: ["i went to late", "two cats"])
    monkeypatch.setattr(decoder, "by_phonemes", lambda phonemes: ["", "we go to town"])
    found = decoder.candidates(spelled(text), spoken(text))
    assert found.texts[:4] == ["i went to late", "two cats", "", "we go to town"] and text in found.texts[4:]
    assert len(set(found.texts)) == len(found.texts) == len(found.scores)
    assert decoder.decode(spelled(text), spoken(text))[0].text == text


def test_a_model_of_characters_is_refused():
    with pytest.raises(ValueError, match="which has none"):
        SoundDecoder(train_ngram(["i went to town"], order=3, characters=True))


def test_probabilities_of_a_diverged_model_are_refused(model):
    letters, phonemes = spelled("we go"), spoken("we go")
    for broken in ((letters, np.full_like(phonemes, np.nan)), (np.full_like(letters, np.nan), phonemes)):
        with pytest.raises(ValueError, match="without NaN"):
            SoundDecoder(model).decode(*broken)


def test_what_is_not_spoken_has_no_boundary():
    go, to = classes_of(["go"]), classes_of(["to"])
    assert classes_of(["'", "go", "'", "to", "'"]) == [*go, BOUNDARY, *to] and classes_of(["'"]) == []
    assert BOUNDARY not in [*go, *to] and go and to


@pytest.mark.parametrize("weights", [{"phonemes": 1.5}, {"phonemes": -0.1}, {"alpha": -1.0}])
def test_weights_out_of_range_are_refused(weights):
    with pytest.raises(ValueError, match=r"in 0\.\.1"):
        SoundWeights(**weights)


def test_weights_are_chosen_on_other_speakers():
    """Letters are right for speaker a, phonemes for b and c, so that a is read with weights that are wrong for it."""
    right = {"a": (0.0, -10.0), "b": (-10.0, 0.0), "c": (-10.0, 0.0)}
    speakers = list("abbcc")
    candidates = [
        Candidates(["no", "yes"], np.array([[*right[name][::-1], 0, 0, 0], [*right[name], 0, 0, 0]]))
        for name in speakers
    ]
    found = tune_sounds(candidates, ["yes"] * 5, speakers, ((0.1, 0.9), (0.0,), (0.0,)))
    assert found.texts == ["no", "yes", "yes", "yes", "yes"]
    assert found.best == SoundWeights(0.9, 0.0, 0.0) and set(found.weights) == {"a", "b", "c"}


def test_utterances_decoded_in_parallel_are_as_alone(model):
    decoder = SoundDecoder(model)
    batch = [Posteriors(spelled(text)[:14], spoken(text)[:14]) for text in SENTENCES]
    for found, (letters, phonemes) in zip(decoder.candidates_of_all(batch), batch, strict=True):
        alone = decoder.candidates(letters, phonemes)
        assert found.texts == alone.texts
        np.testing.assert_array_equal(found.scores, alone.scores)
