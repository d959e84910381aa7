"""Layers that know where an utterance ends, so that its probabilities do not depend on the company it keeps.

A batch pads short utterances with zeros. In the sample models padding leaks in three ways: a bidirectional layer reads it
before the utterance's end, batch normalisation counts it during training, and a strided 'same' convolution pads differently
for another length. The layers here take a mask beside the features: (batch, num_frames, 1), 1 for frames of the utterance.

The mask is read off the features: normalised frames whose features are all exactly zero, up to the end of the batch, are
padding. A model therefore still has the one input `the_input`.
"""

import keras
from keras import layers, ops

from vuilab.models.acoustic import recurrent

SMALLEST_DEVIATION = 1e-3  # of a feature within an utterance


@keras.saving.register_keras_serializable(package="vui")
class PaddingMask(layers.Layer):
    """Features (batch, num_frames, num_features) -> mask (batch, num_frames, 1): 0 for the zeros behind each end."""

    def call(self, features):
        """Return the mask as float32."""
        heard = ops.any(ops.not_equal(features, 0), axis=-1, keepdims=True)
        frame = ops.reshape(ops.arange(1, ops.shape(features)[1] + 1), (1, -1, 1))
        length = ops.max(ops.where(heard, frame, 0), axis=1, keepdims=True)
        return ops.cast(frame <= length, "float32")

    def compute_output_shape(self, input_shape):
        """Return (batch, num_frames, 1)."""
        return (*input_shape[:-1], 1)


def is_length_aware(model: keras.Model) -> bool:
    """Whether a model tells padding from speech, so that zeros behind the end of an utterance change nothing."""
    return any(isinstance(layer, PaddingMask) for layer in model.layers)


class _ShapeOfFirst:
    def compute_output_shape(self, input_shape):  # of the sequence; a mask comes second
        return input_shape[0]


@keras.saving.register_keras_serializable(package="vui")
class UtteranceNormalization(_ShapeOfFirst, layers.Layer):
    """[features, mask] -> features with mean 0 and deviation 1 over the frames of each utterance; zeros behind its end.

    Takes out the colour of a microphone and the loudness of a speaker (cepstral mean and variance normalisation).
    """

    def __init__(self, **options):
        # sums over many frames, also where other layers calculate coarsely
        super().__init__(**{"dtype": "float32", **options})

    def call(self, inputs):
        """Return normalised features of the same shape."""
        features, mask = inputs
        count = ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1)
        mean = ops.sum(features * mask, axis=1, keepdims=True) / count
        centred = (features - mean) * mask
        deviation = ops.sqrt(ops.sum(ops.square(centred), axis=1, keepdims=True) / count)
        return centred / ops.maximum(deviation, SMALLEST_DEVIATION)


@keras.saving.register_keras_serializable(package="vui")
class Thinned(layers.Layer):
    """Mask of a sequence -> mask of every `stride`-th frame, what a strided `padded_conv` puts out.

    Args:
        stride: frames between two outputs.
    """

    def __init__(self, stride: int, **options):
        super().__init__(**options)
        self.stride = stride

    def call(self, frames):
        """Return (batch, ceil(num_frames / stride), 1)."""
        return frames[:, :: self.stride]

    def compute_output_shape(self, input_shape):
        """Return the shape of the thinned mask."""
        batch, num_frames, width = input_shape
        return batch, None if num_frames is None else -(-num_frames // self.stride), width

    def get_config(self):
        """Return what the layer is made of."""
        return {**super().get_config(), "stride": self.stride}


@keras.saving.register_keras_serializable(package="vui")
class ReverseUtterance(_ShapeOfFirst, layers.Layer):
    """[sequence, mask] -> the frames of each utterance in reverse order; what is behind its end stays there."""

    def call(self, inputs):
        """Return a sequence of the same shape."""
        sequence, mask = inputs
        batch, num_frames, width = ops.shape(sequence)
        frame = ops.reshape(ops.arange(num_frames), (1, -1))
        length = ops.sum(ops.cast(mask[..., 0], frame.dtype), axis=1, keepdims=True)  # an integer in every precision
        source = ops.where(frame < length, length - 1 - frame, frame)  # (batch, num_frames)
        rows = ops.reshape(source + num_frames * ops.reshape(ops.arange(batch), (-1, 1)), (-1,))
        return ops.reshape(_swapped(ops.reshape(sequence, (-1, width)), rows), (batch, num_frames, width))


def _swapped(rows, partner):
    """Return row `partner[i]` of (num_rows, width) in the place of row i, where each is its partner's partner.

    So the gradient is the same swap again; the one that a backend derives adds number by number and takes far longer.
    """

    @ops.custom_gradient
    def swap(rows):
        def gradient(*args, upstream=None):  # Keras passes it by name on PyTorch, by position elsewhere
            return ops.take(args[0] if upstream is None else upstream, partner, axis=0)

        return ops.take(rows, partner, axis=0), gradient

    return swap(rows)


@keras.saving.register_keras_serializable(package="vui")
class MaskedBatchNormalization(_ShapeOfFirst, layers.BatchNormalization):
    """[sequence, mask] -> batch normalisation whose statistics leave padding out, and zeros behind the ends."""

    def build(self, input_shape):
        """Make the weights; called by Keras."""
        super().build(input_shape[0])
        self.input_spec = None  # the base class expects one input

    def call(self, inputs, training=None):
        """Return a sequence of the same shape."""
        sequence, mask = inputs
        return super().call(sequence, training=training, mask=mask[..., 0]) * ops.cast(mask, sequence.dtype)


def padded_conv(
    x, mask, filters: int, kernel_size: int, stride: int = 1, dilation: int = 1, name: str = "conv", activation=None
):
    """Return a convolution with zeros on both sides and its mask, whose frames see the same whatever follows the end.

    Args:
        x: sequence (batch, num_frames, channels), zero where the mask is.
        mask: (batch, num_frames, 1).
        filters: channels of the output.
        kernel_size: frames that the kernel sees, an odd number.
        stride: frames between two outputs; output t is centred on input frame t * stride.
        dilation: spacing of the kernel's taps.
        name: of the layers.
        activation: of the convolution.

    Returns:
        (output (batch, ceil(num_frames / stride), filters), its mask); behind the end the output is not yet zero.
    """
    reach = (kernel_size // 2) * dilation
    x = layers.ZeroPadding1D((reach, reach), name=f"{name}_padding")(x)
    conv = layers.Conv1D(filters, kernel_size, strides=stride, dilation_rate=dilation, activation=activation, name=name)
    return conv(x), mask if stride == 1 else Thinned(stride, name=f"{name}_mask")(mask)


def both_directions(x, mask, cell: str, units: int, name: str):
    """Return a bidirectional recurrent layer whose backward half begins at the last frame of each utterance.

    Args:
        x: sequence (batch, num_frames, channels).
        mask: (batch, num_frames, 1).
        cell: 'gru', 'lstm' or 'simple_rnn'.
        units: width of each direction.
        name: of the layers.

    Returns:
        (batch, num_frames, 2 * units); behind the ends it is not zero (`MaskedBatchNormalization` sees to that).
    """
    forward = recurrent(cell, units, f"{name}_forward")(x)
    backward = recurrent(cell, units, f"{name}_backward")(ReverseUtterance(name=f"{name}_reverse")([x, mask]))
    backward = ReverseUtterance(name=f"{name}_restore")([backward, mask])
    return layers.Concatenate(name=name)([forward, backward])
