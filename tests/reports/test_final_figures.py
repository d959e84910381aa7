"""Figures of the final model against arithmetic and against models whose behaviour is known."""

import dataclasses

import keras
import numpy as np
import pytest
import soundfile

from sample_models import bidirectional_rnn_model
from vuilab.alphabet import char_map
from vuilab.corpus.manifest import read_manifest
from vuilab.features import FeatureSettings
from vuilab.inference.transcribe import Recogniser
from vuilab.models.residual_birnn import residual_birnn_model
from vuilab.reports import final_figures
from vuilab.reports.final_figures import (
    ablation_figure,
    augmentation_figure,
    company_difference,
    company_figure,
    context_figure,
    convolution_context,
    drafts_figure,
    sounds_figure,
    splicing_figure,
)


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


def test_context_is_found_by_moving_one_input_frame():
    keras.utils.set_random_seed(0)
    the_input = x = keras.Input(shape=(None, 3), name="the_input")
    for number, (kernel, stride, dilation) in enumerate(((5, 2, 1), (3, 1, 2), (3, 2, 1), (3, 1, 1))):
        x = keras.layers.Conv1D(4, kernel, stride, dilation_rate=dilation, padding="valid", name=f"conv_{number}")(x)
    model = keras.Model(the_input, x)
    features = np.random.default_rng(0).normal(size=(1, 80, 3)).astype("float32")
    middle, reached = model(features).shape[1] // 2, []
    before = np.asarray(model(features))[0, middle]
    for frame in range(80):
        changed = features.copy()
        changed[0, frame] += 1
        reached.append(not np.allclose(np.asarray(model(changed))[0, middle], before, atol=1e-7))
    assert list(convolution_context(model, step=1.0).values())[-1] == sum(reached)


def test_the_figure_of_the_context_names_every_convolution():
    model = residual_birnn_model(units=2, filters=2, recur_layers=1, print_summary=False)
    figure, alt = context_figure(model)
    assert "conv 110 ms, residual_1 190 ms, residual_2 350 ms, residual_3 670 ms" in alt
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(convolution_context(model))


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


def test_company_changes_a_plain_bidirectional_model_and_not_the_final_one(clips):
    keras.utils.set_random_seed(0)
    aware = recogniser(residual_birnn_model(units=4, filters=4, recur_layers=1, print_summary=False), "logmel")
    plain = recogniser(bidirectional_rnn_model(13, units=4), "mfcc")
    rng = np.random.default_rng(0)  # untrained biases are zero, and then zeros as input change no state
    plain.model.set_weights([weight + rng.normal(0, 0.5, weight.shape) for weight in plain.model.get_weights()])
    samples, other = (soundfile.read(path, dtype="float32")[0] for path in clips)
    assert company_difference(aware, samples, other).max() < 1e-5
    change = company_difference(plain, samples, other)
    assert change[-1] > 1e-4 and len(change) == 49  # the backward layer comes from the padding
    figure, alt = company_figure({"final": aware, "plain": plain}, *clips)
    assert len(figure.axes[0].lines) == 2 and "plain at most" in alt
    with pytest.raises(ValueError, match=r"Expected a neighbour longer than 14400 samples. Received: 8000 samples"):
        company_difference(aware, other, samples)


def test_the_ablation_has_a_bar_for_each_row_and_a_dot_for_each_seed(tmp_path, monkeypatch):
    from vuilab.reports.ablation import Row

    def record(cer):
        return {"scores": {"cer": {"rate": cer}}}

    rows = [Row({}, 9, (record(0.4), record(0.5))), Row({"ema": 0.999}, 24, (record(0.3),))]
    monkeypatch.setattr(final_figures, "final_rows", lambda folder: rows)
    figure, alt = ablation_figure(tmp_path)
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [2, 1]
    assert alt == "Character error rates: 1: the recipe (9 passes) 45.0 %; 2: average 0.999 (24 passes) 30.0 %."


def test_the_figure_of_splicing_has_a_line_and_a_text_for_each_stretch(tiny_corpus):
    utterances = read_manifest(tiny_corpus / "train_corpus.json")
    figure, alt = splicing_figure(utterances)
    ax = figure.axes[0]
    stretches = alt.split(": ")[1].rstrip(".").split("; ")
    assert [text.get_text() for text in ax.texts] == stretches and len(ax.lines) == len(stretches) > 1
    speaker = ax.get_title().split()[-3]
    said = [item.text for item in utterances if item.speaker == speaker]
    assert all(any(f" {stretch} " in f" {text} " for text in said) for stretch in stretches)
    assert " ".join(stretches) not in said


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
