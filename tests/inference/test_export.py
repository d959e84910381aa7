"""Exported recognisers: every format against Keras, use without this project, and what is refused."""

import contextlib
import io
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import soundfile
from keras import layers
from tiny_export import exporting_here

import sample_models
from vuilab.decoding.greedy import greedy_decode
from vuilab.features import FEATURE_KINDS, FeatureSettings
from vuilab.inference import export as exporting
from vuilab.inference import formats
from vuilab.inference.export import default_path, export, metadata_path, verify
from vuilab.inference.formats import FORMATS, open_file
from vuilab.inference.transcribe import Recogniser
from vuilab.models import wavenet
from vuilab.models.acoustic import acoustic_model

KINDS = {
    "convolution": lambda: plain_convolution(),
    "gru": lambda: sample_models.rnn_model(13, 6),
    "convolution and simple_rnn": lambda: sample_models.cnn_rnn_model(13, 4, 5, 2, "valid", 6),
    "bidirectional gru": lambda: sample_models.bidirectional_rnn_model(13, 6),
    "lstm": lambda: sample_models.rnn_model(13, 6, cell="lstm"),
    "wavenet": lambda: short_wavenet(),
}


def short_wavenet() -> keras.Model:
    """The WaveNet with two of its five dilations, since each block takes seconds to convert."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wavenet, "DILATIONS", (1, 8))
        return sample_models.wavenet_model(13, num_layer_grps=1, filters=4)


def plain_convolution() -> keras.Model:
    the_input = keras.Input((None, 13), name="the_input")
    x = layers.Conv1D(8, 4, strides=3, activation="relu", name="conv")(the_input)
    return acoustic_model(the_input, layers.Dense(29, name="dense")(layers.BatchNormalization()(x)), "plain")


def recogniser(kind: str = "convolution") -> Recogniser:
    """A recogniser with random weights whose probabilities are far from even, and statistics that matter."""
    keras.utils.set_random_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        model = KINDS[kind]()
    last = next(layer for layer in model.layers[::-1] if layer.weights)
    last.kernel.assign(8 * last.kernel)
    rng = np.random.default_rng(0)
    mean, std = rng.normal(0, 3, 13).astype(np.float32), rng.uniform(0.5, 4, 13).astype(np.float32)
    return Recogniser(model, FeatureSettings("mfcc"), mean, std, {})


def expected_of(of: Recogniser, features: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(of.model((features - of.mean) / of.std, training=False))


def check(kind: str, form: str, folder) -> None:
    """Export and compare, at lengths other than those that `export` itself tried."""
    ours = recogniser(kind)
    path = folder / f"model{exporting.SUFFIXES[form]}"
    with exporting_here():
        metadata = export(ours, path, form)
        assert set(folder.iterdir()) == {path, metadata_path(path)}
        assert metadata["verified"]["largest_difference"].keys() >= {f"1 x {metadata['input']['min_frames']} frames"}
        run = open_file(path).run
        for num_frames in (11, 333):
            features = np.random.default_rng(num_frames).normal(0, 5, (2, num_frames, 13)).astype(np.float32)
            expected = expected_of(ours, features)
            assert expected.max() > 0.2  # guessing gives 0.03: the tolerance means something
            np.testing.assert_allclose(run(features), expected, atol=1e-5)


# ------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("form", FORMATS)
def test_a_convolutional_model_agrees_with_keras_in_every_format(form, tmp_path):
    check("convolution", form, tmp_path)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        pytest.param(kind, form, marks=() if (kind, form) == ("bidirectional gru", "onnx") else pytest.mark.slow)
        for kind in KINDS
        for form in FORMATS
        if kind != "convolution"
    ],
)
def test_every_kind_of_model_agrees_with_keras_in_every_format(kind, form, tmp_path):
    check(kind, form, tmp_path)


@pytest.mark.slow
def test_raw_audio_is_exported_too(tmp_path):
    the_input = keras.Input((None, 1), name="the_input")
    x = layers.Conv1D(8, 400, strides=160, activation="relu", name="conv")(the_input)
    model = acoustic_model(the_input, layers.Dense(29, name="dense")(x), "raw", print_summary=False)
    ours = Recogniser(model, FeatureSettings("raw"), np.zeros(1, np.float32), np.full(1, 0.1, np.float32), {})
    with exporting_here():
        metadata = export(ours, tmp_path / "raw.tflite", "litert")
        assert metadata["input"]["min_frames"] == 400 and metadata["features"]["frames_per_second"] == 16_000
        assert "1 x 117360 frames" in metadata["verified"]["largest_difference"]  # 7.31 s more than the shortest


WITHOUT_THIS_PROJECT = """
import json, sys
import numpy, onnxruntime, python_speech_features, soundfile

