"""Audio reading, features, text and atomic files, against SciPy, python_speech_features, librosa and hand tables."""

import errno
import math

import librosa
import numpy as np
import pytest
import python_speech_features
import scipy.fft
import scipy.signal
import soundfile

from vuilab import files
from vuilab.audio import read_audio
from vuilab.features import FeatureSettings, logmel, mfcc, spectrogram, spectrogram_from_file
from vuilab.files import atomic_path, require_writable
from vuilab.text import escape_markdown, int_sequence_to_text, invalid_characters, text_to_int_sequence


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(0, 0.1, 61_120).astype(np.float32)


# ---------------------------------------------------------------------------------------------- texts to show


@pytest.mark.parametrize(
    "text",
    [
        "bed/0a7c_nohash_0.wav",
        "5 % of 1,200 clips (a, b): 'x' + 2.0; -3",
        "<img src=x onerror=alert(1)>",
        "*a* _b_ __c__ `d` [e](http://f) ![g](h) $i$ # j | k ~~l~~ & m \\n",
        "javascript:alert(1)",
    ],
)
def test_a_text_shown_as_markdown_reads_as_it_stands_and_is_nothing_but_text(text):
    import html.parser

    import nbconvert.filters

    page = nbconvert.filters.markdown2html(escape_markdown(text))
    pieces, tags = [], []
    reader = html.parser.HTMLParser()
    reader.handle_starttag = lambda tag, attributes: tags.append(tag)
    reader.handle_data = pieces.append
    reader.feed(page)
    reader.close()
    assert "".join(pieces).strip() == text and tags == ["p"]


def test_a_name_with_line_breaks_or_broken_bytes_stays_in_its_cell_of_a_table():
    assert escape_markdown("a\nb|c") == "a&#10;b&#124;c"
    assert escape_markdown("a\udc80").encode("utf-8") == b"a&#92;udc80"


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
    energies = librosa.feature.melspectrogram(
        y=noise, sr=16_000, n_fft=320, hop_length=160, window="hann", center=False, power=2.0, n_mels=40
    )
    scale = 2 / (16_000 * np.sum(scipy.signal.get_window("hann", 320) ** 2))
    np.testing.assert_allclose(logmel(noise, num_mels=40), np.log(energies.T * scale + 1e-14), atol=5e-3)


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


# ----------------------------------------------------------------------------------------------- audio reading


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


def test_the_spectrogram_of_a_file_is_that_of_its_samples(tmp_path, noise):
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(spectrogram_from_file(path), spectrogram(noise))
    np.testing.assert_array_equal(
        spectrogram_from_file(str(path), step=20, window=40, max_freq=4000), spectrogram(noise, 20, 40, 4000)
    )


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


def test_a_clip_of_exactly_one_frame_is_read(tmp_path):
    path = tmp_path / "frame.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 320), 16_000)
    assert spectrogram_from_file(path).shape == (1, 161)


# --------------------------------------------------------------------------------------------------------- text


def test_text_becomes_the_integers_of_a_hand_table():
    assert text_to_int_sequence("a z'") == [2, 1, 27, 0]
    assert text_to_int_sequence("") == []


def test_random_texts_survive_the_round_trip():
    rng = np.random.default_rng(0)
    for _ in range(50):
        text = "".join(rng.choice(list("' abcdefghijklmnopqrstuvwxyz"), size=rng.integers(0, 40)))
        assert int_sequence_to_text(text_to_int_sequence(text)) == text


def test_classes_without_a_character_give_nothing():
    assert int_sequence_to_text(np.array([2, 28, 3, 250])) == "ab"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("Hello", r"\['H'\]"), ("room 12", r"\['1', '2'\]"), ("café\n", r"\['\\n', 'é'\]"), ("it’s", r"\['’'\]")],
)
def test_characters_outside_the_alphabet_are_named_with_the_fix(text, wrong):
    with pytest.raises(ValueError, match=f"{wrong}. Received: .*lower case, spell numbers out"):
        text_to_int_sequence(text)


def test_invalid_characters_are_sorted_and_distinct():
    assert invalid_characters("b2a1!1") == ["!", "1", "2"]
    assert invalid_characters("it's fine") == []


# ------------------------------------------------------------------------------------------------ atomic files


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_atomic_path_replaces_the_file_only_on_success(tmp_path):
    path = tmp_path / "deep" / "model.weights.h5"
    with atomic_path(path) as partial:
        assert partial.parent == path.parent and partial.name.endswith(".weights.h5")
        partial.write_text("one")
        assert not path.exists()
    with atomic_path(path) as partial:
        partial.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert names(path.parent) == ["model.weights.h5"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_atomic_path_leaves_nothing_behind_on_an_error(tmp_path, error):
    path = tmp_path / "history.pickle"
    path.write_text("before")
    with pytest.raises(type(error)), atomic_path(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert names(tmp_path) == ["history.pickle"]


def test_atomic_path_survives_a_partial_file_that_the_writer_moved_away(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt") as partial:
        partial.unlink()
    assert names(tmp_path) == []


def test_files_written_atomically_get_the_usual_permissions(tmp_path):
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.write_text("")
    with atomic_path(atomic):
        pass
    assert atomic.stat().st_mode == plain.stat().st_mode


def test_require_writable_makes_the_folder_and_leaves_no_file(tmp_path):
    require_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []


def test_require_writable_names_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Cannot write into .*file/sub .*Make it writable, or name another folder"):
        require_writable(tmp_path / "file" / "sub")


def test_a_progress_bar_passes_everything_on_and_can_be_silent(capsys):
    assert list(files.progress_bar(range(3), "counting")) == [0, 1, 2]
    assert "counting: 100%" in capsys.readouterr().err
    assert list(files.progress_bar(range(3), "counting", enabled=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
