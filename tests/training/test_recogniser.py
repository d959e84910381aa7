"""Training: what a run leaves behind, what its numbers mean, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_training import tiny_model, tiny_record, train_tiny, without_time

from train_utils import configure_gpu
from vuilab.corpus.manifest import MANIFESTS, read_manifest, write_manifest
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.models.ctc import add_ctc_loss
from vuilab.runs.history import load_history
from vuilab.runs.weights import load_model
from vuilab.runs.weights_file import read_metadata
from vuilab.training import recogniser

pytestmark = pytest.mark.usefixtures("without_compiling")
KEYS = ["loss", "val_loss", "val_cer", "val_wer", "learning_rate", "seconds"]


# ---------------------------------------- what a run leaves


@pytest.mark.contract
def test_loss_falls_and_history_weights_record_and_ledger_agree(even_corpus, capsys):
    history = train_tiny(epochs=4, seed=3, verbose=1, optimizer=keras.optimizers.Adam(0.05))
    assert list(history) == KEYS
    assert all(len(values) == 4 and np.isfinite(values).all() for values in history.values())
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert load_history("results/tiny.pickle") == history

    best = int(np.argmin(history["val_loss"]))
    record = tiny_record()
    assert record["name"] == "tiny" and record["status"] == "finished" and record["model"] == "tiny_model"
    assert record["configuration"]["seed"] == 3 and record["configuration"]["minibatch_size"] == 4
    assert record["epochs"] == 4 and record["best_epoch"] == best + 1
    assert record["scores"]["val_loss"] == pytest.approx(history["val_loss"][best])
    assert record["scores"]["cer"]["rate"] == pytest.approx(history["val_cer"][best])
    assert record["corpus"]["train"]["speakers"] == ["speaker-train"]
    assert record["corpus"]["train"]["num_utterances"] == 8
    assert record["corpus"]["train"]["hours"] == pytest.approx(3.2 / 3600)
    assert record["corpus"]["validation"]["speakers"] == ["speaker-validation"]
    assert record["parameters"] == 4 * (3 * 13 + 1) + 4 * 4 + 5 * 29
    assert {"commit", "clean", "versions", "machine", "python", "backend", "date"} <= set(record)
    assert record["versions"]["keras"] == keras.__version__
    assert "/" not in record["corpus"]["train"]["manifest"].removeprefix("corpus/")  # no machine's path

    metadata = read_metadata("results/tiny.h5")
    assert metadata["best"]["epoch"] == best + 1 and metadata["train_speakers"] == ["speaker-train"]
    assert metadata["features"]["kind"] == "mfcc" and len(metadata["mean"]) == len(metadata["std"]) == 13
    ledger = [json.loads(line) for line in Path("results/ledger.jsonl").read_text().splitlines()]
    assert ledger == [record]

    printed = capsys.readouterr().out
    assert "8 training and 4 validation utterances, 2 steps an epoch. About" in printed
    assert all(f"epoch   {number}/4" in printed for number in (1, 2, 3, 4))


def test_reported_losses_are_means_over_utterances_and_the_weights_kept_are_the_best(corpus):
    """With a learning rate that throws the weights about at the end, the file holds the epoch of the lowest validation loss."""
    model = tiny_model()
    wild = keras.callbacks.LearningRateScheduler(lambda epoch: 0.05 if epoch < 4 else 50.0)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=5)
    history = train_tiny(model, epochs=6, optimizer=optimizer, callbacks=[wild])
    assert np.isfinite(history["val_loss"]).all() and history["learning_rate"][-1] == 50
    best = int(np.argmin(history["val_loss"]))
    assert best < 4
    loaded, metadata = load_model("results/tiny.h5")
    assert metadata["best"]["epoch"] == best + 1
    assert _mean_loss(loaded, metadata, "validation") == pytest.approx(history["val_loss"][best], rel=1e-4)
    assert _mean_loss(model, metadata, "validation") == pytest.approx(history["val_loss"][-1], rel=1e-4)


def _mean_loss(model: keras.Model, metadata: dict, partition: str) -> float:
    """Score utterances one by one: another route to the same number."""
    generator = BatchGenerator(FeatureSettings("mfcc"), DataOptions(minibatch_size=1))
    generator.load(partition, MANIFESTS[partition])
    generator.set_statistics(metadata["mean"], metadata["std"])
    trainer = add_ctc_loss(model)
    losses = [
        np.asarray(trainer.predict_on_batch(generator.assemble(partition, batch)[0])["ctc"])[0]
        for batch in generator.plan(partition)
    ]
    return float(np.mean(losses))


def test_training_loss_weighs_utterances_equally_although_the_last_batch_is_smaller(corpus):
    the_input = keras.Input(shape=(None, 13), name="the_input")
    logits = keras.layers.Dense(29)(the_input)  # a layer that does the same in training
    model = keras.Model(the_input, keras.layers.Activation("softmax", name="softmax")(logits))
    history = train_tiny(model, epochs=1, optimizer=keras.optimizers.SGD(0.0))
    metadata = read_metadata("results/tiny.h5")
    assert history["loss"][0] == pytest.approx(_mean_loss(model, metadata, "train"), rel=1e-4)


@pytest.mark.parametrize("monitor", ["val_loss", "val_cer", "val_wer"])
def test_monitor_chooses_the_weights(monitor, corpus, monkeypatch):
    values = {"val_loss": [3.0, 2.0, 1.0], "val_cer": [0.3, 0.1, 0.2], "val_wer": [0.5, 0.6, 0.7]}
    real, epochs = recogniser.score, iter(range(3))

    def score(*args):  # every monitor prefers another epoch
        result, epoch = real(*args), next(epochs)
        cer, wer = (dataclasses.replace(getattr(result, kind), substitutions=round(1000 * values[f"val_{kind}"][epoch]),
                    deletions=0, insertions=0, num_reference=1000) for kind in ("cer", "wer"))  # fmt: skip
        return dataclasses.replace(result, cer=cer, wer=wer)

    monkeypatch.setattr(recogniser, "score", score)
    history = train_tiny(epochs=3, monitor=monitor, optimizer=keras.optimizers.Adam(0.005))
    assert history["val_cer"] == values["val_cer"] and int(np.argmin(history["val_loss"])) == 2
    best = int(np.argmin(history[monitor]))
    assert tiny_record()["chosen_by"] == f"lowest {monitor} on the validation set"
    assert tiny_record()["best_epoch"] == best + 1 == read_metadata("results/tiny.h5")["best"]["epoch"]


@pytest.mark.contract
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_of_a_run_load_under_the_name_the_caller_gave(suffix, even_corpus):
    model = tiny_model()
    train_tiny(model, epochs=1, suffix=suffix)
    again = tiny_model(seed=1)
    again.load_weights(f"results/tiny{suffix}")
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_default_optimiser_is_that_of_the_contract(corpus):
    train_tiny(epochs=1)
    config = tiny_record()["configuration"]["optimizer"]["config"]
    assert config["learning_rate"] == pytest.approx(0.02) and config["momentum"] == 0.9
    assert config["nesterov"] is True and config["global_clipnorm"] == 5 and config["clipnorm"] is None


def test_silent_run_prints_nothing(corpus, capsys):
    model = tiny_model()
    capsys.readouterr()
    train_tiny(model, epochs=1)
    printed = capsys.readouterr()
    assert printed.out == "" and "features" not in printed.err  # nor a bar while the features are computed


# ---------------------------------------- reproducible


@pytest.mark.contract
def test_same_seed_gives_the_same_history_whether_or_not_the_time_is_estimated(even_corpus):
    """The estimate trains a few steps: weights, moments, statistics and random generators must come back."""

    def history(**options) -> dict:
        model = tiny_model(dropout=0.3)
        return without_time(train_tiny(model, optimizer=keras.optimizers.Adam(0.02), force=True, **options))

    silent = history()
    _assert_same(history(verbose=1), silent)
    assert not np.allclose(history(seed=1)["loss"], silent["loss"], rtol=1e-4)


def _assert_same(first: dict, second: dict) -> None:
    """Compare histories up to rounding: threads may add in another order."""
    assert first.keys() == second.keys()
    for key, values in first.items():
        np.testing.assert_allclose(values, second[key], rtol=1e-5, err_msg=key)


def test_one_optimiser_instance_serves_two_models(corpus):
    optimizer = keras.optimizers.Adam(0.01)
    first = train_tiny(tiny_model(units=4), "a", optimizer=optimizer)
    second = train_tiny(tiny_model(units=5), "b", optimizer=optimizer)
    again = train_tiny(tiny_model(units=4), "c", optimizer=optimizer)
    assert np.isfinite(second["loss"]).all()
    _assert_same(without_time(first), without_time(again))


def test_learning_rate_follows_warm_up_and_cosine(corpus):
    history = train_tiny(epochs=4, schedule="cosine", warmup_epochs=1, optimizer=keras.optimizers.SGD(0.1))
    expected = [0.1, *(0.1 * 0.5 * (1 + np.cos(np.pi * share / 3)) for share in (1, 2, 3))]
    assert history["learning_rate"] == pytest.approx(expected, abs=1e-7)


# ---------------------------------------- refused


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"spectrogram": True},
            r"model takes 13 features per frame and spectrogram features have 161\. Build the model with",
        ),
        ({"mfcc_dim": 26}, r"model takes 13 features per frame and mfcc features have 26"),
        ({"epochs": 0}, r"epochs must be at least 1\. Received: epochs=0"),
        (
            {"monitor": "accuracy"},
            r"monitor must be one of \('val_loss', 'val_cer', 'val_wer'\)\. Received: monitor='acc",
        ),
        ({"schedule": "linear"}, r"schedule must be one of \('constant', 'cosine'\)\. Received: schedule='linear'"),
        ({"warmup_epochs": 3}, r"warmup_epochs must be in 0\.\.epochs \(2\)\. Received: warmup_epochs=3"),
        ({"minibatch_size": 0}, r"minibatch_size must be at least 1\. Received: minibatch_size=0"),
        ({"max_duration": 0.1}, r"No utterance of .*train_corpus\.json is at most max_duration=0\.1 s long.*Raise"),
    ],
    ids=str,
)
def test_wrong_argument_is_named_and_leaves_nothing(options, message, corpus):
    with pytest.raises(ValueError, match=message):
        train_tiny(**options)
    assert not list(Path("results").rglob("tiny*"))


def test_missing_manifest_is_named_with_the_remedy(corpus):
    with pytest.raises(FileNotFoundError, match=r"No manifest at .*none\.json\. Make the demo corpus with"):
        train_tiny(train_json="none.json")


def test_transcripts_longer_than_the_output_are_left_out_and_named(corpus, capsys):
    utterances = read_manifest(corpus / MANIFESTS["train"])
    long = type(utterances[0])(utterances[0].path, utterances[0].duration, "o" * 40, utterances[0].speaker)
    write_manifest(corpus / MANIFESTS["train"], [long, *utterances[1:]])
    train_tiny(epochs=1, verbose=1)
    printed = capsys.readouterr().out
    assert "Left out of train, since CTC cannot align them:" in printed
    # a blank between equal letters
    assert "train-0.flac: the transcript needs 79 output frames, the model gives 49" in printed
    assert tiny_record()["epochs"] == 1 and "9 training and 4 validation utterances" in printed


# ---------------------------------------- configure_gpu


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5])
def test_memory_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(
        ValueError, match=rf"memory_fraction must be in 0\.\.1, or None\. Received: memory_fraction={fraction}"
    ):
        configure_gpu(fraction)


@pytest.mark.contract
@pytest.mark.parametrize("fraction", [None, 0.5])
def test_machine_without_gpu_is_told_so(fraction, monkeypatch, tmp_path):
    monkeypatch.setenv("VUI_CACHE", str(tmp_path))
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.setenv(name, "")  # so that pytest puts them back
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert configure_gpu(fraction) == "No GPU was found; training runs on the processor."
