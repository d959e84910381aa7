"""Many clips: counts and durations by hand, means of known spectra, quartiles as NumPy has them, variance between words."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats

from vuilab import features
from vuilab.exploration.words import class_counts, durations, mean_spectra, violin_frequency

RATE = 16_000


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def tone(frequency: float, amplitude: float = 0.5, seconds: float = 1.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def noise(number: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.standard_normal(RATE)).astype(np.float32) for _ in range(number)]


def test_counts_their_ratio_and_the_classifier_that_does_not_listen():
    figure, numbers = class_counts({"bed": range(30), "cat": range(60), "yes": range(10)})
    assert numbers.counts == {"bed": 30, "cat": 60, "yes": 10}
    assert list(numbers.facts().values()) == ["100", "3", "cat: 60", "yes: 10", "60.0 %"]
    assert [bar.get_height() for bar in figure.axes[0].patches] == [30, 60, 10]


def test_words_without_clips_count_and_no_clips_at_all_are_refused():
    assert class_counts({"a": range(5), "b": [], "c": []})[1].facts()["fewest"] == "b: 0"
    for nothing in ({}, {"a": []}):
        with pytest.raises(ValueError, match=rf"no clips to count.* Received: {len(nothing)} words"):
            class_counts(nothing)


def test_durations_are_those_counted_by_hand():
    clips = {
        "bed": [tone(500, seconds=seconds) for seconds in (1.0, 0.5, 0.75)],
        "cat": [tone(500, seconds=seconds) for seconds in (1.0, 1.25)],
    }
    figure, numbers = durations(clips)
    bed, cat = numbers.words
    assert (bed.word, bed.num_clips, bed.shortest, bed.median, bed.mean, bed.longest) == (
        "bed",
        3,
        0.5,
        0.75,
        0.75,
        1.0,
    )
    assert (bed.num_short, bed.padding) == (2, 0.75)
    assert (cat.num_short, cat.padding, cat.longest, cat.median) == (0, 0.0, 1.25, 1.125)
    assert numbers.facts() == {
        "clips shorter than 1 s": "2 of 5 (40.0 %)",
        "zeros that they need": "0.8 s (15.0 % of all sound then)",
        "shortest": "0.500 s",
        "longest": "1.250 s",
    }
    assert numbers.markdown().splitlines()[2] == "| bed | 3 | 0.500 | 0.750 | 0.750 | 1.000 | 2 (66.7 %) |"
    left, right = figure.axes
    assert sum(bar.get_height() for bar in left.patches) == 5
    assert [bar.get_width() for bar in right.patches] == pytest.approx([200 / 3, 0])


def test_clips_of_one_length_need_no_zeros_and_another_target_counts_anew():
    clips = {"bed": [tone(500), tone(600)]}
    assert durations(clips)[1].facts()["clips shorter than 1 s"] == "0 of 2 (0.0 %)"
    assert durations(clips, target=1.5)[1].words[0].padding == 1.0
    with pytest.raises(ValueError, match=r"positive number of seconds. Received: target=0"):
        durations(clips, target=0)


def test_a_name_of_a_word_stays_a_name_in_the_table():
    assert "<b>" not in durations({"<b>a|b</b>": [tone(500)]})[1].markdown()


def test_mean_spectra_are_the_means_and_have_the_peaks_of_the_tones():
    clips = {"low": [tone(500, 0.2), tone(500, 0.4)], "high": [tone(3000, 0.3)], "none": []}
    figure, numbers = mean_spectra(clips)
    assert numbers.words == ("low", "high") and numbers.num_clips == (2, 1)
    np.testing.assert_allclose(numbers.frequencies[numbers.fft.argmax(axis=1)], [500, 3000])
    np.testing.assert_allclose(numbers.fft.max(axis=1), [0.3, 0.3], rtol=1e-5)
    expected = (features.spectrogram(clips["low"][0]) + features.spectrogram(clips["low"][1])) / 2
    np.testing.assert_allclose(numbers.spectrograms[0], expected, atol=1e-5)
    titles = [ax.get_title() for ax in figure.axes]
    assert "low (2)" in titles and "high (1)" in titles


def test_a_short_clip_counts_in_a_mean_spectrogram_only_where_it_has_frames():
    long, short = noise(1)[0], noise(1, 1)[0][:8000]
    _, numbers = mean_spectra({"a": [long, short]})
    first, second = features.spectrogram(long), features.spectrogram(short)
    np.testing.assert_allclose(numbers.spectrograms[0, :49], (first[:49] + second) / 2, atol=1e-4)
    np.testing.assert_allclose(numbers.spectrograms[0, 49:], first[49:], atol=1e-5)
    _, numbers = mean_spectra({"a": [short]})  # no clip has the second half
    np.testing.assert_allclose(numbers.spectrograms[0, 49:], np.log(1e-14))
    np.testing.assert_allclose(
        numbers.fft[0, 1:-1], np.abs(np.fft.rfft(short, 16_000))[1:-1] / 8000, rtol=1e-4
    )  # zeros


def test_a_longer_clip_is_cut_and_a_duration_that_is_too_short_refused():
    _, numbers = mean_spectra({"a": [tone(500, seconds=2.0)]}, duration=0.5)
    assert numbers.spectrograms.shape == (1, 49, 161) and numbers.fft.shape == (1, 4001)
    with pytest.raises(ValueError, match=r"A clip of duration=0.01 s must be mono and at least 100 ms"):
        mean_spectra({"a": [tone(500)]}, duration=0.01)


def test_which_words_look_alike_is_computed():
    clips = {"quiet": [tone(500, 0.05)], "louder": [tone(500, 0.1)], "loud": [tone(500, 0.4)]}
    _, numbers = mean_spectra(clips)
    distances = numbers.distances
    assert distances[0, 2] == pytest.approx(distances[0, 1] + distances[1, 2], rel=0.05)  # levels in dB add up
    assert numbers.facts()["most alike"].startswith("quiet and louder, ")
    assert numbers.facts()["least alike"].startswith("quiet and loud, ")
    assert mean_spectra({"a": [tone(500)]})[1].facts() == {"words": "a"}


def test_quartiles_at_a_frequency_are_those_of_numpy_over_the_frames_of_all_clips():
    clips = {"a": noise(2), "b": [noise(1, 2)[0][:8000], 2 * noise(1, 3)[0]]}
    figure, numbers = violin_frequency(clips, 1010)
    assert numbers.frequency == 1000
    for word, waves in clips.items():
        frames = np.concatenate([features.spectrogram(wave)[:, 20] for wave in waves]) * 10 / np.log(10)
        np.testing.assert_allclose(numbers.values[word], frames, rtol=1e-5)
        np.testing.assert_allclose(numbers.quartiles[word], np.percentile(frames, [25, 50, 75]), rtol=1e-5)
    assert len(numbers.values["a"]) == 198 and len(numbers.values["b"]) == 148
    top, bottom = figure.axes
    assert top.get_title() == "Frames of each word at 1000 Hz" and [
        text.get_text() for text in top.get_xticklabels()
    ] == ["a", "b"]
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), 100 * numbers.explained)


def test_the_share_of_the_variance_is_that_of_an_analysis_of_variance():
    clips = {"a": noise(2), "b": [2 * wave for wave in noise(2, 1)], "c": noise(1, 2)}
    _, numbers = violin_frequency(clips, 2000)
    result = scipy.stats.f_oneway(*numbers.values.values())
    between, within = 2, sum(map(len, numbers.values.values())) - 3  # degrees of freedom
    expected = result.statistic * between / (result.statistic * between + within)
    assert numbers.explained[40] == pytest.approx(expected, rel=1e-6)


def test_a_frequency_that_tells_words_apart_is_named():
    hiss = noise(4)
    clips = {"low": [hiss[0] + tone(1500), hiss[1] + tone(1500)], "high": hiss[2:]}
    share, place = violin_frequency(clips, 4000)[1].facts()["most that one frequency explains"].split(" %, at ")
    assert float(share) > 30 and place == "1500 Hz"
    alike = violin_frequency({"a": hiss[:2], "b": hiss[2:]}, 4000)[1].facts()["most that one frequency explains"]
    assert float(alike.split(" %")[0]) < 30


def test_silence_has_no_variance_to_explain():
    _, numbers = violin_frequency({"a": [np.zeros(RATE)], "b": [np.zeros(RATE)]})
    assert (numbers.explained == 0).all()


@pytest.mark.parametrize("frequency", [-1, 8001, np.nan])
def test_a_frequency_out_of_range_is_refused(frequency):
    with pytest.raises(ValueError, match=rf"must be in 0..8000 Hz. Received: frequency={frequency}"):
        violin_frequency({"a": noise(1)}, frequency)


@pytest.mark.parametrize("view", [durations, mean_spectra, violin_frequency])
def test_no_clips_and_clips_that_cannot_be_used_are_refused(view):
    with pytest.raises(ValueError, match="no clips to look at"):
        view({})
    with pytest.raises(ValueError, match=r"Clip 1 of 'bed'.*NaN or infinite"):
        view({"bed": [tone(500), np.full(RATE, np.nan)]})
