"""Pronunciations are those of the dictionary, and a network that is told them learns from them."""

import keras
import numpy as np
import pytest

from vuilab.corpus.phonemes import NUM_PHONEME_CLASSES, PHONEMES, WORD_BOUNDARY, phoneme_targets, pronounce
from vuilab.models.ctc import add_ctc_loss, ctc_loss, needs_phonemes
from vuilab.models.residual_birnn import residual_birnn_model
from vuilab.text import text_to_int_sequence

# General American in the Longman Pronunciation Dictionary (Wells, 3rd edition), stress and length left out
DICTIONARY = {
    "thought": "θ ɔ t",
    "judge": "dʒ ʌ dʒ",
    "church": "tʃ ɚ tʃ",
    "measure": "m ɛ ʒ ɚ",
    "boy": "b ɔɪ",
    "house": "h aʊ s",
    "sing": "s ɪ ŋ",
    "yes": "j ɛ s",
    "though": "ð oʊ",
    "cat": "k æ t",
    "foot": "f ʊ t",
    "food": "f u d",
    "day": "d eɪ",
    "shy": "ʃ aɪ",
    "it's": "ɪ t s",
    "red": "ɹ ɛ d",
    "give": "ɡ ɪ v",
    "bees": "b i z",
    "a": "ə",
    "father": "f ɑ ð ɚ",
}


def test_words_are_pronounced_as_in_the_dictionary():
    assert {word: " ".join(symbols) for word, symbols in pronounce(DICTIONARY).items()} == DICTIONARY


def test_every_phoneme_occurs_and_nothing_else():
    heard = {symbol for symbols in pronounce([*DICTIONARY, "happy", "well", "lemon"]).values() for symbol in symbols}
    assert heard == set(PHONEMES) - {WORD_BOUNDARY}
    assert len(set(PHONEMES)) == len(PHONEMES) == NUM_PHONEME_CLASSES - 1


def padded(texts, width):
    rows = [text_to_int_sequence(text) for text in texts]
    labels = np.zeros((len(rows), width), np.int32)
    for row, classes in zip(labels, rows, strict=True):
        row[: len(classes)] = classes
    return labels, np.array([len(row) for row in rows], np.int32)


def test_a_batch_of_transcripts_becomes_phonemes_with_boundaries_between_words():
    labels, lengths = padded(["the church", "judge", "six"], 14)
    found = phoneme_targets(labels, lengths)
    texts = [
        " ".join(PHONEMES[k] for k in row[:length])
        for row, length in zip(found["the_phonemes"], found["phoneme_length"], strict=True)
    ]
    assert texts == [f"ð ə {WORD_BOUNDARY} tʃ ɚ tʃ", "dʒ ʌ dʒ", "s ɪ k s"]
    assert found["the_phonemes"].shape == (3, 14) and not found["the_phonemes"][1, 3:].any()
    assert found["the_phonemes"].dtype == found["phoneme_length"].dtype == np.int32


def test_more_phonemes_than_letters_make_the_batch_wider():
    labels, lengths = padded(["sixth six"], 9)
    assert phoneme_targets(labels, lengths)["the_phonemes"].shape[1] >= 9
    labels, lengths = padded(["ex"], 2)
    assert phoneme_targets(labels, lengths)["the_phonemes"].shape == (1, 3)


# ---------------------------------------------------------------------------------------------------- training


def small_model(**options):
    return residual_birnn_model(
        5,
        filters=4,
        kernel_size=3,
        conv_stride=1,
        residual_kernel_size=3,
        dilations=(),
        units=6,
        recur_layers=3,
        print_summary=False,
        **options,
    )


