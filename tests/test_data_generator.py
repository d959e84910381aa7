"""The generator in the call shape of the notebooks, and one training example in every form."""

import numpy as np
import pytest

from data_generator import AudioGenerator, vis_train_features


@pytest.fixture
def corpus(make_corpus):
    texts = ["it's a cat", "zebra", "a b", "hello there", "no"]
    return make_corpus({"train": [(text, 0.5 + number / 8) for number, text in enumerate(texts)]})


def test_the_contract_s_arguments_work_by_position(corpus):
    generator = AudioGenerator(10, 20, 4000, 13, 7, corpus / "train_corpus.json", True, 10.0, True)
    assert generator.settings.num_features == 81
    options = generator.options
    assert (options.minibatch_size, options.max_duration, options.sort_by_duration) == (7, 10.0, True)
    assert AudioGenerator(spectrogram=False, mfcc_dim=26).settings.num_features == 26
    assert AudioGenerator(seed=3, speeds=(0.9, 1.0)).options.speeds == (0.9, 1.0)


def test_loading_the_training_data_measures_the_statistics(corpus):
    generator = AudioGenerator(spectrogram=False, minibatch_size=5)
    generator.load_train_data(corpus / "train_corpus.json")
    frames = np.concatenate([generator.normalize(generator.featurize(path)) for path in generator.train_audio_paths])
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-3)
    inputs, _ = next(generator.next_train())
    assert inputs["the_input"].shape == (5, 99, 13)


def test_vis_train_features_gives_one_example_in_every_form(corpus, monkeypatch, capsys):
    monkeypatch.setenv("VUI_CORPUS", str(corpus))
    text, audio, mfcc, spectrogram, path = vis_train_features(index=3, mfcc_dim=26)
    assert capsys.readouterr().out == "There are 5 total training examples.\n"
    assert text == "hello there" and path == str(corpus / "train" / "train-3.flac")
    assert len(audio) == 14_000
    assert mfcc.shape == (86, 26) and spectrogram.shape == (86, 161)
    assert abs(spectrogram.mean()) < 0.2 and abs(spectrogram.std() - 1) < 0.2
    assert vis_train_features(-2)[0] == "hello there"
    with pytest.raises(IndexError, match=r"There are 5 training examples. Received: index=5"):
        vis_train_features(5)
