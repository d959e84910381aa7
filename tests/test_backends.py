"""The whole chain on the backend that `KERAS_BACKEND` names: corpus, features, training, scores, transcripts, comparison."""

import json
import os

import keras
import numpy as np
import pytest

from sample_models import cnn_rnn_model
from train_utils import get_predictions, plot_comparison, train_model
from vuilab.corpus.manifest import MANIFESTS, read_manifest, set_active_corpus
from vuilab.inference.transcribe import load_recogniser
from vuilab.runs.record import read_record
from vuilab.runs.weights import load_model
from vuilab.scoring.comparison import load_runs, markdown_table
from vuilab.scoring.error_rates import score
from vuilab.scoring.predictions import generator_for, predict_texts


def test_keras_runs_on_the_backend_that_was_asked_for():
    assert keras.backend.backend() == os.environ.get("KERAS_BACKEND", "tensorflow")


@pytest.mark.contract
def test_whole_chain_from_speech_to_transcripts_and_comparison(project, tiny_corpus, capsys):
    set_active_corpus(None)
    keras.utils.set_random_seed(0)
    model = cnn_rnn_model(13, 8, 5, 2, "valid", 8)
    options = {"spectrogram": False, "minibatch_size": 22, "epochs": 3, "optimizer": keras.optimizers.Adam(0.02)}
    history = train_model(model, "model_2.pickle", "model_2.h5", **options)
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert all(np.isfinite(values).all() and len(values) == 3 for values in history.values())

    record = read_record("results/model_2.json")
    assert record["backend"] == keras.backend.backend() and record["status"] == "finished"
    num_train = len(read_manifest(tiny_corpus / MANIFESTS["train"]))
    assert record["corpus"]["train"]["num_utterances"] <= num_train == 44
    assert not set(record["corpus"]["train"]["speakers"]) & set(record["corpus"]["validation"]["speakers"])

    loaded, metadata = load_model("results/model_2.h5")
    generator = generator_for(metadata, 13, MANIFESTS["validation"], "validation", max_duration=10.0)
    utterances = generator.partitions["validation"].utterances
    texts = predict_texts(loaded, generator, "validation")
    rate = score([item.text for item in utterances], texts).cer.rate
    assert rate == pytest.approx(record["scores"]["cer"]["rate"])  # the report's number is that of the weights on disk

    true, predicted = get_predictions(0, "validation", model, "model_2.h5", play=False)
    assert true == utterances[0].text
    assert load_recogniser("results/model_2.h5").transcribe(utterances[0].path) == predicted
    figure = plot_comparison()
    assert figure.axes and "model_2" in markdown_table(load_runs())
    assert json.loads((project / "results" / "ledger.jsonl").read_text())["name"] == "model_2"
