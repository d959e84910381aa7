"""False alarms, recall and thresholds against hand-worked cases, published intervals and words placed at known times."""

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import soundfile

from vuilab.corpus.manifest import Utterance
from vuilab.keywords.clips import load_part
from vuilab.keywords.corpus import choose_clips, index_folder
from vuilab.keywords.scores import Proportion, load_classifier
from vuilab.keywords.spotting import Event, SpotSettings, Spotter, find_events
from vuilab.keywords.spotting_scores import (
    FalseAlarms,
    OperatingPoint,
    Placed,
    Track,
    choose_threshold,
    false_alarms,
    operating_point,
    place_clips,
    rate_interval,
    speech_tracks,
    track,
    word_tracks,
)

RATE = 16_000
PLAIN = SpotSettings(threshold=0.5, smoothing=1, refractory=0.0)
WORDS = ("go", "no")


def row_track(text, *rows, duration=1800.0, name="a.flac"):
    return Track(name, np.array(rows, dtype=float).reshape(-1, 2), duration, text)


# --------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("count", [0, 1, 7, 30])
def test_the_interval_of_one_rate_is_the_exact_poisson_one(count):
    low, high = rate_interval([count], [2.5])
    # its definition: at the limits, so many events or more (or fewer) have a probability of 2.5 %
    if count:
        assert scipy.stats.poisson.sf(count - 1, 2.5 * low) == pytest.approx(0.025)
    assert scipy.stats.poisson.cdf(count, 2.5 * high) == pytest.approx(0.025)


def test_equal_hours_pool():
    assert rate_interval([2, 0, 5], [3.0, 3.0, 3.0]) == pytest.approx(rate_interval([7], [3.0]))


def test_the_interval_of_a_sum_covers_the_truth_as_often_as_it_says():
    hours, rates, rng = np.array([2.0, 1.0, 0.4]), np.array([1.0, 3.0, 2.0]), np.random.default_rng(0)
    drawn = rng.poisson(rates * hours, (400, 3))
    inside = [low <= rates.sum() <= high for low, high in (rate_interval(row, hours) for row in drawn)]
    assert np.mean(inside) > 0.94  # the method is conservative
    assert rate_interval([0, 3], [0.0, 1.0]) == rate_interval([3], [1.0])
    assert rate_interval([0], [0.0]) == (0, math.inf)


# ------------------------------------------------------------------------------------------------- false alarms


def test_an_utterance_that_holds_the_word_does_not_count_for_that_word():
    tracks = [
        row_track("let us go", [0.9, 0], [0, 0], [0, 0.8]),  # go is said; no is a false alarm
        row_track("nothing", [0, 0.9], [0, 0], [0.6, 0], [0, 0], [0.7, 0], duration=3600, name="b.flac"),
        row_track("a no's meaning", [0, 0.9]),
    ]
    found = false_alarms(tracks, WORDS, PLAIN)
    assert found.hours == {"go": 1.5, "no": 1.5} and found.counts == {"go": 2, "no": 2}
    assert found.per_hour == pytest.approx(4 / 1.5)
    assert [(alarm.event.word, alarm.event.score, alarm.name) for alarm in found.alarms[:2]] == [
        ("no", 0.9, "b.flac"),
        ("no", 0.8, "a.flac"),
    ]
    assert found.interval == pytest.approx(rate_interval([4], [1.5]))
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain["words"]["go"] == {"num_alarms": 2, "hours": 1.5} and plain["num_alarms"] == 4
    assert str(found).startswith("2.67 [0.73, 6.83] false alarms per hour")  # 4 events: 1.09 to 10.24 (Garwood 1936)


def test_only_whole_words_are_held():
    one = row_track("going on", [0, 0])
    assert not one.holds("go") and one.holds("on")


def test_words_that_every_utterance_holds_have_no_hours():
    found = false_alarms([row_track("go no", [0.9, 0.0])], WORDS, PLAIN)
    assert found.per_hour == 0 and found.hours == {"go": 0, "no": 0} and found.as_dict()["high"] is None


class Loud:
    """A network that hears 'go' in whatever is loud."""

    labels = ("go", "no", "silence", "unknown")

    def probabilities(self, waveforms):
        found = np.zeros((len(waveforms), 4), np.float32)
        found[:, 0] = np.sqrt(np.mean(np.square(waveforms), axis=1)) > 0.05
        return found


