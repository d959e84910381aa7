"""The acoustic models: features in, a probability for each of 29 characters at each output frame out.

Every builder returns an `AcousticModel`, a functional `keras.Model` with an input layer `the_input` of shape
(batch, num_frames, input_dim) and a last layer `softmax` of shape (batch, num_output_frames, output_dim). The tensor
before `softmax` holds the logits that training uses. `TimeDistributed(Dense)` of the references is a plain `Dense`
here: Keras applies it to the last axis, which gives the same numbers much faster.

The number of parameters and the layer names follow the reference notebooks, so that their summaries can be compared.
"""

import logging

import keras
import numpy as np
from keras import layers

from char_map import NUM_CLASSES
from recurrent_layers import GRU, SimpleRNN

# TensorFlow counts the first calls of each new model as "retracing" and warns; a laboratory builds many models.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

CELLS = {"gru": GRU, "lstm": layers.LSTM, "simple_rnn": SimpleRNN}


def cnn_output_length(input_length, filter_size: int, border_mode: str, stride: int, dilation: int = 1):
    """Return how many frames a one-dimensional convolution or pooling puts out.

    Args:
        input_length: input frames, an integer or an integer array.
        filter_size: width of the kernel or pool.
        border_mode: 'valid', 'same' or 'causal'.
        stride: step of the kernel.
        dilation: spacing of the kernel's taps.

    Returns:
        Output frames, of the same type as `input_length`; 0 where the input is shorter than the kernel.

    Raises:
        ValueError: for another border mode.

    Example:
        >>> cnn_output_length(381, 11, "valid", 2)
        186
    """
    if input_length is None:
        return None
    if border_mode not in ("valid", "same", "causal"):
        raise ValueError(f"border_mode must be 'valid', 'same' or 'causal'. Received: border_mode={border_mode!r}")
    reach = (filter_size - 1) * dilation + 1
    length = input_length - reach + 1 if border_mode == "valid" else input_length
    output = (length + stride - 1) // stride
    if isinstance(output, (int, np.integer, np.ndarray)):
        return type(input_length)(max(output, 0)) if np.ndim(output) == 0 else np.maximum(output, 0)
    return keras.ops.maximum(output, 0)  # inside the training model


def output_length(model: keras.Model, input_length):
    """Return the output frames of a model for a number of input frames, derived from its layers.

    Walks from the output back to the input and lets each convolution, pooling, padding or cropping change the length;
    other layers keep it.

    Args:
        model: a functional model with one time axis.
        input_length: feature frames, an integer or an integer array.
    """
    for layer in _layers_that_change_length(model):
        if isinstance(layer, layers.ZeroPadding1D):
            input_length = input_length + sum(layer.padding)
        elif isinstance(layer, layers.Cropping1D):
            input_length = input_length - sum(layer.cropping)
        elif isinstance(layer, layers.UpSampling1D):
            input_length = input_length * layer.size
        elif isinstance(layer, (layers.MaxPooling1D, layers.AveragePooling1D)):
            size, stride = layer.pool_size[0], layer.strides[0]
            input_length = cnn_output_length(input_length, size, layer.padding, stride)
        else:
            kernel, stride, dilation = layer.kernel_size[0], layer.strides[0], layer.dilation_rate[0]
            input_length = cnn_output_length(input_length, kernel, layer.padding, stride, dilation)
    return input_length


def _layers_that_change_length(model: keras.Model) -> list[keras.Layer]:
    kinds = (
        layers.Conv1D,
        layers.SeparableConv1D,
        layers.DepthwiseConv1D,
        layers.MaxPooling1D,
        layers.AveragePooling1D,
        layers.ZeroPadding1D,
        layers.Cropping1D,
        layers.UpSampling1D,
    )
    chain, tensor = [], model.outputs[0]
    while tensor is not model.inputs[0]:
        layer, node_index, _ = tensor._keras_history
        if isinstance(layer, kinds):
            chain.append(layer)
        elif isinstance(layer, keras.Model):  # a model used as a layer
            chain.extend(_layers_that_change_length(layer)[::-1])
        # where branches join (skip connections, concatenation) all of them have the same length
        tensor = layer._inbound_nodes[node_index].input_tensors[0]
    return chain[::-1]


@keras.saving.register_keras_serializable(package="vui")
class AcousticModel(keras.Model):
    """A functional model that knows how many frames it puts out, also after cloning and loading."""

    def output_length(self, input_length):
        """Return the output frames for this many feature frames (an integer or an integer array)."""
        return output_length(self, input_length)


