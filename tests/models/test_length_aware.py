"""An utterance's probabilities do not depend on padding, batch size and neighbours; the layers that see to that."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from sample_models import ZOO, bidirectional_rnn_model
from vuilab.decoding.alignment import boundary_errors
from vuilab.files import repository
from vuilab.models.acoustic import acoustic_model
from vuilab.models.length_aware import (
    MaskedBatchNormalization,
    PaddingMask,
    ReverseUtterance,
    Thinned,
    UtteranceNormalization,
    both_directions,
    padded_conv,
)
from vuilab.models.residual_birnn import residual_birnn_model
from vuilab.runs.weights import load_model, save_weights

LENGTHS = (23, 8, 15, 16, 1)


def utterances(num_features=5, lengths=LENGTHS):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((num_frames, num_features)).astype("float32") for num_frames in lengths]


def padded(batch, num_frames):
    return np.stack([np.pad(x, ((0, num_frames - len(x)), (0, 0))) for x in batch])


def mask_of(lengths, num_frames):
    return (np.arange(num_frames)[None, :, None] < np.array(lengths)[:, None, None]).astype("float32")


def run(layer, *inputs, **options):
    return keras.ops.convert_to_numpy(layer(*inputs, **options))


def peaked(model):
    """Probabilities that are far from even; biases and statistics that are not those of the start."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
            layer.set_weights(
                [
                    weight if "kernel" in variable.name else rng.normal(0, 0.5, weight.shape)
                    for weight, variable in zip(layer.get_weights(), layer.weights, strict=True)
                ]
            )
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [gamma, rng.normal(0, 0.3, beta.shape), rng.normal(0, 0.3, mean.shape), variance * rng.uniform(0.5, 2)]
            )
    model.get_layer("time_distributed").kernel.assign(20 * model.get_layer("time_distributed").kernel)
    return model


def small_model():
    keras.utils.set_random_seed(0)
    return peaked(
        residual_birnn_model(
            5,
            filters=8,
            kernel_size=5,
            conv_stride=2,
            residual_kernel_size=3,
            dilations=(1, 2),
            units=6,
            recur_layers=2,
            output_dim=7,
            print_summary=False,
        )
    )


def probabilities(model, batch):
    if keras.backend.backend() == "tensorflow":
        return keras.ops.convert_to_numpy(model(batch, training=False))
    return model.predict_on_batch(batch)  # one programme for a shape instead of one for each operation


def alone(model, utterance):
    return probabilities(model, utterance[None])[0]


def largest_difference(model, batch, num_frames):
    """How far the probabilities of each utterance in a padded batch are from those that it has by itself."""
    together = probabilities(model, padded(batch, num_frames))
    return max(
        np.abs(together[number, : model.output_length(len(x))] - alone(model, x)).max()
        for number, x in enumerate(batch)
    )


# ---------------------------------------------------------------------------------------------------- the promise


@pytest.mark.contract
def test_padding_and_neighbours_change_no_probability():
    model, batch = small_model(), utterances(lengths=(23, 8, 16))
    assert alone(model, batch[0]).max() > 0.5  # so that the tolerance means something
    assert largest_difference(model, batch, 57) < 1e-5
    assert largest_difference(model, batch[:1], 57) < 1e-5  # the only one in its batch
    assert largest_difference(model, [100 * batch[0], batch[1], batch[2]], 57) < 1e-5


def test_every_length_is_transcribed_as_by_itself():
    for num_frames in (24, 40):
        assert largest_difference(small_model(), utterances(), num_frames) < 1e-5


def test_guesses_on_the_way_keep_the_promise():
    keras.utils.set_random_seed(0)
    options = {"heads": (1,), "output_dim": 7, "print_summary": False}
    model = peaked(
        residual_birnn_model(
            5,
            filters=8,
            kernel_size=5,
            conv_stride=2,
            residual_kernel_size=3,
            dilations=(1,),
            units=6,
            recur_layers=2,
            **options,
        )
    )
    assert largest_difference(model, utterances(), 40) < 1e-5
    with pytest.raises(ValueError, match=r"before the last one, 1 to 1\. Received: heads=\(2,\)"):
        residual_birnn_model(5, recur_layers=2, heads=(2,))


def test_the_sample_models_lack_it():
    keras.utils.set_random_seed(0)
    model = peaked(bidirectional_rnn_model(5, 6, output_dim=7))
    assert largest_difference(model, utterances(), 40) > 1e-3


def test_a_network_comes_back_from_its_file(tmp_path):
    model, x = small_model(), utterances()[0]
    save_weights(model, tmp_path / "model.h5", {})
    again, _ = load_model(tmp_path / "model.h5")
    np.testing.assert_allclose(alone(again, x), alone(model, x), atol=1e-6)
    assert [again.output_length(n) for n in (1, 22, 23)] == [1, 11, 12]


