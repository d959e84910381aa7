"""The acoustic models: features in, a probability for each of 29 characters at each output frame out.

Every builder returns an `AcousticModel`, a functional `keras.Model` with an input layer `the_input` of shape
(batch, num_frames, input_dim) and a last layer `softmax` of shape (batch, num_output_frames, output_dim). The tensor
before `softmax` holds the logits that training uses. `TimeDistributed(Dense)` of the references is a plain `Dense`
here: Keras applies it to the last axis, which gives the same numbers much faster.

The number of parameters and the layer names follow the reference notebooks, so that their summaries can be compared.
"""

import keras
import numpy as np
from keras import layers

from vuilab.alphabet import NUM_CLASSES
from vuilab.models.acoustic import (
    AcousticModel,
    acoustic_model,
    build_by_name,
    cnn_output_length,
    output_length,
    recurrent,
)
from vuilab.models.residual_birnn import residual_birnn_model
from vuilab.models.wavenet import wavenet_model

__all__ = [
    "ZOO",
    "AcousticModel",
    "acoustic_model",
    "bidirectional_rnn_model",
    "birnn_final_model",
    "build",
    "cnn_birnn_model",
    "cnn_output_length",
    "cnn_rnn_model",
    "deep_rnn_model",
    "final_model",
    "highest_probability_of_tanh_logits",
    "model_number5",
    "model_number6",
    "output_length",
    "recurrent",
    "residual_birnn_model",
    "rnn_model",
    "simple_rnn_model",
    "wavenet_model",
]


def simple_rnn_model(
    input_dim: int, output_dim: int = NUM_CLASSES, *, cell: str = "gru", reset_after: bool = True
) -> AcousticModel:
    """Model 0: a recurrent layer of 29 units straight to softmax, the example of an inadequate model.

    The logits are outputs of tanh, so they lie in -1..1 and no probability can exceed e / (e + 28 / e) = 0.21.

    Args:
        input_dim: features per frame.
        output_dim: classes.
        cell: 'gru', 'lstm' or 'simple_rnn'.
        reset_after: see `recurrent`.
    """
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    logits = recurrent(cell, output_dim, "rnn", reset_after=reset_after)(the_input)
    return acoustic_model(the_input, logits, "simple_rnn_model")


def rnn_model(
    input_dim: int,
    units: int,
    activation: str = "tanh",
    output_dim: int = NUM_CLASSES,
    *,
    cell: str = "gru",
    reset_after: bool = True,
) -> AcousticModel:
    """Model 1: a recurrent layer, batch normalisation, and a dense layer at each frame.

    Args:
        input_dim: features per frame.
        units: width of the recurrent layer.
        activation: of the recurrent layer.
        output_dim: classes.
        cell: 'gru', 'lstm' or 'simple_rnn'.
        reset_after: see `recurrent`.
    """
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
    """Model 2: a strided convolution, then a recurrent layer, each with batch normalisation.

    Args:
        input_dim: features per frame.
        filters: of the convolution.
        kernel_size: frames that the kernel sees.
        conv_stride: frames between two outputs.
        conv_border_mode: 'valid', 'same' or 'causal'.
        units: width of the recurrent layer.
        output_dim: classes.
        cell: 'simple_rnn', 'gru' or 'lstm'.
        reset_after: see `recurrent`.
    """
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    convolution = layers.Conv1D(
        filters, kernel_size, strides=conv_stride, padding=conv_border_mode, activation="relu", name="conv1d"
    )
    x = convolution(the_input)
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

    Args:
        input_dim: features per frame.
        units: width of each recurrent layer.
        recur_layers: at least 1.
        output_dim: classes.
        cell: 'gru', 'lstm' or 'simple_rnn'.
        reset_after: see `recurrent`.

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
    """Model 4: one recurrent layer in each direction, their outputs side by side, and a dense layer.

    Args:
        input_dim: features per frame.
        units: width of each direction.
        output_dim: classes.
        cell: 'gru', 'lstm' or 'simple_rnn'.
        reset_after: see `recurrent`.
    """
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
    """The report's best model: a strided convolution and two bidirectional recurrent layers.

    Args:
        input_dim: features per frame.
        filters: of the convolution.
        kernel_size: frames that the kernel sees.
        conv_stride: frames between two outputs.
        units: width of each direction.
        recur_layers: number of bidirectional layers.
        dropout: after the convolution and after each recurrent layer.
        output_dim: classes.
    """
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    x = layers.Conv1D(filters, kernel_size, strides=conv_stride, padding="same", activation="relu", name="conv1d")(
        the_input
    )
    x = layers.BatchNormalization(name="bn_conv_1d")(x)
    x = layers.Dropout(dropout, name="dropout_conv")(x)
    for number in range(1, recur_layers + 1):
        layer = recurrent("gru", units, f"rnn_{number}")
        x = layers.Bidirectional(layer, merge_mode="concat", name=f"bidir_rnn_{number}")(x)
        x = layers.BatchNormalization(name=f"bn_rnn_{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout_{number}")(x)
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, "cnn_birnn_model")


