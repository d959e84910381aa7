"""The configurable model of the study: convolutions, then recurrent layers, then a dense layer at each frame.

`CNNConfig` and `RNNModel` describe a network in plain, frozen values; `RNNModel.build` makes it and `RNNModel.name` writes it
in the notation of the reference study, which `RNNModel.parse` reads back:

    Spec CNN(200 (3,1) relu DO(0.25) BN)x8 BD(concat) GRU_DENSE(250 x4 BN relu DO(0.2)(:-1)) BN relu DO(0.3) TD(D)

reads: spectrograms; eight convolutions of 200 filters, kernel 3 and stride 1, each followed by ReLU, dropout at rate 0.25
and batch normalisation; four GRU layers of 250 units, the first one bidirectional, densely connected, each but the last
followed by batch normalisation, ReLU and dropout; then one more such block and the dense layer.
"""

import dataclasses
import enum
import re

import keras
from keras import layers

from vuilab.alphabet import NUM_CLASSES
from vuilab.models.acoustic import AcousticModel, acoustic_model, recurrent
from vuilab.models.frames import BORDER_MODES

TOKEN = r"(?:relu|BN|DO\([0-9.e-]+\))"
BLOCK = rf"{TOKEN}(?: {TOKEN})*"  # of a run name
FEATURE_TOKENS = {"spectrogram": "Spec", "mfcc": "MFCC", "logmel": "LogMel", "raw": "Raw"}


class RNNType(enum.Enum):
    """The recurrent cell; the value is its name in `acoustic.recurrent`, the member's name that in a run's name."""

    GRU = "gru"
    LSTM = "lstm"
    SimpleRNN = "simple_rnn"


class BidirectionalMerge(enum.Enum):
    """How the two directions of the first recurrent layer become one tensor."""

    concat = "concat"
    sum = "sum"
    ave = "ave"
    mul = "mul"


@dataclasses.dataclass(frozen=True)
class CNNConfig:
    """The convolutions in front.

    Raises:
        ValueError: at construction, for numbers out of range and for combinations that cannot be built.
    """

    filters: int = 200
    kernel_size: int = 11
    conv_stride: int = 2  # of every layer
    conv_border_mode: str = "valid"  # 'valid', 'same' or 'causal', of every layer
    cnn_layers: int = 1
    cnn_dropout_rate: float = 0.2
    cnn_bn: bool = True
    cnn_activation_before_bn_do: bool = True  # see `block`
    cnn_do_bn_order: bool = True  # see `block`
    cnn_dense: bool = False  # each layer sees the part's input and the outputs of all earlier layers
    dilation: int = 1  # a base: layers use 1, d, d squared, ...; a negative base reverses that order

    def __post_init__(self) -> None:
        _require_integers(self, filters=1, kernel_size=1, conv_stride=1, cnn_layers=1)
        _require_rates(self, "cnn_dropout_rate")
        if self.conv_border_mode not in BORDER_MODES:
            raise ValueError(f"conv_border_mode must be one of {BORDER_MODES}. Received: {self.conv_border_mode!r}")
        if not isinstance(self.dilation, int) or self.dilation == 0:
            raise ValueError(
                f"dilation is a whole number other than 0; negative ones reverse the order. Received: {self.dilation!r}"
            )
        if max(self.dilations) > 1 and self.conv_stride > 1:
            raise ValueError(
                f"A convolution cannot have both a stride and a dilation over 1. Received: conv_stride={self.conv_stride}, "
                f"dilation={self.dilation} with cnn_layers={self.cnn_layers}. Set one of them to 1."
            )
        if self.cnn_dense and self.cnn_layers > 1 and (self.conv_stride > 1 or self.conv_border_mode == "valid"):
            raise ValueError(
                "Dense connections join tensors of equal length, so every convolution must keep the number of frames: use "
                f"conv_stride=1 and conv_border_mode='same' or 'causal'. Received: conv_stride={self.conv_stride}, "
                f"conv_border_mode={self.conv_border_mode!r}"
            )

    @property
    def dilations(self) -> list[int]:
        """The dilation of each layer, from the first to the last."""
        rates = [abs(self.dilation) ** number for number in range(self.cnn_layers)]
        return rates if self.dilation > 0 else rates[::-1]

    @property
    def block(self) -> list[str]:
        """What follows each convolution, such as ['relu', 'DO(0.2)', 'BN']."""
        return block_tokens(self.cnn_activation_before_bn_do, self.cnn_do_bn_order, self.cnn_bn, self.cnn_dropout_rate)


