"""Speech against silence: words with known gaps, noise that an energy rule cannot tell from speech, marks that are measured."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vuilab.corpus.voices import speak
from vuilab.exploration.activity import marked_spectrogram, silence_removal, spans, speech_frames

RATE = 16_000
TIME = np.arange(RATE) / RATE


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def word(text: str, voice: str = "en-us+m3") -> np.ndarray:
    """A spoken word at half of full scale, without the silence around it."""
    audio, *_ = speak(text, voice)
    loud = np.flatnonzero(np.abs(audio) > 1e-3 * np.abs(audio).max())
    return (0.5 * audio / np.abs(audio).max())[loud[0] : loud[-1] + 1]


def noise(num_samples: int, level: float, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


@pytest.fixture(scope="module")
def two_words():
    """Two words with 0.3 s before, 0.4 s between and 0.3 s after them: (samples, the two spans in seconds)."""
    first, second = word("happy"), word("bed", "en-us+f2")
    parts = [np.zeros(4800), first, np.zeros(6400), second, np.zeros(4800)]
    edges = np.cumsum([len(part) for part in parts]) / RATE
    samples = np.concatenate(parts).astype(np.float32)
    return samples, [(edges[0], edges[1]), (edges[2], edges[3])]


@pytest.mark.parametrize("level", [1e-4, 1e-3])
def test_the_detector_finds_inserted_silence_to_60_ms(two_words, level):
    samples, true = two_words
    _, numbers = silence_removal(samples + noise(len(samples), level))
    found = numbers.speech_spans
    before = [span for span in found if span[1] < true[1][0]]
    after = [span for span in found if span[0] > true[0][1]]
    assert len(before) + len(after) == len(found)  # nothing reaches over the gap
    for (start, end), group in zip(true, (before, after), strict=True):
        assert group[0][0] == pytest.approx(start, abs=0.06)
        assert group[-1][1] == pytest.approx(end, abs=0.06)


def test_one_direction_alone_would_miss_the_end_of_a_word(two_words):
    """The reason for listening backwards too: WebRTC's detector hangs on after a word."""
    import webrtcvad

    samples, true = two_words
    detector = webrtcvad.Vad(2)
    pcm = (samples * 32767).astype("<i2")
    forwards = [detector.is_speech(pcm[start : start + 160].tobytes(), RATE) for start in range(0, len(pcm) - 160, 160)]
    ends = [end for _, end in spans(np.array(forwards))]
    assert min(abs(end - true[0][1]) for end in ends) > 0.06


@pytest.mark.parametrize("text", ["happy", "bed", "cat", "yes"])
def test_in_noise_the_energy_rule_keeps_everything_and_the_detector_does_not(text):
    spoken = word(text)
    samples = np.zeros(RATE, np.float32)
    samples[4800 : 4800 + len(spoken)] = spoken
    _, numbers = silence_removal(samples + noise(RATE, 0.02, seed=4))
    assert numbers.loud.all() and len(numbers.trimmed_by_energy) == RATE
    assert numbers.facts()["kept by the energy rule"] == "100 % of the clip"
    assert 0.1 < numbers.speech.mean() < 0.6
    start, end = numbers.speech_spans[0][0], numbers.speech_spans[-1][1]
    # soft consonants, the h of "happy" and the s of "yes", drown in the noise: a word may seem shorter, and never longer
    assert 0.3 - 0.06 < start < 0.3 + 0.1
    assert 0.3 + len(spoken) / RATE - 0.15 < end < 0.3 + len(spoken) / RATE + 0.06


def test_in_quiet_the_energy_rule_does_as_well(two_words):
    samples, true = two_words
    _, numbers = silence_removal(samples + noise(len(samples), 1e-4))
    assert numbers.loud_spans[0][0] == pytest.approx(true[0][0], abs=0.06)
    assert numbers.loud_spans[-1][1] == pytest.approx(true[1][1], abs=0.06)
    assert not numbers.loud[int(100 * true[0][1]) + 2 : int(100 * true[1][0]) - 2].any()


@pytest.mark.parametrize("below", ["offset", "hum"])
def test_neither_offset_nor_hum_hides_a_word(two_words, below):
    samples, true = two_words
    samples = samples + noise(len(samples), 1e-4)
    time = np.arange(len(samples)) / RATE
    added = np.full(len(time), 0.1) if below == "offset" else 0.1 * np.sin(2 * np.pi * 50 * time)
    _, clean = silence_removal(samples)
    _, numbers = silence_removal((samples + added).astype(np.float32))
    assert (numbers.speech == clean.speech).mean() > 0.95 and numbers.speech.any()
    assert numbers.loud_spans[0][0] == pytest.approx(true[0][0], abs=0.06)
    assert numbers.loud_spans[-1][1] == pytest.approx(true[1][1], abs=0.06)


def test_levels_and_the_threshold_are_those_of_the_frames():
    samples = np.where(TIME < 0.5, 0.5, 0.005) * np.sqrt(2) * np.sin(2 * np.pi * 1000 * TIME)
    _, numbers = silence_removal(samples.astype(np.float32), energy_range=30)
    np.testing.assert_allclose(numbers.energy[[0, 99]], [-6.0206, -46.0206], atol=0.1)
    assert numbers.threshold == pytest.approx(-36.0206, abs=0.1)
    assert numbers.loud_spans == [(0.0, pytest.approx(0.5, abs=0.011))]
    assert silence_removal(samples.astype(np.float32), energy_range=41)[1].loud.all()


