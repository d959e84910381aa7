"""Training of classifiers: files, records, resuming, what is refused; on a corpus of noises that are easy to tell apart."""

import shutil

import keras
import numpy as np
import pytest
import soundfile

from vuilab.cli.flags import refuse_known_speakers
from vuilab.keywords import scores as keyword_evaluation
from vuilab.keywords.batches import ClipGenerator
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.corpus import choose_clips, index_folder
from vuilab.keywords.models import classifier
from vuilab.keywords.options import ClipAugmentation, ClipOptions, KeywordOptions
from vuilab.keywords.training import KeywordTask, train_keywords
from vuilab.runs.history import load_history
from vuilab.runs.record import RESULTS, read_record
from vuilab.runs.weights import load_model
from vuilab.runs.weights_file import read_metadata
from vuilab.training.fit import fit
from vuilab.training.options import TrainingOptions

pytestmark = pytest.mark.usefixtures("without_compiling")
WORDS = ("brown", "violet", "white")


@pytest.fixture
def dataset(noises, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return choose_clips(index_folder(noises))


def tiny(num_classes=3, seed=0, dropout=0.0):
    keras.utils.set_random_seed(seed)
    the_input = keras.Input((20, 11, 1), name="the_input")
    x = keras.layers.Flatten(name="flatten")(the_input)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x) if dropout else x
    return classifier(the_input, keras.layers.Dense(num_classes, name="logits")(x), "perceptron", print_summary=False)


def run(dataset, name="tiny", model=None, features=None, optimizer=None, callbacks=(), **options):
    """Train with these fields of `ClipOptions` and `KeywordOptions`."""
    options = {"minibatch_size": 16} | options
    clips = ClipOptions(
        **{key: options.pop(key) for key in ("seed", "augmentation", "minibatch_size") if key in options}
    )
    options = KeywordOptions(**({"epochs": 3, "verbose": 0} | options))
    optimizer, files = optimizer or keras.optimizers.AdamW(0.02), (f"{name}.pickle", f"{name}.h5")
    if not callbacks:
        more = {"features": features, "clips": clips, "options": options, "optimizer": optimizer}
        return train_keywords(model or tiny(), dataset, *files, **more)
    generator = ClipGenerator(dataset, KeywordFeatures("mfcc_image"), clips, progress=False)
    return fit(KeywordTask(model or tiny(), generator, *files, optimizer=optimizer, callbacks=callbacks), options)


def without_time(history):
    return {key: values for key, values in history.items() if key != "seconds"}


@pytest.mark.contract
def test_a_classifier_learns_and_leaves_history_weights_and_record(dataset):
    model = tiny()
    history = run(dataset, model=model, epochs=6)
    assert set(history) == {"loss", "val_loss", "val_accuracy", "learning_rate", "seconds"}
    assert history["val_accuracy"][-1] == 1 and history["loss"][-1] < 0.5 * history["loss"][0]
    assert load_history("results/tiny.pickle") == history
    record = read_record("results/tiny.json")
    assert record["status"] == "finished" and record["epochs"] == 6 and record["configuration"]["task"] == "keywords"
    assert record["report"]["accuracy"]["rate"] == 1 and record["report"]["num_clips"] == len(
        dataset.part("validation")
    )
    assert record["corpus"]["labels"] == list(WORDS) and record["corpus"]["train"]["num_clips"] == len(
        dataset.part("train")
    )
    assert "development part" in record["chosen_by"] and record["commit"]
    assert (RESULTS / "ledger.jsonl").read_text().count("\n") == 1
    again = keyword_evaluation.load_classifier("results/tiny.h5")
    clips = np.random.default_rng(0).normal(0, 0.1, (3, 16_000)).astype(np.float32)
    normal = again.features(clips)
    np.testing.assert_allclose(
        again.probabilities(clips), np.asarray(model(normal, training=False)), rtol=1e-4, atol=1e-5
    )


def test_a_run_that_was_stopped_goes_on_to_the_same_end(dataset):
    augmentation = ClipAugmentation()
    whole = run(dataset, "whole", augmentation=augmentation, epochs=3)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    class Watch(keras.callbacks.Callback):
        pass

    Watch.__name__ = "Stop"  # the checkpoint names the classes of its callbacks
    model = tiny()
    with np.errstate(all="ignore"):
        run(dataset, "cut", model=model, augmentation=augmentation, epochs=3, callbacks=[Stop()])
    assert read_record("results/cut.json")["status"] == "interrupted"
    resumed = run(
        dataset, "cut", model=tiny(seed=5), augmentation=augmentation, epochs=3, callbacks=[Watch()], resume=True
    )
    for key, values in without_time(whole).items():
        np.testing.assert_allclose(resumed[key], values, rtol=1e-4)
    assert read_record("results/cut.json")["status"] == "finished"


