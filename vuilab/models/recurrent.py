"""GRU and SimpleRNN layers that train faster on a processor than the stock ones: same weights, same results.

A recurrent layer computes h_t = f(x_t W + b, h_(t-1) U). Three things make it fast: the input product x W of all frames is
one product before the loop over frames; the gradient of U, which is sum_t h_(t-1)^T d_t, is one product after the backward
loop instead of a sum inside it; and the loop is compiled by XLA, on TensorFlow too. The equations are those of Keras (Cho
et al., EMNLP 2014; `reset_after=True` as in cuDNN).

What these layers cannot do faster (other activations, `reset_after=False`, dropout of their own, masks, lower precision, a
GPU, where cuDNN is the fast way) they leave to Keras.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers, ops


class _GRUStep:
    """One frame of a GRU: update gate z, reset gate r, candidate c; h' = z h + (1 - z) c."""

    @staticmethod
    def forward(h, x, inner):  # state (batch, units), x W + b, h U + b' -> next state, what `backward` needs
        x_z, x_r, x_c = ops.split(x, 3, axis=-1)
        inner_z, inner_r, inner_c = ops.split(inner, 3, axis=-1)
        z = ops.sigmoid(x_z + inner_z)
        r = ops.sigmoid(x_r + inner_r)
        c = ops.tanh(x_c + r * inner_c)
        return c + z * (h - c), (z, r, c, inner_c)

    @staticmethod
    def backward(d_next, h, saved):  # -> gradients of h (its direct part), of x and of inner
        z, r, c, inner_c = saved
        d_c = d_next * (1 - z) * (1 - c * c)
        d_z = d_next * (h - c) * z * (1 - z)
        d_r = d_c * inner_c * r * (1 - r)
        return d_next * z, ops.concatenate([d_z, d_r, d_c], -1), ops.concatenate([d_z, d_r, d_c * r], -1)


class _SimpleStep:
    """One frame of a simple recurrent layer: h' = tanh(x W + b + h U)."""

    @staticmethod
    def forward(h, x, inner):
        new = ops.tanh(x + inner)
        return new, (new,)

    @staticmethod
    def backward(d_next, h, saved):
        d = d_next * (1 - saved[0] * saved[0])
        return ops.zeros_like(d), d, d


def _scan(step: Callable, state, sequences: tuple, reverse: bool = False):
    """Return the outputs of `step(state, frame) -> (state, outputs)` over the first axis, stacked, and the last state.

    `keras.ops.scan` on TensorFlow only gives outputs of the state's own shape, hence this one place where the backends differ.
    """
    if keras.backend.backend() != "tensorflow":
        import jax

        state, outputs = jax.lax.scan(step, state, sequences, reverse=reverse)
        return outputs, state
    import tensorflow as tf

    num_frames = tf.shape(sequences[0])[0]
    arrays = [tf.TensorArray(x.dtype, num_frames).unstack(x) for x in sequences]
    outputs = step(state, tuple(x[0] for x in sequences))[1]  # for the shapes; XLA drops it
    empty = tuple(tf.TensorArray(y.dtype, num_frames, element_shape=y.shape) for y in outputs)

    def body(done, state, written):
        frame = num_frames - 1 - done if reverse else done
        state, outputs = step(state, tuple(array.read(frame) for array in arrays))
        return done + 1, state, tuple(array.write(frame, y) for array, y in zip(written, outputs, strict=True))

    _, state, written = tf.while_loop(lambda done, *_: done < num_frames, body, (0, state, empty))
    return tuple(array.stack() for array in written), state