def test_what_is_cut_out_reaches_30_ms_beyond_the_speech(two_words):
    samples, _ = two_words
    _, numbers = silence_removal(samples)
    start, end = numbers.speech_spans[0][0] - 0.03, numbers.speech_spans[-1][1] + 0.03
    np.testing.assert_array_equal(numbers.trimmed, samples[round(start * RATE) : round(end * RATE)])
    share = 100 * len(numbers.trimmed) / len(samples)
    facts = numbers.facts()
    assert facts["speech by the detector"] == f"{start + 0.03:.2f} to {end - 0.03:.2f} s"
    assert facts["kept by the detector"] == f"{share:.0f} % of the clip"


def test_silence_holds_no_speech_for_either():
    figure, numbers = silence_removal(np.zeros(RATE, np.float32))
    assert not numbers.speech.any() and not numbers.loud.any()
    assert len(numbers.trimmed) == len(numbers.trimmed_by_energy) == 0
    facts = numbers.facts()
    assert facts["speech by the detector"] == facts["speech by the energy rule"] == "none"
    assert "speech by" not in str([text.get_text() for ax in figure.axes for text in ax.texts])


def test_a_last_frame_that_is_not_whole_counts_and_spans_end_with_the_clip():
    samples = np.where(np.arange(1700) % 2, 0.5, -0.5).astype(np.float32)
    _, numbers = silence_removal(samples)
    assert len(numbers.loud) == len(speech_frames(samples)) == 11
    assert numbers.loud_spans == [(0.0, 1700 / RATE)]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"positive number of decibels. Received: energy_range=-1"):
        silence_removal(np.zeros(RATE, np.float32), energy_range=-1)
    with pytest.raises(ValueError, match=r"aggressiveness must be 0, 1, 2 or 3. Received: aggressiveness=4"):
        silence_removal(np.zeros(RATE, np.float32), aggressiveness=4)
    with pytest.raises(ValueError, match="NaN or infinite"):
        silence_removal(np.full(RATE, np.nan, np.float32))


def three_tones() -> np.ndarray:
    """Tones of 500 Hz, 3 kHz (a tenth of the amplitude) and 1 kHz, changing at 0.30 and 0.70 s."""
    pieces = [
        0.5 * np.sin(2 * np.pi * 500 * TIME),
        0.05 * np.sin(2 * np.pi * 3000 * TIME),
        0.25 * np.sin(2 * np.pi * 1000 * TIME),
    ]
    return np.select([TIME < 0.3, TIME < 0.7], pieces[:2], pieces[2]).astype(np.float32)


def test_guessed_boundaries_lie_where_the_sound_changes(monkeypatch):
    monkeypatch.setattr("vuilab.exploration.activity.speech_frames", lambda samples: np.ones(100, bool))
    _, numbers = marked_spectrogram(three_tones(), ["low", "high", "middle"])
    starts = [mark.start for mark in numbers.marks]
    np.testing.assert_allclose(starts, [0, 0.3, 0.7], atol=0.02)
    assert numbers.marks[-1].end == 1.0
    assert numbers.facts()["boundaries"] == "guessed"


def test_the_mean_frequency_is_weighted_by_power():
    samples = 0.5 * np.sin(2 * np.pi * 500 * TIME) + 0.25 * np.sin(2 * np.pi * 3000 * TIME)
    _, numbers = marked_spectrogram(samples, ["both"], [0.0, 1.0])
    # half the amplitude, a quarter of the power
    assert numbers.marks[0].centroid == pytest.approx((4 * 500 + 3000) / 5)


def test_given_boundaries_are_drawn_and_each_part_measured():
    figure, numbers = marked_spectrogram(three_tones(), ["low", "high", "middle"], [0.0, 0.3, 0.7, 1.0])
    np.testing.assert_allclose([mark.centroid for mark in numbers.marks], [500, 3000, 1000], rtol=1e-3)
    np.testing.assert_allclose([mark.level for mark in numbers.marks], [-9.03, -29.03, -15.05], atol=0.01)
    facts = numbers.facts()
    assert facts["boundaries"] == "given"
    assert (facts["loudest"], facts["highest"]) == ("low (-9 dB)", "high (mean frequency 3000 Hz)")
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.texts] == ["low", "high", "middle"]
    assert sorted({round(line.get_xdata()[0], 3) for line in ax.lines}) == [0.0, 0.3, 0.7, 1.0]


@pytest.mark.parametrize(
    ("labels", "boundaries"),
    [
        ([], [0.0]),
        (["a"], [0.0]),
        (["a", "b"], [0.0, 0.5, 0.5]),
        (["a"], [0.0, 2.0]),
        (["a"], [-0.1, 0.5]),
        (["a"], [0.1, np.nan]),
    ],
)
def test_boundaries_that_do_not_fit_are_refused(labels, boundaries):
    with pytest.raises(
        ValueError, match=r"one more boundary than labels, rising within 0..1.00 s. Received: \d labels"
    ):
        marked_spectrogram(three_tones(), labels, boundaries)


def test_more_labels_than_frames_and_none_are_refused_when_guessing():
    for labels in ([], ["x"] * 101):
        with pytest.raises(ValueError, match=rf"cannot be cut into {len(labels)} parts"):
            marked_spectrogram(three_tones(), labels)


def test_silence_can_be_marked_and_is_called_so():
    _, numbers = marked_spectrogram(np.zeros(RATE, np.float32), ["a", "b"])
    assert numbers.facts()["loudest"] == "digital silence"
