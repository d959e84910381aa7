"""Transcribing with a weights file alone."""

import shutil

import keras
import numpy as np
import pytest
import soundfile

from sample_models import acoustic_model
from vuilab.audio import read_audio
from vuilab.corpus.manifest import MANIFESTS, read_manifest
from vuilab.inference import transcribe
from vuilab.inference.transcribe import load_recogniser, released_weights
from vuilab.runs.weights import save_weights


def _listening_model(width: int, frame_step: int = 1, scale: float = 10.0) -> keras.Model:
    """A model without training: each class k < width answers to feature k, the rest are never chosen."""
    the_input = keras.Input(shape=(None, width), name="the_input")
    x = keras.layers.AveragePooling1D(frame_step, name="pool")(the_input)
    dense = keras.layers.Dense(29, name="dense")
    model = acoustic_model(the_input, dense(x), "listening_model", print_summary=False)
    dense.set_weights([scale * np.eye(width, 29), np.where(np.arange(29) < width, 0.0, -1000.0)])
    return model


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.h5"
    metadata = {"features": {"kind": "mfcc", "mfcc_dim": 13}, "mean": [0.0] * 13, "std": [1.0] * 13}
    save_weights(_listening_model(13), path, metadata)
    return path


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000).clip(-1, 1), 16_000)
    return path


@pytest.mark.contract
def test_features_statistics_and_classes_come_from_the_weights_file(weights, clip):
    import python_speech_features

    from vuilab.alphabet import index_map

    recogniser = load_recogniser(weights)
    assert recogniser.settings.kind == "mfcc" and recogniser.settings.num_features == 13
    samples, rate = soundfile.read(clip)
    best = python_speech_features.mfcc(samples, rate).argmax(axis=1)
    merged = [value for number, value in enumerate(best) if number == 0 or value != best[number - 1]]
    assert (
        recogniser.decode(recogniser.probabilities(samples.astype(np.float32)))
        == "".join(index_map[int(value)] for value in merged).strip()
    )


@pytest.mark.contract
def test_mean_and_deviation_are_applied_and_a_constant_feature_does_not_divide_by_zero(tmp_path, clip):
    path = tmp_path / "model.h5"
    std = np.full(13, 2.0)
    std[12] = 0.0  # as of a feature that never changes
    metadata = {"features": {"kind": "mfcc", "mfcc_dim": 13}, "mean": list(range(13)), "std": std.tolist()}
    save_weights(_listening_model(13, scale=0.1), path, metadata)
    recogniser = load_recogniser(path)
    samples = soundfile.read(clip, dtype="float32")[0]
    features = recogniser.settings.extract(samples)
    expected = 0.1 * (features[:, :12] - np.arange(12)) / 2
    probabilities = recogniser.probabilities(samples)
    good = (probabilities[:, :12] > 1e-30).all(axis=1)
    assert good.sum() > 10
    np.testing.assert_allclose(np.diff(np.log(probabilities[good, :12])), np.diff(expected[good]), rtol=1e-3, atol=1e-3)
    assert np.isfinite(probabilities).all()


def test_stereo_wav_at_another_rate_gives_the_same_text_as_flac(weights, tmp_path):
    seconds = np.arange(2 * 44_100) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * 440 * seconds)
    soundfile.write(tmp_path / "tone.wav", np.stack([tone, tone], axis=1), 44_100)
    at_16 = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * 16_000) / 16_000)
    recogniser = load_recogniser(weights)
    soundfile.write(tmp_path / "tone.flac", at_16, 16_000)
    first, second = (recogniser.probabilities(read_audio(tmp_path / name)) for name in ("tone.wav", "tone.flac"))
    assert first.shape == second.shape == (199, 29)
    assert (first[5:-5].argmax(axis=1) == second[5:-5].argmax(axis=1)).mean() > 0.95  # edges differ by the resampler


def test_samples_in_memory_give_the_text_of_their_file(weights, tiny_corpus, tmp_path):
    recogniser = load_recogniser(weights)
    utterances = read_manifest(tiny_corpus / MANIFESTS["train"])[:9]
    short = read_audio(utterances[0].path)
    long = np.concatenate([np.pad(read_audio(utterance.path), (0, 8_000)) for utterance in utterances])
    rng = np.random.default_rng(0)
    for samples in (short, long + 1e-4 * rng.standard_normal(len(long)), 0.1 * rng.standard_normal(32_000)):
        samples = samples.astype(np.float32)
        soundfile.write(tmp_path / "clip.wav", samples, 16_000, subtype="FLOAT")
        assert recogniser.transcribe_samples(samples) == recogniser.transcribe(tmp_path / "clip.wav")
    assert len(long) > 16 * 16_000 and recogniser.transcribe_samples(short)
    assert recogniser.transcribe_samples(np.zeros(32_000, np.float32)) == ""