def test_output_length_is_that_of_the_output():
    model = small_model()
    for num_frames in (1, 2, 15, 16, 23):
        assert len(alone(model, utterances(lengths=(num_frames,))[0])) == model.output_length(num_frames)


def test_the_zoo_holds_it_with_three_million_parameters(capsys):
    model = ZOO["residual_birnn"](80)
    # by hand: the convolutions, their normalisation, three bidirectional GRUs with theirs, the dense layer
    conv, normalisation = 80 * 11 * 256 + 256 + 3 * (256 * 5 * 256 + 256), 4 * 4 * 256 + 3 * 4 * 384
    gru = [2 * 3 * 192 * (width + 192 + 2) for width in (256, 384, 384)]
    assert model.count_params() == conv + normalisation + sum(gru) + 384 * 29 + 29 == 3_079_325
    with pytest.raises(ValueError, match=r"odd width here.*kernel_size=10"):
        residual_birnn_model(kernel_size=10)


# --------------------------------------------------------------------------------------------------- the layers


@pytest.mark.contract
def test_a_mask_ends_at_the_last_frame_that_is_not_zero():
    batch = padded(utterances(), 30)
    batch[0, 3:6] = 0  # a stretch that SpecAugment has blanked is no end
    np.testing.assert_array_equal(run(PaddingMask(), batch), mask_of(LENGTHS, 30))
    np.testing.assert_array_equal(run(Thinned(2), mask_of((7, 8), 9))[..., 0], [[1] * 4 + [0], [1] * 4 + [0]])


def test_each_utterance_is_normalised_by_itself():
    batch = [3 * x + 7 for x in utterances(lengths=(23, 8))]
    found = run(UtteranceNormalization(), [padded(batch, 30), mask_of((23, 8), 30)])
    for row, x in zip(found, batch, strict=True):
        np.testing.assert_allclose(row[: len(x)], (x - x.mean(axis=0)) / x.std(axis=0), atol=1e-4)
        assert not row[len(x) :].any()


@pytest.mark.contract
def test_utterances_are_reversed_up_to_their_ends():
    batch = utterances(lengths=(4, 2))
    found = run(ReverseUtterance(), [padded(batch, 6), mask_of((4, 2), 6)])
    np.testing.assert_array_equal(found[0], padded([batch[0][::-1]], 6)[0])
    np.testing.assert_array_equal(found[1], padded([batch[1][::-1]], 6)[0])


@pytest.mark.contract
def test_gradients_go_back_to_the_frames_they_came_from():
    """Of x K, reversed, times y: the gradient with respect to K is the sum over frames of x_t and y reversed."""
    sequence, mask = keras.Input((6, 5)), keras.Input((6, 1))
    dense = keras.layers.Dense(5, use_bias=False)
    model = keras.Model([sequence, mask], ReverseUtterance()([dense(sequence), mask]))
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: keras.ops.sum(p * y), jit_compile=False)
    batch, y, before = utterances(lengths=(4, 2)), padded(utterances(lengths=(6, 6)), 6), dense.get_weights()[0]
    model.train_on_batch([padded(batch, 6), mask_of((4, 2), 6)], y)
    expected = sum(x.T @ weights[: len(x)][::-1] for x, weights in zip(batch, y, strict=True))
    np.testing.assert_allclose(before - dense.get_weights()[0], expected, atol=1e-5)


@pytest.mark.contract
def test_lengths_are_exact_in_low_precision():
    """bfloat16 counts 799 frames as 800."""
    batch = [x.round(1) for x in utterances(num_features=2, lengths=(799, 513))]
    sequence, mask = padded(batch, 801), mask_of((799, 513), 801)
    found = run(ReverseUtterance(dtype="mixed_bfloat16"), [sequence, mask])
    for row, x in zip(found.astype("float32"), batch, strict=True):
        np.testing.assert_allclose(row[: len(x)], x[::-1], rtol=0.01)


@pytest.fixture
def low_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_utterances_are_normalised_in_full_precision(low_precision):
    features = np.float32([[[300.0], [302.0]] * 500])  # bfloat16 knows no number between 300 and 302
    found = run(UtteranceNormalization(), [features, np.ones((1, 1000, 1), "float32")])
    np.testing.assert_allclose(found[0, :2, 0], [-1, 1], atol=1e-4)


@pytest.mark.contract
def test_statistics_of_batch_normalisation_leave_padding_out():
    batch, layer = utterances(lengths=(23, 8)), MaskedBatchNormalization(momentum=0.0)
    found = run(layer, [padded(batch, 40), mask_of((23, 8), 40)], training=True)
    frames = np.concatenate(batch)
    np.testing.assert_allclose(layer.moving_mean, frames.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, frames.var(axis=0), rtol=1e-4)
    np.testing.assert_allclose(
        found[0, :23], (batch[0] - frames.mean(axis=0)) / np.sqrt(frames.var(axis=0) + layer.epsilon), atol=1e-4
    )
    assert not found[1, 8:].any()