def acoustic_model(the_input, logits, name: str, print_summary: bool = True) -> AcousticModel:
    """Close a model: put the `softmax` layer on the logits, and print the summary.

    This is what your own builder ends with: `return acoustic_model(the_input, logits, "my_model")`.

    Args:
        the_input: the tensor of `keras.Input(shape=(None, input_dim), name="the_input")`.
        logits: tensor (batch, num_output_frames, num_classes) before softmax.
        name: of the model.
        print_summary: print the table of layers once.
    """
    probabilities = layers.Activation("softmax", name="softmax", dtype="float32")(logits)
    model = AcousticModel(inputs=the_input, outputs=probabilities, name=name)
    if print_summary:
        model.summary(line_length=78)
    return model


def recurrent(
    cell: str,
    units: int,
    name: str,
    activation: str = "tanh",
    reset_after: bool = True,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
) -> keras.Layer:
    """Return a recurrent layer that puts out its whole sequence.

    Args:
        cell: 'gru', 'lstm' or 'simple_rnn'.
        units: width.
        name: of the layer.
        activation: of the candidate state. Only 'tanh' can run in cuDNN on a GPU.
        reset_after: for GRU: True is the fast, cuDNN-compatible form with two bias vectors, False the form of the
            original paper that the references used, with 3 x units parameters fewer.
        dropout: share of the inputs dropped.
        recurrent_dropout: share of the recurrent state dropped (rules out cuDNN).

    Raises:
        ValueError: for an unknown cell or a number of units under 1.
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {list(CELLS)}. Received: cell={cell!r}")
    if units < 1:
        raise ValueError(f"units must be at least 1. Received: units={units}")
    options = {"reset_after": reset_after} if cell == "gru" else {}
    return CELLS[cell](
        units,
        activation=activation,
        return_sequences=True,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        name=name,
        **options,
    )


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
    *,
    cell: str = "gru",
    reset_after: bool = True,
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
        cell: 'gru', 'lstm' or 'simple_rnn'.
        reset_after: see `recurrent`.
    """
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    x = layers.Conv1D(filters, kernel_size, strides=conv_stride, padding="same", activation="relu", name="conv1d")(
        the_input
    )
    x = layers.BatchNormalization(name="bn_conv_1d")(x)
    x = layers.Dropout(dropout, name="dropout_conv")(x)
    for number in range(1, recur_layers + 1):
        layer = recurrent(cell, units, f"rnn_{number}", reset_after=reset_after)
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


def birnn_final_model(
    input_dim: int = 13,
    units: int = 300,
    output_dim: int = NUM_CLASSES,
    *,
    cell: str = "gru",
    reset_after: bool = True,
) -> AcousticModel:
    """The final model of the BiRNN reference: two bidirectional layers on MFCCs, no normalisation.

    Args:
        input_dim: features per frame.
        units: width of each direction.
        output_dim: classes.
        cell: 'gru', 'lstm' or 'simple_rnn'.
        reset_after: see `recurrent`.
    """
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    x = the_input
    for number in (1, 2):
        layer = recurrent(cell, units, f"rnn_{number}", reset_after=reset_after)
        x = layers.Bidirectional(layer, merge_mode="concat", name=f"bidir_rnn_{number}")(x)
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, "birnn_final_model")


def final_model(*args, **kwargs) -> AcousticModel:
    """Return the project's final model, at present the BiRNN; see `birnn_final_model`."""
    return birnn_final_model(*args, **kwargs)


# The models that the command line knows by name, with the reference's sizes. The references gave model 1 relu cells, whose
# state has no bound: here such a run diverged on real speech (`model_1_relu` in the ledger), so model 1 is tanh.
ZOO = {
    "model_0": lambda input_dim: simple_rnn_model(input_dim),
    "model_1": lambda input_dim: rnn_model(input_dim, units=200),
    "model_1_relu": lambda input_dim: rnn_model(input_dim, units=200, activation="relu"),
    "model_2": lambda input_dim: cnn_rnn_model(input_dim, 200, 11, 2, "valid", units=200),
    "model_3": lambda input_dim: deep_rnn_model(input_dim, units=200, recur_layers=2),
    "model_4": lambda input_dim: bidirectional_rnn_model(input_dim, units=200),
    "cnn_birnn_model": lambda input_dim: cnn_birnn_model(input_dim),
    "birnn_final_model": lambda input_dim: birnn_final_model(input_dim),
    "final_model": lambda input_dim: final_model(input_dim),
}


def build(name: str, input_dim: int) -> AcousticModel:
    """Build a model of the zoo by name, with the reference's sizes.

    Raises:
        ValueError: for an unknown name; the known ones are listed.
    """
    if name not in ZOO:
        raise ValueError(f"Unknown model {name!r}. Expected one of: {', '.join(ZOO)}")
    return ZOO[name](input_dim)
