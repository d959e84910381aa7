"""Builders of keyword classifiers: from one dense layer to networks that the field measures itself by.

Each builder takes `(input_shape, num_classes)`, where the shape is that of one clip's features without the batch (see
`keywords/clips.py`), returns a `keras.Model` that ends in a separate layer `softmax`, and prints its summary once.
"""

import functools
import logging
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

# TensorFlow counts the first calls of each new model as "retracing" and warns; a laboratory builds many models.
logging.getLogger("tensorflow").setLevel(logging.ERROR)

WAVCEPTION_DEPTHS = (1, 1, 2, 2, 3, 3, 4, 4, 4)  # of each stage; a stage has two modules and halves the length
# of batch normalisation, as in PyTorch: after some hundred steps moving averages have kept up (Keras' 0.99: benchmarks/NOTES.md).
# MatchboxNet is as good without.
MOMENTUM = 0.9
MATCHBOX_BLOCKS = (13, 15, 17)  # kernel widths of the residual blocks
BC_STAGES = ((8, 2, 1), (12, 2, 2), (16, 4, 2), (20, 4, 1))  # channels, blocks, stride in frequency; dilations 1 2 4 8
BC_SUB_BANDS = 5
BC_DROPOUT = 0.1  # of whole channels in the one-dimensional part