def highest_probability_of_tanh_logits(num_classes: int = NUM_CLASSES) -> float:
    """Return the largest softmax probability that logits in -1..1 can give: one at 1, the others at -1.

    Example:
        >>> round(highest_probability_of_tanh_logits(29), 3)
        0.209
    """
    return float(np.e / (np.e + (num_classes - 1) / np.e))


def model_number5(
    input_dim: int = 161,
    units: int = 300,
    output_dim: int = NUM_CLASSES,
    *,
    cell: str = "gru",
    reset_after: bool = True,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    name: str = "model_number5",
) -> AcousticModel:
    """Model 5: two bidirectional recurrent layers on spectrograms, no normalisation.

    Args:
        input_dim: features per frame.
        units: width of each direction.
        output_dim: classes.
        cell: 'gru', 'lstm' or 'simple_rnn'.
        reset_after: see `recurrent`.
        dropout: share of each layer's inputs dropped.
        recurrent_dropout: share of the recurrent state dropped (slow; it rules out the fast forms).
        name: of the model.
    """
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    x = the_input
    for number in (1, 2):
        layer = recurrent(
            cell, units, f"rnn_{number}", reset_after=reset_after, dropout=dropout, recurrent_dropout=recurrent_dropout
        )
        x = layers.Bidirectional(layer, merge_mode="concat", name=f"bidir_rnn_{number}")(x)
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, name)


def model_number6(input_dim: int = 13, units: int = 300, output_dim: int = NUM_CLASSES, **options) -> AcousticModel:
    """Model 6: model 5 on MFCCs; see `model_number5` for the options."""
    return model_number5(input_dim, units, output_dim, **{"name": "model_number6", **options})


def birnn_final_model(input_dim: int = 13, units: int = 300, output_dim: int = NUM_CLASSES, **options) -> AcousticModel:
    """The final model of the BiRNN reference, of the same shape as model 6; see `model_number5` for the options."""
    return model_number5(input_dim, units, output_dim, **{"name": "birnn_final_model", **options})


def final_model(input_dim: int = 80, output_dim: int = NUM_CLASSES, **options) -> AcousticModel:
    """Return the project's final model: `residual_birnn_model` that guesses letters and phonemes on the way, with the final
    recipe (`training/recipes.py`).

    Args:
        input_dim: features per frame; a model of 80 brings its features along, 80 log-mel bands.
        output_dim: classes.
        options: of `residual_birnn_model`, in the place of those in `FINAL_MODEL`.
    """
    return residual_birnn_model(input_dim, output_dim=output_dim, **{**FINAL_MODEL, **options})


FINAL_MODEL = {"conv_stride": 3, "heads": (1,), "phoneme_heads": (2,), "dropout": 0.15}
MODEL_2 = {"filters": 200, "kernel_size": 11, "conv_stride": 2, "conv_border_mode": "valid", "units": 200}
# The models that the command line knows by name, with the reference's sizes. The references gave model 1 relu cells, whose
# state has no bound: here such a run diverged on real speech (`model_1_relu` in the ledger), so model 1 is tanh.
ZOO = {
    "model_0": lambda input_dim, **options: simple_rnn_model(input_dim, **options),
    "model_1": lambda input_dim, **options: rnn_model(input_dim, **{"units": 200, **options}),
    "model_1_relu": lambda input_dim, **options: rnn_model(
        input_dim, **{"units": 200, "activation": "relu", **options}
    ),
    "model_2": lambda input_dim, **options: cnn_rnn_model(input_dim, **{**MODEL_2, **options}),
    "model_3": lambda input_dim, **options: deep_rnn_model(input_dim, **{"units": 200, "recur_layers": 2, **options}),
    "model_4": lambda input_dim, **options: bidirectional_rnn_model(input_dim, **{"units": 200, **options}),
    "model_5": model_number5,
    "model_6": model_number6,
    "wavenet_model": wavenet_model,
    "wavenet_2x64": lambda input_dim, **options: wavenet_model(
        input_dim, **{"num_layer_grps": 2, "filters": 64, **options}
    ),
    "cnn_birnn_model": cnn_birnn_model,
    "residual_birnn": residual_birnn_model,
    "birnn_final_model": birnn_final_model,
    "final_model": final_model,
}


def build(name: str, input_dim: int, **options) -> AcousticModel:
    """Build a model of the zoo by name, with the reference's sizes.

    Args:
        name: in `ZOO`.
        input_dim: features per frame.
        options: keyword arguments of the builder, in the place of those sizes.

    Raises:
        ValueError: for an unknown name or option; the known ones are listed.
    """
    return build_by_name(ZOO, name, input_dim, **options)
