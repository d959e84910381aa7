"""The acoustic models: features in, a probability for each of 28 characters and the CTC blank at each output frame out.

Every builder returns an `AcousticModel`, a functional `keras.Model` with an input layer `the_input` of shape
(batch, num_frames, input_dim) and a last layer `softmax` of shape (batch, num_output_frames, output_dim). The tensor
before `softmax` holds the logits that training uses. `TimeDistributed(Dense)` of the references is a plain `Dense`
here: Keras applies it to the last axis, which gives the same numbers much faster.

The number of parameters and the layer names follow the reference notebooks, so that their summaries can be compared.

Arguments of several builders: `input_dim` features per frame; `units`, the width of each recurrent layer and direction;
`output_dim` classes; `cell` 'gru', 'lstm' or 'simple_rnn'; `reset_after`, see `recurrent`; `filters` of the convolution,
`kernel_size` frames that its kernel sees, `conv_stride` frames between two outputs.
"""

from functools import partial

import keras
import numpy as np
from keras import layers

from vuilab.alphabet import NUM_CLASSES
from vuilab.models.acoustic import AcousticModel, acoustic_model, build_by_name, recurrent
from vuilab.models.acoustic import output_length as output_length  # for notebooks, as the next one
from vuilab.models.ctc import add_ctc_loss as add_ctc_loss  # registers the loss, for `keras.models.load_model`
from vuilab.models.frames import cnn_output_length as cnn_output_length
from vuilab.models.residual_birnn import residual_birnn_model
from vuilab.models.wavenet import wavenet_model


def simple_rnn_model(
    input_dim: int, output_dim: int = NUM_CLASSES, *, cell: str = "gru", reset_after: bool = True
) -> AcousticModel:
    """Model 0: a recurrent layer of 29 units straight to softmax, the example of an inadequate model.

    The logits are outputs of tanh, so they lie in -1..1 and no probability can exceed e / (e + 28 / e) = 0.21.
    """
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    logits = recurrent(cell, output_dim, "rnn", reset_after=reset_after)(the_input)
    return acoustic_model(the_input, logits, "simple_rnn_model")


def highest_probability_of_tanh_logits(num_classes: int = NUM_CLASSES) -> float:
    """Return the largest softmax probability that logits in -1..1 can give: one at 1, the others at -1.

    Example:
        >>> round(highest_probability_of_tanh_logits(29), 3)
        0.209
    """
    return float(np.e / (np.e + (num_classes - 1) / np.e))


def rnn_model(
    input_dim: int,
    units: int,
    activation: str = "tanh",
    output_dim: int = NUM_CLASSES,
    *,
    cell: str = "gru",
    reset_after: bool = True,
) -> AcousticModel:
    """Model 1: a recurrent layer with this activation, batch normalisation, and a dense layer at each frame."""
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    x = recurrent(cell, units, "rnn", activation, reset_after)(the_input)
    x = layers.BatchNormalization(name="bn_rnn")(x)
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, "rnn_model")


def cnn_rnn_model(
    input_dim: int,
    filters: int,
    kernel_size: int,
    conv_stride: int,
    conv_border_mode: str,
    units: int,
    output_dim: int = NUM_CLASSES,
    *,
    cell: str = "simple_rnn",
    reset_after: bool = True,
) -> AcousticModel:
    """Model 2: a strided convolution ('valid', 'same' or 'causal'), then a recurrent layer, each with batch normalisation."""
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    options = {"strides": conv_stride, "padding": conv_border_mode, "activation": "relu", "name": "conv1d"}
    x = layers.Conv1D(filters, kernel_size, **options)(the_input)
    x = layers.BatchNormalization(name="bn_conv_1d")(x)
    x = recurrent(cell, units, "rnn", reset_after=reset_after)(x)
    x = layers.BatchNormalization(name="bn_rnn")(x)
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, "cnn_rnn_model")


def deep_rnn_model(
    input_dim: int,
    units: int,
    recur_layers: int,
    output_dim: int = NUM_CLASSES,
    *,
    cell: str = "gru",
    reset_after: bool = True,
) -> AcousticModel:
    """Model 3: `recur_layers` recurrent layers, each with batch normalisation; one layer gives model 1.

    Raises:
        ValueError: for less than one layer.
    """
    if recur_layers < 1:
        raise ValueError(f"recur_layers must be at least 1. Received: recur_layers={recur_layers}")
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    x = the_input
    for number in range(1, recur_layers + 1):
        suffix = "" if number == 1 else f"_{number}"
        x = recurrent(cell, units, f"rnn{suffix}", reset_after=reset_after)(x)
        x = layers.BatchNormalization(name=f"bn_rnn{suffix}")(x)
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, "deep_rnn_model")