@keras.saving.register_keras_serializable(package="vui")
class Pool(layers.Layer):
    """(batch, num_samples, channels) -> 'max' or 'mean' over `width` neighbours every `stride`, as Keras with padding 'same'.

    On JAX pooling is done with shifted copies, which its compiler joins into one loop, much faster on a processor than the
    windows of `keras.ops.max_pool`. On TensorFlow those are faster (benchmarks/NOTES.md).
    """

    def __init__(self, kind: str, width: int, stride: int = 1, **options):
        super().__init__(**options)
        self.kind, self.width, self.stride = kind, width, stride

    def call(self, x):
        """Return (batch, ceil(num_samples / stride), channels)."""
        if keras.backend.backend() == "tensorflow":
            pool = ops.max_pool if self.kind == "max" else ops.average_pool
            return pool(x, self.width, self.stride, padding="same")
        if self.kind == "max":
            return functools.reduce(ops.maximum, self._windows(x, -np.inf))
        inside = sum(self._windows(ops.ones_like(x[:1, :, :1]), 0.0))  # samples of each window that are no padding
        return sum(self._windows(x, 0.0)) / inside

    def _windows(self, x, outside: float) -> list:
        """Return the first, second, ... sample of every window."""
        num_samples = x.shape[1]
        num_outputs = -(-num_samples // self.stride)
        padding = max(0, (num_outputs - 1) * self.stride + self.width - num_samples)
        x = ops.pad(x, ((0, 0), (padding // 2, padding - padding // 2), (0, 0)), constant_values=outside)
        last = (num_outputs - 1) * self.stride + 1
        return [x[:, first : first + last : self.stride] for first in range(self.width)]

    def get_config(self):
        """Return what the layer is made of."""
        return {**super().get_config(), "kind": self.kind, "width": self.width, "stride": self.stride}


def classifier(the_input, logits, name: str, print_summary: bool = True) -> keras.Model:
    """Put the `softmax` layer on logits (batch, num_classes) of the input 'the_input', and print the summary of the model."""
    probabilities = layers.Activation("softmax", name="softmax", dtype="float32")(logits)
    model = keras.Model(inputs=the_input, outputs=probabilities, name=name)
    if print_summary:
        model.summary(line_length=78)
    return model


def perceptron(input_shape: Sequence[int] = (20, 11, 1), num_classes: int = 3) -> keras.Model:
    """Return a linear classifier: all features, one dense layer.

    Raises:
        ValueError: for fewer than two classes; so do all builders.
    """
    the_input = _input(input_shape, num_classes)
    x = layers.Flatten(name="flatten")(the_input)
    return classifier(the_input, layers.Dense(num_classes, name="logits")(x), "perceptron")


def one_conv(input_shape: Sequence[int] = (20, 11, 1), num_classes: int = 3) -> keras.Model:
    """Return one 3 x 3 convolution with 32 filters, a 2 x 2 pool and a dense layer of 128."""
    return _convolutions(input_shape, num_classes, 1, 0.0, "one_conv")


def two_conv(input_shape: Sequence[int] = (20, 11, 1), num_classes: int = 3) -> keras.Model:
    """Return two 3 x 3 convolutions, each with a 2 x 2 pool, and a dense layer of 128."""
    return _convolutions(input_shape, num_classes, 2, 0.0, "two_conv")


def two_conv_dropout(input_shape: Sequence[int] = (20, 11, 1), num_classes: int = 3) -> keras.Model:
    """Return `two_conv` with dropout of 1/4 after each pool and the dense layer."""
    return _convolutions(input_shape, num_classes, 2, 0.25, "two_conv_dropout")


def lstm(input_shape: Sequence[int] = (20, 11, 1), num_classes: int = 3) -> keras.Model:
    """Return an LSTM of 128 over the frames of (num_features, num_frames, 1), or of (num_frames, num_features)."""
    the_input = _input(input_shape, num_classes)
    x = the_input
    if len(input_shape) == 3:
        x = layers.Reshape(tuple(input_shape[:2]), name="without_channel")(x)
        x = layers.Permute((2, 1), name="frames_first")(x)  # (batch, num_frames, num_features)
    x = layers.LSTM(128, name="rnn")(x)
    return classifier(the_input, layers.Dense(num_classes, name="logits")(x), "lstm")


def light_cnn(input_shape: Sequence[int] = (99, 81, 1), num_classes: int = 12) -> keras.Model:
    """Return the light-weight CNN of the speech-commands challenge (314,368 parameters for 12 classes).

    Batch normalisation of the input; 'valid' convolutions of 8, 8, 16, 16 and 32 filters with kernels 2, 2, 3, 3, 3 and
    three 2 x 2 pools, each with dropout of 0.2; two dense layers of 128, each followed by batch normalisation.
    """
    the_input = _input(input_shape, num_classes)
    x = layers.BatchNormalization(momentum=MOMENTUM, name="input_bn")(the_input)
    for stage, (filters, kernel, count) in enumerate(((8, 2, 2), (16, 3, 2), (32, 3, 1)), start=1):
        for number in range(1, count + 1):
            x = layers.Conv2D(filters, kernel, activation="relu", name=f"conv{stage}_{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{stage}")(x)
        x = layers.Dropout(0.2, name=f"dropout{stage}")(x)
    x = layers.Flatten(name="flatten")(x)
    for number in (1, 2):
        x = layers.Dense(128, activation="relu", name=f"dense{number}")(x)
        x = layers.BatchNormalization(momentum=MOMENTUM, name=f"dense{number}_bn")(x)
    return classifier(the_input, layers.Dense(num_classes, name="logits")(x), "light_cnn")


def wavception(
    input_shape: Sequence[int] = (16000, 1), num_classes: int = 12, depths: Sequence[int] = WAVCEPTION_DEPTHS
) -> keras.Model:
    """Return WavCeption: one-dimensional inception modules on the waveform (num_samples, 1); see `_inception`.

    A stage is two modules as wide as `depths` tell, and a pool of 2.
    """
    the_input = x = _input(input_shape, num_classes)
    for stage, depth in enumerate(depths, start=1):
        for number in (1, 2):
            x = _inception(x, depth, f"stage{stage}_{number}")
        if x.shape[1] % 2:
            x = layers.Cropping1D((0, 1), name=f"stage{stage}_even")(x)
        x = Pool("max", 2, 2, name=f"stage{stage}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name="flatten_bn")(x)
    x = layers.Dense(128, activation="relu", name="dense")(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name="dense_bn")(x)
    return classifier(the_input, layers.Dense(num_classes, name="logits")(x), "wavception")


def matchboxnet(input_shape: Sequence[int] = (98, 64), num_classes: int = 12) -> keras.Model:
    """Return MatchboxNet-3x1x64 (Majumdar and Ginsburg, Interspeech 2020, arXiv:2004.08531), about 75,000 parameters.

    A separable convolution of 128 filters (kernel 11); three residual blocks of one separable convolution each (kernels 13, 15,
    17), whose shortcut is a pointwise convolution; a separable one of 128 filters (kernel 29, dilation 2); a pointwise one of
    128; the mean over time of the class scores. The input is (num_frames, num_features), 64 MFCCs in the paper.
    """
    the_input = _input(input_shape, num_classes)
    x = layers.Activation("relu", name="conv1_relu")(_separable(the_input, 128, 11, 1, "conv1"))
    for number, kernel in enumerate(MATCHBOX_BLOCKS, start=1):
        name = f"block{number}"
        shortcut = layers.Conv1D(64, 1, use_bias=False, name=f"{name}_shortcut")(x)
        shortcut = layers.BatchNormalization(name=f"{name}_shortcut_bn")(shortcut)
        x = layers.Add(name=f"{name}_add")([_separable(x, 64, kernel, 1, name), shortcut])
        x = layers.Activation("relu", name=f"{name}_relu")(x)
    x = layers.Activation("relu", name="conv2_relu")(_separable(x, 128, 29, 2, "conv2"))
    x = layers.Conv1D(128, 1, use_bias=False, name="conv3")(x)
    x = layers.Activation("relu", name="conv3_relu")(layers.BatchNormalization(name="conv3_bn")(x))
    x = layers.GlobalAveragePooling1D(name="mean_over_time")(x)
    return classifier(the_input, layers.Dense(num_classes, name="logits")(x), "matchboxnet")


def bc_resnet(input_shape: Sequence[int] = (40, 98, 1), num_classes: int = 12) -> keras.Model:
    """Return BC-ResNet-1 (Kim et al., Interspeech 2021, arXiv:2106.04140), about 9,200 parameters.

    Every block has a two-dimensional part that mixes along frequency, and a one-dimensional part on its mean over frequency,
    which mixes along time and is added to all frequencies (broadcast). The input is (num_features, num_frames, 1), 40 log mel
    energies in the paper.

    Raises:
        ValueError: for a number of features that is no multiple of 40.
    """
    if len(input_shape) != 3 or input_shape[0] % 40:
        raise ValueError(
            "BC-ResNet halves the features three times and then normalises 5 sub-bands: expected an input shape (40, num_frames, "
            f"1), or a multiple of 40. Received: input_shape={tuple(input_shape)}"
        )
    the_input = _input(input_shape, num_classes)
    x = layers.Conv2D(16, 5, strides=(2, 1), padding="same", use_bias=False, name="head")(the_input)
    x = _normalised(x, "head")
    for stage, (channels, blocks, stride) in enumerate(BC_STAGES):
        for number in range(blocks):
            name = f"stage{stage + 1}_{number + 1}"
            x = _broadcast_block(x, channels, stride if number == 0 else 1, 2**stage, name)
    x = layers.ZeroPadding2D((0, 2), name="tail_padding")(x)
    # over all of the 5 frequencies that are left
    x = layers.DepthwiseConv2D(5, use_bias=False, name="tail_depthwise")(x)
    x = layers.Conv2D(32, 1, use_bias=False, name="tail_pointwise")(x)
    x = _normalised(x, "tail")
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return classifier(the_input, layers.Dense(num_classes, name="logits")(x), "bc_resnet")


def _input(input_shape: Sequence[int], num_classes: int):
    if num_classes < 2:
        raise ValueError(f"A classifier needs at least two classes. Received: num_classes={num_classes}")
    return keras.Input(shape=tuple(input_shape), name="the_input")


def _convolutions(input_shape: Sequence[int], num_classes: int, count: int, dropout: float, name: str) -> keras.Model:
    the_input = x = _input(input_shape, num_classes)
    for number in range(1, count + 1):
        x = layers.Conv2D(32, 3, activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout{number}")(x) if dropout else x
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(128, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dense_dropout")(x) if dropout else x
    return classifier(the_input, layers.Dense(num_classes, name="logits")(x), name)


def _normalised(x, name: str):
    x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _inception(x, depth: int, name: str):
    """Return a module: batch normalisation, then side by side kernels of 1, 3, 5, and maxima and means of 3 and 5 samples.

    The wider kernels and the pools see or feed a pointwise convolution of 16 filters; every convolution is followed by batch
    normalisation and ReLU, and the branches are joined: (batch, num_samples, 80 * depth + 64). What is pointwise and reads the
    whole input is one matrix product, which is faster than five; the means may follow it, since both are linear.
    """

    def conv(x, filters: int, kernel: int, part: str):
        one = layers.Dense(filters, name=f"{name}_{part}")  # a kernel of 1; as a matrix product it is faster
        wide = layers.Conv1D(filters, kernel, padding="same", name=f"{name}_{part}")
        return _normalised((one if kernel == 1 else wide)(x), f"{name}_{part}")

    x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn")(x)
    pointwise = layers.Dense(16 * depth + 64, name=f"{name}_pointwise")(x)
    rest, mean3, mean5 = ops.split(pointwise, (16 * depth + 32, 16 * depth + 48), axis=-1)
    k1, k3, k5 = ops.split(_normalised(rest, f"{name}_pointwise"), (16 * depth, 16 * depth + 16), axis=-1)
    branches = [k1, conv(k3, 32 * depth, 3, "k3"), conv(k5, 32 * depth, 5, "k5")]
    for width, mean in ((3, mean3), (5, mean5)):
        most = Pool("max", width, name=f"{name}_max{width}")(x)
        branches.append(conv(most, 16, 1, f"max{width}_k1"))
        mean = Pool("mean", width, name=f"{name}_mean{width}")(mean)
        branches.append(_normalised(mean, f"{name}_mean{width}"))
    return layers.Concatenate(name=f"{name}_join")(branches)


def _separable(x, filters: int, kernel: int, dilation: int, name: str):
    """Return a depthwise and a pointwise convolution over time, and batch normalisation, without activation."""
    x = layers.DepthwiseConv1D(
        kernel, padding="same", dilation_rate=dilation, use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = layers.Conv1D(filters, 1, use_bias=False, name=f"{name}_pointwise")(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def _broadcast_block(x, channels: int, stride: int, dilation: int, name: str):
    """Return a block of BC-ResNet on (batch, num_features, num_frames, channels); where the width changes, without shortcut."""
    shortcut, changes = x, x.shape[-1] != channels
    if changes:
        x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_widen")(x)
        x = _normalised(x, f"{name}_widen")
    x = layers.DepthwiseConv2D((3, 1), padding="same", use_bias=False, name=f"{name}_frequency")(x)
    # Keras has no stride along one axis in a depthwise convolution: pad as PyTorch does, and take every other
    if stride > 1:
        x = layers.MaxPooling2D((1, 1), strides=(stride, 1), name=f"{name}_stride")(x)
    two_d = x = _sub_spectral_norm(x, name)
    x = layers.AveragePooling2D((x.shape[1], 1), name=f"{name}_mean")(x)  # (batch, 1, num_frames, channels)
    x = layers.DepthwiseConv2D(
        (1, 3), padding="same", dilation_rate=(1, dilation), use_bias=False, name=f"{name}_time"
    )(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_time_bn")(x)
    x = layers.Activation("silu", name=f"{name}_silu")(x)
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_mix")(x)
    x = layers.SpatialDropout2D(BC_DROPOUT, name=f"{name}_dropout")(x)
    x = layers.Add(name=f"{name}_add")([two_d, x] if changes else [two_d, x, shortcut])
    return layers.Activation("relu", name=f"{name}_relu")(x)


def _sub_spectral_norm(x, name: str):
    """Normalise each of 5 sub-bands of the frequencies by itself (Chang et al., ICASSP 2021)."""
    num_features, num_frames, channels = x.shape[1:]
    if num_features % BC_SUB_BANDS:
        raise ValueError(f"{num_features} features cannot be split into {BC_SUB_BANDS} sub-bands.")
    inside = num_features // BC_SUB_BANDS
    # (batch, band, inside, frame, channel) -> (batch, inside, frame, band and channel), so that one layer normalises all
    x = layers.Reshape((BC_SUB_BANDS, inside, num_frames, channels), name=f"{name}_bands")(x)
    x = layers.Permute((2, 3, 1, 4), name=f"{name}_bands_last")(x)
    x = layers.Reshape((inside, num_frames, BC_SUB_BANDS * channels), name=f"{name}_bands_joined")(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bands_bn")(x)
    x = layers.Reshape((inside, num_frames, BC_SUB_BANDS, channels), name=f"{name}_bands_split")(x)
    x = layers.Permute((3, 1, 2, 4), name=f"{name}_bands_first")(x)
    return layers.Reshape((num_features, num_frames, channels), name=f"{name}_bands_out")(x)


ZOO = {
    build.__name__: build
    for build in (perceptron, one_conv, two_conv, two_conv_dropout, lstm, light_cnn, wavception, matchboxnet, bc_resnet)
}
# what each is built for, a kind of `clips.KeywordFeatures`
FEATURES = {
    **dict.fromkeys(("perceptron", "one_conv", "two_conv", "two_conv_dropout", "lstm"), "mfcc_image"),
    **{"light_cnn": "spectrogram", "wavception": "raw", "matchboxnet": "mfcc", "bc_resnet": "logmel"},
}