def test_utterances_are_read_and_those_that_fail_are_listed(tmp_path):
    samples = 0.01 * np.sin(np.arange(3 * RATE))
    samples[RATE : 2 * RATE] *= 20
    soundfile.write(tmp_path / "a.flac", samples, RATE)
    utterances = [Utterance(tmp_path / "a.flac", 3.0, "well"), Utterance(tmp_path / "none.flac", 3.0, "well")]
    tracks, skipped = speech_tracks(Loud(), utterances, 0.1, progress=False)
    assert tracks[0].probabilities.shape == (30, 2) and tracks[0].duration == 3 and len(skipped) == 1
    assert "none.flac" in skipped[0]
    (alarm,) = false_alarms(tracks, WORDS, SpotSettings()).alarms
    assert alarm.event.word == "go" and abs(alarm.event.time - 1.5) < 0.1 and alarm.text == "well"
    with pytest.raises(ValueError, match=r"No utterance of the manifest can be read: .*none\.flac"):
        speech_tracks(Loud(), utterances[1:], 0.1, progress=False)


def test_a_track_gives_the_events_of_a_spotter():
    rng, settings = np.random.default_rng(0), SpotSettings()
    samples = rng.normal(0, 1, 8 * RATE) * np.repeat([0.01, 0.2, 0.01, 0.01, 0.2, 0.2, 0.01, 0.01], RATE)
    spotter = Spotter(Loud(), settings)
    events = spotter.add(samples) + spotter.finish()
    one = track(Loud(), np.array_split(samples, 7), settings.hop, "x", "well")
    assert [alarm.event.time for alarm in false_alarms([one], WORDS, settings).alarms] == [e.time for e in events]


# ----------------------------------------------------------------------------------------------------- recall


def test_clips_stand_where_it_is_said_at_the_ratio_that_is_asked_for():
    rng = np.random.default_rng(1)
    clips = [("go", rng.normal(0, 0.1, RATE)), ("no", rng.normal(0, 0.1, RATE // 2)), ("go", rng.normal(0, 0.1, RATE))]
    background = rng.normal(0, 3, 7001)
    samples, placed = place_clips(clips, background, np.random.default_rng(2), snr_db=10)
    again, _ = place_clips(clips, background, np.random.default_rng(2), snr_db=10)
    np.testing.assert_array_equal(samples, again)
    assert [clip.word for clip in placed] == ["go", "no", "go"]
    edges = [0, *(time for clip in placed for time in (clip.start, clip.end)), len(samples) / RATE]
    silences = np.diff(edges)[::2]
    assert (silences >= 1 - 1e-4).all() and (silences <= 3 + 1e-4).all() and np.ptp(silences) > 0.1
    noise = samples.astype(float).copy()
    for (_, clip), where in zip(clips, placed, strict=True):
        start = round(where.start * RATE)
        noise[start : start + len(clip)] -= clip
    power = np.mean(np.concatenate([clip for _, clip in clips]) ** 2)
    assert 10 * np.log10(power / np.mean(noise**2)) == pytest.approx(10, abs=0.01)
    np.testing.assert_allclose(noise[7001:9000], noise[: 9000 - 7001], atol=1e-6)  # the background goes round


def test_a_silent_background_leaves_the_clips_alone():
    samples, (placed,) = place_clips([("go", np.ones(100))], np.zeros(50), np.random.default_rng(0))
    assert samples.sum() == 100 and samples[round(placed.start * RATE)] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], np.ones(5)), "Expected clips and a background. Received: 0 clips, 5 samples"),
        (([("go", np.ones(5))], np.ones(0)), "Received: 1 clips, 0 samples"),
    ],
)
def test_what_cannot_be_placed_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        place_clips(*arguments, np.random.default_rng(0))


def test_one_event_finds_one_clip_and_only_its_word_within_it():
    clips = [Placed("go", 1, 2), Placed("go", 3, 4), Placed("no", 5, 6)]
    at = lambda word, time: Event(word, time, time - 0.5, time + 0.5, 0.9)  # noqa: E731
    events = [at("go", 1.0), at("go", 1.9), at("go", 4.0), at("go", 5.5)]
    assert [clip.is_found(events) for clip in clips] == [True, False, False]
    assert all(clip.is_found([at("go", 1.5), at("go", 3.99), at("no", 5.5)]) for clip in clips)


