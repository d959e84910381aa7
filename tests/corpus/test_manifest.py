import json
import os
from pathlib import Path

import pytest

from vuilab.corpus import manifest as corpora
from vuilab.corpus.manifest import Utterance, read_manifest, write_manifest


@pytest.fixture(autouse=True)
def no_active_corpus(monkeypatch):
    monkeypatch.delenv("VUI_CORPUS", raising=False)
    corpora.set_active_corpus(None)
    yield
    corpora.set_active_corpus(None)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# ----------------------------------------------------------------------------------------------- manifests


def write_lines(path, *entries):
    path.write_text("".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in entries))
    return path


GOOD = {"key": "a.flac", "duration": 1.5, "text": "one two"}


def test_manifest_round_trip_keeps_speaker_and_further_keys(tmp_path):
    written = [
        Utterance(tmp_path / "audio" / "a.flac", 1.25, "it's one", "s1", {"words": [["it's", 0.1]]}),
        Utterance(tmp_path.parent / "elsewhere" / "b.flac", 3.82, "two"),
    ]
    write_manifest(tmp_path / "train_corpus.json", written)
    assert [line["key"] for line in lines(tmp_path / "train_corpus.json")] == [
        "audio/a.flac",
        (tmp_path.parent / "elsewhere/b.flac").as_posix(),
    ]
    read = read_manifest(tmp_path / "train_corpus.json")
    assert read == written
    assert read[0].extra == {"words": [["it's", 0.1]]}


def test_a_corpus_folder_can_be_moved(tmp_path):
    (tmp_path / "old").mkdir()
    write_manifest(tmp_path / "old" / "m.json", [Utterance(tmp_path / "old" / "a.flac", 1, "a")])
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_manifest(tmp_path / "new" / "m.json")[0].path == tmp_path / "new" / "a.flac"


def test_relative_manifest_path_gives_absolute_audio_paths(tmp_path, monkeypatch):
    write_lines(tmp_path / "m.json", {**GOOD, "key": "../x/a.flac"})
    monkeypatch.chdir(tmp_path)
    assert read_manifest("m.json")[0].path == tmp_path.parent / "x" / "a.flac"


def test_speaker_is_read_from_a_librispeech_path_only(tmp_path):
    manifest = write_lines(
        tmp_path / "m.json",
        {**GOOD, "key": "dev/1272/128104/1272-128104-0000.flac"},
        {**GOOD, "key": "dev/1272/128104/1272-128104-0001.flac", "speaker": "someone"},
        {**GOOD, "key": "dev/1272/other/1272-128104-0002.flac"},
        {**GOOD, "key": "plain.wav"},
    )
    assert [utterance.speaker for utterance in read_manifest(manifest)] == ["1272", "someone", None, None]


def test_text_is_lower_cased(tmp_path):
    assert read_manifest(write_lines(tmp_path / "m.json", {**GOOD, "text": "IT'S"}))[0].text == "it's"


def test_text_is_normalised_as_that_of_language_models_is(tmp_path):
    texts = ["  two  spaces ", "It’s Mr. Fox, 5% & more", "the boys' dog"]
    path = tmp_path / "m.json"
    path.write_text("\n".join(json.dumps({**GOOD, "key": f"{t}.flac", "text": t}) for t in texts), encoding="utf-16")
    expected = ["two spaces", "it's mister fox five per cent and more", "the boys' dog"]
    assert [utterance.text for utterance in read_manifest(path)] == expected


def test_names_that_are_no_utf_8_survive_the_round_trip(tmp_path):
    written = [Utterance(tmp_path / os.fsdecode(b"caf\xe9") / "日.flac", 1.0, "a")]
    write_manifest(tmp_path / "m.json", written)
    assert read_manifest(tmp_path / "m.json") == written
    assert "日" in (tmp_path / "m.json").read_text(encoding="utf-8")


