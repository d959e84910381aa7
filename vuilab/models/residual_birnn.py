"""The final model's family: a strided convolution, dilated residual convolutions, and bidirectional recurrent layers.

After Deep Speech 2 (Amodei et al., arXiv:1512.02595), with residual convolutions (He et al., arXiv:1512.03385) in
between and layers that know where each utterance ends (`models/length_aware.py`).
"""

import dataclasses
from collections.abc import Sequence

import keras
from keras import layers

from vuilab.alphabet import NUM_CLASSES
from vuilab.corpus.phonemes import NUM_PHONEME_CLASSES
from vuilab.features import FeatureSettings
from vuilab.models.acoustic import AcousticModel, acoustic_model
from vuilab.models.frames import INTERMEDIATE, PHONEMES
from vuilab.models.length_aware import (
    MaskedBatchNormalization,
    PaddingMask,
    UtteranceNormalization,
    both_directions,
    padded_conv,
)


@dataclasses.dataclass(frozen=True)
class ResidualSizes:
    """The sizes of `residual_birnn_model`.

    Raises:
        ValueError: at construction, for kernels of an even width, which have no middle, heads behind layers that are not there,
            and two heads behind one layer.
    """

    filters: int = 256  # of all convolutions
    kernel_size: int = 11  # frames that the strided kernel sees, an odd number
    conv_stride: int = 2  # frames between two outputs
    residual_kernel_size: int = 5  # taps of the residual convolutions, an odd number
    dilations: Sequence[int] = (1, 2, 4)  # spacing of the taps, by layer
    units: int = 192  # of each direction
    recur_layers: int = 3  # bidirectional ones
    dropout: float = 0.1  # after each convolution and each recurrent layer
    # numbers of recurrent layers, from 1, behind which the text is guessed already: that guess is trained too and handed on to
    # the next layer (self-conditioned CTC, Nozaki and Komatsu, arXiv:2104.02724)
    heads: Sequence[int] = ()
    phoneme_heads: Sequence[int] = ()  # the same, but what is guessed are the phonemes; see `corpus/phonemes.py`
    cell: str = "gru"  # or 'lstm', 'simple_rnn'

    def __post_init__(self) -> None:
        if not (self.kernel_size % 2 and self.residual_kernel_size % 2):
            raise ValueError(
                f"Kernels have an odd width here, so that they have a middle. Received: kernel_size={self.kernel_size}, "
                f"residual_kernel_size={self.residual_kernel_size}"
            )
        behind = [*self.heads, *self.phoneme_heads]
        if not set(behind) <= set(range(1, self.recur_layers)) or len(set(behind)) < len(behind):
            raise ValueError(
                f"heads are different numbers of recurrent layers before the last one, 1 to {self.recur_layers - 1}. "
                f"Received: heads={self.heads!r}, phoneme_heads={self.phoneme_heads!r}"
            )


def residual_birnn_model(
    input_dim: int = 80, output_dim: int = NUM_CLASSES, print_summary: bool = True, **sizes
) -> AcousticModel:
    """A strided convolution, one residual convolution for each dilation, bidirectional layers, a dense layer.

    Padding, batch size and neighbours in the batch do not change an utterance's probabilities.

    Args:
        input_dim: features per frame; a model of 80 brings its features along, 80 log-mel bands.
        output_dim: classes.
        print_summary: print the table of layers once.
        sizes: fields of `ResidualSizes`.

    Raises:
        ValueError: see `ResidualSizes`.
    """
    options = ResidualSizes(**sizes)
    the_input = keras.Input(shape=(None, input_dim), name="the_input")
    mask = PaddingMask(name="mask")(the_input)
    x = UtteranceNormalization(name="utterance_normalization")([the_input, mask])
    usual = {"filters": options.filters, "activation": "relu"}
    x, mask = padded_conv(x, mask, kernel_size=options.kernel_size, stride=options.conv_stride, name="conv", **usual)
    x = MaskedBatchNormalization(name="conv_bn")([x, mask])
    x = layers.Dropout(options.dropout, name="conv_dropout")(x)
    for number, dilation in enumerate(options.dilations, start=1):
        name = f"residual_{number}"
        taps = options.residual_kernel_size
        y, _ = padded_conv(x, mask, kernel_size=taps, dilation=dilation, name=name, **usual)
        y = MaskedBatchNormalization(name=f"{name}_bn")([y, mask])
        y = layers.Dropout(options.dropout, name=f"{name}_dropout")(y)
        x = layers.Add(name=f"{name}_add")([x, y])
    for number in range(1, options.recur_layers + 1):
        x = both_directions(x, mask, options.cell, options.units, f"birnn_{number}")
        x = MaskedBatchNormalization(name=f"birnn_{number}_bn")([x, mask])
        x = layers.Dropout(options.dropout, name=f"birnn_{number}_dropout")(x)
        if number in (*options.heads, *options.phoneme_heads):
            prefix, classes = (INTERMEDIATE, output_dim) if number in options.heads else (PHONEMES, NUM_PHONEME_CLASSES)
            guess = layers.Dense(classes, name=f"{prefix}{number}")(x)
            guess = layers.Activation("softmax", name=f"guess_{number}")(guess)
            told = layers.Dense(2 * options.units, name=f"told_{number}")(guess)
            x = layers.Add(name=f"birnn_{number}_told")([x, told])
    logits = layers.Dense(output_dim, name="time_distributed")(x)
    model = acoustic_model(the_input, logits, "residual_birnn_model", print_summary)
    if input_dim == FeatureSettings("logmel").num_features:
        model.features = FeatureSettings("logmel")
    return model
