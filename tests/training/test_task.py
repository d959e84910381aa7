"""What every task refuses, and where its files go."""

import keras
import numpy as np
import pytest
from tiny_training import tiny_model

from vuilab.data.generator import BatchGenerator
from vuilab.features import FeatureSettings
from vuilab.training.recogniser import Recognition


def task(pickle_path="model_1.pickle", save_model_path="model_1.h5", **more) -> Recognition:
    return Recognition(tiny_model(), BatchGenerator(FeatureSettings("mfcc")), pickle_path, save_model_path, **more)


def test_a_run_is_named_after_its_history_and_bare_names_go_under_results(project):
    bare, placed = task(), task(project / "elsewhere" / "net.pickle", "weights/net.keras")
    assert bare.name == "model_1" and bare.history_path.as_posix() == "results/model_1.pickle"
    assert placed.name == "net" and placed.history_path == project / "elsewhere" / "net.pickle"
    assert placed.weights_path.as_posix() == "weights/net.keras"


def test_weights_of_another_kind_and_what_is_no_optimiser_are_refused(project):
    with pytest.raises(ValueError, match=r"save_model_path must end in one of .*\. Received: 'model_1\.pt'"):
        task(save_model_path="model_1.pt")
    with pytest.raises(
        ValueError, match=r"optimizer must be a keras\.optimizers\.Optimizer or None\. Received: 'adam'"
    ):
        task(optimizer="adam")


def test_tasks_that_share_a_generator_leave_out_utterances_each_by_itself(project):
    shared = BatchGenerator(FeatureSettings("mfcc"))
    shared.load_train_data()
    shared.load_validation_data()
    whole = len(shared.train_texts)
    first, second = (Recognition(tiny_model(), shared, f"{name}.pickle", f"{name}.h5") for name in "ab")
    first.generator.drop_infeasible("train", lambda frames: np.where(frames == frames.max(), 0, frames))
    number = len(first.generator.train_texts)
    assert number < whole == len(second.generator.train_texts) == len(shared.train_texts)
    optimizers = [one.optimizer for one in (first, second)]
    assert all(isinstance(one, keras.optimizers.SGD) for one in optimizers) and optimizers[0] is not optimizers[1]