def _compiled(function: Callable) -> Callable:
    """Compile with XLA on TensorFlow, whose loops are slow otherwise; JAX compiles the whole training step anyway."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    _without_notice()
    return tf.function(function, jit_compile=True)


@functools.cache
def _without_notice() -> None:
    """Compile a first small program while standard error leads nowhere.

    TensorFlow announces its first program by XLA there, as a warning, whatever `TF_CPP_MIN_LOG_LEVEL` says (its issue 100442).
    """
    import tensorflow as tf

    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") == "0":  # its messages are wanted
        return
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error to keep clean
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        with tf.init_scope():  # now, also where a larger program is being traced
            tf.function(lambda x: x + 1.0, jit_compile=True)(0.0)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@functools.cache
def _recurrence(cell: type) -> Callable:
    """Return the differentiable function (x W + b, initial state, U, b') -> states (num_frames, batch, units)."""

    @_compiled
    def forward(projected, state, kernel, bias):
        def step(h, frame):
            new, saved = cell.forward(h, frame[0], ops.matmul(h, kernel) + bias)
            return new, (new, *saved)

        return _scan(step, state, (projected,))[0]

    @_compiled
    def backward(upstream, previous, kernel, *saved):
        transposed = ops.transpose(kernel)

        def step(d_state, frame):
            d_out, h, *saved = frame
            d_h, d_x, d_inner = cell.backward(d_state + d_out, h, saved)
            return d_h + ops.matmul(d_inner, transposed), (d_x, d_inner)

        (d_projected, d_inner), d_state = _scan(
            step, ops.zeros_like(previous[0]), (upstream, previous, *saved), reverse=True
        )
        return d_projected, d_state, d_inner

    @ops.custom_gradient
    def states(projected, state, kernel, bias):
        # without recording: an eager TensorFlow tape would differentiate the compiled loop itself
        outputs, *saved = forward(*(ops.stop_gradient(x) for x in (projected, state, kernel, bias)))

        def gradient(*args, upstream=None):  # Keras passes it by name on PyTorch, by position elsewhere
            upstream = args[0] if upstream is None else upstream
            previous = ops.concatenate([state[None], outputs[:-1]], axis=0)
            d_projected, d_state, d_inner = backward(upstream, previous, kernel, *saved)
            d_inner = ops.reshape(d_inner, (-1, kernel.shape[1]))  # (num_frames x batch, gates x units)
            d_kernel = ops.matmul(ops.transpose(ops.reshape(previous, (-1, kernel.shape[0]))), d_inner)
            return d_projected, d_state, d_kernel, ops.sum(d_inner, axis=0)

        return outputs, gradient

    return states


@functools.cache
def _on_processor() -> bool:
    """Whether training runs on the processor (a GPU has kernels of its own)."""
    return keras.distribution.list_devices()[0].startswith("cpu")


def _run(layer: layers.RNN, cell: type, sequences, state, bias, recurrent_bias):
    """Run a layer's sequences (batch, num_frames, num_features); return last output, outputs and states as Keras wants them."""
    x = ops.transpose(sequences, (1, 0, 2))
    if layer.go_backwards:
        x = ops.flip(x, axis=0)
    projected = ops.matmul(x, layer.cell.kernel) + bias
    # reshape reads the variable: TensorFlow's custom gradients want tensors, and convert_to_tensor hands on the variable
    kernel = ops.reshape(layer.cell.recurrent_kernel, layer.cell.recurrent_kernel.shape)
    outputs = _recurrence(cell)(projected, state, kernel, recurrent_bias)
    return outputs[-1], ops.transpose(outputs, (1, 0, 2)), [outputs[-1]]


def _is_fast(layer: layers.RNN, sequences, mask) -> bool:
    """Whether the fast form computes what this layer is set to."""
    cell = layer.cell
    return (
        mask is None
        and cell.activation is keras.activations.tanh
        and cell.use_bias
        and not (cell.dropout or cell.recurrent_dropout or layer.unroll)
        and keras.backend.standardize_dtype(sequences.dtype) == "float32"
        and _on_processor()
    )


@keras.saving.register_keras_serializable(package="vui")
class GRU(layers.GRU):
    """`keras.layers.GRU` with the same arguments, weights and results, faster on a processor."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run over the frames; called by Keras."""
        cell = self.cell
        usual = cell.reset_after and cell.recurrent_activation is keras.activations.sigmoid
        if not (usual and _is_fast(self, sequences, mask)):
            return super().inner_loop(sequences, initial_state, mask, training)
        return _run(self, _GRUStep, sequences, initial_state[0], cell.bias[0], cell.bias[1])


@keras.saving.register_keras_serializable(package="vui")
class SimpleRNN(layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with the same arguments, weights and results, faster on a processor."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run over the frames; called by Keras."""
        if not _is_fast(self, sequences, mask):
            return super().inner_loop(sequences, initial_state, mask, training)
        return _run(self, _SimpleStep, sequences, initial_state[0], self.cell.bias, ops.zeros(self.units))
