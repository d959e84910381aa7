"""Scores of classifiers against hand-worked numbers and scikit-learn; noise, errors, figures, and weights that do not fit."""

import json
import subprocess
import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from vuilab.augment import NOISES
from vuilab.files import repository
from vuilab.keywords import figures as keyword_figures
from vuilab.keywords.clips import KeywordFeatures, LabelledAudio, load_part
from vuilab.keywords.corpus import Clip, choose_clips, index_folder
from vuilab.keywords.models import perceptron, wavception
from vuilab.keywords.scores import (
    Classifier,
    Proportion,
    evaluate_part,
    latency,
    load_classifier,
    noise_curve,
    predict,
    score_predictions,
)
from vuilab.runs.weights import save_weights


def one_hot(classes, num_classes=3, top=0.8):
    rows = np.full((len(classes), num_classes), (1 - top) / (num_classes - 1))
    rows[np.arange(len(classes)), classes] = top
    return rows


class Loudness:
    """A network that says 1 where the first feature is above the threshold."""

    def __init__(self, threshold):
        self.threshold = threshold

    def predict_on_batch(self, features):
        return one_hot((np.sqrt(np.mean(features**2, axis=(1, 2))) > self.threshold).astype(int), 2)


def loudness_classifier(threshold=0.05):
    metadata = {
        "task": "keywords",
        "labels": ["quiet", "loud"],
        "features": {"kind": "raw"},
        "mean": [[0.0]],
        "std": [[1.0]],
    }
    return Classifier.of(Loudness(threshold), metadata)


def audio_of(waveforms, targets):
    samples = np.round(np.clip(waveforms, -1, 1) * 32767).astype(np.int16)
    clips = tuple(Clip("x", "x", "validation", str(n), f"x/{n}.wav") for n in range(len(samples)))
    return LabelledAudio(clips, np.array(targets), (), {"x": samples}, tuple(("x", n) for n in range(len(samples))))


def test_the_interval_is_wilsons():
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611
    assert Proportion(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert Proportion(0, 20).interval == pytest.approx((0, 0.1611), abs=5e-5)
    assert str(Proportion(546, 554)) == "98.6 % [97.2, 99.3]"
    assert np.isnan(Proportion(0, 0).rate) and Proportion(0, 0).as_dict()["rate"] is None


def test_confusion_precision_and_recall_of_a_hand_worked_case():
    targets, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
    score = score_predictions(("bed", "cat", "happy"), targets, one_hot(predicted))
    assert score.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert (score.num_clips, score.num_errors, score.accuracy.rate) == (6, 3, 0.5)
    assert [score.recall[word].rate for word in score.labels] == pytest.approx([2 / 3, 1 / 2, 0])
    assert [score.precision[word].rate for word in score.labels[:2]] == [0.5, 0.5]
    assert np.isnan(score.precision["happy"].rate)  # nothing was taken for it
    plain = json.loads(json.dumps(score.as_dict(), allow_nan=False))
    assert plain["precision"]["happy"] is None and plain["accuracy"]["num_hits"] == 3


def test_the_scores_are_those_of_scikit_learn():
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    rng = np.random.default_rng(0)
    targets, probabilities = rng.integers(0, 5, 400), rng.dirichlet(np.ones(5), 400)
    score = score_predictions(tuple("abcde"), targets, probabilities)
    predicted = probabilities.argmax(axis=1)
    np.testing.assert_array_equal(score.confusion, confusion_matrix(targets, predicted))
    precision, recall, *_ = precision_recall_fscore_support(targets, predicted)
    np.testing.assert_allclose([score.precision[label].rate for label in "abcde"], precision)
    np.testing.assert_allclose([score.recall[label].rate for label in "abcde"], recall)


def test_errors_are_listed_with_the_most_confident_first():
    clips = [Clip("bed", "bed", "validation", "s", f"bed/{n}.wav") for n in range(3)]
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.05, 0.95]])
    score = score_predictions(("bed", "cat"), np.zeros(3, int), probabilities, clips)
    assert [(error.key, error.predicted, error.probability) for error in score.errors] == [
        ("bed/2.wav", "cat", 0.95),
        ("bed/1.wav", "cat", 0.7),
    ]


@pytest.mark.parametrize("count", [1, 2, 64, 65, 130])
def test_any_number_of_clips_is_classified_in_order(count):
    targets = np.arange(count) % 2
    waveforms = np.where(targets[:, None] == 1, 0.2, 0.01) * np.random.default_rng(0).normal(0, 1, (count, 16_000))
    found = loudness_classifier().probabilities(waveforms.astype(np.float32))
    assert found.shape == (count, 2) and (found.argmax(axis=1) == targets).all()