about = json.load(open(sys.argv[1] + ".json"))
samples, sample_rate = soundfile.read(sys.argv[2])
assert sample_rate == about["sample_rate"] and about["features"]["kind"] == "mfcc"
features = python_speech_features.mfcc(
    samples, sample_rate, winlen=0.025, winstep=about["features"]["step"] / 1000, numcep=about["features"]["mfcc_dim"]
)
session = onnxruntime.InferenceSession(sys.argv[1])
given = {about["input"]["name"]: features[None].astype("float32")}
best = session.run([about["output"]["name"]], given)[0][0].argmax(-1)
kept = [int(c) for c, before in zip(best, [-1, *best[:-1]]) if c != before and c != about["blank"]]
print("".join(about["alphabet"][c] for c in kept))
assert not {"keras", "tensorflow", "utils"} & set(sys.modules)
"""


def test_a_program_that_knows_only_the_two_files_reads_the_same_text(tmp_path):
    ours = recogniser()
    samples = np.random.default_rng(3).normal(0, 0.1, 20_000) * np.sin(np.arange(20_000) / 900) ** 2
    soundfile.write(tmp_path / "clip.wav", samples, 16_000)
    samples = soundfile.read(tmp_path / "clip.wav")[0]
    with exporting_here():
        export(ours, tmp_path / "model.onnx", "onnx")
        command = [
            sys.executable,
            "-I",
            "-c",
            WITHOUT_THIS_PROJECT,
            str(tmp_path / "model.onnx"),
            str(tmp_path / "clip.wav"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        text = greedy_decode(ours.probabilities(samples))
        assert len(set(text)) > 3 and done.stdout.rstrip("\n") == text


def test_the_json_file_says_what_a_program_needs(tmp_path):
    ours = recogniser("convolution")
    with exporting_here():
        returned = export(ours, tmp_path / "model.tflite", "litert")
        about = json.loads((tmp_path / "model.tflite.json").read_text())
        assert about.keys() == returned.keys() and about["format"] == "litert" and about["file"] == "model.tflite"
        assert "".join(about["alphabet"]) == "' abcdefghijklmnopqrstuvwxyz" and about["blank"] == 28
        np.testing.assert_allclose(about["normalisation"]["mean"], ours.mean, rtol=1e-6)
        np.testing.assert_allclose(about["normalisation"]["std"], ours.std, rtol=1e-6)
        assert about["input"]["shape"] == [1, "num_frames", 13] and about["output"]["shape"][2] == 29
        # a kernel of 4 frames of 25 ms every 10 ms, moved by 3
        assert about["input"]["min_frames"] == 4 and about["output"]["frame_step_seconds"] == pytest.approx(0.03)
        assert about["output"]["first_frame_seconds"] == pytest.approx((0 + 30 + 25) / 2 / 1000)
        assert set(about["made_with"]) == {"keras", "tensorflow"}
        shapes = set(about["verified"]["largest_difference"])
        assert shapes == {"1 x 4 frames", "1 x 51 frames", "1 x 204 frames", "1 x 735 frames"}


def test_every_kind_of_features_is_explained():
    assert set(exporting.DEFINITIONS) == set(FEATURE_KINDS)


# -------------------------------------------------------------------------------------------------- verification


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda y: y + 2e-4, r"disagrees with Keras at 1 x 4 frames: a probability is off by 0.0002 \(at most 0.0001"),
        (lambda y: y * np.nan, "at 1 x 4 frames: a probability is off by nan"),
        (lambda y: y[:, :100], r"at 1 x 735 frames: the output has the shape \(1, 100, 29\), Keras' \(1, 244, 29\)"),
        (lambda y: y + 0.01 * (y.shape[1] == 67), "at 1 x 204 frames: a probability is off by 0.01"),
        (lambda y: y[[0] * len(y)], "at 3 x 204 frames: a probability is off by"),
    ],
    ids=["shifted", "nan", "cut to a length", "wrong at one length", "first utterance only"],
)
def test_a_silent_fault_is_found_and_said_where(fault, message):
    ours = recogniser()
    with pytest.raises(ValueError, match=message):
        verify(lambda features: fault(expected_of(ours, features)), ours, batch=3)
    assert len(verify(lambda features: expected_of(ours, features), ours, batch=3)) == 5


def test_a_file_that_does_not_run_is_refused():
    def run(features):
        raise RuntimeError("no such operation: Foo\nmore")

    with pytest.raises(ValueError, match=r"at 1 x 4 frames: it does not run: no such operation: Foo .* was not kept"):
        verify(run, recogniser())


def test_a_disagreeing_export_is_not_kept_and_an_older_one_stays(tmp_path, monkeypatch):
    ours = recogniser()
    with exporting_here():
        export(ours, tmp_path / "model.savedmodel", "savedmodel")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        right = formats.portable

        def wrong(model):
            made = right(model)
            made.layers[-1].get_layer("dense").bias.assign_add(np.eye(29, dtype=np.float32)[3])
            return made

        monkeypatch.setattr(formats, "portable", wrong)
        for name, form in [("model.savedmodel", "savedmodel"), ("new.tflite", "litert")]:
            with pytest.raises(ValueError, match="a probability is off by"):
                export(ours, tmp_path / name, form)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert {path.name for path in tmp_path.iterdir()} == {"model.savedmodel", "model.savedmodel.json"}
        monkeypatch.setattr(formats, "portable", right)
        ours.model.get_layer("dense").bias.assign_add(np.eye(29, dtype=np.float32)[3])
        export(ours, tmp_path / "model.savedmodel", "savedmodel")  # a newer one replaces it
        after = (tmp_path / "model.savedmodel" / "variables" / "variables.data-00000-of-00001").read_bytes()
        assert after not in before.values()


# --------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("weights", "form", "name"),
    [("m.h5", "onnx", "m.onnx"), ("m.weights.h5", "litert", "m.tflite"), ("a.b.keras", "savedmodel", "a.b.savedmodel")],
)
def test_an_export_goes_beside_the_weights(weights, form, name, tmp_path):
    assert default_path(tmp_path / weights, form) == tmp_path / name
    assert metadata_path(tmp_path / name) == tmp_path / f"{name}.json"


def test_paths_that_do_not_fit_or_are_taken_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("my own work")
    (tmp_path / "file.savedmodel").write_text("my own work")
    (tmp_path / "folder.onnx").mkdir()
    with exporting_here():
        ours = recogniser()
        for name, form, message in [
            ("model.onnx", "litert", r"A file of the format litert ends in .tflite. Received: 'model.onnx'"),
            ("folder", "savedmodel", "folder is already there and holds no SavedModel. Choose another name with --out"),
            ("file.savedmodel", "savedmodel", "is already there and is no savedmodel export"),
            ("folder.onnx", "onnx", "is already there and is no onnx export"),
        ]:
            with pytest.raises(ValueError, match=message):
                export(ours, tmp_path / name, form)
        assert (tmp_path / "folder" / "mine.txt").read_text() == "my own work"
        assert len(list(tmp_path.rglob("*"))) == 4
