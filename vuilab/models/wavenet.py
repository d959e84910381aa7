"""The WaveNet-style acoustic model: dilated causal convolutions instead of recurrence.

After van den Oord et al. (arXiv:1609.03499), as the WaveNet reference adapted it to recognition. With kernel 7 and dilations 1,
2, 4, 8 and 16 one group of blocks sees 6 x 31 = 186 frames back, three groups 558, which is 5.6 s.
"""

import keras
from keras import layers

from vuilab.alphabet import NUM_CLASSES
from vuilab.models.acoustic import AcousticModel, acoustic_model

KERNEL_SIZE = 7  # frames
DILATIONS = (1, 2, 4, 8, 16)  # of the blocks of a group


def wavenet_model(
    input_dim: int = 13,
    num_layer_grps: int = 3,
    filters: int = 128,
    output_dim: int = NUM_CLASSES,
    dropout: float = 0.0,
    print_summary: bool = True,
) -> AcousticModel:
    """Groups of gated, dilated, causal convolutions with residual and skip connections.

    A block multiplies a tanh and a sigmoid convolution, each with batch normalisation; a 1x1 convolution makes of the
    product what is added to the block's input (the residual branch) and to the sum of all blocks (the skip branch).

    Args:
        input_dim: features per frame.
        num_layer_grps: groups of five blocks.
        filters: channels of every convolution.
        output_dim: classes.
        dropout: share of the channels dropped before the 1x1 convolution of each block.
        print_summary: print the table of layers once.

    Raises:
        ValueError: for less than one group.
    """
    if num_layer_grps < 1:
        raise ValueError(f"num_layer_grps must be at least 1. Received: num_layer_grps={num_layer_grps}")
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    x = layers.Conv1D(filters, 1, activation="tanh", name="conv_front")(the_input)
    x = layers.BatchNormalization(name="bn_front")(x)
    skips = []
    blocks = [(group, dilation) for group in range(num_layer_grps) for dilation in DILATIONS]
    for group, dilation in blocks:
        name = f"block_{group}_{dilation}"
        skip = _gated_block(x, filters, dilation, dropout, name)
        skips.append(skip)
        if (group, dilation) != blocks[-1]:  # nothing follows the last block but the sum of all
            x = layers.Add(name=f"{name}_add")([x, skip])
    x = layers.Add(name="skip_sum")(skips)
    x = layers.Conv1D(filters, 1, activation="tanh", name="conv_1")(x)
    x = layers.BatchNormalization(name="bn_1")(x)
    logits = layers.Conv1D(output_dim, 1, name="conv_2")(x)
    return acoustic_model(the_input, logits, "wavenet_model", print_summary)


def _gated_block(x, filters: int, dilation: int, dropout: float, name: str):
    """Return BN(1x1(BN(tanh conv) * BN(sigmoid conv))) of (batch, num_frames, filters), same shape."""
    branches = []
    for kind in ("tanh", "sigmoid"):
        branch = layers.Conv1D(
            filters, KERNEL_SIZE, padding="causal", dilation_rate=dilation, activation=kind, name=f"{name}_{kind}"
        )(x)
        branches.append(layers.BatchNormalization(name=f"{name}_bn_{kind}")(branch))
    product = layers.Multiply(name=f"{name}_gate")(branches)
    if dropout:
        product = layers.Dropout(dropout, name=f"{name}_dropout")(product)
    skip = layers.Conv1D(filters, 1, activation="tanh", name=f"{name}_conv_out")(product)
    return layers.BatchNormalization(name=f"{name}_bn_skip_out")(skip)