def test_the_noise_curve_falls_where_the_noise_drowns_the_clips():
    waveforms = np.full((70, 1), 0.02) * np.random.default_rng(0).normal(0, 1, (70, 16_000))
    audio = audio_of(waveforms, np.zeros(70, int))  # all quiet: loud as soon as the noise is
    curve = noise_curve(loudness_classifier(0.05), audio, snrs=(-20, 40), colours=("white", "brown"))
    for colour in ("white", "brown"):
        low, high = curve[colour]
        assert low.rate == 0 and high.rate == 1 and low.num_cases == 70


def test_digital_silence_meets_no_noise_and_the_seed_decides():
    audio = audio_of(np.zeros((3, 16_000)), [0, 0, 0])
    assert noise_curve(loudness_classifier(), audio, snrs=(-20,), colours=("pink",))["pink"][0].rate == 1
    waveforms = 0.02 * np.random.default_rng(0).normal(0, 1, (20, 16_000))
    classifier, audio = loudness_classifier(0.0283), audio_of(waveforms, np.zeros(20, int))
    first, again = (noise_curve(classifier, audio, snrs=(0,), colours=("white",), seed=1) for _ in range(2))
    assert first == again


@pytest.mark.contract
def test_weights_of_a_classifier_are_loaded_and_measured_and_others_refused(spoken_words, tmp_path):
    dataset = choose_clips(index_folder(spoken_words), ["bed", "cat"])
    model = perceptron((20, 11, 1), 2)
    metadata = {
        "task": "keywords",
        "labels": ["bed", "cat"],
        "features": {"kind": "mfcc_image"},
        "mean": [[[0.0]]] * 20,
    }
    metadata |= {"std": [[[10.0]]] * 20}
    save_weights(model, tmp_path / "good.h5", metadata)
    found = load_classifier(tmp_path / "good.h5")
    score = evaluate_part(found, dataset, "validation", progress=False)
    audio = load_part(dataset, "validation", progress=False)
    features = KeywordFeatures("mfcc_image").extract(audio.samples(range(len(audio)))) / 10
    expected = np.asarray(model(features, training=False))
    np.testing.assert_allclose(predict(found, audio), expected, rtol=1e-3, atol=1e-4)
    assert score.num_clips == len(audio) == 8
    assert {"total_ms", "network_ms"} == set(latency(found, repeats=2)) and all(
        v > 0 for v in latency(found, 2).values()
    )
    with pytest.raises(ValueError, match=r"knows the labels: bed cat\. Received clips with: cat bed"):
        evaluate_part(found, choose_clips(index_folder(spoken_words), ["cat", "bed"]), "validation", progress=False)
    save_weights(model, tmp_path / "other.h5", {"alphabet": "abc"})
    with pytest.raises(ValueError, match=r"no keyword classifier\. Train one: python vui\.py keywords train DIR"):
        load_classifier(tmp_path / "other.h5")
    with pytest.raises(FileNotFoundError, match=r"No weights at .*keywords train DIR"):
        load_classifier(tmp_path / "none.h5")
    keras.backend.clear_session()


def test_figures_show_the_numbers_they_return():
    score = score_predictions(("bed", "cat"), np.array([0, 0, 1]), one_hot([0, 1, 1], 2))
    figure, counts = keyword_figures.plot_confusion(score)
    assert counts.tolist() == [[1, 1], [0, 1]] and [text.get_text() for text in figure.axes[0].texts] == ["1", "1", "1"]
    figure, numbers = keyword_figures.plot_word_scores(score)
    assert numbers["recall"]["bed"].rate == 0.5
    drawn = figure.axes[0].containers[1].lines[0].get_ydata()  # recall
    np.testing.assert_allclose(drawn, [50, 100])
    curve = {colour: [Proportion(n, 10) for n in (2, 5, 9)] for colour in NOISES}
    figure, rates = keyword_figures.plot_noise_curve(curve, (-5, 0, 5), Proportion(10, 10))
    assert rates["pink"] == [0.2, 0.5, 0.9] and len(figure.axes[0].lines) == 6
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), [20, 50, 90])
    histories = {"a": {"val_loss": [1.0, 0.5], "val_accuracy": [0.5, 0.75]}}
    figure, numbers = keyword_figures.plot_keyword_histories(histories)
    assert numbers["a"]["val_accuracy"] == [0.5, 0.75]
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [50, 75])
    plt.close("all")


def test_a_network_with_layers_of_its_own_loads_where_nothing_else_was_imported(tmp_path):
    metadata = {"task": "keywords", "labels": ["a", "b"], "features": {"kind": "raw"}, "mean": [[0.0]], "std": [[1.0]]}
    save_weights(wavception((400, 1), 2, depths=(1,)), tmp_path / "m.h5", metadata)
    code = (
        f"from vuilab.keywords.scores import load_classifier; print(load_classifier({str(tmp_path / 'm.h5')!r}).labels)"
    )
    root = repository()
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "('a', 'b')"
