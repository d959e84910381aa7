"""The final model's family: a strided convolution, dilated residual convolutions, and bidirectional recurrent layers.

After Deep Speech 2 (Amodei et al., arXiv:1512.02595), with residual convolutions (He et al., arXiv:1512.03385) in
between and layers that know where each utterance ends (`models/length_aware.py`).
"""

from collections.abc import Sequence

import keras
from keras import layers

from vuilab.alphabet import NUM_CLASSES
from vuilab.corpus.phonemes import NUM_PHONEME_CLASSES
from vuilab.models.acoustic import INTERMEDIATE, PHONEMES, AcousticModel, acoustic_model
from vuilab.models.length_aware import (
    MaskedBatchNormalization,
    PaddingMask,
    UtteranceNormalization,
    both_directions,
    padded_conv,
)


def residual_birnn_model(
    input_dim: int = 80,
    filters: int = 256,
    kernel_size: int = 11,
    conv_stride: int = 2,
    residual_kernel_size: int = 5,
    dilations: Sequence[int] = (1, 2, 4),
    units: int = 192,
    recur_layers: int = 3,
    dropout: float = 0.1,
    output_dim: int = NUM_CLASSES,
    *,
    heads: Sequence[int] = (),
    phoneme_heads: Sequence[int] = (),
    cell: str = "gru",
    print_summary: bool = True,
) -> AcousticModel:
    """A strided convolution, one residual convolution for each dilation, `recur_layers` bidirectional layers, a dense layer.

    Padding, batch size and neighbours in the batch do not change an utterance's probabilities.

    Args:
        input_dim: features per frame, log-mel bands for the sizes given here.
        filters: of all convolutions.
        kernel_size: frames that the strided kernel sees, an odd number.
        conv_stride: frames between two outputs.
        residual_kernel_size: taps of the residual convolutions, an odd number.
        dilations: spacing of the taps, by layer.
        units: width of each direction.
        recur_layers: number of bidirectional layers.
        dropout: after each convolution and each recurrent layer.
        output_dim: classes.
        heads: numbers of recurrent layers, from 1, behind which the text is guessed already: that guess is trained too and
            handed on to the next layer (self-conditioned CTC, Nozaki and Komatsu, arXiv:2104.02724).
        phoneme_heads: the same, but what is guessed are the phonemes; see `corpus/phonemes.py`.
        cell: 'gru', 'lstm' or 'simple_rnn'.
        print_summary: print the table of layers once.

    Raises:
        ValueError: for kernels of an even width, which have no middle, heads behind layers that are not there, and two heads
            behind one layer.
    """
    if not (kernel_size % 2 and residual_kernel_size % 2):
        raise ValueError(
            f"Kernels have an odd width here, so that they have a middle. Received: kernel_size={kernel_size}, "
            f"residual_kernel_size={residual_kernel_size}"
        )
    behind = [*heads, *phoneme_heads]
    if not set(behind) <= set(range(1, recur_layers)) or len(set(behind)) < len(behind):
        raise ValueError(
            f"heads are different numbers of recurrent layers before the last one, 1 to {recur_layers - 1}. Received: "
            f"heads={heads!r}, phoneme_heads={phoneme_heads!r}"
        )
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    mask = PaddingMask(name="mask")(the_input)
    x = UtteranceNormalization(name="utterance_normalization")([the_input, mask])
    x, mask = padded_conv(x, mask, filters, kernel_size, conv_stride, name="conv", activation="relu")
    x = MaskedBatchNormalization(name="conv_bn")([x, mask])
    x = layers.Dropout(dropout, name="conv_dropout")(x)
    for number, dilation in enumerate(dilations, start=1):
        name = f"residual_{number}"
        y, _ = padded_conv(x, mask, filters, residual_kernel_size, dilation=dilation, name=name, activation="relu")
        y = MaskedBatchNormalization(name=f"{name}_bn")([y, mask])
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        x = layers.Add(name=f"{name}_add")([x, y])
    for number in range(1, recur_layers + 1):
        x = both_directions(x, mask, cell, units, f"birnn_{number}")
        x = MaskedBatchNormalization(name=f"birnn_{number}_bn")([x, mask])
        x = layers.Dropout(dropout, name=f"birnn_{number}_dropout")(x)
        if number in behind:
            prefix, classes = (INTERMEDIATE, output_dim) if number in heads else (PHONEMES, NUM_PHONEME_CLASSES)
            guess = layers.Dense(classes, name=f"{prefix}{number}")(x)
            guess = layers.Activation("softmax", name=f"guess_{number}")(guess)
            told = layers.Dense(2 * units, name=f"told_{number}")(guess)
            x = layers.Add(name=f"birnn_{number}_told")([x, told])
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    return acoustic_model(the_input, logits, "residual_birnn_model", print_summary)
