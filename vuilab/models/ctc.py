"""The CTC loss with true lengths, and the model that trains with it.

CTC (Graves et al., ICML 2006) sums the probability of every frame-by-frame path that reads as the transcript after
merging repeats and removing blanks. The loss is its negative logarithm in nats, per utterance. It is given the true
number of frames and characters of each utterance, so that padding costs nothing: `keras.losses.CTC` would score it as speech.
"""

import keras
from keras import layers, ops

from vuilab.models.acoustic import heads_of, output_length
from vuilab.models.frames import INTERMEDIATE, PHONEMES

INTERMEDIATE_SHARE = 0.3  # of the loss, for all of them together
MAX_GAP = 80.0  # nats that a class may lie under the best one of its frame, on TensorFlow


def ctc_loss(logits, labels, num_output_frames, label_length):
    """Return the CTC loss of each utterance in nats.

    The blank is the last class. This is the one place where the backends differ: on TensorFlow the sparse-label form of
    `tf.nn.ctc_loss` takes 0.07 s where Keras' own route takes 1.14 s, with equal results.

    Args:
        logits: float tensor (batch, num_output_frames, num_classes), before softmax.
        labels: integer tensor (batch, label_length), anything behind the end.
        num_output_frames: integer tensor (batch,), true output frames.
        label_length: integer tensor (batch,), true characters.

    Returns:
        Tensor (batch,); infinite or very large where the transcript does not fit into the frames.
    """
    logits = ops.cast(logits, "float32")
    blank = logits.shape[-1] - 1
    if keras.backend.backend() != "tensorflow":
        return ops.ctc_loss(labels, logits, label_length, num_output_frames, mask_index=blank)
    import tensorflow as tf

    # its kernel takes logarithms of probabilities, which are 0 in float32 from a gap of 87 on (loss infinite where it is 90):
    # the gap to the best class is bounded, its gradient is not
    lowest = tf.reduce_max(logits, axis=-1, keepdims=True) - MAX_GAP
    logits = logits + tf.stop_gradient(tf.maximum(logits, lowest) - logits)
    used = tf.sequence_mask(label_length, maxlen=tf.shape(labels)[1])
    sparse = tf.SparseTensor(
        tf.where(used), tf.cast(tf.boolean_mask(labels, used), tf.int32), tf.shape(labels, out_type=tf.int64)
    )
    return tf.nn.ctc_loss(
        labels=sparse,
        logits=logits,
        label_length=None,
        logit_length=tf.cast(num_output_frames, tf.int32),
        logits_time_major=False,
        blank_index=blank,
    )


@keras.saving.register_keras_serializable(package="vui")
class OutputFrames(layers.Layer):
    """Feature frames (batch,) -> output frames (batch,).

    Args:
        acoustic: the model from features to softmax, or its configuration.
    """

    def __init__(self, acoustic: keras.Model | dict, **kwargs):
        super().__init__(**kwargs)
        if isinstance(acoustic, dict):
            acoustic = keras.saving.deserialize_keras_object(acoustic)
        self._acoustic = lambda: acoustic  # as an attribute it would be a layer of this one, with its weights

    def call(self, input_length):
        """Return how many frames the acoustic model puts out."""
        own = getattr(self._acoustic(), "output_length", None)
        return own(input_length) if own else output_length(self._acoustic(), input_length)

    def get_config(self):
        """Return what the layer is made of."""
        return {**super().get_config(), "acoustic": keras.saving.serialize_keras_object(self._acoustic())}


@keras.saving.register_keras_serializable(package="vui")
class CTCLoss(layers.Layer):
    """The loss as a layer: [logits, labels, num_output_frames, label_length] -> loss (batch,)."""

    def call(self, inputs):
        """Return the loss of each utterance."""
        return ctc_loss(*inputs)

    def compute_output_shape(self, input_shape):
        """Return (batch,)."""
        return (input_shape[0][0],)


def logits_of(input_to_softmax: keras.Model):
    """Return the tensor before the `softmax` layer.

    Raises:
        ValueError: when the last layer is not an `Activation` named 'softmax'.
    """
    last = input_to_softmax.layers[-1]
    if last.name != "softmax" or not isinstance(last, (layers.Activation, layers.Softmax)):
        raise ValueError(
            "The model must end in a separate layer `keras.layers.Activation('softmax', name='softmax')`, so that training "
            f"can use the logits before it. Received: a last layer {last.name!r} of type {type(last).__name__}. Ending "
            "your builder with `acoustic_model(the_input, logits, name)` does that."
        )
    return last.input


def add_ctc_loss(input_to_softmax: keras.Model) -> keras.Model:
    """Return the training model: the acoustic model with the CTC loss on top.

    Layers whose names begin with 'intermediate_' put out logits too, at the frame rate of the last ones: they are trained with
    the same transcripts (Lee and Watanabe, arXiv:2102.03216), and those whose names begin with 'phonemes_' with their
    phonemes. The loss is then 0.7 times that of the last layer and 0.3 times the mean of theirs; the layer `ctc` of the training
    model has the former by itself.

    Args:
        input_to_softmax: features (batch, num_frames, num_features) to softmax.

    Returns:
        A `keras.Model` that shares its layers, with the inputs `the_input`, `the_labels`, `input_length` (feature frames)
        and `label_length`, where there are phonemes to learn `the_phonemes` and `phoneme_length`, and the output `ctc`: the
        loss of each utterance, (batch,). Compile it with `loss=mean_loss`.

    Raises:
        ValueError: when the model does not end in a layer named 'softmax'.
    """
    logits = logits_of(input_to_softmax)
    the_labels = keras.Input(shape=(None,), dtype="int32", name="the_labels")
    input_length = keras.Input(shape=(), dtype="int32", name="input_length")
    label_length = keras.Input(shape=(), dtype="int32", name="label_length")
    num_output_frames = OutputFrames(input_to_softmax, name="output_frames")(input_length)
    targets = [the_labels, num_output_frames, label_length]
    loss = CTCLoss(name="ctc")([logits, *targets])
    inputs = {
        "the_input": input_to_softmax.inputs[0],
        "the_labels": the_labels,
        "input_length": input_length,
        "label_length": label_length,
    }
    heads = [(layer, targets) for layer in heads_of(input_to_softmax, INTERMEDIATE)]
    if needs_phonemes(input_to_softmax):
        inputs["the_phonemes"] = keras.Input(shape=(None,), dtype="int32", name="the_phonemes")
        inputs["phoneme_length"] = keras.Input(shape=(), dtype="int32", name="phoneme_length")
        sounds = [inputs["the_phonemes"], num_output_frames, inputs["phoneme_length"]]
        heads += [(layer, sounds) for layer in heads_of(input_to_softmax, PHONEMES)]
    if heads:
        losses = [CTCLoss(name=f"ctc_{head.name}")([head.output, *aims]) for head, aims in heads]
        loss = (1 - INTERMEDIATE_SHARE) * loss + INTERMEDIATE_SHARE / len(heads) * sum(losses)
    return keras.Model(inputs=inputs, outputs={"ctc": loss}, name=f"{input_to_softmax.name}_ctc")


def needs_phonemes(input_to_softmax: keras.Model) -> bool:
    """Whether a model has layers that learn phonemes, so that batches have to hold those."""
    return bool(heads_of(input_to_softmax, PHONEMES))


@keras.saving.register_keras_serializable(package="vui")
def mean_loss(_, utterance_losses):
    """Return the training model's output as it is; Keras averages it over the batch."""
    return utterance_losses
