"""Training in the call shape of the notebooks: the contract's names, arguments by position, options by name."""

import keras
import pytest
from tiny_training import tiny_model, tiny_record, train_tiny

import train_utils
from sample_models import final_model
from train_utils import train_model
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.runs.weights import load_model, save_weights

pytestmark = pytest.mark.usefixtures("without_compiling")


def test_names_of_the_contract_are_there():
    assert set(train_utils.__all__) == {
        "add_ctc_loss", "configure_gpu", "get_predictions", "plot_comparison", "print_predictions", "train_model",
    }  # fmt: skip
    assert all(callable(getattr(train_utils, name)) for name in train_utils.__all__)


def test_positional_arguments_of_the_references_work(corpus):
    model = tiny_model()
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
    record = tiny_record("a")
    assert record["configuration"]["sort_by_duration"] is True and record["configuration"]["max_duration"] == 0.45
    assert record["corpus"]["train"]["num_utterances"] == 5  # those of 0.4 s


def test_options_of_data_and_training_are_known_by_name_and_others_refused(corpus):
    train_tiny(speeds=(0.9, 1.0), seed=5, monitor="val_cer", patience=4)
    used = tiny_record()["configuration"]
    assert used["speeds"] == [0.9, 1.0] and used["seed"] == 5
    assert used["monitor"] == "val_cer" and used["patience"] == 4
    with pytest.raises(TypeError, match="unexpected keyword argument 'batch_frames'"):
        train_tiny(batch_frames=100)


def test_a_generator_serves_several_models_with_seeds_of_their_own(corpus):
    shared = BatchGenerator(FeatureSettings("mfcc"), DataOptions(minibatch_size=3))
    shared.load_train_data()
    shared.load_validation_data()
    for seed in (1, 2):
        train_model(
            tiny_model(), f"run_{seed}.pickle", f"run_{seed}.h5", epochs=1, verbose=0, generator=shared, seed=seed
        )
        used = tiny_record(f"run_{seed}")["configuration"]
        assert used["seed"] == seed and used["minibatch_size"] == 3 and used["features"]["kind"] == "mfcc"
    assert shared.options.seed == 0
    with pytest.raises(ValueError, match=r"A generator decides these itself; leave them out. Received: seed, splice"):
        train_model(tiny_model(), "run.pickle", "run.h5", generator=shared, seed=1, splice=0.5)


def test_the_last_cell_of_the_references_trains_the_final_model_on_the_features_that_it_brings(corpus, monkeypatch):
    seen = []
    monkeypatch.setattr(train_utils, "fit", lambda *arguments: seen.append(arguments))
    model = final_model(units=4, filters=4, print_summary=False)
    train_model(model, "model_end.pickle", "model_end.h5", spectrogram=False)
    task, options = seen.pop()
    assert task.generator.settings == FeatureSettings("logmel") and options.epochs == 20
    save_weights(model, "results/model_end.h5")
    loaded, _ = load_model("results/model_end.h5")
    train_model(loaded, "model_end.pickle", "model_end.h5", spectrogram=False)
    assert seen.pop()[0].generator.settings.kind == "logmel"
    told = FeatureSettings("logmel", window=25)
    train_model(loaded, "model_end.pickle", "model_end.h5", features=told)
    assert seen.pop()[0].generator.settings == told
    with pytest.raises(ValueError, match="The model takes 161 features per frame and mfcc features have 13"):
        train_model(final_model(161, units=4, filters=4, print_summary=False), "a.pickle", "a.h5", spectrogram=False)
