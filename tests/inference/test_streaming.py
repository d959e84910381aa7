"""Streaming: whatever the chunks, the features and probabilities of the whole recording."""

import keras
import numpy as np
import pytest
from keras import layers

from sample_models import ZOO, cnn_rnn_model, deep_rnn_model, rnn_model, simple_rnn_model
from vuilab.decoding.greedy import greedy_decode
from vuilab.features import FeatureSettings, mfcc
from vuilab.inference.frame_model import FrameModel
from vuilab.inference.streaming import StreamingFeatures, StreamingRecogniser
from vuilab.inference.transcribe import Recogniser

MODELS = {  # those of the zoo, narrower
    "model_0": lambda width: simple_rnn_model(width),
    "model_1": lambda width: rnn_model(width, 30),
    "model_1_relu": lambda width: rnn_model(width, 30, "relu"),
    "model_2": lambda width: cnn_rnn_model(width, 20, 11, 2, "valid", 30),
    "model_3": lambda width: deep_rnn_model(width, 30, 2),
}
KINDS = [
    FeatureSettings("spectrogram"),
    FeatureSettings("spectrogram", step=12.5, window=32, max_freq=4000),
    FeatureSettings("mfcc"),
    FeatureSettings("mfcc", step=30, mfcc_dim=26),  # windows with gaps between them
    FeatureSettings("logmel", num_mels=40),
]


def _speech(num_samples: int, seed: int = 0) -> np.ndarray:
    """Noise whose loudness rises and falls."""
    rng = np.random.default_rng(seed)
    envelope = 1.2 + np.sin(2 * np.pi * 3 * np.arange(num_samples) / 16_000)
    return (0.1 * envelope * rng.standard_normal(num_samples)).astype(np.float32)


def _chunks(samples: np.ndarray, seed: int) -> list[np.ndarray]:
    """Cut into chunks of 0 to 999 samples."""
    lengths = np.random.default_rng(seed).integers(0, 1000, len(samples))
    ends = np.cumsum(lengths)
    return np.split(samples, ends[ends < len(samples)])