@dataclasses.dataclass(frozen=True)
class RNNModel:
    """A whole network of the study.

    Raises:
        ValueError: at construction, for numbers out of range and for combinations that cannot be built.

    Example:
        >>> RNNModel(CNNConfig(), rnn_layers=2).name("mfcc")
        'MFCC CNN(200 (11,2) relu DO(0.2) BN) BD(concat) GRU(200 x2 BN relu DO(0.2)(:-1)) BN relu DO(0.2) TD(D)'
    """

    cnn_config: CNNConfig | None = None
    rnn_type: RNNType = RNNType.GRU
    rnn_units: int = 200
    rnn_layers: int = 1  # 0: convolutions alone
    bd_merge: BidirectionalMerge | None = BidirectionalMerge.concat  # of the first layer; None: one direction
    rnn_bn: bool = True  # between recurrent layers
    rnn_dropout_rate: float = 0.2  # between recurrent layers, not inside the recurrence
    rnn_dense: bool = False  # each layer sees the part's input and the outputs of all earlier layers
    activation_before_bn_do: bool = False  # before the dense layer, see `block`
    do_bn_order: bool = False
    bn: bool = True
    dropout_rate: float = 0.2
    time_distributed_dense: bool = True  # False: the recurrent output goes straight to softmax
    name_suffix: str | None = None  # added to the name

    def __post_init__(self) -> None:
        if self.cnn_config is not None and not isinstance(self.cnn_config, CNNConfig):
            raise ValueError(f"cnn_config is a CNNConfig or None. Received: {self.cnn_config!r}")
        for field, kind in (("rnn_type", RNNType), ("bd_merge", BidirectionalMerge)):
            value = getattr(self, field)
            if isinstance(value, str) and value in kind.__members__:
                object.__setattr__(self, field, kind[value])  # 'LSTM' for RNNType.LSTM
            elif not isinstance(value, kind) and not (field == "bd_merge" and value is None):
                raise ValueError(f"{field} must be one of {list(kind.__members__)}. Received: {value!r}")
        _require_integers(self, rnn_units=1, rnn_layers=0)
        _require_rates(self, "rnn_dropout_rate", "dropout_rate")
        if self.name_suffix is not None:
            _require_suffix(self.name_suffix)
        if self.rnn_layers:
            return
        if self.cnn_config is None:
            raise ValueError("A model with rnn_layers=0 needs convolutions: pass cnn_config=CNNConfig(...).")
        if self.rnn_dense:
            raise ValueError("rnn_dense=True needs recurrent layers. Received: rnn_layers=0")
        if not self.time_distributed_dense:
            raise ValueError(
                "time_distributed_dense=False sends the recurrent output to softmax, so it needs a recurrent layer. "
                "Received: rnn_layers=0"
            )

    @property
    def block(self) -> list[str]:
        """What stands before the dense layer, such as ['BN', 'relu', 'DO(0.2)']; nothing without dense layer."""
        if not self.time_distributed_dense:
            return []
        return block_tokens(self.activation_before_bn_do, self.do_bn_order, self.bn, self.dropout_rate)

    @property
    def rnn_block(self) -> list[str]:
        """What stands between recurrent layers."""
        return block_tokens(False, False, self.rnn_bn, self.rnn_dropout_rate)

    def name(self, features: str = "spectrogram") -> str:
        """Return the run name in the notation of the study, for features 'spectrogram', 'mfcc', 'logmel' or 'raw'."""
        if features not in FEATURE_TOKENS:
            raise ValueError(f"features must be one of {list(FEATURE_TOKENS)}. Received: features={features!r}")
        from vuilab.models.run_names import cnn_name  # which reads names into this class

        rnn = ""
        if self.rnn_layers:
            between = f" {' '.join(self.rnn_block)}(:-1)" if self.rnn_layers > 1 else ""
            dense = "_DENSE" if self.rnn_dense else ""
            rnn = f"{self.rnn_type.name}{dense}({self.rnn_units} x{self.rnn_layers}{between})"
        parts = [
            FEATURE_TOKENS[features],
            cnn_name(self.cnn_config) if self.cnn_config else "",
            f"BD({self.bd_merge.value})" if self.bd_merge and self.rnn_layers else "",
            rnn,
            *self.block,
            "TD(D)" if self.time_distributed_dense else "",
            self.name_suffix or "",
        ]
        return " ".join(part for part in parts if part)

    @staticmethod
    def parse(name: str) -> tuple["RNNModel", str]:
        """Read a run name: (model, features); `model.name(features)` gives it back. What it does not show has its default.

        Raises:
            ValueError: when the name does not follow the notation; the message says where.
        """
        from vuilab.models.run_names import parse_name

        return parse_name(name)

    def build(self, input_dim: int, output_dim: int = NUM_CLASSES, *, print_summary: bool = True) -> AcousticModel:
        """Build the network.

        Args:
            input_dim: features per frame.
            output_dim: classes, the blank being the last. Without the dense layer the recurrent layer decides: it has as
                many classes as its output is wide.
            print_summary: print the table of layers once.

        Raises:
            ValueError: when the recurrent output goes straight to softmax and is narrower than the alphabet.
        """
        the_input = keras.Input(shape=(None, input_dim), name="the_input")
        x = self._convolutions(the_input) if self.cnn_config else the_input
        if self.rnn_layers:
            x = self._recurrent_layers(x)
            x = _apply_block(x, self.block, "dense")
        if self.time_distributed_dense:
            x = layers.Dense(output_dim, name="time_distributed")(x)
        elif x.shape[-1] < output_dim:
            raise ValueError(
                f"Without the dense layer the softmax has as many classes as the recurrent output is wide, and the alphabet "
                f"needs {output_dim}. Received: rnn_units={self.rnn_units}, {x.shape[-1]} wide"
            )
        return acoustic_model(the_input, x, "study_model", print_summary)

    def _convolutions(self, x):
        """Apply the convolutions; without recurrent layers the last one gets the block of the dense layer."""
        config = self.cnn_config
        earlier = [x]
        for number, dilation in enumerate(config.dilations, start=1):
            alone = number == config.cnn_layers and not self.rnn_layers
            block = self.block if alone else config.block
            relu_inside = block[0] == "relu"
            x = layers.Conv1D(
                config.filters,
                config.kernel_size,
                strides=config.conv_stride,
                padding=config.conv_border_mode,
                dilation_rate=dilation,
                activation="relu" if relu_inside else None,
                name=f"conv1d_{number}",
            )(_join(earlier, f"join_conv_{number}") if config.cnn_dense else x)
            x = _apply_block(x, block[1:] if relu_inside else block, "dense" if alone else f"conv_{number}")
            earlier.append(x)
        return x

    def _recurrent_layers(self, x):
        earlier = [x]
        for number in range(1, self.rnn_layers + 1):
            layer = recurrent(self.rnn_type.value, self.rnn_units, f"rnn_{number}")
            if number == 1 and self.bd_merge is not None:
                layer = layers.Bidirectional(layer, merge_mode=self.bd_merge.value, name="bd_rnn_1")
            x = layer(_join(earlier, f"join_rnn_{number}") if self.rnn_dense else x)
            if number < self.rnn_layers:
                x = _apply_block(x, self.rnn_block, f"rnn_{number}")
            earlier.append(x)
        return x