def test_phoneme_layers_have_their_own_targets_and_share_the_loss():
    keras.utils.set_random_seed(1)
    model = small_model(heads=(1,), phoneme_heads=(2,))
    trainer = add_ctc_loss(model)
    rng = np.random.default_rng(0)
    labels, lengths = padded(["red", "a"], 5)
    inputs = {
        "the_input": rng.normal(0, 1, (2, 30, 5)).astype("float32"),
        "the_labels": labels,
        "input_length": np.array([30, 21], np.int32),
        "label_length": lengths,
        **phoneme_targets(labels, lengths),
    }
    inputs["the_input"][1, 21:] = 0
    names = ("intermediate_1", "phonemes_2", "time_distributed")
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in names])(inputs["the_input"])
    assert outputs[1].shape[-1] == NUM_PHONEME_CLASSES
    frames, sounds = inputs["input_length"], (inputs["the_phonemes"], inputs["phoneme_length"])
    letters_1, phonemes_2, letters = (
        keras.ops.convert_to_numpy(ctc_loss(logits, targets, frames, length))
        for logits, (targets, length) in zip(outputs, [(labels, lengths), sounds, (labels, lengths)], strict=True)
    )
    found = keras.ops.convert_to_numpy(trainer(inputs)["ctc"])
    np.testing.assert_allclose(found, 0.7 * letters + 0.15 * (letters_1 + phonemes_2), rtol=1e-4)


def test_a_model_without_phoneme_layers_asks_for_none():
    assert not needs_phonemes(small_model(heads=(1,))) and needs_phonemes(small_model(phoneme_heads=(1,)))
    assert set(add_ctc_loss(small_model()).input) == {"the_input", "the_labels", "input_length", "label_length"}


def test_two_heads_behind_one_layer_are_refused():
    with pytest.raises(ValueError, match=r"different numbers .*1 to 2\. Received: heads=\(1,\), phoneme_heads=\(1,\)"):
        small_model(heads=(1,), phoneme_heads=(1,))


def test_training_fills_in_the_phonemes_and_the_weights_do_without(tiny_corpus, tmp_path):
    from train_utils import train_model
    from vuilab.features import FeatureSettings
    from vuilab.runs.weights import load_model

    model = residual_birnn_model(
        80,
        filters=8,
        kernel_size=11,
        conv_stride=2,
        residual_kernel_size=3,
        dilations=(1,),
        units=8,
        recur_layers=2,
        phoneme_heads=(1,),
        print_summary=False,
    )
    before = model.get_layer("phonemes_1").get_weights()[0].copy()
    history = train_model(
        model,
        tmp_path / "m.pickle",
        tmp_path / "m.h5",
        tiny_corpus / "train_corpus.json",
        tiny_corpus / "valid_corpus.json",
        epochs=1,
        features=FeatureSettings("logmel"),
        optimizer=keras.optimizers.AdamW(1e-3),
        splice=0.5,
        verbose=0,
    )
    assert np.isfinite(history["loss"][0]) and np.isfinite(history["val_loss"][0])
    assert np.abs(model.get_layer("phonemes_1").get_weights()[0] - before).max() > 1e-4
    loaded, _ = load_model(tmp_path / "m.h5")
    features = np.random.default_rng(0).normal(0, 1, (1, 40, 80)).astype("float32")
    np.testing.assert_allclose(loaded.predict_on_batch(features), model.predict_on_batch(features), atol=1e-5)


def test_a_model_is_read_for_letters_and_phonemes_at_once():
    from vuilab.models.acoustic import with_phonemes

    keras.utils.set_random_seed(0)
    model = residual_birnn_model(units=4, filters=4, recur_layers=2, phoneme_heads=(1,), print_summary=False)
    x = np.random.default_rng(0).normal(size=(2, 60, 80)).astype("float32")
    letters, phonemes = map(np.asarray, with_phonemes(model).predict_on_batch(x))
    np.testing.assert_allclose(letters, model.predict_on_batch(x), atol=1e-6)
    assert phonemes.shape == (2, 30, NUM_PHONEME_CLASSES)
    np.testing.assert_allclose(phonemes.sum(axis=-1), 1, atol=1e-5)
    assert with_phonemes(residual_birnn_model(units=4, filters=4, print_summary=False)) is None
