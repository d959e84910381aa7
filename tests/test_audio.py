"""Reading audio: every format and rate becomes 16 kHz, and what is no audio is named with the way out."""

import numpy as np
import pytest
import soundfile

from vuilab.audio import read_audio


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg", "mp3"])
def test_flac_wav_ogg_and_mp3_keep_a_sine_s_frequency(tmp_path, suffix):
    path = tmp_path / f"sine.{suffix}"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000), 16_000)
    samples = read_audio(path)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) == pytest.approx(16_000, abs=2400)  # an MP3 may be padded to whole blocks
    assert peak_frequency(samples) == pytest.approx(1000, abs=2)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_resampling_keeps_duration_frequency_and_level_of_a_sine(tmp_path, rate):
    path = tmp_path / "sine.wav"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate), rate)
    samples = read_audio(path)
    assert len(samples) == pytest.approx(16_000, abs=2)
    assert peak_frequency(samples) == pytest.approx(1000, abs=1)
    assert np.sqrt(2 * np.mean(samples[1000:-1000] ** 2)) == pytest.approx(0.5, rel=0.01)


def test_resampling_removes_what_is_above_half_the_new_rate(tmp_path):
    path = tmp_path / "high.wav"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 15_000 * np.arange(48_000) / 48_000), 48_000)
    assert np.abs(read_audio(path)[500:-500]).max() < 1e-3  # without a filter it would appear at 1 kHz


def test_another_sample_rate_can_be_asked_for(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    assert len(read_audio(path, sample_rate=8000)) == 8000


def test_the_channels_of_a_stereo_file_are_averaged(tmp_path):
    path = tmp_path / "stereo.wav"
    left, right = np.full(1600, 0.5), np.full(1600, -0.25)
    soundfile.write(path, np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), 0.125)


def peak_frequency(samples):
    """Frequency of the largest peak of a 16 kHz waveform, in Hz, to a fraction of a hertz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2**18))
    return spectrum.argmax() * 16_000 / 2**18


# -------------------------------------------------------------------------------------------------- bad audio


def bad_file(folder, kind):
    path = folder / f"{kind}.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    whole = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "truncated in the header":
        path.write_bytes(whole[:30])
    elif kind == "text renamed":
        path.write_text("CHAPTER I\nIt was the best of times\n")
    elif kind == "zero bytes":
        path.write_bytes(b"")
    elif kind == "no samples":
        path = path.with_suffix(".wav")
        soundfile.write(path, np.zeros(0), 16_000)
    elif kind == "not a number":
        path = path.with_suffix(".wav")
        soundfile.write(path, np.array([0.0] * 800 + [np.nan] + [0.0] * 800), 16_000, subtype="FLOAT")
    elif kind == "infinite":
        path = path.with_suffix(".wav")
        soundfile.write(path, np.array([0.0] * 800 + [np.inf] + [0.0] * 800), 16_000, subtype="FLOAT")
    elif kind == "written into a pipe":  # STREAMINFO holds the number of samples in 36 bits from byte 21 on
        path.write_bytes(whole[:21] + bytes([whole[21] & 0xF0, 0, 0, 0, 0]) + whole[26:])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "(?i)fetch it again"),
        ("truncated in the header", "Expected a complete FLAC, WAV, MP3 or OGG file"),
        ("text renamed", "Expected a complete FLAC, WAV, MP3 or OGG file"),
        ("zero bytes", "Expected a complete FLAC, WAV, MP3 or OGG file"),
        ("no samples", "holds no samples. Remove it"),
        ("not a number", "samples that are not finite numbers. Export it again"),
        ("infinite", "samples that are not finite numbers"),
        ("written into a pipe", "does not say how long it is.*Write it again"),
    ],
)
def test_bad_audio_is_an_error_that_names_the_file_and_the_fix(tmp_path, kind, message):
    path = bad_file(tmp_path, kind)
    with pytest.raises(ValueError, match=message) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)


def test_a_flac_cut_off_between_two_blocks_is_noticed(tmp_path):
    path = tmp_path / "cut.flac"
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).clip(-1, 1)
    soundfile.write(path, samples, 16_000)
    whole = path.read_bytes()
    blocks = [position for position in range(42, len(whole)) if whole[position : position + 2] == b"\xff\xf8"]
    path.write_bytes(whole[: blocks[2]])
    with pytest.raises(ValueError, match=r"cut\.flac.*Fetch it again|cut\.flac.*fetch it again"):
        read_audio(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "nowhere.flac", tmp_path):
        with pytest.raises(FileNotFoundError, match="Check the path, or index the corpus again") as caught:
            read_audio(path)
        assert str(path) in str(caught.value)