def block_tokens(activation_first: bool, dropout_first: bool, bn: bool, dropout_rate: float) -> list[str]:
    """Return a block of ReLU (first, or between the others), dropout and batch normalisation (one of them first) in order.

    Example:
        >>> block_tokens(False, True, True, 0.2)
        ['DO(0.2)', 'relu', 'BN']
    """
    normalisation = ["BN"] if bn else []
    dropout = [f"DO({float(dropout_rate)})"] if dropout_rate else []
    first, second = (dropout, normalisation) if dropout_first else (normalisation, dropout)
    return ["relu", *first, *second] if activation_first else [*first, "relu", *second]


def _require_suffix(suffix: str) -> None:
    """A suffix stands behind everything else, so it must not read like one more part."""
    if not isinstance(suffix, str) or not suffix or suffix != " ".join(suffix.split()) or re.search(r"[()]", suffix):
        raise ValueError(
            f"name_suffix is text with single spaces and without parentheses, such as 'Final'. Received: {suffix!r}"
        )
    if re.match(BLOCK, suffix):
        raise ValueError(f"name_suffix must not begin like a block of layers. Received: {suffix!r}")


def _apply_block(x, tokens: list[str], place: str):
    for token in tokens:
        if token == "relu":
            x = layers.Activation("relu", name=f"relu_{place}")(x)
        elif token == "BN":
            x = layers.BatchNormalization(name=f"bn_{place}")(x)
        else:
            x = layers.Dropout(float(token[3:-1]), name=f"dropout_{place}")(x)
    return x


def _join(tensors: list, name: str):
    return tensors[0] if len(tensors) == 1 else layers.Concatenate(name=name)(tensors)


def _require_integers(config: CNNConfig | RNNModel, **least: int) -> None:
    for field, lowest in least.items():
        value = getattr(config, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise ValueError(f"{field} is a whole number of at least {lowest}. Received: {field}={value!r}")


def _require_rates(config: CNNConfig | RNNModel, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ValueError(f"{field} is a share in 0..1, less than 1. Received: {field}={value!r}")
