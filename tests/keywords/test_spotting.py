"""The spotter against hand-worked events and recordings whose words stand where the test has put them."""

import tracemalloc

import numpy as np
import pytest
import scipy.signal
import soundfile

from vuilab.keywords.spotting import (
    Event,
    SpotSettings,
    Spotter,
    WindowScores,
    find_events,
    label_warning,
    spot_file,
    spotted_words,
)

RATE = 16_000
FREQUENCIES = {"low": 500, "high": 2000}
WAVES = np.exp(2j * np.pi / RATE * np.outer(np.arange(RATE), list(FREQUENCIES.values()))).astype(np.complex64)


class ToneClassifier:
    """Stands in for a network: a tone of 0.2 s is a word while it lies in the window."""

    labels = ("silence", "low", "high", "unknown")

    def __init__(self):
        self.sizes = []

    def probabilities(self, waveforms):
        self.sizes.append(len(waveforms))
        # 1: the whole tone is in the window
        words = np.minimum(1, np.abs(np.einsum("ws,sk->wk", waveforms, WAVES)) / (0.5 * 0.25 * 3200))
        return np.stack([1 - words.sum(axis=1), *words.T, np.zeros(len(words))], axis=1).astype(np.float32)


class Scripted:
    """A network that gives the rows of a script, window after window."""

    def __init__(self, rows, labels):
        self.rows, self.labels = list(rows), labels

    def probabilities(self, waveforms):
        return np.array([self.rows.pop(0) for _ in waveforms], np.float32)


def tones(seconds, *placed, rate=RATE):
    """Return faint noise with 0.2 s of tone around the given times."""
    samples = np.random.default_rng(0).normal(0, 1e-3, round(seconds * rate)).astype(np.float32)
    for word, time in placed:
        begin = round((time - 0.1) * rate)
        tone = 0.25 * np.sin(2 * np.pi * FREQUENCIES[word] / rate * np.arange(round(0.2 * rate)))
        samples[begin : begin + len(tone)] += tone.astype(np.float32)
    return samples


def events_of(samples, settings=None, chunk=None):
    spotter, found = Spotter(ToneClassifier(), settings), []
    for start in range(0, len(samples), chunk or max(1, len(samples))):
        found += spotter.add(samples[start : start + chunk] if chunk else samples)
    return found + spotter.finish()


def column(*scores):
    return np.array(scores)[:, None]


PLAIN = SpotSettings(threshold=0.5, smoothing=1, refractory=0.0)


# -------------------------------------------------------------------------------------- events of scripted scores


def test_an_event_is_a_stretch_above_the_threshold():
    # windows 2 to 4 at 0.1 s: (0.2 * 0.5 + 0.3 * 0.9 + 0.4 * 0.6) / (0.5 + 0.9 + 0.6) = 0.305
    (event,) = find_events(column(0.1, 0.49, 0.5, 0.9, 0.6, 0.4), ("go",), PLAIN)
    assert event.word == "go" and event.score == 0.9
    assert event.time == pytest.approx(0.305) and event.start == 0 and event.end == pytest.approx(0.805)


def test_a_stretch_that_reaches_the_end_counts():
    times = [event.time for event in find_events(column(0.9, 0, 0, 0.9), ("go",), PLAIN)]
    assert times == pytest.approx([0, 0.3])


def test_smoothing_averages_around_a_window_and_counts_zeros_beyond_the_recording():
    rows = column(0, 0, 0.9, 0.6, 0.6, 0, 0, 0, 0.9, 0)
    settings = SpotSettings(threshold=0.5, smoothing=3, refractory=0)
    # scores 0.3 at 1, 0.5 at 2, 0.7 at 3, 0.4 at 4; the single 0.9 has 0.3
    (event,) = find_events(rows, ("go",), settings)
    assert event.score == pytest.approx(0.7)
    assert event.time == pytest.approx((0.2 * 0.5 + 0.3 * 0.7) / 1.2)
    assert find_events(column(0.9), ("go",), settings) == []  # 0.3: one window is not enough at the edge either
    assert len(find_events(column(0.9, 0.9), ("go",), settings)) == 1


