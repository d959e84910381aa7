"""A split of a corpus: which utterances take part, and what makes one unusable."""

import json

import numpy as np
import pytest

from vuilab.corpus.manifest import Utterance, write_manifest
from vuilab.data.partition import frames_needed, read_partition


@pytest.fixture
def manifest(tmp_path):
    """A function that writes a manifest of these texts and durations."""

    def write(texts, seconds=(0.2,)):
        items = zip(texts, seconds * len(texts) if len(seconds) == 1 else seconds, strict=True)
        utterances = [Utterance(tmp_path / f"{i}.flac", duration, text) for i, (text, duration) in enumerate(items)]
        write_manifest(tmp_path / "train_corpus.json", utterances)
        return tmp_path / "train_corpus.json"

    return write


def test_ctc_needs_a_frame_for_each_label_and_one_between_equal_neighbours():
    assert [frames_needed(np.array(labels)) for labels in ([1, 2, 3], [1, 1], [1, 1, 1, 2], [])] == [3, 3, 6, 0]


def test_utterances_stand_there_once_at_each_speed_with_the_duration_that_they_then_have(manifest):
    part = read_partition(manifest(["a", "b"], (1.0, 2.0)), speeds=(0.5, 1.0), max_duration=2.0)
    assert [(item.text, item.speed, item.duration) for item in part.utterances] == [
        ("a", 0.5, 2.0),
        ("a", 1.0, 1.0),
        ("b", 1.0, 2.0),
    ]
    assert len(part.everything) == len(part.labels) == 4  # of which one takes 4 s


def test_a_limit_that_leaves_nothing_is_an_error_with_the_shortest_duration(manifest):
    with pytest.raises(ValueError, match=r"No utterance of .*max_duration=1\.5 s .*shortest has 2\.0 s.*Raise"):
        read_partition(manifest(["a", "b"], (2.0, 3.0)), max_duration=1.5)


def test_transcripts_longer_than_the_output_are_named_and_left_out(manifest):
    # of 20 frames, 10 come out: 'abcdefghij' needs 10, 'abcdefghii' 11 (a blank between the two i), 'aaaaaa' 11
    part = read_partition(manifest(["abcdefghij", "abcdefghii", "aaaaaa", "aaaaa"]))
    lines = part.drop_infeasible(np.full(4, 20), lambda num_frames: num_frames // 2)
    assert [line.rpartition("/")[2] for line in lines] == [
        f"{number}.flac: the transcript needs 11 output frames, the model gives 10" for number in (1, 2)
    ]
    assert part.kept.tolist() == [0, 3]


def test_when_no_transcript_fits_the_error_says_so(manifest):
    part = read_partition(manifest(["abcdef", "abcdefg"]))
    with pytest.raises(
        ValueError, match=r"Every utterance .*0\.flac: the transcript needs 6 .*gives 2.*smaller stride"
    ):
        part.drop_infeasible(np.full(2, 20), lambda num_frames: num_frames // 10)


def test_numbers_and_marks_of_a_transcript_are_spelt(tmp_path):
    manifest = tmp_path / "train_corpus.json"
    manifest.write_text(json.dumps({"key": "a.flac", "duration": 1.0, "text": "  Room 12,  please "}) + "\n")
    assert [item.text for item in read_partition(manifest).utterances] == ["room twelve please"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("room 日本", "without a spelling in the alphabet: 日 本 .replace them by words"),
        ("<noise>", "without a spelling in the alphabet: < > .replace them by words"),
        ("", "the transcript is empty"),
    ],
)
def test_a_transcript_that_cannot_be_used_names_manifest_line_and_characters(tmp_path, text, message):
    manifest = tmp_path / "train_corpus.json"
    entries = [{"key": "a.flac", "duration": 1.0, "text": "fine"}, {"key": "b.flac", "duration": 1.0, "text": text}]
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with pytest.raises(ValueError, match=f"train_corpus.json, line 2: .*{message}"):
        read_partition(manifest)
