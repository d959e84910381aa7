"""Features against SciPy, python_speech_features, librosa and tables worked out by hand."""

import math

import librosa
import numpy as np
import pytest
import python_speech_features
import scipy.fft
import scipy.signal
import soundfile

from vuilab.features import FeatureSettings, hann_window, logmel, mel_filters, mfcc, spectrogram, spectrogram_from_file


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(0, 0.1, 61_120).astype(np.float32)


# ---------------------------------------------------------------------------------------------- spectrogram


def test_the_spectrogram_of_the_reference_clip_has_381_frames_of_161_features(noise):
    features = spectrogram(noise)
    assert features.shape == (381, 161)
    assert features.dtype == np.float32


def test_the_spectrogram_is_the_log_of_scipy_s_density(noise):
    _, _, density = scipy.signal.spectrogram(
        noise.astype(np.float64), fs=16_000, window="hann", nperseg=320, noverlap=160, detrend=False, scaling="density"
    )
    np.testing.assert_allclose(spectrogram(noise), np.log(density.T + 1e-14), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(
    ("num_mels", "frame_length", "max_freq"), [(80, 320, 8000), (64, 512, 8000), (40, 480, 3500), (5, 320, 900)]
)
def test_mel_filters_and_windows_are_those_of_librosa_and_scipy(num_mels, frame_length, max_freq):
    expected = librosa.filters.mel(sr=16_000, n_fft=frame_length, n_mels=num_mels, fmax=max_freq)
    np.testing.assert_allclose(mel_filters(num_mels, frame_length, max_freq), expected, atol=1e-6)
    np.testing.assert_allclose(hann_window(frame_length), scipy.signal.get_window("hann", frame_length), atol=1e-12)


def test_one_frame_of_the_spectrogram_follows_the_formula(noise):
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(320) / 320)  # periodic Hann
    power = np.abs(np.fft.rfft(noise[1600:1920].astype(np.float64) * window)) ** 2 / (16_000 * np.sum(window**2))
    power[1:-1] *= 2  # one-sided: the negative frequencies are added, but for 0 and half the rate
    np.testing.assert_allclose(spectrogram(noise)[10], np.log(power + 1e-14), rtol=1e-4, atol=2e-3)


def test_a_sine_peaks_in_the_bin_of_its_frequency_at_its_known_density():
    features = spectrogram(0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000))
    assert (features.argmax(axis=1) == 20).all()  # 1000 Hz in bins of 50 Hz
    # amplitude 0.5 has power 0.125; a Hann window spreads it over 1.5 bins of 50 Hz
    assert features[:, 20] == pytest.approx(math.log(0.125 / (1.5 * 50)), abs=1e-3)


def test_max_freq_drops_the_bins_above_it(noise):
    narrow = spectrogram(noise, max_freq=4000)
    assert narrow.shape == (381, 81)
    np.testing.assert_array_equal(narrow, spectrogram(noise)[:, :81])


def test_digital_silence_stays_finite():
    for extract in (spectrogram, mfcc, logmel):
        assert np.isfinite(extract(np.zeros(16_000, np.float32))).all()
    assert spectrogram(np.zeros(400)) == pytest.approx(math.log(1e-14))


@pytest.mark.parametrize("max_freq", [0, -1, 8001])
def test_a_max_freq_out_of_range_is_refused(noise, max_freq):
    with pytest.raises(ValueError, match=rf"max_freq must be in 0..8000 Hz. Received: max_freq={max_freq}"):
        spectrogram(noise, max_freq=max_freq)


def test_the_spectrogram_of_a_file_is_that_of_its_samples(tmp_path, noise):
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(spectrogram_from_file(path), spectrogram(noise))
    np.testing.assert_array_equal(
        spectrogram_from_file(str(path), step=20, window=40, max_freq=4000), spectrogram(noise, 20, 40, 4000)
    )


def test_a_clip_of_exactly_one_frame_is_read(tmp_path):
    path = tmp_path / "frame.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 320), 16_000)
    assert spectrogram_from_file(path).shape == (1, 161)


# ------------------------------------------------------------------------------------------------------ MFCC


@pytest.mark.parametrize("mfcc_dim", [13, 26])
def test_mfccs_are_those_of_python_speech_features(noise, mfcc_dim):
    truth = python_speech_features.mfcc(
        noise, samplerate=16_000, winlen=0.025, winstep=0.01, numcep=mfcc_dim, nfilt=26, nfft=512, preemph=0.97
    )
    assert truth.shape == (381, mfcc_dim)
    np.testing.assert_allclose(mfcc(noise, mfcc_dim=mfcc_dim), truth, rtol=1e-4, atol=1e-4)


