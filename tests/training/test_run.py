"""Training again: a finished run is loaded, a stopped or diverged one keeps what it had."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from tiny_training import Counter, raising, tiny_model, tiny_record, train_tiny

from sample_models import final_model, rnn_model
from train_utils import train_model
from vuilab.corpus.manifest import MANIFESTS, read_manifest, resolve_manifest, write_manifest
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.files import repository
from vuilab.models.ctc import mean_loss
from vuilab.runs.history import load_history
from vuilab.runs.record import read_record, write_json
from vuilab.runs.weights import load_model

pytestmark = pytest.mark.usefixtures("without_compiling")
KEYS = ["loss", "val_loss", "val_cer", "val_wer", "learning_rate", "seconds"]


# ---------------------------------------- again, or loaded instead


def test_finished_run_is_loaded_instead_of_trained_and_says_so(corpus, capsys):
    first = train_tiny()
    weights = load_model("results/tiny.h5")[0].get_weights()
    callback, model = Counter(), tiny_model()
    capsys.readouterr()
    again = train_tiny(model, verbose=1, callbacks=[callback])
    assert again == first and callback.steps == 0
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert "tiny was trained before with the same settings and data: loaded 2 epochs" in capsys.readouterr().out
    assert len(Path("results/ledger.jsonl").read_text().splitlines()) == 1


def test_replaced_recordings_train_again_and_a_record_that_does_not_know_them_is_recognised(corpus, capsys):
    """Records of version 0.2 do not say what their recordings held."""
    train_tiny()
    path = read_manifest(resolve_manifest("validation"))[0].path
    other = np.random.default_rng(5).normal(0, 0.1, len(soundfile.read(path)[0]))
    soundfile.write(path, other, 16_000)
    callback = Counter()
    capsys.readouterr()
    train_tiny(callbacks=[callback], verbose=1)
    assert callback.epochs == 2 and "Recordings were replaced since tiny was trained" in capsys.readouterr().out
    record = read_record("results/tiny.json")
    train_tiny(callbacks=[callback])
    assert callback.epochs == 2
    soundfile.write(path, other[::-1], 16_000)
    del record["contents"]
    write_json("results/tiny.json", record)
    train_tiny(callbacks=[callback])
    assert callback.epochs == 2


def test_a_run_does_not_go_on_with_other_recordings(corpus):
    train_tiny(callbacks=[Counter(1, raising(KeyboardInterrupt))], epochs=3)
    path = read_manifest(resolve_manifest("train"))[0].path
    soundfile.write(path, soundfile.read(path)[0][::-1], 16_000)
    with pytest.raises(ValueError, match=r"Recordings were replaced since the checkpoint .* was written"):
        train_tiny(epochs=3, resume=True)


def test_more_epochs_of_a_finished_run_are_refused_and_its_files_stay(corpus):
    train_tiny()
    files = {path: path.read_bytes() for path in Path("results").glob("tiny.*")}
    with pytest.raises(ValueError, match=r"tiny\.json is of a run that ended after 2 epochs, with other settings"):
        train_tiny(epochs=4, resume=True)
    assert {path: path.read_bytes() for path in Path("results").glob("tiny.*")} == files and len(files) == 3
    assert len(train_tiny(name="more", epochs=4, resume=True, start_from="results/tiny.h5")["loss"]) == 4


def test_force_trains_again_and_the_ledger_keeps_both(corpus):
    train_tiny()
    callback = Counter()
    train_tiny(callbacks=[callback], force=True)
    assert (callback.epochs, callback.steps) == (2, 6)
    assert len(Path("results/ledger.jsonl").read_text().splitlines()) == 2


def test_changed_settings_data_or_model_train_again(corpus):
    train_tiny(epochs=1)

    def trained(**options) -> bool:
        callback = Counter()
        train_tiny(callbacks=[callback], **{"epochs": 1, **options})
        return callback.epochs > 0

    assert not trained()
    assert trained(epochs=2)
    assert trained(seed=1)
    assert trained(optimizer=keras.optimizers.SGD(0.01))
    assert trained(model=tiny_model(units=5))
    assert trained(minibatch_size=5)
    assert not trained(minibatch_size=5)
    utterances = read_manifest(corpus / MANIFESTS["train"])
    write_manifest(corpus / MANIFESTS["train"], utterances[:-1])
    assert trained(minibatch_size=5)
    assert not trained(minibatch_size=5)


@pytest.mark.parametrize("name", ["tiny.pickle", "tiny.json", "tiny.h5"])
def test_damaged_file_of_a_finished_run_is_trained_over(name, corpus, capsys):
    train_tiny(epochs=1)
    (Path("results") / name).write_bytes(b"damaged")
    callback = Counter()
    train_tiny(epochs=1, callbacks=[callback], verbose=1)
    assert callback.epochs == 1
    assert "tiny is trained again, since what an earlier run left is damaged" in capsys.readouterr().out
    assert tiny_record()["status"] == "finished" and load_model("results/tiny.h5")


def test_run_that_broke_off_is_not_taken_for_the_finished_one_before_it(corpus):
    train_tiny()
    with pytest.raises(RuntimeError, match="power cut"):
        train_tiny(force=True, callbacks=[Counter(0, raising(RuntimeError("power cut")))])
    callback = Counter()
    history = train_tiny(callbacks=[callback])
    assert callback.epochs == 2 and len(history["loss"]) == 2


# ---------------------------------------- stopping


def test_keras_callbacks_work(corpus):
    stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1e6, patience=1)
    slower = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=1e6)
    history = train_tiny(epochs=9, callbacks=[slower, stop])
    assert len(history["loss"]) == 2  # the first counts as progress, the second does not
    assert tiny_record()["status"] == "finished" and tiny_record()["epochs"] == 2
    history = train_tiny(epochs=4, callbacks=[slower], force=True)
    np.testing.assert_allclose(history["learning_rate"], [0.02, 0.02, 0.01, 0.005], rtol=1e-5)


LOAD = """
import sys
import keras, numpy as np
import sample_models
model = keras.models.load_model(sys.argv[1])
batch = dict(np.load("batch.npz"))
losses = model.predict_on_batch(batch)["ctc"]
assert np.allclose(losses, np.load("losses.npy"), rtol=1e-5), losses
acoustic = keras.Model(model.input["the_input"], keras.layers.Softmax()(model.get_layer("ctc").input[0]))
assert np.allclose(acoustic.predict_on_batch(batch["the_input"]), np.load("probabilities.npy"), atol=1e-5)
steps, nothing = int(model.optimizer.iterations), np.zeros(len(losses))
model.fit(batch, {"ctc": nothing}, batch_size=2, verbose=0)
assert int(model.optimizer.iterations) == steps + len(losses) // 2  # with the optimiser of before
"""


@pytest.mark.contract
def test_a_whole_model_saved_by_keras_is_loaded_by_keras(corpus):
    class Watch(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            inputs, _ = generator.assemble("validation", np.arange(2))
            np.savez("batch.npz", **inputs)
            np.save("losses.npy", self.model.predict_on_batch(inputs)["ctc"])
            np.save("probabilities.npy", model.predict_on_batch(inputs["the_input"]))

    model = final_model(input_dim=13, filters=4, units=3, recur_layers=3, dilations=(1,), print_summary=False)
    generator = BatchGenerator(FeatureSettings("mfcc"), DataOptions(4))
    generator.phonemes = True
    for part in ("train", "validation"):
        generator.load(part, MANIFESTS[part])
    generator.fit_train()
    saver = keras.callbacks.ModelCheckpoint("whole-{epoch}.keras", save_weights_only=False)
    train_model(model, "n.pickle", "n.h5", generator=generator, epochs=1, verbose=0, callbacks=[saver, Watch()])
    path = os.pathsep.join([str(repository()), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", LOAD, "whole-1.keras"], env=os.environ | {"PYTHONPATH": path}, check=True)


def test_every_callback_of_keras_works(corpus, tmp_path):
    seen = []
    file, logs = tmp_path / "log.csv", tmp_path / "logs"
    given = [
        keras.callbacks.ModelCheckpoint("whole.keras", monitor="val_cer", mode="min", save_best_only=True),
        keras.callbacks.ModelCheckpoint("part.weights.h5", save_weights_only=True, save_freq=2),
        keras.callbacks.CSVLogger(file),
        keras.callbacks.ReduceLROnPlateau(patience=1),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate),
        keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.BackupAndRestore("backup"),
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        keras.callbacks.TensorBoard(logs),
        keras.callbacks.ProgbarLogger(),
        keras.callbacks.History(),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs))),
    ]
    history = train_tiny(ema=0.5, callbacks=given)
    assert [epoch for epoch, _ in seen] == [0, 1] and set(seen[0][1]) == set(KEYS)
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"]
    assert Path("part.weights.h5").is_file() and any(logs.rglob("events*")) and not Path("backup").exists()
    whole = keras.models.load_model("whole.keras")
    assert whole.optimizer.use_ema and whole.loss is mean_loss


def test_validation_is_that_of_the_averages_beside_swapped_weights(corpus):
    alone = train_tiny(ema=0.9)
    swap = keras.callbacks.SwapEMAWeights()
    assert train_tiny(ema=0.9, callbacks=[swap], force=True)["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-5)


def test_a_callback_that_stops_within_an_epoch_ends_it_there(corpus):
    class Stop(Counter):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch)
            self.model.stop_training = True

        def on_test_end(self, logs=None):
            self.tested = logs

    callback = Stop()
    history = train_tiny(callbacks=[callback])
    assert (callback.steps, callback.epochs, len(history["loss"])) == (1, 1, 1)
    assert callback.tested["val_cer"] == history["val_cer"][0] and tiny_record()["status"] == "finished"


def test_interrupted_run_keeps_history_and_weights(corpus, capsys):
    model = tiny_model()
    history = train_tiny(model, epochs=5, verbose=1, callbacks=[Counter(1, raising(KeyboardInterrupt()))])
    assert len(history["loss"]) == 2
    assert load_history("results/tiny.pickle") == history
    assert tiny_record()["status"] == "interrupted" and tiny_record()["epochs"] == 2
    assert load_model("results/tiny.h5")[1]["best"]["epoch"] in (1, 2)
    assert "Stopped by hand" in capsys.readouterr().out
    callback = Counter()
    train_tiny(epochs=5, callbacks=[callback])
    assert callback.epochs == 5  # an interrupted run is not a finished one


def test_run_interrupted_in_its_first_epoch_leaves_an_earlier_result_whole(corpus):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    assert train_tiny(name="new", callbacks=[Interrupt()]) == {}
    assert load_model("results/new.h5")  # there was nothing before: what there is
    first = train_tiny()
    before = Path("results/tiny.h5").read_bytes()
    assert train_tiny(force=True, callbacks=[Interrupt()]) == {}
    assert Path("results/tiny.h5").read_bytes() == before
    assert load_history("results/tiny.pickle") == first and tiny_record()["status"] == "finished"


def test_model_with_nan_weights_stops_at_once_and_names_the_batch(corpus, capsys):
    model = tiny_model()
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    history = train_tiny(model, epochs=5, verbose=1)
    assert len(history["loss"]) == 1 and np.isnan(history["loss"][0]) and np.isnan(history["val_loss"][0])
    printed = capsys.readouterr().out
    assert "The loss is nan at epoch 1, step 1 of 3 (utterances train-" in printed
    assert "A smaller learning rate or gradient clipping (global_clipnorm) usually helps" in printed
    record = tiny_record()
    assert record["status"] == "diverged" and record["scores"]["val_loss"] is None and record["best_epoch"] == 0
    assert Path("results/tiny.h5").is_file()


def test_run_that_diverges_later_keeps_its_best_weights(corpus):
    def poison(callback):
        weights = callback.model.get_weights()
        callback.model.set_weights([np.full_like(weight, np.nan) for weight in weights])

    history = train_tiny(epochs=5, callbacks=[Counter(1, poison)])
    assert np.isfinite(history["loss"][:2]).all() and np.isnan(history["loss"][2:]).all() and len(history["loss"]) == 3
    assert tiny_record()["status"] == "diverged" and tiny_record()["best_epoch"] in (1, 2)
    model, _ = load_model("results/tiny.h5")
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

    history = train_tiny(epochs=2, callbacks=[PoisonFirstValidation()])
    assert np.isnan(history["val_loss"][0]) and np.isfinite(history["val_loss"][1])
    assert tiny_record()["best_epoch"] == 2
    assert np.isfinite(load_model("results/tiny.h5")[0].get_weights()[0]).all()


def test_learning_rate_far_too_high_without_clipping_diverges(corpus, capsys):
    keras.utils.set_random_seed(0)
    history = train_tiny(
        rnn_model(13, 4, "relu", cell="simple_rnn"), epochs=20, verbose=1, optimizer=keras.optimizers.SGD(1e12)
    )
    assert len(history["loss"]) < 20 and not np.isfinite(history["loss"][-1])
    assert tiny_record()["status"] == "diverged"
    assert "Training stops here" in capsys.readouterr().out
