"""Waveforms of clips: one second each whatever the file, cached, and what cannot be read listed."""

import io
import os

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import soundfile

from vuilab.augment import NOISES
from vuilab.keywords import clips as keyword_audio
from vuilab.keywords.clips import (
    KINDS,
    KeywordFeatures,
    background_noise,
    cepstra,
    fit_length,
    half_rate,
    load_part,
    log_mel,
    power_frames,
)
from vuilab.keywords.corpus import BACKGROUND, choose_clips, index_folder

SECOND = 16_000


def tone(seconds, rate=SECOND, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture
def corpus(tmp_path):
    """Two words by thirty speakers; some clips are short, long, stereo at 44.1 kHz, FLAC, or no audio at all."""
    for number in range(30):
        for word, frequency in (("bed", 300.0), ("cat", 900.0)):
            path = tmp_path / word / f"speaker{number}_nohash_0.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, tone(1, frequency=frequency), SECOND)
    return tmp_path


def of_training(index):
    return next(clip for clip in choose_clips(index).part("train") if clip.word == "bed")


def waveform_of(folder, key):
    audio = load_part(choose_clips(index_folder(folder)), "train", progress=False)
    position = [clip.key for clip in audio.clips].index(key)
    return audio.samples([position])[0]


@pytest.mark.parametrize("num_samples", [0, 1, 3, 4, 5, 9])
def test_the_kept_stretch_is_the_loudest_one(num_samples):
    samples = np.random.default_rng(num_samples).normal(size=num_samples)
    found = fit_length(samples, 4)
    assert found.shape == (4,)
    if num_samples > 4:
        energies = [np.sum(samples[start : start + 4] ** 2) for start in range(num_samples - 3)]
        assert np.sum(found**2) == pytest.approx(max(energies))
    else:
        before = (4 - num_samples) // 2
        np.testing.assert_array_equal(found[before : before + num_samples], samples)
        assert np.count_nonzero(found) == num_samples


def test_a_clip_comes_back_as_it_was_written(corpus):
    key = of_training(index_folder(corpus)).key
    original = (np.random.default_rng(0).normal(0, 0.1, SECOND) * 32767).astype(np.int16)
    soundfile.write(corpus / key, original, SECOND)
    np.testing.assert_allclose(waveform_of(corpus, key), original / 32767, atol=1.01 / 32767)


def test_short_clips_are_padded_and_long_ones_cut_where_they_are_loudest(corpus):
    key = of_training(index_folder(corpus)).key
    soundfile.write(corpus / key, tone(0.5), SECOND)
    short = waveform_of(corpus, key)
    assert not short[:3900].any() and not short[-3900:].any() and short[4010:11990].any()
    soundfile.write(corpus / key, np.concatenate([np.zeros(SECOND), tone(1), np.zeros(SECOND)]), SECOND)
    np.testing.assert_allclose(waveform_of(corpus, key), tone(1), atol=2e-4)


def test_stereo_at_another_rate_becomes_mono_at_16_khz(corpus):
    key = of_training(index_folder(corpus)).key
    soundfile.write(corpus / key, np.stack([tone(1, 44_100), tone(1, 44_100)], axis=1), 44_100)
    found = waveform_of(corpus, key)
    assert found.shape == (SECOND,)
    spectrum = np.abs(np.fft.rfft(found))
    assert np.argmax(spectrum) == 440  # one bin is 1 Hz
    assert np.corrcoef(found[2000:-2000], tone(1)[2000:-2000])[0, 1] > 0.999


def test_clips_that_cannot_be_read_are_left_out_and_listed(corpus):
    index = index_folder(corpus)
    keys = [clip.key for clip in choose_clips(index).part("train") if clip.word == "bed"][:2]
    (corpus / keys[0]).write_bytes(b"RIFF no audio")
    (corpus / keys[1]).write_bytes(b"")
    dataset = choose_clips(index)
    audio = load_part(dataset, "train", progress=False)
    assert len(audio) == len(dataset.part("train")) - 2 and len(audio.skipped) == 2
    assert all(key in text and "Cannot read" in text for key, text in zip(keys, audio.skipped, strict=True))
    assert [clip.key for clip in audio.clips if clip.key in keys] == []
    assert (audio.targets == [dataset.labels.index(clip.word) for clip in audio.clips]).all()


def test_a_part_without_clips_is_refused_and_says_why(corpus):
    dataset = choose_clips(index_folder(corpus))
    for clip in dataset.part("validation"):
        (corpus / clip.key).write_bytes(b"")
    with pytest.raises(ValueError, match=r"validation part of .* has no clips that can be read:\n  bed/speaker"):
        load_part(dataset, "validation", progress=False)
    for word in ("bed", "cat"):
        for path in (corpus / word).iterdir():
            if path.name != "speaker0_nohash_0.wav":
                path.unlink()
    with pytest.raises(ValueError, match="names of its speakers put none there"):
        load_part(choose_clips(index_folder(corpus)), "testing", progress=False)


def test_clips_are_read_once_and_again_only_when_they_change(corpus, monkeypatch):
    read, calls = keyword_audio.read_audio, []
    monkeypatch.setattr(keyword_audio, "read_audio", lambda path: calls.append(path) or read(path))
    dataset = choose_clips(index_folder(corpus))
    load_part(dataset, "train", progress=False)
    assert len(calls) == 60
    load_part(dataset, "development", progress=False)
    load_part(choose_clips(index_folder(corpus), ["cat", "bed"]), "train", progress=False)
    assert len(calls) == 60
    soundfile.write(corpus / "cat" / "new_nohash_0.wav", tone(0.3), SECOND)
    load_part(choose_clips(index_folder(corpus)), "train", progress=False)
    assert len(calls) == 60 + 31 and all(path.parent.name == "cat" for path in calls[60:])
    assert len(list((corpus / ".features").glob("*.npy"))) == 2  # the old one of "cat" is gone


def test_a_clip_replaced_in_place_is_read_again(corpus):
    """Clips of one second all have one size."""
    clip = of_training(index_folder(corpus))
    dataset = choose_clips(index_folder(corpus))
    before = load_part(dataset, "train", progress=False)
    path, times = corpus / clip.key, (corpus / clip.key).stat()
    other = np.random.default_rng(5).normal(0, 0.1, len(soundfile.read(path)[0]))
    soundfile.write(path, other, SECOND)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    after = load_part(dataset, "train", progress=False)
    assert after.contents != before.contents
    row = [clip.key for clip in after.clips].index(clip.key)
    np.testing.assert_allclose(after.samples([row])[0], fit_length(other), atol=1e-4)


def test_an_interrupted_reading_leaves_no_cache(corpus, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(keyword_audio.np, "save", stop)
    dataset = choose_clips(index_folder(corpus))
    with pytest.raises(KeyboardInterrupt):
        load_part(dataset, "train", progress=False)
    assert not list((corpus / ".features").glob("*.npy")) and not list((corpus / ".features").glob(".partial*"))
    monkeypatch.undo()
    assert len(load_part(dataset, "train", progress=False)) == len(dataset.part("train"))


def test_vui_cache_names_another_folder(corpus, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("VUI_CACHE", str(elsewhere))
    load_part(choose_clips(index_folder(corpus)), "train", progress=False)
    assert not (corpus / ".features").exists() and len(list(elsewhere.glob("*.npy"))) == 2


def test_silence_is_cut_reversed_coloured_or_zero(corpus):
    (corpus / BACKGROUND).mkdir()
    recording = np.round(np.random.default_rng(3).uniform(-0.5, 0.5, 20 * SECOND) * 32767).astype(np.int16)
    soundfile.write(corpus / BACKGROUND / "tap.wav", recording, SECOND)
    dataset = choose_clips(index_folder(corpus), ["bed", "silence"])
    audio = load_part(dataset, "train", progress=False)
    seen = set()
    for position, clip in enumerate(audio.clips):
        if clip.label != "silence":
            continue
        found = audio.samples([position])[0]
        stretch = clip.gain * recording[clip.start : clip.start + SECOND] / 32768
        expected = {"recorded": stretch, "reversed": stretch[::-1], "zero": np.zeros(SECOND)}.get(clip.word)
        if expected is None:
            expected = clip.gain * NOISES[clip.word](SECOND, np.random.default_rng(clip.seed))
        np.testing.assert_allclose(found, np.clip(expected, -1, 1), atol=1e-4)
        seen.add(clip.word)
    assert {"recorded", "reversed", "zero"} < seen


def test_background_noise_of_a_part_is_its_own_stretch(corpus):
    (corpus / BACKGROUND).mkdir()
    ramp = np.linspace(-0.5, 0.5, 20 * SECOND)
    soundfile.write(corpus / BACKGROUND / "ramp.wav", ramp, SECOND)
    (corpus / BACKGROUND / "broken.wav").write_bytes(b"no audio")
    dataset = choose_clips(index_folder(corpus))
    (train,), (validation,) = (background_noise(dataset, part) for part in ("train", "validation"))
    assert len(train) == 14 * SECOND and train[0] == pytest.approx(-0.5, abs=1e-3)
    assert len(validation) == 2 * SECOND and validation.min() > train.max()


def test_flac_and_wav_give_the_same_waveform(corpus):
    key = of_training(index_folder(corpus)).key
    before = waveform_of(corpus, key)
    samples, rate = soundfile.read(corpus / key, dtype="int16")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC")
    (corpus / key).unlink()
    flac = key.replace(".wav", ".flac")
    (corpus / flac).write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(waveform_of(corpus, flac), before)


# ---------------------------------------------------------------------- features


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
