"""Conformer blocks: attention and convolutions in turn, which know where each utterance ends.

After Gulati et al., arXiv:2005.08100: half a feed-forward module, self-attention, a gated depthwise convolution, the other half,
and layer normalisation. Two things differ. Frames have no positional encoding, since the convolution before the first block and
those inside tell neighbours apart; and the convolution is normalised over the channels of a frame instead of over the batch.
"""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="vui")
class DepthwiseConv(layers.Layer):
    """Convolution of each channel by itself, 'same' padding with zeros: (batch, num_frames, channels) keeps its shape.

    A sum of shifted copies, which compilers fuse; the backends' own depthwise convolution takes several times as long on JAX.

    Args:
        kernel_size: frames that the kernel sees, an odd number.
    """

    def __init__(self, kernel_size: int, **options):
        super().__init__(**options)
        self.kernel_size = kernel_size

    def build(self, input_shape):
        """Make the weights; called by Keras."""
        channels = input_shape[-1]
        spread = keras.initializers.RandomNormal(stddev=self.kernel_size**-0.5)
        self.kernel = self.add_weight(shape=(self.kernel_size, channels), initializer=spread, name="kernel")
        self.bias = self.add_weight(shape=(channels,), initializer="zeros", name="bias")

    def call(self, sequence):
        """Return a sequence of the same shape."""
        reach, num_frames = self.kernel_size // 2, ops.shape(sequence)[1]
        sequence = ops.pad(sequence, ((0, 0), (reach, reach), (0, 0)))
        return (
            sum(sequence[:, tap : tap + num_frames] * self.kernel[tap] for tap in range(self.kernel_size)) + self.bias
        )

    def compute_output_shape(self, input_shape):
        """Return the shape of the sequence."""
        return input_shape

    def get_config(self):
        """Return what the layer is made of."""
        return {**super().get_config(), "kernel_size": self.kernel_size}


def conformer_block(
    x, mask, num_heads: int = 4, kernel_size: int = 15, expansion: int = 4, dropout: float = 0.1, name="block"
):
    """Return a sequence that has passed one block.

    Args:
        x: sequence (batch, num_frames, channels), zero where the mask is; `num_heads` divides the channels.
        mask: (batch, num_frames, 1), 1 for the frames of an utterance.
        num_heads: of the attention.
        kernel_size: frames that the convolution sees, an odd number.
        expansion: width of the feed-forward modules, in channels.
        dropout: after each module.
        name: of the layers.

    Returns:
        (batch, num_frames, channels), zeros behind the ends.
    """
    channels = x.shape[-1]

    def drop(y, part):
        return layers.Dropout(dropout, name=f"{name}_{part}_dropout")(y)

    def feed_forward(x, part):
        y = layers.LayerNormalization(name=f"{name}_{part}_norm")(x)
        y = drop(layers.Dense(expansion * channels, activation="silu", name=f"{name}_{part}_wide")(y), f"{part}_wide")
        y = drop(layers.Dense(channels, name=f"{name}_{part}")(y), part)
        return layers.Add(name=f"{name}_{part}_add")([x, layers.Rescaling(0.5, name=f"{name}_{part}_half")(y)])

    x = feed_forward(x, "first")
    y = layers.LayerNormalization(name=f"{name}_attention_norm")(x)
    attention = layers.MultiHeadAttention(num_heads, channels // num_heads, name=f"{name}_attention")
    y = drop(attention(y, y, attention_mask=layers.Permute((2, 1), name=f"{name}_heard")(mask)), "attention")
    x = layers.Add(name=f"{name}_attention_add")([x, y])
    y = layers.LayerNormalization(name=f"{name}_conv_norm")(x)
    gate = layers.Dense(channels, activation="sigmoid", name=f"{name}_conv_gate")(y)
    y = layers.Multiply(name=f"{name}_conv_gated")([layers.Dense(channels, name=f"{name}_conv_in")(y), gate])
    y = DepthwiseConv(kernel_size, name=f"{name}_conv")(layers.Multiply(name=f"{name}_conv_cut")([y, mask]))
    y = layers.Activation("silu", name=f"{name}_conv_silu")(
        layers.LayerNormalization(name=f"{name}_conv_middle_norm")(y)
    )
    y = drop(layers.Dense(channels, name=f"{name}_conv_out")(y), "conv")
    x = feed_forward(layers.Add(name=f"{name}_conv_add")([x, y]), "second")
    x = layers.LayerNormalization(name=f"{name}_norm")(x)
    return layers.Multiply(name=f"{name}_cut")([x, mask])