def _recogniser(model: keras.Model, settings: FeatureSettings = FeatureSettings()) -> Recogniser:  # noqa: B008 (frozen)
    """A recogniser whose every class comes up: random biases, averages and loud logits, statistics that fit `_speech`."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            num = layer.moving_mean.shape[0]
            layer.set_weights([np.ones(num), np.zeros(num), rng.normal(0, 0.3, num), rng.uniform(0.05, 0.2, num)])
        elif layer.weights:
            layer.set_weights([w + rng.normal(0, 0.1, w.shape) for w in layer.get_weights()])
    features = settings.extract(_speech(16_000, seed=9))
    return Recogniser(model, settings, features.mean(axis=0), features.std(axis=0), {})


# ------------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: f"{settings.kind}-{settings.step:g}")
@pytest.mark.parametrize("num_samples", [100, 400, 512, 880, 9_999])
def test_features_in_chunks_are_those_of_the_whole(settings, num_samples):
    samples = _speech(num_samples)
    streamed = StreamingFeatures(settings)
    for seed in (0, 1):
        parts = [streamed.add(chunk) for chunk in _chunks(samples, seed)] + [streamed.finish()]
        streamed.reset()
        found = np.concatenate(parts)
        if num_samples < settings.framing[0]:
            assert found.shape == (0, settings.num_features)
        else:
            np.testing.assert_allclose(found, settings.extract(samples), atol=2e-4, rtol=0)  # logarithms of float32


def test_samples_may_come_one_by_one():
    samples = _speech(700)
    for settings in (FeatureSettings("spectrogram"), FeatureSettings("mfcc"), FeatureSettings("raw")):
        streamed = StreamingFeatures(settings)
        found = [streamed.add(samples[i : i + 1]) for i in range(len(samples))] + [streamed.finish()]
        np.testing.assert_allclose(np.concatenate(found), settings.extract(samples), atol=2e-4)


def test_a_frame_is_there_as_soon_as_its_window_is_complete():
    streamed = StreamingFeatures(FeatureSettings("spectrogram"))
    assert [len(streamed.add(np.zeros(number))) for number in (319, 1, 159, 1, 1600)] == [0, 1, 0, 1, 10]


def test_pre_emphasis_of_the_library_and_of_emphasised_samples_is_the_same():
    samples = _speech(4000)
    by_hand = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    np.testing.assert_array_equal(mfcc(samples), mfcc(by_hand, preemphasis=0))


@pytest.mark.parametrize("samples", [np.zeros((2, 160)), [0.0, np.nan], [np.inf]])
def test_what_is_no_waveform_is_refused(samples):
    with pytest.raises(ValueError, match=r"Expected finite samples \(num_samples,\) at 16 kHz\. Received: shape"):
        StreamingFeatures(FeatureSettings()).add(samples)


# --------------------------------------------------------------------------------------------------- whole chain


@pytest.mark.contract
@pytest.mark.parametrize("name", MODELS)
def test_probabilities_in_chunks_are_those_of_keras_on_the_whole_recording(name):
    settings = FeatureSettings("spectrogram")
    recogniser = _recogniser(MODELS[name](settings.num_features), settings)
    samples = _speech(9_000)
    offline = recogniser.probabilities(samples)
    stream = StreamingRecogniser(recogniser)
    for chunks in (_chunks(samples, 0), _chunks(samples, 1), [samples]):
        stream.reset()
        found = np.concatenate([stream.add(chunk) for chunk in chunks] + [stream.finish()])
        np.testing.assert_allclose(found, offline, atol=1e-5, rtol=0)
        assert stream.text == greedy_decode(offline) and len(stream.text) >= 5


@pytest.mark.contract
def test_mfccs_stream_with_the_padded_frame_at_the_end():
    settings = FeatureSettings("mfcc")
    recogniser = _recogniser(MODELS["model_1"](13), settings)
    samples = _speech(8_100)
    offline = recogniser.probabilities(samples)
    stream = StreamingRecogniser(recogniser)
    found = [stream.add(chunk) for chunk in _chunks(samples, 0)]
    last = stream.finish()
    assert len(last) == 1 and sum(map(len, found)) == len(offline) - 1
    np.testing.assert_allclose(np.concatenate([*found, last]), offline, atol=1e-5, rtol=0)


def test_text_grows_while_the_sound_arrives_and_reset_begins_anew():
    stream = StreamingRecogniser(_recogniser(MODELS["model_1"](161)))
    samples, texts = _speech(16_000), []
    for chunk in np.split(samples, 100):
        stream.add(chunk)
        texts.append(stream.text)
    lengths = [len(text) for text in texts]
    assert lengths[0] == 0 and lengths == sorted(lengths) and len(set(lengths)) > 5
    stream.reset()
    assert stream.text == ""
    stream.add(samples)
    assert stream.text == texts[-1]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model_4", "its layer 'bidir_rnn' reads the recording from the end as well"),
        ("cnn_birnn_model", "its layer 'conv1d' pads both sides, so that its first frame depends on later ones"),
    ],
)
def test_models_that_need_the_end_are_refused_with_reason_and_alternative(name, reason):
    recogniser = _recogniser(ZOO[name](161))
    with pytest.raises(
        ValueError, match=rf"does not stream: {reason}\. Transcribe whole recordings with it.*model_1 or model_3"
    ):
        StreamingRecogniser(recogniser)
    with pytest.raises(ValueError, match=f"cannot go frame by frame: {reason}"):
        FrameModel(recogniser.model).add(np.zeros((3, 161)))


def test_a_model_that_gives_nan_is_refused():
    settings = FeatureSettings()
    model = ZOO["model_0"](161)
    model.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
    stream = StreamingRecogniser(Recogniser(model, settings, np.zeros(161), np.ones(161), {}))
    with pytest.raises(ValueError, match=r"The model gives NaN\. .*train it again with clipping"):
        stream.add(np.zeros(320))


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("model_1", 0.020), ("model_2", 0.020 + 10 * 0.010)],  # a window; a window and a kernel of 11 frames
)
def test_look_ahead_is_what_the_first_output_frame_waits_for(name, seconds):
    stream = StreamingRecogniser(_recogniser(MODELS[name](161)))
    assert stream.look_ahead == pytest.approx(seconds)
    num_samples = round(seconds * 16_000)
    assert len(stream.add(np.zeros(num_samples - 1))) == 0 and len(stream.add(np.zeros(1))) == 1