def test_a_point_counts_hits_misses_and_what_is_neither():
    rows = np.zeros((60, 2))
    rows[15] = [0.9, 0]  # 1.5 s: a hit of go
    rows[18] = [0.8, 0]  # the same clip again
    rows[35] = [0, 0.7]  # 3.5 s: no instead of go
    rows[55] = [0, 0.6]  # 5.5 s: a hit of no
    clips = [Placed("go", 1, 2), Placed("go", 3, 4), Placed("no", 5, 6)]
    tracks = [row_track("well", [0.65, 0])], [(Track("p", rows, 6.0), clips)]
    points = [operating_point(*tracks, WORDS, dataclasses.replace(PLAIN, threshold=at)) for at in (0.5, 0.65, 0.85)]
    assert [point.recall for point in points] == [Proportion(2, 3), Proportion(1, 3), Proportion(1, 3)]
    assert [point.num_wrong for point in points] == [2, 2, 0]
    assert points[0].recall_of == {"go": Proportion(1, 2), "no": Proportion(1, 1)}
    assert [point.false_alarms.per_hour for point in points] == [2, 2, 0]  # one in half an hour
    assert json.loads(json.dumps(points[0].as_dict()))["recall"]["words"]["go"]["num_hits"] == 1
    without = operating_point([row_track("well", [0, 0])], [], WORDS, PLAIN)
    assert without.recall is None and "recall" not in without.as_dict()


def point(threshold, per_hour, hits=None):
    alarms = tuple([None] * per_hour)
    found = FalseAlarms({"go": 1.0}, alarms)
    recall = None if hits is None else Proportion(hits, 10)
    made = OperatingPoint(threshold, found, recall, {}, 0)
    object.__setattr__(found, "alarms", tuple(_Alarm for _ in range(per_hour)))
    return made


class _Alarm:
    event = Event("go", 0.0, 0.0, 0.0, 0.0)


def test_the_threshold_with_the_best_recall_among_those_allowed_is_chosen():
    points = [point(0.5, 9, 9), point(0.6, 2, 8), point(0.7, 1, 8), point(0.8, 0, 5)]
    assert choose_threshold(points, 2).threshold == 0.7  # the same recall, fewer alarms
    assert choose_threshold(points, 0.5).threshold == 0.8
    assert choose_threshold(points[:2], 1) is None
    assert choose_threshold([point(0.5, 3), point(0.6, 1), point(0.7, 0)], 1).threshold == 0.6


# ------------------------------------------------------------------------------- from clips to events, with a network


@pytest.mark.slow
def test_a_small_network_finds_the_words_it_knows_where_they_are(spoken_words, tmp_path, monkeypatch):
    import keras

    from vuilab.keywords.clips import KeywordFeatures
    from vuilab.keywords.models import FEATURES, ZOO
    from vuilab.keywords.options import ClipOptions, KeywordOptions
    from vuilab.keywords.training import train_keywords

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VUI_CACHE", str(tmp_path / "cache"))
    keras.utils.set_random_seed(0)
    dataset = choose_clips(index_folder(spoken_words), ["bed", "happy", "silence", "unknown"])
    features = KeywordFeatures(FEATURES["two_conv"])
    model = ZOO["two_conv"](features.shape, 4)
    options = KeywordOptions(epochs=30, verbose=0)
    files = tmp_path / "m.pickle", tmp_path / "m.h5"
    train_keywords(model, dataset, *files, features=features, clips=ClipOptions(16), options=options)
    classifier = load_classifier(tmp_path / "m.h5")
    audio, settings = load_part(dataset, "train", progress=False), SpotSettings(threshold=0.4)
    noise = [np.random.default_rng(0).normal(0, 1, 40_000)]
    tracks = word_tracks(classifier, audio, noise, settings, snr_db=30, progress=False)
    again = word_tracks(classifier, audio, noise, settings, snr_db=30, progress=False)
    assert [placed for _, placed in tracks] == [placed for _, placed in again]
    placed = [clip for _, clips in tracks for clip in clips]
    assert sorted({clip.word for clip in placed}) == ["bed", "happy"] and len(placed) == 20
    measured = operating_point([], tracks, ("bed", "happy"), settings)
    assert measured.recall.rate >= 0.7  # it has learnt these clips, whose middle is somewhere else here
    events = [event for one, _ in tracks for event in find_events(one.probabilities, ("bed", "happy"), settings)]
    middles = [(clip.word, (clip.start + clip.end) / 2) for clip in placed]
    near = [min(abs(e.time - middle) for word, middle in middles if word == e.word) for e in events]
    assert np.median(near) < 0.3