def test_a_bidirectional_layer_equals_that_of_keras_on_each_utterance():
    keras.utils.set_random_seed(0)
    the_input = keras.Input((None, 5), name="the_input")
    mask = PaddingMask()(the_input)
    model = keras.Model(the_input, both_directions(the_input, mask, "gru", 4, "birnn"))
    stock = keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True))
    stock.build((None, None, 5))
    weights = [model.get_layer(f"birnn_{way}").get_weights() for way in ("forward", "backward")]
    stock.set_weights([*weights[0], *weights[1]])
    batch = utterances()
    found = run(model, padded(batch, 30))
    for row, x in zip(found, batch, strict=True):
        np.testing.assert_allclose(row[: len(x)], run(stock, x[None])[0], atol=1e-5)


@pytest.mark.parametrize(("kernel_size", "stride", "dilation"), [(5, 2, 1), (5, 3, 1), (3, 1, 4)])
def test_convolutions_see_the_same_whatever_follows(kernel_size, stride, dilation):
    keras.utils.set_random_seed(0)
    the_input = keras.Input((None, 5), name="the_input")
    x, mask = padded_conv(the_input, PaddingMask()(the_input), 4, kernel_size, stride, dilation, "conv")
    model = keras.Model(the_input, [x, mask])
    batch = utterances()
    found, ends = map(keras.ops.convert_to_numpy, model(padded(batch, 41)))
    for row, end, x in zip(found, ends, batch, strict=True):
        by_itself, _ = map(keras.ops.convert_to_numpy, model(x[None]))
        assert end.sum() == len(by_itself[0]) == -(-len(x) // stride)
        np.testing.assert_allclose(row[: len(by_itself[0])], by_itself[0], atol=1e-5)


def test_gradients_of_what_is_behind_the_end_are_zero():
    """Training two utterances together gives the gradients of each by itself, added, where nothing is shared."""
    keras.utils.set_random_seed(0)
    the_input = keras.Input((None, 5), name="the_input")
    mask = PaddingMask()(the_input)
    x = both_directions(the_input, mask, "simple_rnn", 3, "birnn")
    model = acoustic_model(the_input, keras.layers.Dense(4, name="logits")(x), "tiny", print_summary=False)
    before = model.get_weights()
    batch = utterances(lengths=(9, 4))
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: keras.ops.sum(p[..., :1] * y), jit_compile=False)

    def change(features, targets):
        model.set_weights(before)
        model.train_on_batch(features, targets)
        return [after - start for after, start in zip(model.get_weights(), before, strict=True)]

    together = change(padded(batch, 9), mask_of((9, 4), 9))
    apart = [change(x[None], np.ones((1, len(x), 1), "float32")) for x in batch]
    for number, weights in enumerate(together):
        np.testing.assert_allclose(weights, apart[0][number] + apart[1][number], atol=1e-5)


def test_the_released_recogniser_does_not_mind_its_company():
    from vuilab.inference.transcribe import load_recogniser

    recogniser, rng = load_recogniser(), np.random.default_rng(0)
    lengths = [60, 100, *rng.integers(40, 100, 30)]  # of 32 utterances; the batch is as long as the second
    batch = np.zeros((32, 100, recogniser.settings.num_features), "float32")
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = rng.normal(0, 1, (length, batch.shape[2]))
    together = np.asarray(recogniser.model.predict_on_batch(batch))
    for number in (0, 5):
        alone = np.asarray(recogniser.model.predict_on_batch(batch[number : number + 1, : lengths[number]]))[0]
        np.testing.assert_allclose(together[number, : len(alone)], alone, atol=1e-4)


def test_the_released_recogniser_knows_when_words_are_spoken(tiny_corpus):
    """The demo tells when; its voices were not in the training, so the network is a little early, but never a word off."""
    from vuilab.corpus.manifest import MANIFESTS, read_manifest
    from vuilab.inference.transcribe import load_recogniser

    recogniser, errors = load_recogniser(), []
    for item in read_manifest(tiny_corpus / MANIFESTS["test"])[:5]:
        alignment = recogniser.align(item.path, item.text)
        errors += boundary_errors(alignment, item.extra["words"]).tolist()
    assert np.median(np.abs(errors)) < 0.15 and np.quantile(np.abs(errors), 0.9) < 0.4


def test_the_released_weights_work_where_only_records_was_imported_and_nothing_warns():
    code = """
import numpy
from vuilab.runs.weights import load_model
model, _ = load_model("results/released/recogniser.h5")
print(model.name, model.predict_on_batch(numpy.zeros((1, 20, 80))).shape[-1])
"""
    root = repository()
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "residual_birnn_model 29"
    assert done.stderr == ""
