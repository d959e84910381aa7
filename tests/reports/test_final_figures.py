"""Figures of the final model against arithmetic and against models whose behaviour is known."""

import dataclasses

import keras
import numpy as np
import pytest
import soundfile

from vuilab.alphabet import char_map
from vuilab.features import FeatureSettings
from vuilab.inference.transcribe import Recogniser
from vuilab.models.residual_birnn import residual_birnn_model
from vuilab.reports.final_figures import augmentation_figure, drafts_figure, sounds_figure


def recogniser(model: keras.Model, kind: str) -> Recogniser:
    settings = FeatureSettings(kind)
    return Recogniser(model, settings, np.zeros(settings.num_features), np.ones(settings.num_features), {})


@pytest.fixture
def clips(tmp_path):
    """Half a second of noise, and 0.9 seconds."""
    rng, paths = np.random.default_rng(0), []
    for name, seconds in (("short", 0.5), ("long", 0.9)):
        paths.append(tmp_path / f"{name}.wav")
        soundfile.write(paths[-1], rng.normal(0, 0.1, int(16_000 * seconds)).clip(-1, 1), 16_000)
    return paths


def test_the_panels_are_the_utterance_a_faster_one_and_a_masked_one(clips):
    figure, alt = augmentation_figure(clips[1], speed=1.25)
    plain, fast, masked = (ax.images[0].get_array() for ax in figure.axes)
    assert (
        plain.shape[0] == 80
        and abs(plain.shape[1] - 90) <= 2
        and fast.shape[1] == pytest.approx(plain.shape[1] / 1.25, abs=2)
    )
    assert masked.shape == fast.shape and (masked == 0).sum() > (fast == 0).sum()
    assert f"{plain.shape[1]} frames" in alt


def test_the_figure_of_sounds_shows_what_is_read_from_letters_phonemes_and_both(clips):
    from vuilab.decoding.kneser_ney import train_ngram
    from vuilab.decoding.sounds import SoundDecoder

    keras.utils.set_random_seed(0)
    model = residual_birnn_model(units=4, filters=4, recur_layers=2, phoneme_heads=(1,), print_summary=False)
    letters_alone = recogniser(model, "logmel")
    with pytest.raises(ValueError, match="reads letters alone"):
        sounds_figure(letters_alone, clips[1], "a cat")
    decoder = SoundDecoder(train_ngram(["a cat sat", "the dog"], order=2))
    figure, alt = sounds_figure(dataclasses.replace(letters_alone, decoder=decoder), clips[1], "a cat")
    assert [ax.get_title(loc="left").split(",")[0] for ax in figure.axes] == ["phonemes", "letters"]
    assert "from phonemes alone" in alt and "said was: a cat" in alt


def test_the_figure_of_drafts_shows_letters_on_the_way_and_at_the_end(clips):
    keras.utils.set_random_seed(0)
    options = {"units": 4, "filters": 4, "recur_layers": 3, "print_summary": False}
    with pytest.raises(ValueError, match="guesses no letters on the way"):
        drafts_figure(recogniser(residual_birnn_model(**options), "logmel"), clips[1], "a cat")
    model = residual_birnn_model(heads=(1,), phoneme_heads=(2,), **options)
    head = model.get_layer("intermediate_1")  # it is made to be sure of one letter, and so is the end
    head.set_weights([np.zeros_like(head.kernel), 20.0 * np.eye(29)[char_map["c"]]])
    end = model.get_layer("time_distributed")
    end.set_weights([np.zeros_like(end.kernel), 20.0 * np.eye(29)[char_map["a"]]])
    figure, alt = drafts_figure(recogniser(model, "logmel"), clips[1], "a cat")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["behind recurrent layer 1: c (CER 80 %)", "at the end: a (CER 80 %)"]
    assert [[label.get_text() for label in ax.get_yticklabels()] for ax in figure.axes] == [["c"], ["a"]]
    assert all(title in alt for title in titles) and "said was: a cat" in alt
