"""Conformer blocks: attention and convolutions in turn, which know where each utterance ends.

After Gulati et al., arXiv:2005.08100: half a feed-forward module, self-attention, a gated depthwise convolution, the other half,
and layer normalisation. Two things differ. Frames have no positional encoding, since the convolution before the first block and
those inside tell neighbours apart; and the convolution is normalised over the channels of a frame instead of over the batch.
"""

from keras import layers


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

    Raises:
        ValueError: when the heads cannot share the channels.
    """
    channels = x.shape[-1]
    if channels % num_heads:
        raise ValueError(
            f"The channels are shared by {num_heads} heads, so their number is a multiple of it. Received: {channels}. Choose "
            f"`filters` such as {num_heads * (channels // num_heads + 1)}."
        )

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
    y = layers.DepthwiseConv1D(kernel_size, padding="same", name=f"{name}_conv")(
        layers.Multiply(name=f"{name}_conv_cut")([y, mask])
    )
    y = layers.Activation("silu", name=f"{name}_conv_silu")(
        layers.LayerNormalization(name=f"{name}_conv_middle_norm")(y)
    )
    y = drop(layers.Dense(channels, name=f"{name}_conv_out")(y), "conv")
    x = feed_forward(layers.Add(name=f"{name}_conv_add")([x, y]), "second")
    x = layers.LayerNormalization(name=f"{name}_norm")(x)
    return layers.Multiply(name=f"{name}_cut")([x, mask])
