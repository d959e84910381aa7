"""What every acoustic model is made of: its recurrent cells, how it ends, and how many frames it puts out.

`AcousticModel` is a functional `keras.Model` that knows its number of output frames; `acoustic_model` closes one. The
builders themselves stand in `sample_models.py` and `models/wavenet.py`.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping

import keras
from keras import layers

from vuilab.features import FeatureSettings
from vuilab.models.frames import PHONEMES, TimeChange, frames_out, time_change
from vuilab.models.recurrent import GRU, SimpleRNN

# TensorFlow counts the first calls of each new model as "retracing" and warns; a laboratory builds many models.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

CELLS = {"gru": GRU, "lstm": layers.LSTM, "simple_rnn": SimpleRNN}
# layers whose change of the number of frames is known
CHANGE_LENGTH = (
    *(layers.Conv1D, layers.SeparableConv1D, layers.DepthwiseConv1D, layers.MaxPooling1D, layers.AveragePooling1D),
    *(layers.ZeroPadding1D, layers.Cropping1D, layers.UpSampling1D),
)
PROBE_FRAMES = 997  # a length that no layer keeps by chance


def output_length(model: keras.Model, input_length):
    """Return the output frames of a functional model for feature frames (integer or array), derived from its layers.

    Raises:
        ValueError: when a layer changes the time axis in a way that is not known.
    """
    return frames_out(time_changes(model), input_length)


def time_changes(model: keras.Model) -> list[TimeChange]:
    """Return what the layers of a functional model do to the time axis, from the input to the output.

    Walks from the output back to the input. Of layers whose change is not known it makes sure that they keep the frames.

    Raises:
        ValueError: when one does not.
    """
    return [
        time_change(next(kind.__name__ for kind in CHANGE_LENGTH if isinstance(layer, kind)), layer.get_config())
        for layer in layers_that_change_length(model)
    ]


def layers_that_change_length(model: keras.Model) -> list[keras.Layer]:
    """Return the layers that change the number of frames, from the input to the output; see `time_changes`."""
    chain, tensor = [], model.outputs[0]
    while tensor is not model.inputs[0]:
        layer, node_index, _ = tensor._keras_history
        if isinstance(layer, CHANGE_LENGTH):
            chain.append(layer)
        elif isinstance(layer, keras.Model):  # a model used as a layer
            chain.extend(layers_that_change_length(layer)[::-1])
        else:
            _require_same_length(layer, layer._inbound_nodes[node_index].input_tensors)
        # where branches join (skip connections, concatenation) all of them have the same length
        tensor = layer._inbound_nodes[node_index].input_tensors[0]
    return chain[::-1]


def _require_same_length(layer: keras.Layer, tensors: list) -> None:
    """Refuse a layer that changes the time axis, found by asking it for the shape that it makes of a probe."""
    recurrent_layer = layer.forward_layer if isinstance(layer, layers.Bidirectional) else layer
    if isinstance(recurrent_layer, layers.RNN) and recurrent_layer.return_sequences:
        return
    shapes = [(1, PROBE_FRAMES, *tensor.shape[2:]) for tensor in tensors]
    try:
        shape = tuple(layer.compute_output_shape(shapes[0] if len(shapes) == 1 else shapes))
    except (NotImplementedError, TypeError):  # a layer of one's own that does not say
        return
    except ValueError:  # 997 frames do not fit into its shape
        shape = (1, "another number")
    if len(shape) < 3 or shape[1] != PROBE_FRAMES:
        raise ValueError(
            f"Layer {layer.name!r} ({type(layer).__name__}) changes the time axis: {PROBE_FRAMES} frames become {shape[1]}. "
            "The number of output frames is known for Conv1D, SeparableConv1D, DepthwiseConv1D, pooling, zero padding, cropping "
            "and upsampling; use those, or give the model an `output_length` method of its own."
        )


@keras.saving.register_keras_serializable(package="vui")
class AcousticModel(keras.Model):
    """A functional model that knows how many frames it puts out, also after cloning and loading.

    A builder may set `features` to the `FeatureSettings` that its network is made for, where the width of its input does not
    tell them; training uses these unless told otherwise, also after loading (cloning loses them).
    """

    features: FeatureSettings | None = None

    def get_config(self) -> dict:
        """Return the architecture, with the features where the model brings some."""
        brought = {"features": dataclasses.asdict(self.features)} if self.features else {}
        return super().get_config() | brought

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "AcousticModel":
        """Build the model from its architecture."""
        features = config.get("features")
        model = super().from_config({key: config[key] for key in config if key != "features"}, custom_objects)
        model.features = features and FeatureSettings(**features)
        return model

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


def build_by_name(zoo: Mapping[str, Callable], name: str, input_dim: int, **options) -> AcousticModel:
    """Build a model of a collection (name -> builder); `options` are keyword arguments of its builder.

    Raises:
        ValueError: for an unknown name or option; the known ones are listed.
    """
    if name not in zoo:
        raise ValueError(f"Unknown model {name!r}. Expected one of: {', '.join(zoo)}")
    try:
        return zoo[name](input_dim, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"{name} has no such option: {error}. `help(sample_models)` lists each builder's.") from error


def heads_of(model: keras.Model, prefix: str) -> list[keras.Layer]:
    """Return the layers that put out logits on the way, `INTERMEDIATE` ones or `PHONEMES`."""
    return [layer for layer in model.layers if layer.name.startswith(prefix)]


def with_phonemes(model: keras.Model) -> keras.Model | None:
    """Return a model with two outputs, the probabilities of letters and those of phonemes; None where it learnt no phonemes.

    Args:
        model: an acoustic model; of several layers that guess phonemes the last one counts.
    """
    heads = heads_of(model, PHONEMES)
    if not heads:
        return None
    sounds = layers.Activation("softmax", name="sounds", dtype="float32")(heads[-1].output)
    return keras.Model(model.inputs, [model.outputs[0], sounds], name=f"{model.name}_sounds")


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
    options = {"dropout": dropout, "recurrent_dropout": recurrent_dropout, "return_sequences": True, "name": name}
    options |= {"reset_after": reset_after} if cell == "gru" else {}
    return CELLS[cell](units, activation=activation, **options)
