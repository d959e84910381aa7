"""The study in a session: runs find their files again, seeds and rates do not meet, interrupted runs go on."""

import json

import keras
import numpy as np
import pytest

from vuilab.corpus.manifest import set_active_corpus
from vuilab.data.generator import AudioGeneratorCached
from vuilab.models.builder import CNNConfig, RNNModel
from vuilab.runs.history import load_history
from vuilab.scoring.predictions import print_predictions
from vuilab.study import runs as study
from vuilab.study.claims import Setting
from vuilab.training.options import TrainingOptions

SMALL = RNNModel(CNNConfig(filters=6, kernel_size=5), rnn_units=8)
NAME = "MFCC CNN(6 (5,2) relu DO(0.2) BN) BD(concat) GRU(8 x1) BN relu DO(0.2) TD(D)"


@pytest.fixture(autouse=True)
def _session(corpus, monkeypatch):
    monkeypatch.setattr(study, "_session", {})
    monkeypatch.setattr(study, "_session", {})
    monkeypatch.setattr(AudioGeneratorCached, "_shared", {})
    yield
    set_active_corpus(None)


def test_a_run_is_named_after_its_network_found_again_and_compared(tmp_path, capsys):
    options = {"spectrogram": False, "epochs": 1, "folder": tmp_path}
    assert study.train_model(SMALL, **options) == NAME
    assert study.session_runs() == [NAME]
    (record_path,) = tmp_path.glob("*.json")
    record = json.loads(record_path.read_text())
    assert record["full_name"] == NAME and record_path.stem.startswith(
        "mfcc-cnn-6-5-2-relu-do-0.2-bn-bd-concat-gru-8x1"
    )
    before = load_history(record_path.with_suffix(".pickle"))
    capsys.readouterr()

    study.train_model(SMALL, **options)  # the same call: nothing is trained
    assert "was trained before with the same settings" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.pickle"))) == 1

    other = study.get_generator(False, seed=1)
    study.train_model(SMALL, generator=other, **options)  # another seed: files of its own under the same name
    assert len(list(tmp_path.glob("*.pickle"))) == 2
    assert load_history(record_path.with_suffix(".pickle")) == before
    losses = study.best_losses({"small": Setting(SMALL, "mfcc"), "other": Setting(RNNModel())}, tmp_path)
    assert list(losses) == ["small"] and len(losses["small"]) == 2
    figure = study.figure_of(study.runs_of({"small": Setting(SMALL, "mfcc"), "other": Setting(RNNModel())}, tmp_path))
    assert [len(line.get_xdata()) for line in figure.axes[1].lines] == [2, 2]  # a dot for each seed, and their mean

    figure = study.plot_comparison(folder=tmp_path)
    assert len(figure.axes[0].lines) == 2
    assert len(study.plot_comparison([f"{NAME[:12]}*"], folder=tmp_path).axes[0].lines) == 2
    with pytest.raises(FileNotFoundError, match="matches"):
        study.plot_comparison(["Spec nothing"], folder=tmp_path)

    generator = study.get_generator(spectrogram=False)
    model, weights = study.load_model(generator, SMALL, tmp_path)
    best = min(
        (json.loads(path.read_text()) for path in tmp_path.glob("*.json")), key=lambda r: r["scores"]["val_loss"]
    )
    assert weights.name == best["weights"] and model.input_shape[-1] == 26
    print_predictions([(model, weights)], number=2, partition="train")
    assert capsys.readouterr().out.count("true  ") == 2
    with pytest.raises(FileNotFoundError, match="no weights of"):
        study.load_model(generator, RNNModel(), tmp_path)


def test_a_run_that_does_not_learn_is_stopped_by_its_loss_limit(tmp_path, capsys):
    study.train_model(SMALL, False, epochs=5, loss_limit=0.01, folder=tmp_path)
    assert "above loss_limit=0.01" in capsys.readouterr().out
    (history,) = tmp_path.glob("*.pickle")
    assert len(load_history(history)["loss"]) == study.LIMIT_EPOCHS


def test_patience_stops_when_the_validation_loss_no_longer_falls(tmp_path):
    optimizer = keras.optimizers.SGD(1.0, clipnorm=5)  # jumps about
    options = TrainingOptions(patience=1)
    study.train_model(SMALL, False, epochs=9, loss_limit=None, optimizer=optimizer, folder=tmp_path, options=options)
    (history,) = tmp_path.glob("*.pickle")
    assert len(load_history(history)["loss"]) < 9


