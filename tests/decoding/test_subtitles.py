"""Subtitles and TextGrids: the formats' own rules, checked by reading them back."""

import itertools
import json
import re

import pytest

from vuilab.decoding.alignment import Alignment, Span
from vuilab.decoding.subtitles import LONGEST_LINE, make_cues, to_json, to_srt, to_textgrid, to_vtt


def words_at(*texts_and_starts, length=0.3):
    return [Span(text, start, start + length, 0.9) for text, start in texts_and_starts]


TALK = words_at(*[(f"word{number}", 0.4 * number) for number in range(40)])


def test_cues_are_short_and_lose_no_word():
    cues = make_cues(TALK)
    assert " ".join(" ".join(cue.lines) for cue in cues).split() == [word.text for word in TALK]
    for cue in cues:
        assert 1 <= len(cue.lines) <= 2 and all(len(line) <= LONGEST_LINE for line in cue.lines)
        assert 0 < cue.end - cue.start <= 6.0
    assert all(left.end <= right.start for left, right in itertools.pairwise(cues))


def test_a_pause_begins_a_new_cue_and_nothing_said_makes_none():
    assert [cue.lines for cue in make_cues(words_at(("a", 0), ("b", 0.4), ("c", 3)))] == [["a b"], ["c"]]
    assert make_cues([]) == [] and to_srt([]) == "" and to_vtt([]) == "WEBVTT\n\n"


def test_srt_and_vtt():
    words = words_at(("hello", 1.5), ("there", 1.9))
    assert to_srt(words) == "1\n00:00:01,500 --> 00:00:02,200\nhello there\n\n"
    assert to_vtt(words) == "WEBVTT\n\n00:00:01.500 --> 00:00:02.200\nhello there\n\n"
    late = to_srt(words_at(("late", 7322.25)))
    assert "02:02:02,250 --> 02:02:02,550" in late


def read_textgrid(text):
    """Read the tiers back: name -> [(xmin, xmax, text)]."""
    tiers = {}
    for item in re.split(r"item \[\d+\]:", text)[1:]:
        name = re.search(r'name = "(.*)"', item)[1]
        pattern = r'intervals \[\d+\]:\s+xmin = (\S+)\s+xmax = (\S+)\s+text = "((?:[^"]|"")*)"'
        tiers[name] = [(float(a), float(b), c.replace('""', '"')) for a, b, c in re.findall(pattern, item)]
        assert int(re.search(r"intervals: size = (\d+)", item)[1]) == len(tiers[name])
    return tiers


def test_a_textgrid_has_no_gaps_and_ends_with_the_recording():
    alignment = Alignment([Span("a", 0.5, 0.7, 1.0), Span("b", 0.7, 1.0, 1.0)], words_at(("ab", 0.5), ("c", 2.0)), -1.0)
    tiers = read_textgrid(to_textgrid(alignment, 3.0))
    assert [text for *_, text in tiers["words"]] == ["", "ab", "", "c", ""]
    assert [text for *_, text in tiers["characters"]] == ["", "a", "b", ""]
    for intervals in tiers.values():
        assert intervals[0][0] == 0 and intervals[-1][1] == 3.0
        assert all(left[1] == right[0] for left, right in itertools.pairwise(intervals))


def test_a_span_beyond_the_end_is_cut():
    alignment = Alignment([], words_at(("a", 0.5), ("b", 0.9)), 0.0)
    tiers = read_textgrid(to_textgrid(alignment, 1.0))
    assert tiers["words"][-1] == (0.9, 1.0, "b")


def test_json_is_versioned():
    content = json.loads(to_json(Alignment([Span("a", 0.1, 0.2, 0.5)], words_at(("a", 0.1)), 0.0)))
    assert content["version"] == 1
    assert content["characters"] == [{"text": "a", "start": 0.1, "end": 0.2, "confidence": 0.5}]
    assert content["words"][0]["end"] == pytest.approx(0.4)