@pytest.mark.parametrize(("refractory", "times"), [(0, [0, 0.3, 0.7]), (0.35, [0, 0.7]), (0.4, [0, 0.7]), (0.8, [0])])
def test_a_word_does_not_begin_again_within_the_refractory_time(refractory, times):
    rows = column(0.9, 0, 0, 0.9, 0, 0, 0, 0.9, 0)
    settings = SpotSettings(threshold=0.5, smoothing=1, refractory=refractory)
    assert [event.time for event in find_events(rows, ("go",), settings)] == pytest.approx(times)


def test_the_refractory_time_begins_where_the_event_ends_and_is_each_words_own():
    rows = np.array([[0.9, 0], [0.9, 0], [0.9, 0], [0, 0.9], [0.9, 0], [0, 0], [0.9, 0]])
    settings = SpotSettings(threshold=0.5, smoothing=1, refractory=0.4)
    found = [(event.word, round(event.time, 6)) for event in find_events(rows, ("go", "no"), settings)]
    assert found == [("go", 0.1), ("no", 0.3), ("go", 0.6)]  # at 0.4 s only 0.2 s have gone by


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0}, r"threshold must be above 0 and at most 1\. Received: threshold=0"),
        ({"threshold": 1.1}, "threshold must be"),
        ({"hop": 0}, "hop must be above 0 and at most 1 second. Received: hop=0"),
        ({"hop": 1.5}, "hop must be"),
        ({"smoothing": 2}, "smoothing must be an odd number of windows. Received: smoothing=2"),
        ({"refractory": -1}, "refractory must be 0 seconds or more. Received: refractory=-1"),
        ({"refractory": float("nan")}, "refractory must be"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SpotSettings(**settings)


# ------------------------------------------------------------------------------------------------ labels


def test_silence_and_unknown_never_fire():
    script = [[0.9, 0.05, 0.05]] * 3 + [[0.05, 0.05, 0.9]] * 3 + [[0.05, 0.9, 0.05]] * 3
    spotter = Spotter(Scripted(script, ("silence", "go", "unknown")), PLAIN)
    found = spotter.add(np.full(9 * 1600, 0.1, np.float32)) + spotter.finish()
    assert [(event.word, round(event.time, 6)) for event in found] == [("go", 0.7)]


def test_labels_without_a_word_are_refused():
    with pytest.raises(ValueError, match=r"without words\. Received: the labels silence unknown"):
        spotted_words(("silence", "unknown"))


def test_a_classifier_that_knows_no_other_speech_is_warned_about():
    assert label_warning(("go", "silence", "unknown")) == ""
    text = label_warning(("bed", "cat"))
    assert "no label 'unknown' or 'silence', so it takes other speech and noise for one of its words" in text
    assert "vui.py keywords train DIR --words WORD ... silence unknown" in text
    assert "no label 'silence', so it takes noise for" in label_warning(("go", "unknown"))


# ----------------------------------------------------------------------------------------------- recordings


def test_words_are_found_where_they_are():
    placed = [("low", 0.3), ("high", 1.9), ("low", 3.05), ("low", 4.72), ("high", 6.0), ("high", 7.85)]
    found = events_of(tones(8, *placed))
    assert [event.word for event in found] == [word for word, _ in placed]
    hop = SpotSettings().hop
    assert all(abs(event.time - time) < hop for event, (_, time) in zip(found[1:-1], placed[1:-1], strict=True))
    assert found[0].start == 0 and abs(found[0].time - 0.3) < 2 * hop  # windows end at the edge of the recording
    assert found[-1].end <= 8 and abs(found[-1].time - 7.85) < 2 * hop


def test_what_is_found_does_not_depend_on_the_chunks():
    samples = tones(5, ("low", 0.4), ("high", 2.0), ("low", 3.3), ("high", 4.8))
    whole = events_of(samples)
    assert len(whole) == 4
    for chunk in (163, 1600, 16_001):
        found = events_of(samples, chunk=chunk)
        assert [event.word for event in found] == [event.word for event in whole]
        for name in ("time", "start", "end", "score"):
            np.testing.assert_allclose([vars(e)[name] for e in found], [vars(e)[name] for e in whole], atol=1e-5)


def test_an_event_comes_within_a_second_of_the_word():
    samples, spotter, heard = tones(4, ("low", 1.5)), Spotter(ToneClassifier()), []
    for start in range(0, len(samples), 1600):
        heard += [(start + 1600) / RATE for _ in spotter.add(samples[start : start + 1600])]
    assert len(heard) == 1 and 1.5 < heard[0] < 2.7


def test_windows_have_their_middle_at_multiples_of_the_hop():
    class Middle:
        labels = ("go",)

        def probabilities(self, waveforms):
            return waveforms[:, 8000:8001]  # the sample in the middle

    ramp = np.linspace(0.1, 0.9, 20_000, dtype=np.float32)
    windows = WindowScores(Middle(), 1600)
    scores = np.concatenate([windows.add(ramp), windows.finish()])
    np.testing.assert_array_equal(scores[:, 0], ramp[::1600])


def test_digital_silence_gives_nothing_and_is_not_even_looked_at():
    class Never:
        labels = ("go",)

        def probabilities(self, waveforms):
            raise AssertionError("asked about digital silence")

    spotter = Spotter(Never())
    assert [*spotter.add(np.zeros(5 * RATE)), *spotter.finish()] == []


@pytest.mark.parametrize("number", [0, 1, 1600, 1601, 8000, 15_999, 16_000, 16_001])
def test_short_recordings_have_a_window_for_each_hop_that_begins(number):
    classifier = ToneClassifier()
    windows = WindowScores(classifier, 1600)
    scores = np.concatenate([windows.add(np.full(number, 0.1, np.float32)), windows.finish()])
    assert len(scores) == -(-number // 1600) and np.isfinite(scores).all()


def test_a_word_in_a_recording_of_a_third_of_a_second_is_found():
    assert [event.word for event in events_of(tones(0.35, ("high", 0.2)))] == ["high"]


def test_nan_is_said_and_bad_chunks_are_refused():
    with pytest.raises(ValueError, match="The classifier gives NaN"):
        Spotter(Scripted([[np.nan]] * 9, ("go",))).add(np.full(RATE, 0.1))
    for wrong in (np.zeros((2, 5)), np.array([np.inf])):
        with pytest.raises(ValueError, match=r"Expected finite samples \(num_samples,\) at 16 kHz. Received: shape"):
            Spotter(ToneClassifier()).add(wrong)


# --------------------------------------------------------------------------------------------------- files


def test_a_stereo_file_at_44_khz_gives_the_events_of_its_sound(tmp_path):
    placed = ("low", 1.3), ("high", 3.1)
    mono = tones(4, *placed, rate=44_100)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([1.5 * mono, 0.5 * mono], axis=1), 44_100)
    found = spot_file(ToneClassifier(), path)
    assert [event.word for event in found] == ["low", "high"]
    assert all(abs(event.time - time) < 0.1 for event, (_, time) in zip(found, placed, strict=True))
    reference = events_of(scipy.signal.resample_poly(mono, 160, 441).astype(np.float32))
    assert [event.time for event in found] == pytest.approx([event.time for event in reference], abs=0.02)


def test_an_empty_recording_has_no_events_and_no_audio_is_an_error(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    assert spot_file(ToneClassifier(), tmp_path / "empty.wav") == []
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"Cannot read .*text\.wav as audio"):
        spot_file(ToneClassifier(), tmp_path / "text.wav")
    with pytest.raises(FileNotFoundError, match=r"No audio file at .*none\.wav"):
        spot_file(ToneClassifier(), tmp_path / "none.wav")


def test_memory_does_not_grow_with_the_recording(tmp_path):
    class Certain:
        labels = ("go",)

        def probabilities(self, waveforms):
            return np.ones((len(waveforms), 1), np.float32)

    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(30):
            file.write(np.tile([0.1, -0.1], 5 * RATE))
    tracemalloc.start()
    (event,) = spot_file(Certain(), path)  # 5 minutes, one stretch from end to end
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert event == Event(
        "go", pytest.approx(150, abs=0.1), pytest.approx(149.5, abs=0.1), pytest.approx(150.5, abs=0.1), 1.0
    )
    assert peak < 10e6  # as float32 it would be 19 MB, its windows 190


def test_a_long_chunk_is_taken_in_batches():
    classifier = ToneClassifier()
    Spotter(classifier).add(np.tile(np.array([0.01, -0.01], np.float32), 10 * RATE))
    assert max(classifier.sizes) == 64 and sum(classifier.sizes) == 196
