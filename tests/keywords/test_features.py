"""Features of clips against SciPy, python_speech_features and hand-made sounds."""

import numpy as np
import pytest
import scipy.fft
import scipy.signal

from vuilab.keywords.features import KINDS, KeywordFeatures, cepstra, half_rate, log_mel, power_frames

SHAPES = {
    "mfcc_image": (20, 11, 1),
    "spectrogram": (99, 81, 1),
    "raw": (16_000, 1),
    "raw8k": (8_000, 1),
    "mfcc": (98, 64),
    "logmel": (40, 98, 1),
}


@pytest.fixture
def clips():
    return np.random.default_rng(0).normal(0, 0.1, (3, 16_000)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_shape_and_treats_clips_one_by_one(clips, kind):
    settings = KeywordFeatures(kind)
    found = settings.extract(clips)
    assert settings.shape == SHAPES[kind] and found.shape == (3, *SHAPES[kind]) and found.dtype == np.float32
    for number in range(3):
        np.testing.assert_allclose(settings.extract(clips[number : number + 1])[0], found[number], rtol=1e-4, atol=1e-4)
    assert np.isfinite(settings.extract(np.zeros((1, 16_000), np.float32))).all()


def test_the_spectrogram_is_scipys_at_8_khz(clips):
    slow = half_rate(clips)[0]
    frequencies, _, density = scipy.signal.spectrogram(
        slow, 8000, scipy.signal.get_window("hann", 160), 160, 80, detrend=False, scaling="density"
    )
    assert frequencies[-1] == 4000 and density.shape == (81, 99)
    found = KeywordFeatures("spectrogram").extract(clips[:1])[0, :, :, 0]
    np.testing.assert_allclose(found, np.log(density.T + 1e-14), atol=2e-3)


def test_half_the_rate_keeps_a_low_tone_and_removes_a_high_one():
    seconds = np.arange(16_000) / 16_000
    low, high = (np.sin(2 * np.pi * frequency * seconds)[None].astype(np.float32) for frequency in (1000, 6000))
    np.testing.assert_allclose(half_rate(low)[0, 500:-500], low[0, ::2][500:-500], atol=2e-3)
    assert np.abs(half_rate(high)[0, 500:-500]).max() < 1e-3


def test_frames_are_the_windowed_fourier_transform(clips):
    power = power_frames(clips, 400, 160, 512)
    assert power.shape == (3, 98, 257)
    frame = clips[1, 5 * 160 : 5 * 160 + 400] * scipy.signal.get_window("hann", 400)
    np.testing.assert_allclose(power[1, 5], np.abs(np.fft.rfft(frame, 512)) ** 2, rtol=1e-3, atol=1e-5)


def test_a_tone_excites_the_mel_band_around_it():
    seconds = np.arange(16_000) / 16_000
    bands = [
        int(log_mel(np.sin(2 * np.pi * frequency * seconds)[None], 480, 160, 512, 40).mean(axis=(0, 1)).argmax())
        for frequency in (200, 1000, 3000, 7000)
    ]
    assert bands == sorted(set(bands)) and bands[0] < 5 and bands[-1] >= 36


def test_all_cepstra_give_back_the_log_energies_and_the_first_is_their_sum():
    energies = np.random.default_rng(1).normal(size=(2, 7, 40))
    coefficients = cepstra(energies, 40)
    np.testing.assert_allclose(scipy.fft.idct(coefficients, norm="ortho", axis=-1), energies, atol=1e-12)
    np.testing.assert_allclose(cepstra(energies, 1)[..., 0], energies.sum(axis=-1) / np.sqrt(40))


def test_the_image_shows_when_the_sound_was():
    clip = np.zeros((1, 16_000), np.float32)
    clip[0, 8000:9600] = np.random.default_rng(0).normal(0, 0.3, 1600)
    loudness = KeywordFeatures("mfcc_image").extract(clip)[0, 0, :, 0]  # the first coefficient
    assert loudness.argmax() in (5, 6) and loudness[0] == loudness.min()


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_bring_clips_to_mean_0_and_deviation_1(clips, kind):
    settings = KeywordFeatures(kind)
    features = settings.extract(clips)
    mean, std = settings.statistics(features)
    normal = (features - mean) / std
    axes = (0, 1, 2) if settings.time_axis is None else (0, settings.time_axis + 1)
    np.testing.assert_allclose(normal.mean(axis=axes), 0, atol=1e-2)
    np.testing.assert_allclose(normal.std(axis=axes), 1, atol=1e-2)


def test_other_lengths_and_kinds_are_refused(clips):
    with pytest.raises(ValueError, match=r"shape \(num_clips, 16000\)\. Received: shape \(3, 8000\)"):
        KeywordFeatures().extract(clips[:, :8000])
    with pytest.raises(ValueError, match=r"kind must be one of .*Received: kind='chroma'"):
        KeywordFeatures("chroma")