def bidirectional_rnn_model(
    input_dim: int, units: int, output_dim: int = NUM_CLASSES, *, cell: str = "gru", reset_after: bool = True
) -> AcousticModel:
    """Model 4: one recurrent layer in each direction, their outputs side by side, and a dense layer."""
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    layer = recurrent(cell, units, "rnn", reset_after=reset_after)
    x = layers.Bidirectional(layer, merge_mode="concat", name="bidir_rnn")(the_input)
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, "bidirectional_rnn_model")


def cnn_birnn_model(
    input_dim: int = 161,
    filters: int = 200,
    kernel_size: int = 11,
    conv_stride: int = 2,
    units: int = 200,
    recur_layers: int = 2,
    dropout: float = 0.1,
    output_dim: int = NUM_CLASSES,
) -> AcousticModel:
    """The report's best model: a strided convolution and bidirectional recurrent layers, dropout after each of them."""
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    options = {"strides": conv_stride, "padding": "same", "activation": "relu", "name": "conv1d"}
    x = layers.Conv1D(filters, kernel_size, **options)(the_input)
    x = layers.BatchNormalization(name="bn_conv_1d")(x)
    x = layers.Dropout(dropout, name="dropout_conv")(x)
    for number in range(1, recur_layers + 1):
        layer = recurrent("gru", units, f"rnn_{number}")
        x = layers.Bidirectional(layer, merge_mode="concat", name=f"bidir_rnn_{number}")(x)
        x = layers.BatchNormalization(name=f"bn_rnn_{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout_{number}")(x)
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, "cnn_birnn_model")


def model_number5(
    input_dim: int = 161,
    units: int = 300,
    output_dim: int = NUM_CLASSES,
    *,
    name: str = "model_number5",
    cell: str = "gru",
    **options,
) -> AcousticModel:
    """Model 5: two bidirectional recurrent layers on spectrograms, no normalisation.

    Args:
        input_dim: features per frame.
        units: width of each direction.
        output_dim: classes.
        name: of the model.
        cell: 'gru', 'lstm' or 'simple_rnn'.
        options: of the layers: reset_after, dropout, recurrent_dropout; see `recurrent`.
    """
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    x = the_input
    for number in (1, 2):
        layer = recurrent(cell, units, f"rnn_{number}", **options)
        x = layers.Bidirectional(layer, merge_mode="concat", name=f"bidir_rnn_{number}")(x)
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, name)


def model_number6(input_dim: int = 13, units: int = 300, output_dim: int = NUM_CLASSES, **options) -> AcousticModel:
    """Model 6: model 5 on MFCCs; see `model_number5` for the options."""
    return model_number5(input_dim, units, output_dim, **{"name": "model_number6", **options})


def birnn_final_model(input_dim: int = 13, units: int = 300, output_dim: int = NUM_CLASSES, **options) -> AcousticModel:
    """The final model of the BiRNN reference, of the same shape as model 6; see `model_number5` for the options."""
    return model_number5(input_dim, units, output_dim, **{"name": "birnn_final_model", **options})


FINAL_MODEL = {"conv_stride": 3, "heads": (1,), "phoneme_heads": (2,), "dropout": 0.15}


def final_model(input_dim: int = 80, output_dim: int = NUM_CLASSES, **options) -> AcousticModel:
    """Return the project's final model: `residual_birnn_model` that guesses letters and phonemes on the way, with the final
    recipe (`training/recipes.py`).

    Args:
        input_dim: features per frame; a model of 80 brings its features along, 80 log-mel bands.
        output_dim: classes.
        options: of `residual_birnn_model`, in the place of those in `FINAL_MODEL`.
    """
    return residual_birnn_model(input_dim, output_dim=output_dim, **{**FINAL_MODEL, **options})


MODEL_2 = {"filters": 200, "kernel_size": 11, "conv_stride": 2, "conv_border_mode": "valid", "units": 200}
# The models that the command line knows by name, with the reference's sizes. The references gave model 1 relu cells, whose
# state has no bound: here such a run diverged on real speech (`model_1_relu` in the ledger), so model 1 is tanh.
ZOO = {
    "model_0": simple_rnn_model,
    "model_1": partial(rnn_model, units=200),
    "model_1_relu": partial(rnn_model, units=200, activation="relu"),
    "model_2": partial(cnn_rnn_model, **MODEL_2),
    "model_3": partial(deep_rnn_model, units=200, recur_layers=2),
    "model_4": partial(bidirectional_rnn_model, units=200),
    "model_5": model_number5,
    "model_6": model_number6,
    "wavenet_model": wavenet_model,
    "wavenet_2x64": partial(wavenet_model, num_layer_grps=2, filters=64),
    "cnn_birnn_model": cnn_birnn_model,
    "residual_birnn": residual_birnn_model,
    "birnn_final_model": birnn_final_model,
    "final_model": final_model,
}


def build(name: str, input_dim: int, **options) -> AcousticModel:
    """Build a model of the zoo by name; `options` of its builder stand in the place of the reference's sizes.

    Raises:
        ValueError: for an unknown name or option; the known ones are listed.
    """
    return build_by_name(ZOO, name, input_dim, **options)