def test_a_clip_replaced_in_place_trains_anew(noises, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(noises, tmp_path / "words")
    dataset = choose_clips(index_folder(tmp_path / "words"))
    run(dataset, epochs=1)
    path = dataset.folder / dataset.part("development")[0].key
    soundfile.write(path, soundfile.read(path)[0][::-1], 16_000)
    run(choose_clips(index_folder(tmp_path / "words")), epochs=1, verbose=1)
    assert "Recordings were replaced since tiny was trained" in capsys.readouterr().out
    assert read_record("results/tiny.json")["contents"].keys() == {"train", "validation"}


def test_a_finished_run_is_loaded_and_another_setting_trains_anew(dataset, capsys):
    first = run(dataset, epochs=1)
    model = tiny(seed=9)
    again = run(dataset, model=model, epochs=1, verbose=1)
    assert again == first and "was trained before" in capsys.readouterr().out
    forced = run(dataset, epochs=1, force=True)
    np.testing.assert_allclose(forced["val_loss"], first["val_loss"], rtol=1e-4)
    for options in ({"label_smoothing": 0.1}, {"seed": 1}, {"augmentation": ClipAugmentation()}, {"minibatch_size": 8}):
        assert without_time(run(dataset, epochs=1, **options)) != without_time(first)
    other = choose_clips(index_folder(dataset.folder), ["white", "brown", "violet"])
    assert without_time(run(other, epochs=1)) != without_time(first)


def test_label_smoothing_keeps_the_loss_above_its_floor_and_the_validation_loss_plain(dataset):
    smooth, plain = run(dataset, "smooth", label_smoothing=0.3, epochs=4), run(dataset, "plain", epochs=4)
    targets = np.array([0.8, 0.1, 0.1])
    floor = -np.sum(targets * np.log(targets))  # the entropy of the smoothed target
    assert smooth["loss"][-1] > floor > plain["loss"][-1]


def test_the_weights_kept_are_those_of_the_best_epoch_by_loss_or_accuracy(dataset, monkeypatch):
    real, values = KeywordTask.validate, iter([(0.5, 0.4), (0.7, 0.9), (0.6, 0.8)] * 2)

    def validate(task, evaluator):
        logs, scores = real(task, evaluator)
        loss, accuracy = next(values)
        return logs | {"val_loss": loss, "val_accuracy": accuracy}, scores

    monkeypatch.setattr(KeywordTask, "validate", validate)
    run(dataset, "by_loss")
    run(dataset, "by_accuracy", monitor="val_accuracy")
    assert read_record("results/by_loss.json")["best_epoch"] == 1
    record = read_record("results/by_accuracy.json")
    assert record["best_epoch"] == 2 and record["chosen_by"].startswith("highest val_accuracy on the development part")
    assert read_metadata("results/by_accuracy.h5")["best"]["epoch"] == 2


def test_the_learning_rate_warms_up_and_falls_along_a_cosine(dataset):
    history = run(dataset, epochs=4, optimizer=keras.optimizers.SGD(0.1), warmup_epochs=1)
    expected = [0.1 * (0.5 + 0.5 * np.cos(np.pi * done / 3)) for done in range(4)]
    np.testing.assert_allclose(history["learning_rate"], expected, rtol=1e-4, atol=1e-8)


def test_weights_know_their_speakers_and_evaluating_on_them_is_refused(dataset):
    run(dataset, epochs=1)
    known = keyword_evaluation.load_classifier("results/tiny.h5")
    learnt = set(known.metadata["train_speakers"])
    assert learnt == set(dataset.speakers("train")) | set(dataset.speakers("development"))
    refuse_known_speakers(known.metadata, dataset.speakers("validation"))
    for part in ("train", "development"):
        with pytest.raises(ValueError, match=r"trained on \d+ of these speakers .* --allow-training-speakers"):
            refuse_known_speakers(known.metadata, dataset.speakers(part))


def test_a_loss_that_is_no_number_ends_the_run(dataset, capsys):
    run(dataset, optimizer=keras.optimizers.SGD(1e30), schedule="constant", warmup_epochs=0, verbose=1, epochs=5)
    assert read_record("results/tiny.json")["status"] == "diverged"
    assert "The loss is" in capsys.readouterr().out and load_model("results/tiny.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"monitor": "val_cer"}, r"monitor must be one of \('val_loss', 'val_accuracy'\)"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in 0\.\.1"),
        (
            {"features": KeywordFeatures("mfcc")},
            r"takes clips of shape \(20, 11, 1\) and mfcc features have \(98, 64\)",
        ),
        ({"model": 4}, r"has 4 classes and there are 3 labels \(brown violet white\)"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(dataset, options, message):
    if "model" in options:
        options = {"model": tiny(options["model"])}
    with pytest.raises(ValueError, match=message):
        run(dataset, **options)
    assert not RESULTS.exists()


def test_a_classifier_is_not_trained_with_the_options_of_a_recogniser_and_not_planned_in_hours(dataset):
    generator = ClipGenerator(dataset, KeywordFeatures("mfcc_image"), ClipOptions(16), progress=False)
    task = KeywordTask(tiny(), generator, "tiny.pickle", "tiny.h5")
    with pytest.raises(ValueError, match=r"A KeywordTask is trained with KeywordOptions. Received: TrainingOptions"):
        fit(task, TrainingOptions())
    with pytest.raises(ValueError, match=r"A plan is made for hours of running speech. Received a KeywordTask"):
        fit(task, KeywordOptions(epochs=1, plan=(3.0,)))
