"""What is known of networks without a backend: how layers change the number of frames, and how those on the way are called."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

# names of layers that put out logits on the way, of letters and of phonemes, begin so; see `ctc.add_ctc_loss`
INTERMEDIATE, PHONEMES = "intermediate_", "phonemes_"
CONVOLUTIONS = ("Conv1D", "SeparableConv1D", "DepthwiseConv1D")
POOLS = ("MaxPooling1D", "AveragePooling1D")
BORDER_MODES = ("valid", "same", "causal")


class TimeChange(NamedTuple):
    """What a layer does to the time axis: frames are added at both ends and repeated, then a window steps over them."""

    layer: str  # its name
    before: int = 0  # frames that are added; negative ones are taken away
    after: int = 0
    repeats: int = 1
    window: int = 1
    stride: int = 1
    dilation: int = 1
    padding: str = "valid"


def time_change(class_name: str, config: dict[str, Any]) -> TimeChange | None:
    """Return what a layer of Keras with this configuration does to the time axis; None for a layer whose change is not known."""
    name = config.get("name", "")
    if class_name in ("ZeroPadding1D", "Cropping1D"):
        sign, ends = (1, "padding") if class_name == "ZeroPadding1D" else (-1, "cropping")
        before, after = _pair(config[ends])
        return TimeChange(name, sign * before, sign * after)
    if class_name == "UpSampling1D":
        return TimeChange(name, repeats=_pair(config["size"])[0])
    if class_name in POOLS:
        window, stride = config["pool_size"], config["strides"] or config["pool_size"]
        return TimeChange(name, window=_pair(window)[0], stride=_pair(stride)[0], padding=config["padding"])
    if class_name in CONVOLUTIONS:
        window, stride, dilation = (_pair(config[key])[0] for key in ("kernel_size", "strides", "dilation_rate"))
        return TimeChange(name, window=window, stride=stride, dilation=dilation, padding=config["padding"])
    return None


def frames_out(changes: Iterable[TimeChange], num_frames):
    """Return how many frames come out of layers for this many, an integer or an integer array."""
    for change in changes:
        num_frames = (num_frames + change.before + change.after) * change.repeats
        if change.window > 1 or change.stride > 1:
            num_frames = cnn_output_length(num_frames, change.window, change.padding, change.stride, change.dilation)
    return num_frames


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
    if border_mode not in BORDER_MODES:
        raise ValueError(f"border_mode must be 'valid', 'same' or 'causal'. Received: border_mode={border_mode!r}")
    reach = (filter_size - 1) * dilation + 1
    length = input_length - reach + 1 if border_mode == "valid" else input_length
    output = (length + stride - 1) // stride
    if isinstance(output, (int, np.integer, np.ndarray)):
        return type(input_length)(max(output, 0)) if np.ndim(output) == 0 else np.maximum(output, 0)
    import keras

    return keras.ops.maximum(output, 0)  # inside the training model


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) * (2 if len(value) == 1 else 1) if isinstance(value, (list, tuple)) else (value, value)
