"""The calls of the reference notebooks, as they stand there; what they give is checked, not only that they run."""

import numpy as np
import pytest

from vuilab.corpus.manifest import read_manifest, set_active_corpus
from vuilab.models.builder import BidirectionalMerge, CNNConfig, RNNModel, RNNType


@pytest.fixture(autouse=True)
def _project(tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    set_active_corpus(tiny_corpus)
    yield
    set_active_corpus(None)


def test_the_last_cells_train_a_final_model_on_what_it_asks_for_and_read_its_predictions(capsys):
    from sample_models import final_model
    from train_utils import get_predictions, train_model

    model_end = final_model(units=4, filters=4, print_summary=False)
    options = {"epochs": 1, "spectrogram": False}
    history = train_model(
        input_to_softmax=model_end, pickle_path="model_end.pickle", save_model_path="model_end.h5", **options
    )
    assert np.isfinite(history["val_loss"]).all()
    said, _ = get_predictions(
        index=0, partition="validation", input_to_softmax=model_end, model_path="results/model_end.h5"
    )
    assert f"True text:      {said}" in capsys.readouterr().out


def test_a_generator_measures_its_statistics_when_it_loads_the_training_data(tiny_corpus):
    from data_generator import AudioGenerator

    audio_gen = AudioGenerator(spectrogram=False)
    audio_gen.load_train_data()
    features = [audio_gen.normalize(audio_gen.featurize(path)) for path in audio_gen.train_audio_paths]
    rows = np.concatenate(features)
    assert rows.shape[1] == 13 and np.abs(rows.mean(axis=0)).max() < 0.05 and np.abs(rows.std(axis=0) - 1).max() < 0.05
    assert audio_gen.train_texts == [utterance.text for utterance in read_manifest(tiny_corpus / "train_corpus.json")]


def test_graphics_memory_is_configured_under_the_study_s_name():
    import utils

    assert utils.config_GPU(allow_growth=True)
    assert utils.config_GPU(gpu_memory_fraction=0.4)


def test_26_mfccs_are_asked_for_under_the_study_s_name():
    from data_generator import vis_train_features

    assert vis_train_features(mfcc_classes=26)[2].shape[1] == 26


def test_the_study_trains_loads_and_reads_its_networks(tmp_path, capsys):
    from data_generator import AudioGeneratorCached
    from vuilab.study import runs

    builder = RNNModel(cnn_config=CNNConfig(filters=4), bd_merge=None, rnn_type=RNNType.LSTM, rnn_units=4)
    name = runs.train_model(model_builder=builder, spectrogram=False, epochs=1)
    assert name == "MFCC CNN(4 (11,2) relu DO(0.2) BN) LSTM(4 x1) BN relu DO(0.2) TD(D)"
    audio_gen = AudioGeneratorCached(spectrogram=False, raw=False, minibatch_size=32, shuffle_data=False)
    audio_gen.load_train_data("train_corpus.json")
    audio_gen.load_validation_data("valid_corpus.json")
    model = runs.load_model(audio_gen, builder)
    capsys.readouterr()
    path = runs.get_predictions(audio_gen, model, partition="validation", index=0, print_line=False)
    assert path == str(audio_gen.valid_audio_paths[0])
    assert capsys.readouterr().out.startswith(f"true       {audio_gen.valid_texts[0]}\npredicted  ")
    runs.get_predictions(audio_gen, model[0], partition="train", index=1, omit_true=True)
    assert capsys.readouterr().out.endswith(f"{'-' * 80}\n")


@pytest.mark.parametrize("cell", ["GRU", "LSTM"])
def test_names_of_the_study_s_fast_layers_are_read(cell):
    name = f"Spec BD(sum) CuDNN{cell}(200 x2 BN relu DO(0.2)(:-1)) BN relu DO(0.2) TD(D)"
    model, features = RNNModel.parse(name)
    assert features == "spectrogram"
    assert model == RNNModel(rnn_type=RNNType[cell], rnn_layers=2, bd_merge=BidirectionalMerge.sum)
    assert model.name(features) == name.replace("CuDNN", "")


@pytest.mark.parametrize(("name", "slope"), [("white", 0), ("pink", -1), ("blue", 1), ("brown", -2), ("violet", 2)])
def test_noise_is_asked_for_as_n_and_state(name, slope):
    from vuilab import augment

    noise = getattr(augment, f"{name}_noise")
    samples = noise(N=2**15, state=np.random.RandomState(3))
    assert np.array_equal(samples, noise(2**15, np.random.RandomState(3))) and len(noise(N=100)) == 100
    power = np.abs(np.fft.rfft(samples)) ** 2
    low, high = power[100:200].mean(), power[10_000:10_100].mean()
    assert np.log(high / low) / np.log(10_050 / 150) == pytest.approx(slope, abs=0.15)
