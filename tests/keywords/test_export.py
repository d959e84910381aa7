"""Classifiers as LiteRT files: what they recognise before and after their numbers become integers."""

import json

import keras
import numpy as np
import pytest
from tiny_export import exporting_here

from vuilab.cli import main
from vuilab.inference import formats
from vuilab.inference.export import metadata_path
from vuilab.inference.transcribe import load_recogniser
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.corpus import choose_clips, index_folder
from vuilab.keywords.export import export_keywords
from vuilab.keywords.models import classifier as finish
from vuilab.keywords.scores import Classifier, evaluate_part
from vuilab.runs.weights import save_weights


def by_energy(num_labels: int = 3) -> Classifier:
    """A network whose dense layer is given: it tells noises apart by the second coefficient, the tilt of the spectrum."""
    the_input = keras.Input((20, 11, 1), name="the_input")
    tilt = keras.layers.Flatten(name="flatten")(the_input)
    model = finish(the_input, keras.layers.Dense(num_labels, name="logits")(tilt), "perceptron", print_summary=False)
    kernel = np.zeros((20, 11, num_labels), np.float32)
    kernel[1, :, 0], kernel[1, :, 1] = 1, -1
    model.get_layer("logits").set_weights([kernel.reshape(220, num_labels), np.zeros(num_labels, np.float32)])
    about = {
        "task": "keywords",
        "labels": ["brown", "violet", "white"][:num_labels],
        "features": {"kind": "mfcc_image"},
    }
    statistics = {"mean": np.zeros((20, 1, 1)).tolist(), "std": np.full((20, 1, 1), 5.0).tolist()}
    return Classifier.of(model, {**about, **statistics})


def test_both_files_recognise_what_keras_does_and_say_how_large_they_are(noises, tmp_path):
    dataset, ours = choose_clips(index_folder(noises)), by_energy()
    expected = evaluate_part(ours, dataset, progress=False)
    assert expected.accuracy.rate > 0.6  # brown and violet at least
    with exporting_here():
        exported = export_keywords(ours, dataset, tmp_path / "out" / "small.tflite", progress=False)
        paths = [exported[numbers].path for numbers in ("float32", "int8")]
        assert [path.name for path in paths] == ["small.tflite", "small_int8.tflite"]
        assert sorted((tmp_path / "out").iterdir()) == sorted([*paths, *map(metadata_path, paths)])
        assert exported["float32"].score.confusion.tolist() == expected.confusion.tolist()
        assert exported["float32"].agreement == 1 and exported["int8"].agreement >= 0.9
        for file in exported.values():
            about = json.loads(metadata_path(file.path).read_text())
            assert about["bytes"] == file.num_bytes == file.path.stat().st_size
            assert about["labels"] == ["brown", "violet", "white"] and about["accuracy"]["part"] == "validation"
            assert about["accuracy"]["num_hits"] == file.score.accuracy.num_hits
        waveform = np.random.default_rng(5).normal(0, 0.1, (1, 16_000)).astype(np.float32)
        normal = (
            KeywordFeatures("mfcc_image").extract(waveform) - np.array(about["normalisation"]["mean"])
        ) / np.array(about["normalisation"]["std"])  # as somebody does who has the JSON file only
        found = formats.open_file(paths[0]).run(normal.astype(np.float32))
        np.testing.assert_allclose(found, ours.probabilities(waveform), atol=1e-5)
        assert f"accuracy {exported['int8'].score.accuracy} of" in str(exported["int8"])


def test_a_file_that_disagrees_is_not_kept(noises, tmp_path, monkeypatch):
    dataset, write = choose_clips(index_folder(noises)), formats.write

    def wrong(model, path, form, **options):
        model.get_layer("logits").set_weights([-weight for weight in model.get_layer("logits").get_weights()])
        write(model, path, form, **options)

    monkeypatch.setattr(formats, "write", wrong)
    with exporting_here():
        with pytest.raises(ValueError, match="disagrees with Keras: a probability is off by"):
            export_keywords(by_energy(), dataset, tmp_path / "out" / "small.tflite", progress=False)
        assert not list((tmp_path / "out").iterdir())


def test_what_cannot_be_exported_is_refused_first(noises, tmp_path):
    dataset = choose_clips(index_folder(noises))
    with exporting_here():
        with pytest.raises(ValueError, match=r"ends in \.tflite. Received: 'small\.bin'"):
            export_keywords(by_energy(), dataset, tmp_path / "small.bin")
        with pytest.raises(ValueError, match="The classifier knows the labels: brown violet"):
            export_keywords(by_energy(2), dataset, tmp_path / "small.tflite")
    assert not list(tmp_path.iterdir())


def test_the_command_names_what_is_missing(noises, tmp_path, capsys):
    assert main.main(["keywords", "export", str(noises), "--model", str(tmp_path / "none.h5")]) == 1
    message = capsys.readouterr().err
    if keras.backend.backend() == "tensorflow":
        assert "No weights at" in message
    else:
        assert "KERAS_BACKEND=tensorflow" in message


def test_a_classifier_is_no_recogniser(tmp_path):
    ours = by_energy()
    save_weights(ours.model, tmp_path / "words.h5", ours.metadata)
    with pytest.raises(ValueError, match=r"words\.h5 is a classifier of single words, no recogniser.*keywords export"):
        load_recogniser(tmp_path / "words.h5")
