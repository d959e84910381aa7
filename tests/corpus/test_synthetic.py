"""Synthetic speech of books: how much, who speaks what, what is left out, and what is left alone."""

import numpy as np
import pytest
import soundfile

from vuilab.cli import main
from vuilab.corpus import synthetic
from vuilab.corpus.manifest import MANIFESTS, read_manifest
from vuilab.corpus.synthetic import make_synthetic, make_voices
from vuilab.corpus.voices import VARIANTS

WORDS = [
    "morning",
    "river",
    "letter",
    "garden",
    "winter",
    "candle",
    "window",
    "captain",
    "doctor",
    "silver",
    "story",
    "village",
]
BOOK = " ".join(f"The {first} saw the {second} again." for first in WORDS for second in WORDS if first != second)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(synthetic, "PIECE", 5)


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(BOOK + " No. Not two.")
    return path


def make(book, out, **options):
    return make_synthetic([book], out, **{"hours": 10 / 3600, "workers": 0, "progress": False, **options})


def test_there_is_as_much_speech_as_asked_for_by_many_voices(book, tmp_path):
    report = make(book, tmp_path / "more")
    items = read_manifest(tmp_path / "more" / MANIFESTS["train"])
    assert report.num_utterances == len(items) == report.num_speakers and report.num_beside == 0
    durations = [soundfile.info(item.path).duration for item in items]
    np.testing.assert_allclose(durations, [item.duration for item in items], atol=1e-3)
    assert 10 <= sum(durations) == pytest.approx(3600 * report.hours) and sum(durations[:-5]) < 10
    assert all(len(item.text.split()) == 6 and item.text in BOOK.lower().replace(".", "") for item in items)
    assert len({item.text for item in items}) == len(items)
    assert not (tmp_path / "more" / MANIFESTS["validation"]).exists()
    assert f"{len(items)} voices" in str(report)


def test_the_same_seed_gives_the_same_speech_and_another_one_other_speech(book, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make(book, tmp_path / name, seed=seed)
    texts = {name: [item.text for item in read_manifest(tmp_path / name / MANIFESTS["train"])] for name in "abc"}
    audio = {name: read_manifest(tmp_path / name / MANIFESTS["train"])[0].path.read_bytes() for name in "abc"}
    assert texts["a"] == texts["b"] != texts["c"] and audio["a"] == audio["b"] != audio["c"]


def test_another_corpus_stands_beside_it_and_what_it_is_measured_on_is_not_spoken(book, tmp_path, make_corpus):
    held_back = "the morning saw the river again"
    other = make_corpus({"train": [("hello you", 0.5)], "validation": [(held_back, 0.6)]})
    more_than_there_is = 1e9
    with pytest.raises(ValueError, match=r"131 different sentences of 3 to 25 words, which are .* expected at least"):
        make(book, tmp_path / "all", beside=other, hours=more_than_there_is)
    assert not (tmp_path / "all").exists() and not list(tmp_path.glob(".all*"))
    report = make(book, tmp_path / "more", beside=other)
    train = read_manifest(tmp_path / "more" / MANIFESTS["train"])
    assert report.num_beside == 1 and train[-1].text == "hello you" and train[-1].path.is_file()
    assert [item.text for item in read_manifest(tmp_path / "more" / MANIFESTS["validation"])] == [held_back]
    assert not (tmp_path / "more" / MANIFESTS["test"]).exists()


def test_every_voice_speaks_twice_under_numbers_of_its_own():
    voices = make_voices(0)
    variants = [name for names in VARIANTS.values() for name in names]
    assert sorted(voice.variant for voice in voices) == sorted(2 * variants)
    assert len({voice.speaker for voice in voices}) == len(voices)
    assert len({voice.accent for voice in voices}) > 2


def test_a_folder_of_somebody_else_is_left_alone_and_ones_own_is_replaced(book, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(FileExistsError, match="was not made by this command"):
        make(book, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    make(book, tmp_path / "more")
    assert make(book, tmp_path / "more", hours=1e-6).num_utterances == 5
    assert len(list((tmp_path / "more").rglob("*.flac"))) == 5


def test_the_command_says_what_is_wrong(book, tmp_path, capsys):
    command = ["data", "synthetic", str(book), "--out", str(tmp_path / "x")]
    assert main.main([*command, "--hours", "0"]) == 1
    assert "hours must be positive" in capsys.readouterr().err
    assert main.main([*command, "--beside", str(tmp_path)]) == 1
    assert "No train_corpus.json in" in capsys.readouterr().err
    assert main.main(["data", "synthetic", str(tmp_path / "none.txt"), "--out", str(tmp_path / "x")]) == 1
    assert "No text at" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