@pytest.mark.contract
def test_one_setting_that_cannot_be_trained_does_not_stop_the_others(tmp_path, capsys):
    too_short = CNNConfig(filters=4, kernel_size=3, conv_stride=30, cnn_layers=2)  # no utterance has frames left
    settings = {"bad": Setting(RNNModel(too_short, rnn_units=4), "mfcc"), "good": Setting(SMALL, "mfcc")}
    failures = study.train_settings(settings, epochs=1, folder=tmp_path)
    assert len(failures) == 1 and failures[0].startswith("bad (seed 0)")
    assert list(study.best_losses(settings, tmp_path)) == ["good"]


def test_a_finished_run_counts_without_its_weights_where_only_its_losses_are_asked(tmp_path, capsys):
    settings = {"only": Setting(SMALL, "mfcc")}
    study.train_settings(settings, epochs=1, folder=tmp_path)
    (weights,) = tmp_path.glob("*.h5")
    weights.unlink()
    losses = study.best_losses(settings, tmp_path)
    capsys.readouterr()
    assert study.train_settings(settings, epochs=1, folder=tmp_path) == []
    assert "Finished before" in capsys.readouterr().out and not weights.exists()
    assert study.best_losses(settings, tmp_path) == losses
    study.train_model(SMALL, False, epochs=1, folder=tmp_path, generator=study.get_generator(False, minibatch_size=32))
    assert weights.exists()


def test_without_runs_in_the_session_a_comparison_says_so():
    with pytest.raises(ValueError, match="No run in this session"):
        study.plot_comparison()


def test_slugs_are_plain_and_numbers_come_from_the_settings():
    stem = study.run_stem("Spec CNN(200 (3,1) relu DO(0.25) BN)x12,d=-2 TD(D) lr 0.05", "f" * 16)
    assert stem == "spec-cnn-200-3-1-relu-do-0.25-bn-x12-d-2-td-lr-0.05-551615"
    assert len(study.run_stem("Spec " + "BN relu " * 50, "1")) <= study.LONGEST_SLUG + 7


# ----------------------------------------------------------------------------------------- shared generators


def test_generators_of_one_session_share_caches_and_statistics(monkeypatch):
    measured = []
    original = study.AudioGeneratorCached.__mro__[1].fit_train
    monkeypatch.setattr(
        study.AudioGeneratorCached.__mro__[1], "fit_train", lambda self, k=100: (measured.append(1), original(self, k))
    )
    first, second = study.get_generator(spectrogram=False), study.get_generator(spectrogram=False)
    assert first._cache("train") is second._cache("train") and len(measured) == 1
    np.testing.assert_array_equal(first.feats_mean, second.feats_mean)
    other = study.get_generator(spectrogram=True)
    assert other._cache("train") is not first._cache("train") and len(measured) == 2


def test_a_copy_leaves_out_utterances_on_its_own():
    generator = study.get_generator(spectrogram=False)
    number = len(generator.train_texts)
    copy = generator.copy(seed=7)
    copy.drop_infeasible("train", lambda frames: np.where(frames == frames.max(), 0, frames))
    assert len(copy.train_texts) < number == len(generator.train_texts)
    assert copy.options.seed == 7 and generator.options.seed == 0


def test_without_shuffling_batches_come_shortest_first_in_every_epoch():
    generator = study.get_generator(spectrogram=False, minibatch_size=4, shuffle_data=False)
    lengths = generator.num_frames("train")
    for epoch in (0, 5):
        order = lengths[np.concatenate(generator.plan("train", epoch))]
        assert list(order) == sorted(order)


def test_raw_audio_is_the_waveform_one_feature_wide():
    generator = study.get_generator(raw=True)
    inputs, _ = generator.assemble("validation", generator.plan("validation")[0])
    utterance = generator.partitions["validation"].utterances[generator.plan("validation")[0][0]]
    from vuilab.audio import read_audio

    samples = read_audio(utterance.path)
    row = inputs["the_input"][0, : len(samples), 0] * generator.feats_std + generator.feats_mean
    assert inputs["input_length"][0] == len(samples) == round(utterance.duration * 16_000)
    np.testing.assert_allclose(row, samples, atol=1e-3 * np.abs(samples).max() + 1e-6)  # float16 on disk
