"""Training: what a run leaves behind, when it is repeated, how it stops, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest

import records
import train_utils
import training_loop
from corpora import MANIFESTS, read_manifest, set_active_corpus, write_manifest
from ctc import add_ctc_loss
from data_generator import AudioGenerator
from sample_models import acoustic_model, rnn_model
from train_utils import configure_gpu, train_model

TEXTS = ["a cat", "see it", "to be", "an oak", "i am", "we go", "no", "so it is", "yes", "up we go"]
KEYS = ["loss", "val_loss", "val_cer", "val_wer", "learning_rate", "seconds"]


@pytest.fixture(autouse=True)
def quick(request):
    """Run without compiling, which takes most of the time of tiny runs; contract tests run as users do."""
    if keras.backend.backend() != "tensorflow" or request.node.get_closest_marker("contract"):
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def use_corpus(make_corpus, tmp_path, monkeypatch):
    """A function that makes clips of noise the active corpus of an empty working folder."""

    def use(train: list[tuple[str, float]], validation: list[tuple[str, float]]) -> Path:
        folder = make_corpus({"train": train, "validation": validation})
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("VUI_CORPUS", str(folder))
        set_active_corpus(None)
        return folder

    return use


@pytest.fixture
def corpus(use_corpus) -> Path:
    """Ten training clips of 0.4 or 0.5 s, four for validation."""
    train = [(text, 0.4 if number % 2 else 0.5) for number, text in enumerate(TEXTS)]
    return use_corpus(train, [(text, 0.4) for text in TEXTS[:4]])


@pytest.fixture
def even_corpus(use_corpus) -> Path:
    """Eight training and four validation clips of 0.4 s, for which a compiler makes one program."""
    return use_corpus([(text, 0.4) for text in TEXTS[:8]], [(text, 0.4) for text in TEXTS[:4]])


def _model(seed: int = 0, units: int = 4, dropout: float = 0.0) -> keras.Model:
    """Return a convolutional model, since recurrent ones take long to compile."""
    keras.utils.set_random_seed(seed)
    the_input = keras.Input(shape=(None, 13), name="the_input")
    x = keras.layers.Conv1D(units, 3, padding="same", activation="tanh", name="conv1d")(the_input)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x) if dropout else x
    return acoustic_model(the_input, keras.layers.Dense(29, name="dense")(x), "tiny_model", print_summary=False)


def _train(model=None, name: str = "tiny", suffix: str = ".h5", **options) -> dict:
    options = {"spectrogram": False, "minibatch_size": 4, "epochs": 2, "verbose": 0} | options
    return train_model(model or _model(), f"{name}.pickle", f"{name}{suffix}", **options)


def _record(name: str = "tiny") -> dict:
    return records.read_record(f"results/{name}.json")


def _without_time(history: dict) -> dict:
    return {key: values for key, values in history.items() if key != "seconds"}


class _Callback(keras.callbacks.Callback):
    """Counts epochs and does something after a given one."""

    def __init__(self, epoch: int | None = None, action=None):
        super().__init__()
        self.epoch, self.action, self.epochs, self.steps = epoch, action, 0, 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
        if epoch == self.epoch:
            self.action(self)


def _raise(error):
    def action(callback):
        raise error

    return action


# -------------------------------------------------------------------------------------------- what a run leaves


@pytest.mark.contract
def test_loss_falls_and_history_weights_record_and_ledger_agree(even_corpus, capsys):
    history = _train(epochs=4, seed=3, verbose=1, optimizer=keras.optimizers.Adam(0.05))
    assert list(history) == KEYS
    assert all(len(values) == 4 and np.isfinite(values).all() for values in history.values())
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert records.load_history("results/tiny.pickle") == history

    best = int(np.argmin(history["val_loss"]))
    record = _record()
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

    metadata = records.read_metadata("results/tiny.h5")
    assert metadata["best"]["epoch"] == best + 1 and metadata["train_speakers"] == ["speaker-train"]
    assert metadata["features"]["kind"] == "mfcc" and len(metadata["mean"]) == len(metadata["std"]) == 13
    ledger = [json.loads(line) for line in Path("results/ledger.jsonl").read_text().splitlines()]
    assert ledger == [record]

    printed = capsys.readouterr().out
    assert "8 training and 4 validation utterances, 2 steps an epoch. About" in printed
    assert all(f"epoch   {number}/4" in printed for number in (1, 2, 3, 4))


def test_reported_losses_are_means_over_utterances_and_the_weights_kept_are_the_best(corpus):
    """With a learning rate that makes the loss rise again, the file holds the epoch of the lowest validation loss."""
    model = _model()
    history = _train(model, epochs=6, optimizer=keras.optimizers.SGD(0.3, momentum=0.9, clipnorm=5))
    assert np.isfinite(history["val_loss"]).all()
    best = int(np.argmin(history["val_loss"]))
    assert best < 5, "the test needs a run that gets worse at the end"
    loaded, metadata = records.load_model("results/tiny.h5")
    assert metadata["best"]["epoch"] == best + 1
    assert _mean_loss(loaded, metadata, "validation") == pytest.approx(history["val_loss"][best], rel=1e-4)
    assert _mean_loss(model, metadata, "validation") == pytest.approx(history["val_loss"][-1], rel=1e-4)


def _mean_loss(model: keras.Model, metadata: dict, partition: str) -> float:
    """Score utterances one by one: another route to the same number."""
    generator = AudioGenerator(spectrogram=False, minibatch_size=1)
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
    history = _train(model, epochs=1, optimizer=keras.optimizers.SGD(0.0))
    metadata = records.read_metadata("results/tiny.h5")
    assert history["loss"][0] == pytest.approx(_mean_loss(model, metadata, "train"), rel=1e-4)


@pytest.mark.parametrize("monitor", ["val_loss", "val_cer", "val_wer"])
def test_monitor_chooses_the_weights(monitor, corpus, monkeypatch):
    values = {"val_loss": [3.0, 2.0, 1.0], "val_cer": [0.3, 0.1, 0.2], "val_wer": [0.5, 0.6, 0.7]}
    real, epochs = training_loop.score, iter(range(3))

    def score(*args):  # every monitor prefers another epoch
        result, epoch = real(*args), next(epochs)
        cer, wer = (dataclasses.replace(getattr(result, kind), substitutions=round(1000 * values[f"val_{kind}"][epoch]),
                    deletions=0, insertions=0, num_reference=1000) for kind in ("cer", "wer"))  # fmt: skip
        return dataclasses.replace(result, cer=cer, wer=wer)

    monkeypatch.setattr(training_loop, "score", score)
    history = _train(epochs=3, monitor=monitor, optimizer=keras.optimizers.Adam(0.005))
    assert history["val_cer"] == values["val_cer"] and int(np.argmin(history["val_loss"])) == 2
    best = int(np.argmin(history[monitor]))
    assert _record()["chosen_by"] == f"lowest {monitor} on the validation set"
    assert _record()["best_epoch"] == best + 1 == records.read_metadata("results/tiny.h5")["best"]["epoch"]


@pytest.mark.contract
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_of_a_run_load_under_the_name_the_caller_gave(suffix, even_corpus):
    model = _model()
    _train(model, epochs=1, suffix=suffix)
    again = _model(seed=1)
    again.load_weights(f"results/tiny{suffix}")
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_positional_arguments_of_the_references_work(corpus):
    model = _model()
    manifest = str(corpus / "train_corpus.json")
    optimizer = keras.optimizers.SGD(0.01)
    train_model(
        model,
        "a.pickle",
        "a.h5",
        manifest,
        str(corpus / "valid_corpus.json"),
        5,
        False,
        13,
        optimizer,
        1,
        0,
        True,
        0.45,
    )
    record = _record("a")
    assert record["configuration"]["sort_by_duration"] is True and record["configuration"]["max_duration"] == 0.45
    assert record["corpus"]["train"]["num_utterances"] == 5  # those of 0.4 s


def test_default_optimiser_is_that_of_the_contract(corpus):
    _train(epochs=1)
    config = _record()["configuration"]["optimizer"]["config"]
    assert config["learning_rate"] == pytest.approx(0.02) and config["momentum"] == 0.9
    assert config["nesterov"] is True and config["clipnorm"] == 5


def test_silent_run_prints_nothing(corpus, capsys):
    model = _model()
    capsys.readouterr()
    _train(model, epochs=1)
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------------------- reproducible


@pytest.mark.contract
def test_same_seed_gives_the_same_history_whether_or_not_the_time_is_estimated(even_corpus):
    """The estimate trains a few steps: weights, moments, statistics and random generators must come back."""

    def history(**options) -> dict:
        model = _model(dropout=0.3)
        return _without_time(_train(model, optimizer=keras.optimizers.Adam(0.02), force=True, **options))

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
    first = _train(_model(units=4), "a", optimizer=optimizer)
    second = _train(_model(units=5), "b", optimizer=optimizer)
    again = _train(_model(units=4), "c", optimizer=optimizer)
    assert np.isfinite(second["loss"]).all()
    _assert_same(_without_time(first), _without_time(again))


def test_learning_rate_follows_warm_up_and_cosine(corpus):
    history = _train(epochs=4, schedule="cosine", warmup_epochs=1, optimizer=keras.optimizers.SGD(0.1))
    expected = [0.1, *(0.1 * 0.5 * (1 + np.cos(np.pi * share / 3)) for share in (1, 2, 3))]
    assert history["learning_rate"] == pytest.approx(expected, abs=1e-7)


# ----------------------------------------------------------------------------------------- again, or loaded instead


def test_finished_run_is_loaded_instead_of_trained_and_says_so(corpus, capsys):
    first = _train()
    weights = records.load_model("results/tiny.h5")[0].get_weights()
    callback, model = _Callback(), _model()
    capsys.readouterr()
    again = _train(model, verbose=1, callbacks=[callback])
    assert again == first and callback.steps == 0
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert "tiny was trained before with the same settings and data: loaded 2 epochs" in capsys.readouterr().out
    assert len(Path("results/ledger.jsonl").read_text().splitlines()) == 1


def test_force_trains_again_and_the_ledger_keeps_both(corpus):
    _train()
    callback = _Callback()
    _train(callbacks=[callback], force=True)
    assert (callback.epochs, callback.steps) == (2, 6)
    assert len(Path("results/ledger.jsonl").read_text().splitlines()) == 2


def test_changed_settings_data_or_model_train_again(corpus):
    _train()

    def trained(**options) -> bool:
        callback = _Callback()
        _train(callbacks=[callback], **options)
        return callback.epochs > 0

    assert not trained()
    assert trained(epochs=3)
    assert trained(seed=1)
    assert trained(optimizer=keras.optimizers.SGD(0.01))
    assert trained(model=_model(units=5))
    assert trained(minibatch_size=5)
    assert not trained(minibatch_size=5)
    utterances = read_manifest(corpus / MANIFESTS["train"])
    write_manifest(corpus / MANIFESTS["train"], utterances[:-1])
    assert trained(minibatch_size=5)
    assert not trained(minibatch_size=5)


@pytest.mark.parametrize("name", ["tiny.pickle", "tiny.json", "tiny.h5"])
def test_damaged_file_of_a_finished_run_is_trained_over(name, corpus, capsys):
    _train(epochs=1)
    (Path("results") / name).write_bytes(b"damaged")
    callback = _Callback()
    _train(epochs=1, callbacks=[callback], verbose=1)
    assert callback.epochs == 1
    assert "tiny is trained again, since what an earlier run left is damaged" in capsys.readouterr().out
    assert _record()["status"] == "finished" and records.load_model("results/tiny.h5")


def test_run_that_broke_off_is_not_taken_for_the_finished_one_before_it(corpus):
    _train()
    with pytest.raises(RuntimeError, match="power cut"):
        _train(force=True, callbacks=[_Callback(0, _raise(RuntimeError("power cut")))])
    callback = _Callback()
    history = _train(callbacks=[callback])
    assert callback.epochs == 2 and len(history["loss"]) == 2


# --------------------------------------------------------------------------------------------------------- stopping


def test_keras_callbacks_work(corpus):
    stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1e6, patience=1)
    slower = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=1e6)
    history = _train(epochs=9, callbacks=[slower, stop])
    assert len(history["loss"]) == 2  # the first counts as progress, the second does not
    assert _record()["status"] == "finished" and _record()["epochs"] == 2
    history = _train(epochs=4, callbacks=[slower], force=True)
    np.testing.assert_allclose(history["learning_rate"], [0.02, 0.02, 0.01, 0.005], rtol=1e-5)


def test_interrupted_run_keeps_history_and_weights(corpus, capsys):
    model = _model()
    history = _train(model, epochs=5, verbose=1, callbacks=[_Callback(1, _raise(KeyboardInterrupt()))])
    assert len(history["loss"]) == 2
    assert records.load_history("results/tiny.pickle") == history
    assert _record()["status"] == "interrupted" and _record()["epochs"] == 2
    assert records.load_model("results/tiny.h5")[1]["best"]["epoch"] in (1, 2)
    assert "Stopped by hand" in capsys.readouterr().out
    callback = _Callback()
    _train(epochs=5, callbacks=[callback])
    assert callback.epochs == 5  # an interrupted run is not a finished one


def test_run_interrupted_in_its_first_epoch_leaves_an_earlier_result_whole(corpus):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    assert _train(name="new", callbacks=[Interrupt()]) == {}
    assert records.load_model("results/new.h5")  # there was nothing before: what there is
    first = _train()
    before = Path("results/tiny.h5").read_bytes()
    assert _train(force=True, callbacks=[Interrupt()]) == {}
    assert Path("results/tiny.h5").read_bytes() == before
    assert records.load_history("results/tiny.pickle") == first and _record()["status"] == "finished"


def test_model_with_nan_weights_stops_at_once_and_names_the_batch(corpus, capsys):
    model = _model()
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    history = _train(model, epochs=5, verbose=1)
    assert len(history["loss"]) == 1 and np.isnan(history["loss"][0]) and np.isnan(history["val_loss"][0])
    printed = capsys.readouterr().out
    assert "The loss is nan at epoch 1, step 1 of 3 (utterances train-" in printed
    assert "A smaller learning rate or gradient clipping (clipnorm) usually helps" in printed
    record = _record()
    assert record["status"] == "diverged" and record["scores"]["val_loss"] is None and record["best_epoch"] == 0
    assert Path("results/tiny.h5").is_file()


def test_run_that_diverges_later_keeps_its_best_weights(corpus):
    def poison(callback):
        weights = callback.model.get_weights()
        callback.model.set_weights([np.full_like(weight, np.nan) for weight in weights])

    history = _train(epochs=5, callbacks=[_Callback(1, poison)])
    assert np.isfinite(history["loss"][:2]).all() and np.isnan(history["loss"][2:]).all() and len(history["loss"]) == 3
    assert _record()["status"] == "diverged" and _record()["best_epoch"] in (1, 2)
    model, _ = records.load_model("results/tiny.h5")
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_epoch_without_a_validation_loss_is_never_the_best_for_good(corpus):
    class PoisonFirstValidation(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if not self.healthy and batch == 2:
                self.healthy = self.model.get_weights()
                self.model.set_weights([np.full_like(weight, np.nan) for weight in self.healthy])

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                self.model.set_weights(self.healthy)

        healthy = None

    history = _train(epochs=2, callbacks=[PoisonFirstValidation()])
    assert np.isnan(history["val_loss"][0]) and np.isfinite(history["val_loss"][1])
    assert _record()["best_epoch"] == 2
    assert np.isfinite(records.load_model("results/tiny.h5")[0].get_weights()[0]).all()


def test_learning_rate_far_too_high_without_clipping_diverges(corpus, capsys):
    keras.utils.set_random_seed(0)
    history = _train(
        rnn_model(13, 4, "relu", cell="simple_rnn"), epochs=20, verbose=1, optimizer=keras.optimizers.SGD(1e12)
    )
    assert len(history["loss"]) < 20 and not np.isfinite(history["loss"][-1])
    assert _record()["status"] == "diverged"
    assert "Training stops here" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------------- refused


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
        ({"suffix": ".pt"}, r"save_model_path must end in one of .*\. Received: 'tiny\.pt'"),
        ({"minibatch_size": 0}, r"minibatch_size must be at least 1\. Received: minibatch_size=0"),
        ({"max_duration": 0.1}, r"No utterance of .*train_corpus\.json is at most max_duration=0\.1 s long.*Raise"),
        ({"optimizer": "adam"}, r"optimizer must be a keras\.optimizers\.Optimizer or None\. Received: 'adam'"),
    ],
    ids=str,
)
def test_wrong_argument_is_named_and_leaves_nothing(options, message, corpus):
    with pytest.raises(ValueError, match=message):
        _train(**options)
    assert not list(Path("results").rglob("tiny*"))


def test_missing_manifest_is_named_with_the_remedy(corpus):
    with pytest.raises(FileNotFoundError, match=r"No manifest at .*none\.json\. Make the demo corpus with"):
        _train(train_json="none.json")


def test_transcripts_longer_than_the_output_are_left_out_and_named(corpus, capsys):
    utterances = read_manifest(corpus / MANIFESTS["train"])
    long = type(utterances[0])(utterances[0].path, utterances[0].duration, "o" * 40, utterances[0].speaker)
    write_manifest(corpus / MANIFESTS["train"], [long, *utterances[1:]])
    _train(epochs=1, verbose=1)
    printed = capsys.readouterr().out
    assert "Left out of train, since CTC cannot align them:" in printed
    assert (
        "train-0.flac: the transcript needs 79 output frames, the model gives 49" in printed
    )  # a blank between equal letters
    assert _record()["epochs"] == 1 and "9 training and 4 validation utterances" in printed


# ----------------------------------------------------------------------------------------------------- configure_gpu


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


def test_names_of_the_contract_are_there():
    assert set(train_utils.__all__) == {
        "add_ctc_loss", "configure_gpu", "get_predictions", "plot_comparison", "print_predictions", "train_model",
    }  # fmt: skip
    assert all(callable(getattr(train_utils, name)) for name in train_utils.__all__)