def test_unusable_audio_is_named_with_the_reason(weights, tmp_path):
    recogniser = load_recogniser(weights)
    (tmp_path / "text.flac").write_text("no audio")
    with pytest.raises(ValueError, match=r"Cannot read .*text\.flac as audio"):
        recogniser.transcribe(tmp_path / "text.flac")
    with pytest.raises(FileNotFoundError, match=r"No audio file at .*none\.flac"):
        recogniser.transcribe(tmp_path / "none.flac")
    soundfile.write(tmp_path / "short.flac", np.zeros(100), 16_000)
    with pytest.raises(ValueError, match=r"400 samples .*Received: shape \(100,\), 6 ms at 16 kHz. Record it again"):
        recogniser.transcribe(tmp_path / "short.flac")


def test_clip_too_short_for_one_output_frame_is_refused(tmp_path):
    metadata = {"features": {"kind": "mfcc", "mfcc_dim": 13}}
    save_weights(_listening_model(13, frame_step=20), tmp_path / "model.h5", metadata)
    recogniser = load_recogniser(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="2000 samples are too few for one output frame of listening_model"):
        recogniser.probabilities(np.zeros(2000, np.float32))


def test_silence_gives_a_text_and_no_nan(weights):
    probabilities = load_recogniser(weights).probabilities(np.zeros(16_000, np.float32))
    assert np.isfinite(probabilities).all()


def test_without_released_weights_the_error_names_train(monkeypatch, tmp_path):
    monkeypatch.setattr(transcribe, "released_folder", lambda: tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"(?s)no released weights yet\. Train a model.*python vui\.py train"
    ) as caught:
        load_recogniser()
    assert "--model" in str(caught.value)


def test_released_weights_are_found_without_being_named(monkeypatch, tmp_path, weights):
    monkeypatch.setattr(transcribe, "released_folder", lambda: tmp_path)
    shutil.copy(weights, tmp_path / "recogniser_1.h5")
    assert released_weights() == tmp_path / "recogniser_1.h5"
    assert load_recogniser().model.name == "listening_model"


def test_lengths_of_a_length_aware_model_are_rounded_up_without_changing_a_probability(tmp_path, monkeypatch):
    from vuilab.models.residual_birnn import residual_birnn_model

    keras.utils.set_random_seed(0)
    model = residual_birnn_model(units=4, filters=4, recur_layers=1, print_summary=False)
    save_weights(model, tmp_path / "model.h5", {"features": {"kind": "logmel"}})
    recogniser, rng = load_recogniser(tmp_path / "model.h5"), np.random.default_rng(0)
    clips = [rng.normal(0, 0.1, 16_000 + 800 * number).astype("float32") for number in range(8)]
    features = [recogniser.normalise(recogniser.settings.extract(clip)) for clip in clips]
    expected = [np.asarray(recogniser.model(rows[None]))[0] for rows in features]
    shapes, predict = set(), recogniser.model.predict_on_batch
    monkeypatch.setattr(recogniser.model, "predict_on_batch", lambda x: shapes.add(x.shape) or predict(x))
    for clip, probabilities in zip(clips, expected, strict=True):
        np.testing.assert_allclose(recogniser.probabilities(clip), probabilities, atol=1e-5)
    assert len(shapes) == 1 and len({len(rows) for rows in features}) == 8


@pytest.mark.parametrize("frame_step", [1, 3])
def test_probabilities_of_windows_are_those_of_the_whole(tmp_path, frame_step, monkeypatch):
    metadata = {"features": {"kind": "mfcc", "mfcc_dim": 13}, "mean": [0.0] * 13, "std": [1.0] * 13}
    save_weights(_listening_model(13, frame_step, scale=0.1), tmp_path / "model.h5", metadata)
    recogniser = load_recogniser(tmp_path / "model.h5")
    monkeypatch.setattr(transcribe, "LONGEST_WHOLE", 3.0)
    monkeypatch.setattr(transcribe, "NEAR_END", 0.3)
    samples = np.random.default_rng(0).normal(0, 0.1, 20 * 16_000 + 77).astype(np.float32)
    whole, found = recogniser.probabilities(samples), recogniser._of_windows(np.array_split(samples, 13))
    assert found.shape == whole.shape
    np.testing.assert_allclose(found, whole, atol=1e-3)
    path = tmp_path / "long.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(
        [span.start for span in recogniser.align(path, "a b").words],
        [span.start for span in transcribe.align(whole, "a b", recogniser.clock).words],
    )


def test_a_recording_of_which_the_gate_leaves_nothing_is_decoded_all_the_same(weights, tmp_path, capsys):
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * 16_000).clip(-1, 1)
    for name, times in (("short", 1), ("long", 7)):
        soundfile.write(tmp_path / f"{name}.wav", np.tile(noise, times), 16_000)
        assert load_recogniser(weights).transcribe(tmp_path / f"{name}.wav")
        assert f"{name}.wav: nobody seems to speak; it is decoded all the same" in capsys.readouterr().err
