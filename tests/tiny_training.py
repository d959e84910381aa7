"""What the training tests share: a small model, a short run, and a callback that counts."""

import keras

from sample_models import acoustic_model
from train_utils import train_model
from vuilab.runs.record import read_record

TEXTS = ["a cat", "see it", "to be", "an oak", "i am", "we go", "no", "so it is", "yes", "up we go"]
TRAIN = "train model_0 --features mfcc --epochs 1 --name tiny"  # the run of the fixture `trained`


def tiny_model(seed: int = 0, units: int = 4, dropout: float = 0.0) -> keras.Model:
    """Return a convolutional model, since recurrent ones take long to compile."""
    keras.utils.set_random_seed(seed)
    the_input = keras.Input(shape=(None, 13), name="the_input")
    x = keras.layers.Conv1D(units, 3, padding="same", activation="tanh", name="conv1d")(the_input)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x) if dropout else x
    return acoustic_model(the_input, keras.layers.Dense(29, name="dense")(x), "tiny_model", print_summary=False)


def train_tiny(model=None, name: str = "tiny", suffix: str = ".h5", **options) -> dict:
    options = {"spectrogram": False, "minibatch_size": 4, "epochs": 2, "verbose": 0} | options
    return train_model(model or tiny_model(), f"{name}.pickle", f"{name}{suffix}", **options)


def tiny_record(name: str = "tiny") -> dict:
    return read_record(f"results/{name}.json")


def without_time(history: dict) -> dict:
    return {key: values for key, values in history.items() if key != "seconds"}


class Counter(keras.callbacks.Callback):
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


def raising(error):
    def action(callback):
        raise error

    return action