def test_mfccs_follow_the_textbook_steps(noise):
    emphasised = np.append(noise[0], noise[1:] - 0.97 * noise[:-1]).astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, 400)[::160]
    power = np.abs(np.fft.rfft(frames, 512)) ** 2 / 512
    mels = np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 28)
    edges = np.floor(513 * 700 * (10 ** (mels / 2595) - 1) / 16_000)
    bins = np.arange(257)
    # triangles, 0 outside
    filters = np.array([np.interp(bins, edges[i : i + 3], [0, 1, 0], left=0, right=0) for i in range(26)])
    cepstra = scipy.fft.dct(np.log(power @ filters.T), type=2, norm="ortho")[:, :13]
    cepstra *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    cepstra[:, 0] = np.log(power.sum(axis=1))
    ours = mfcc(noise)
    np.testing.assert_allclose(ours[: len(frames)], cepstra, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mfcc_dim", [0, 27])
def test_a_number_of_mfccs_that_26_filters_cannot_give_is_refused(noise, mfcc_dim):
    with pytest.raises(ValueError, match=rf"1..26 \(there are 26 mel filters\). Received: mfcc_dim={mfcc_dim}"):
        mfcc(noise, mfcc_dim=mfcc_dim)


def test_log_mel_energies_are_librosa_s_up_to_the_density_scale(noise):
    # `librosa.feature.melspectrogram` is the same product, but librosa compiles half a minute before it draws its first spectrum
    _, _, spectra = scipy.signal.stft(noise, 16_000, "hann", 320, 160, boundary=None, padded=False, scaling="psd")
    energies = librosa.filters.mel(sr=16_000, n_fft=320, n_mels=40) @ (2 * np.abs(spectra) ** 2)
    np.testing.assert_allclose(logmel(noise, num_mels=40), np.log(energies.T + 1e-14), atol=5e-3)


# ------------------------------------------------------------------------------------------------ frame counts


@pytest.mark.parametrize(
    ("num_samples", "spectrogram_frames", "mfcc_frames"),
    [
        # windows of 320 that fit, every 160; windows of 400 that cover everything, every 160, the last one padded
        (400, 1, 1),
        (401, 1, 2),
        (479, 1, 2),
        (480, 2, 2),
        (560, 2, 2),
        (561, 2, 3),
        (640, 3, 3),
        (16_000, 99, 99),
        (16_081, 99, 100),
        (61_120, 381, 381),
        (61_121, 381, 381),
        (61_201, 381, 382),
    ],
)
def test_frame_counts_follow_the_hand_table(num_samples, spectrogram_frames, mfcc_frames):
    samples = np.random.default_rng(0).normal(0, 0.1, num_samples)
    assert len(spectrogram(samples)) == spectrogram_frames
    assert len(logmel(samples, num_mels=10)) == spectrogram_frames
    assert len(mfcc(samples)) == mfcc_frames


@pytest.mark.parametrize("num_samples", [0, 1, 319])
def test_a_waveform_shorter_than_a_window_is_refused(num_samples):
    with pytest.raises(ValueError, match=rf"at least 320 samples \(one window\).*Received: shape \({num_samples},\)"):
        spectrogram(np.zeros(num_samples))
    with pytest.raises(ValueError, match="at least 400 samples"):
        mfcc(np.zeros(num_samples))


def test_a_stereo_waveform_is_refused_by_the_features():
    with pytest.raises(ValueError, match=r"shape \(num_samples,\). Received: shape \(2, 16000\)"):
        spectrogram(np.zeros((2, 16_000)))


# ------------------------------------------------------------------------------------------- feature settings


@pytest.mark.parametrize(
    "settings",
    [
        FeatureSettings(),
        FeatureSettings(max_freq=4010),
        FeatureSettings(window=25, max_freq=7999),
        FeatureSettings("mfcc", mfcc_dim=26),
        FeatureSettings("logmel", num_mels=40, window=25),
    ],
)
def test_settings_announce_the_width_that_they_extract(noise, settings):
    assert settings.extract(noise).shape[1] == settings.num_features


def test_unknown_kinds_and_times_that_are_not_positive_are_refused():
    with pytest.raises(ValueError, match=r"kind must be one of .*'mfcc'.*Received: kind='chroma'"):
        FeatureSettings("chroma")
    with pytest.raises(ValueError, match=r"positive milliseconds. Received: 0, 20"):
        FeatureSettings(step=0)