def test_missing_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No manifest at .*m\.json.*data demo.*data index"):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_manifest_is_refused(tmp_path, content):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ValueError, match=r"m\.json is empty"):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"key": "b.flac", "dura',
            r"m\.json, line 3 is not JSON .*Received: '\{\"key\": \"b.flac\", \"dura'",
        ),
        ("[1, 2]", "line 3 lacks key, duration, text"),
        ('{"key": "b.flac", "text": "b"}', "line 3 lacks duration"),
        ('{"key": "b.flac", "duration": NaN, "text": "b"}', "line 3: duration must be a positive .*nan"),
        ('{"key": "b.flac", "duration": Infinity, "text": "b"}', "line 3: duration must be .*inf"),
        ('{"key": "b.flac", "duration": -1, "text": "b"}', "line 3: duration must be .*-1"),
        ('{"key": "b.flac", "duration": "1", "text": "b"}', "line 3: duration must be .*'1'"),
        ('{"key": "b.flac", "duration": true, "text": "b"}', "line 3: duration must be .*True"),
        ('{"key": 7, "duration": 1, "text": "b"}', "line 3: key and text must be strings"),
        (
            '{"key": "b.flac", "duration": 1, "text": "route 日"}',
            "line 3: .*characters.*日 .*replace them by words",
        ),
        ('{"key": "b.flac", "duration": 1, "text": " "}', "line 3: the transcript is empty"),
        ('{"key": "x/../a.flac", "duration": 1, "text": "b"}', "lines 1 and 3 have the same key"),
    ],
)
def test_bad_manifest_line_is_named(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        read_manifest(write_lines(tmp_path / "m.json", GOOD, "", line))


def test_manifest_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "m.json").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ValueError, match=r"m\.json, line 1: no text.*UTF-8"):
        read_manifest(tmp_path / "m.json")


def test_writing_fails_without_touching_the_old_manifest(tmp_path):
    path = write_lines(tmp_path / "m.json", GOOD)

    def broken():
        yield Utterance(tmp_path / "b.flac", 1, "b")
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_manifest(path, broken())
    with pytest.raises(ValueError, match="No utterances"):
        write_manifest(path, [])
    assert lines(path) == [GOOD]
    assert list(tmp_path.iterdir()) == [path]


def test_summary_counts_hours_and_known_speakers():
    utterances = [Utterance(Path(f"/{i}"), 900.0, "a", speaker) for i, speaker in enumerate(["b", "a", "b", None])]
    assert corpora.summarize(utterances) == {
        "num_utterances": 4,
        "hours": 1.0,
        "num_speakers": 2,
        "speakers": ["a", "b"],
    }


# ------------------------------------------------------------------------------------------- active corpus


def test_bare_manifest_names_mean_the_active_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train_corpus.json").write_text("a decoy in the current folder")
    assert corpora.resolve_manifest("train_corpus.json") == Path("LibriSpeech/demo/train_corpus.json")
    monkeypatch.setenv("VUI_CORPUS", "from_env")
    assert corpora.resolve_manifest("valid_corpus.json") == Path("from_env/valid_corpus.json")
    corpora.set_active_corpus("chosen")
    assert corpora.active_corpus() == Path("chosen")
    assert corpora.resolve_manifest("test") == Path("chosen/test_corpus.json")
    assert corpora.resolve_manifest("./train_corpus.json") == Path("chosen/train_corpus.json")
    assert corpora.resolve_manifest("some/train_corpus.json") == Path("some/train_corpus.json")
    assert corpora.resolve_manifest(tmp_path / "train_corpus.json") == tmp_path / "train_corpus.json"


def test_another_bare_name_means_a_file_of_the_current_folder_if_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpora.set_active_corpus("given")
    assert corpora.resolve_manifest("mine.json") == Path("given/mine.json")
    (tmp_path / "mine.json").touch()
    assert corpora.resolve_manifest("mine.json") == Path("mine.json")
