"""Stock Keras, used as its official CTC example uses it: the peer that shows what this project's choices bring.

The example is 'Automatic Speech Recognition using CTC' on keras.io: an ordinary model whose loss is a function of the padded
labels and the padded output, so that every utterance of a batch is scored over all frames of the longest one; label 0 is the
blank and the padding; `compile` and `fit` with their defaults on TensorFlow. In Keras 3 that loss is `keras.losses.CTC`. The
reference notebooks end their models in `TimeDistributed(Dense(29))`, and so does this peer.

Three ways can be measured:

- `stock`: `TimeDistributed(Dense)` and `keras.losses.CTC`, as above;
- `stock_dense`: a plain `Dense`, as the example has it;
- `stock_keras2`: a plain `Dense` and `tf.keras.backend.ctc_batch_cost`, the loss that the example had for Keras 2 and that
  Keras 3 still holds as a deprecated function of `tf.keras`. It takes the sparse form of TensorFlow's CTC; the padding of the
  labels counts as characters there.
"""

import keras
import numpy as np
from keras import layers

from benchmarks.workloads import (
    CLIP_NORM,
    DILATIONS,
    LEARNING_RATE,
    MOMENTUM,
    NUM_FEATURES,
    WAVENET_KERNEL,
    Part,
)

VARIANTS = ("stock", "stock_dense", "stock_keras2")


def stock_optimizer() -> keras.optimizers.Optimizer:
    """Return the optimiser that all contestants use; the norm of all gradients together is clipped, as in PyTorch."""
    return keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, nesterov=True, global_clipnorm=CLIP_NORM)


def _gated_block(x, filters: int, dilation: int):
    """Return the skip tensor of a gated dilated causal block."""
    sides = []
    for activation in ("tanh", "sigmoid"):
        side = layers.Conv1D(filters, WAVENET_KERNEL, padding="causal", dilation_rate=dilation, activation=activation)(
            x
        )
        sides.append(layers.BatchNormalization()(side))
    return layers.BatchNormalization()(layers.Conv1D(filters, 1)(layers.Multiply()(sides)))


def _wavenet(x, part: Part):
    x = layers.BatchNormalization()(layers.Conv1D(part.size, 1)(x))
    dilations, skips = DILATIONS * part.groups, []
    for number, dilation in enumerate(dilations):
        skips.append(_gated_block(x, part.size, dilation))
        if number + 1 < len(dilations):
            x = layers.Add()([x, skips[-1]])
    total = layers.ReLU()(layers.Add()(skips))
    return layers.BatchNormalization()(layers.Conv1D(part.size, 1, activation="relu")(total))


def stock_model(parts: tuple[Part, ...], variant: str = "stock") -> keras.Model:
    """Build an architecture from stock layers: (batch, num_frames, 161) to logits, or to probabilities for `stock_keras2`.

    Raises:
        ValueError: for an unknown variant or kind of part.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}. Received: variant={variant!r}")
    the_input = x = keras.Input(shape=(None, NUM_FEATURES), name="the_input")
    for part in parts:
        if part.kind == "gru":
            x = layers.GRU(part.size, return_sequences=True)(x)
        elif part.kind == "simple_rnn":
            x = layers.SimpleRNN(part.size, return_sequences=True)(x)
        elif part.kind == "bigru":
            x = layers.Bidirectional(layers.GRU(part.size, return_sequences=True))(x)
        elif part.kind == "bn":
            x = layers.BatchNormalization()(x)
        elif part.kind == "conv":
            x = layers.Conv1D(part.size, part.kernel, strides=part.stride, activation="relu")(x)
        elif part.kind == "wavenet":
            x = _wavenet(x, part)
        elif part.kind == "dense":
            dense = layers.Dense(part.size)
            x = layers.TimeDistributed(dense)(x) if variant == "stock" else dense(x)
        else:
            raise ValueError(f"Unknown kind of part. Received: {part}")
    if variant == "stock_keras2":
        x = layers.Softmax()(x)
    return keras.Model(the_input, x)


def padded_loss(labels, probabilities):
    """Return the loss of the example for Keras 2: every row has all labels and all frames of the padded batch."""
    import tensorflow as tf

    rows = tf.ones((tf.shape(labels)[0], 1), tf.int32)
    num_frames, num_labels = rows * tf.shape(probabilities)[1], rows * tf.shape(labels)[1]
    return tf.keras.backend.ctc_batch_cost(labels, probabilities, num_frames, num_labels)


class StockPeer:
    """Trains an architecture with stock Keras.

    Args:
        parts: the architecture.
        variant: one of `VARIANTS`.
    """

    def __init__(self, parts: tuple[Part, ...], variant: str = "stock"):
        keras.utils.set_random_seed(0)
        self.variant = variant
        self.model = stock_model(parts, variant)
        loss = padded_loss if variant == "stock_keras2" else keras.losses.CTC()
        self.model.compile(optimizer=stock_optimizer(), loss=loss)
        self.parameters = sum(int(np.prod(weight.shape)) for weight in self.model.trainable_weights)

    def step(self, batch: dict[str, np.ndarray]) -> float:
        """Train on one batch and return the mean loss; padding counts as speech there."""
        labels = batch["the_labels"]
        if self.variant != "stock_keras2":  # 0 is the blank and the padding, so the characters begin at 1
            labels = np.where(np.arange(labels.shape[1]) < batch["label_length"][:, None], labels + 1, 0)
        return float(self.model.train_on_batch(batch["the_input"], labels))
