"""Reading audio: every format and rate becomes 16 kHz, and what is no audio is named with the way out."""

import time
import tracemalloc

import numpy as np
import pytest
import scipy.signal
import soundfile

from vuilab.audio import HIGH_PASS, VoiceBand, blocks, check, read_audio


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
    if kind == "truncated in the header":
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
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated in the header", "Expected a complete FLAC, WAV, MP3 or OGG file"),
        ("text renamed", "Expected a complete FLAC, WAV, MP3 or OGG file"),
        ("zero bytes", "Expected a complete FLAC, WAV, MP3 or OGG file"),
        ("no samples", "holds no samples. Remove it"),
        ("not a number", "samples that are not finite numbers. Export it again"),
        ("infinite", "samples that are not finite numbers"),
    ],
)
def test_bad_audio_is_an_error_that_names_the_file_and_the_fix(tmp_path, kind, message):
    path = bad_file(tmp_path, kind)
    with pytest.raises(ValueError, match=message) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "nowhere.flac", tmp_path):
        with pytest.raises(FileNotFoundError, match="Check the path, or index the corpus again") as caught:
            read_audio(path)
        assert str(path) in str(caught.value)


# ----------------------------------------------------------------------------------- cut off, damaged, lying


def speechlike(seconds=4.0, rate=16_000):
    """A tone whose frequency wanders, with noise: no two stretches are alike."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    return 0.3 * np.sin(2 * np.pi * (300 + 50 * np.sin(time)) * time) + 0.01 * noise


def overwrite(path, place, content):
    whole = bytearray(path.read_bytes())
    whole[place : place + len(content)] = content
    path.write_bytes(bytes(whole))


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg", "mp3"])
def test_of_a_cut_recording_comes_what_is_there_and_a_note_that_names_the_time(tmp_path, suffix, capfd):
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, speechlike(8.0), 16_000)
    whole = read_audio(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    samples = read_audio(path)
    assert 2.5 * 16_000 < len(samples) < 5 * 16_000
    np.testing.assert_allclose(samples[:32_000], whole[:32_000], atol=1e-4)
    np.testing.assert_allclose(np.concatenate(list(blocks(path, 0.7))), samples, atol=1e-6)
    written = capfd.readouterr().err
    assert written.count("\n") == 1  # one note, and none of libmpg123
    assert f"{path} is cut off at {len(samples) / 16_000:.1f} s" in written
    with pytest.raises(ValueError, match="cut off"):
        check(path)


def test_a_flac_cut_off_between_two_blocks_is_noticed(tmp_path, capfd):
    path = tmp_path / "cut.flac"
    soundfile.write(path, speechlike(1.0), 16_000)
    whole = path.read_bytes()
    starts = [position for position in range(42, len(whole)) if whole[position : position + 2] == b"\xff\xf8"]
    path.write_bytes(whole[: starts[2]])
    assert len(read_audio(path)) == 2 * 4096
    assert "cut off at 0.5 s (its header promises 1.0 s)" in capfd.readouterr().err
    with pytest.raises(ValueError, match="cut off"):
        check(path)


@pytest.mark.parametrize("num_bytes", [1, 40, 9000])
def test_damage_in_the_middle_of_a_flac_costs_no_more_than_the_blocks_that_it_hit(tmp_path, num_bytes, capfd):
    path = tmp_path / "damaged.flac"
    soundfile.write(path, speechlike(8.0), 16_000)
    whole = read_audio(path)
    assert check(path) == (128_000, 16_000)
    middle = path.stat().st_size // 2
    overwrite(path, middle, bytes(byte ^ 0x55 for byte in path.read_bytes()[middle : middle + num_bytes]))
    samples = read_audio(path)
    assert len(samples) == len(whole)
    lost = np.flatnonzero(samples != whole)
    assert len(lost) and lost[-1] - lost[0] < 4 * 4096 and not samples[lost].any()
    assert f"damaged at {lost[0] / 16_000:.1f}.." in capfd.readouterr().err
    with pytest.raises(ValueError, match="damaged or cut off"):
        check(path)


def test_any_changed_bit_of_a_flac_s_sound_is_found(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, speechlike(1.0), 16_000)
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(8192 + 42, len(whole), 20):  # behind the metadata
        path.write_bytes(whole)
        overwrite(path, place, bytes([whole[place] ^ 16]))
        with pytest.raises(ValueError, match="damaged or cut off"):
            check(path)


def test_a_flac_that_was_written_into_a_pipe_is_read_to_its_end(tmp_path, capfd):
    path = tmp_path / "pipe.flac"
    soundfile.write(path, speechlike(3.0), 16_000)
    whole = read_audio(path)
    # STREAMINFO holds the number of samples in 36 bits from byte 21 on
    overwrite(path, 21, bytes([path.read_bytes()[21] & 0xF0, 0, 0, 0, 0]))
    np.testing.assert_array_equal(read_audio(path), whole)
    np.testing.assert_array_equal(np.concatenate(list(blocks(path, 0.3))), whole)
    assert check(path) == (48_000, 16_000) and capfd.readouterr().err == ""


@pytest.mark.parametrize("riff", [0, 36, 96_036, 0xFFFFFFFF])
def test_a_wav_whose_recorder_was_killed_is_read_to_its_end(tmp_path, riff):
    path = tmp_path / "killed.wav"
    soundfile.write(path, speechlike(3.0), 16_000)
    whole = read_audio(path)
    overwrite(path, 4, riff.to_bytes(4, "little"))
    overwrite(path, 40, bytes(4))
    np.testing.assert_array_equal(read_audio(path), whole)
    assert check(path) == (48_000, 16_000)


def test_a_lying_length_neither_asks_for_memory_nor_hangs(tmp_path, capfd):
    path = tmp_path / "lie.mp3"
    soundfile.write(path, speechlike(3.0), 16_000)
    whole = read_audio(path)
    overwrite(path, path.read_bytes().index(b"Xing") + 8, b"\x7f\xff\xff\xff")
    begun = time.monotonic()
    tracemalloc.start()
    samples = read_audio(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - begun < 5 and peak < 1e8
    np.testing.assert_allclose(samples[:47_000], whole[:47_000], atol=1e-6)
    assert "cut off at 3.0 s (its header promises" in capfd.readouterr().err
    with pytest.raises(ValueError, match="cut off"):
        check(path)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30])
def test_samples_that_are_no_sound_are_the_file_s_fault_also_block_by_block(tmp_path, value):
    path = tmp_path / "wrong.wav"
    soundfile.write(path, np.array([0.0] * 800 + [value] + [0.0] * 800), 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"wrong\.wav holds samples that are not finite"):
        list(blocks(path, 0.01))


# ------------------------------------------------------------------------------------------------- channels


@pytest.mark.parametrize(
    ("gains", "channel"),
    [
        ((1, -1), 0),  # a swapped wire
        ((0.9, -1), 1),
        ((0, 1), 1),
        ((0, 0, 0.5, 0), 2),
        ((1, -1, 1, -1), 0),
        ((1, 1), None),
        ((1, 0.5), None),
        ((1, 1, 0), None),  # 3.5 dB
    ],
)
def test_the_louder_channel_stands_in_for_a_mean_that_loses_more_than_6_db(tmp_path, gains, channel, capfd):
    path = tmp_path / "channels.wav"
    sound = speechlike(1.0)
    soundfile.write(path, np.outer(sound, gains) + 0.05, 16_000, subtype="FLOAT")  # an offset changes nothing
    expected = (sound * np.mean(gains) if channel is None else sound * gains[channel]) + 0.05
    np.testing.assert_allclose(read_audio(path), expected, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(list(blocks(path, 0.1))), expected, atol=1e-6)
    written = capfd.readouterr().err
    assert written == "" if channel is None else f"only channel {channel + 1} of {len(gains)} is used" in written


# ------------------------------------------------------------------------------------------------ for gates


@pytest.mark.parametrize(
    ("frequency", "least", "most"), [(0, 0, 1e-3), (50, 0, 1.1e-3), (60, 0, 1.1e-3), (80, 0.94, 1), (1000, 0.94, 1)]
)
def test_gates_hear_voices_and_neither_offset_nor_hum(frequency, least, most):
    wave = np.cos(2 * np.pi * frequency * np.arange(48_000) / 16_000).astype(np.float32)
    filtered, whole = VoiceBand(), VoiceBand()(wave)
    assert least <= np.abs(whole[16_000:]).max() <= most * 1.001
    np.testing.assert_array_equal(
        np.concatenate([filtered(part) for part in np.split(wave, [32_000, 32_007, 40_000])]), whole
    )
    assert len(VoiceBand()(wave[:0])) == 0


def test_the_filter_of_gates_is_scipy_s_and_begins_as_if_the_offset_had_always_been_there():
    order, edge = scipy.signal.ellipord(75, 60, 0.5, 60, fs=16_000)
    sections = scipy.signal.ellip(order, 0.5, 60, edge, "highpass", output="sos", fs=16_000)
    np.testing.assert_allclose(HIGH_PASS, sections, rtol=1e-12)
    wave = (0.3 + np.random.default_rng(0).normal(0, 0.1, 16_000)).astype(np.float32)
    state = scipy.signal.sosfilt_zi(sections) * wave.mean(dtype=np.float64)
    filtered, _ = scipy.signal.sosfilt(sections, wave.astype(np.float64), zi=state)
    np.testing.assert_allclose(VoiceBand()(wave), filtered, atol=1e-6)


def test_an_mp3_may_lack_what_encoders_add_and_no_more(tmp_path):
    path, noise = tmp_path / "noise.mp3", np.random.default_rng(0).normal(0, 0.1, 96_000).clip(-1, 1)
    soundfile.write(path, noise, 48_000, format="MP3")
    whole = path.read_bytes()
    path.write_bytes(whole[:-300])  # the last block, 1,489 samples that the header promises and nobody can decode
    assert check(path) == (96_000, 48_000)
    path.write_bytes(whole[:-1200])  # 6,097 samples, more than 50 ms
    with pytest.raises(ValueError, match="the audio is cut off"):
        check(path)
