"""Books become sentences that look like transcripts."""

import gzip

import pytest

from vuilab.alphabet import ALPHABET
from vuilab.corpus.books import normalize, read_sentences, sentences_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. and Mrs. Smith met Dr. Brown.", ["mister and missus smith met doctor brown"]),
        ("He stopped. \"Why?\" she asked. 'I know.'", ["he stopped", "why she asked", "i know"]),
        ("It cost £20, i.e. 5% more.", ["it cost pounds twenty i e five per cent more"]),
        ("J. R. Green wrote it.", ["j r green wrote it"]),
        (
            "In 1805, 1,805 men; the 21st and 1900.",
            ["in eighteen oh five one thousand eight hundred and five men the twenty first and nineteen hundred"],
        ),
        ("the rock-bound café—déjà vu", ["the rock bound cafe deja vu"]),
        ("_Don't_ ’tis the ’ orses' turn", ["don't tis the orses turn"]),
        ("Ærial Œuvre", ["aerial oeuvre"]),
        ("THE END.\n\nCHAPTER I\n\n* * *", []),
        ("one line\nand the next\n\na new paragraph", ["one line and the next", "a new paragraph"]),
        ("12345678901234567890 stars", ["stars"]),
    ],
)
def test_sentences(text, expected):
    assert list(sentences_of(text)) == expected


def test_everything_is_in_the_alphabet():
    text = "".join(chr(code) for code in range(32, 0x500)) + " 42 日本 😀"
    assert set(normalize(text)) <= set(ALPHABET)


def test_files_plain_and_gzipped(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffHello there.", encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"Good night."))
    assert list(read_sentences(tmp_path / "a.txt")) == ["hello there"]
    assert list(read_sentences(tmp_path / "b.txt.gz")) == ["good night"]
    with pytest.raises(FileNotFoundError, match="No text"):
        list(read_sentences(tmp_path / "c.txt"))
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe\x00\x01\x80")
    with pytest.raises(ValueError, match="UTF-8"):
        list(read_sentences(tmp_path / "d.txt"))
