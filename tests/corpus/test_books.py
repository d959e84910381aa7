"""Texts become sentences that look like transcripts."""

import gzip

import pytest

from vuilab.corpus.books import read_sentences, sentences_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. and Mrs. Smith met Dr. Brown.", ["mister and missus smith met doctor brown"]),
        ("He stopped. \"Why?\" she asked. 'I know.'", ["he stopped", "why she asked", "i know"]),
        ("It cost £20, i.e. 5% more.", ["it cost twenty pounds i e five per cent more"]),
        ("J. R. Green wrote it.", ["j r green wrote it"]),
        (
            "In 1805, 1,805 men; the 21st and 1900.",
            ["in eighteen oh five one thousand eight hundred and five men the twenty first and nineteen hundred"],
        ),
        ("the rock-bound café—déjà vu", ["the rock bound cafe deja vu"]),
        ("_Don't_ ’tis the ’ orses' turn", ["don't tis the orses turn"]),
        ("Ærial Œuvre", ["aerial oeuvre"]),
        ("THE END.\n\nCHAPTER I\n\n* * *\n\nIt was a dark\nand stormy\nnight.", ["it was a dark and stormy night"]),
        ("One line\nand the next\n\na new paragraph", ["one line and the next", "a new paragraph"]),
        ("12345678901234567890 stars", ["stars"]),
    ],
)
def test_sentences(text, expected):
    assert list(sentences_of(text)) == expected


LINES = ["the mill was old", "she left a basket there", "nobody came by for it", "it rained"]


@pytest.mark.parametrize("between", ["\n", "\n\n", "\r\n"])
@pytest.mark.parametrize(
    "style",
    [
        str.lower,
        str.upper,
        str.capitalize,
        lambda line: f"{line.capitalize()}.",
        lambda line: f"{line}!",
        lambda line: f"{line.upper()}?",
        lambda line: f"“{line.capitalize()}.”",
    ],
)
def test_a_sentence_a_line_is_a_sentence_whatever_its_style(style, between, tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes(between.join(map(style, LINES)).encode())
    assert list(read_sentences(path)) == LINES


def test_lines_of_a_book_are_joined_and_its_headings_left_out():
    page = (
        "CHAPTER II\n\nWhen the day came the carpenter, who had slept\nbadly, went down to the river. The boat was\n"
        "gone. “Who has been here?” he asked, and nobody\nanswered him, for nobody was there. He sat down on\n"
        "a stone.\n\nIt was cold.\n"
    )
    assert list(sentences_of(page)) == [
        "when the day came the carpenter who had slept badly went down to the river",
        "the boat was gone",
        "who has been here he asked and nobody answered him for nobody was there",
        "he sat down on a stone",
        "it was cold",
    ]


def test_paragraphs_of_one_line_and_texts_without_capitals_are_cut_at_full_stops():
    assert list(sentences_of("He came. She left.\nIt rained. Nobody came.")) == [
        "he came",
        "she left",
        "it rained",
        "nobody came",
    ]
    assert list(sentences_of("he came. she\nleft. it rained and\nnobody came")) == [
        "he came",
        "she left",
        "it rained and nobody came",
    ]


def test_each_line_is_a_sentence_where_one_is_told_so():
    assert list(sentences_of("THE END\nOne. Two.\nand a\n", per_line=True)) == ["the end", "one two", "and a"]
    assert list(sentences_of("GOOD NIGHT\nHE SAW CATS", per_line=False)) == ["good night he saw cats"]


def test_files_plain_and_gzipped(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffHello there.", encoding="utf-8")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"Good night."))
    assert list(read_sentences(tmp_path / "a.txt")) == ["hello there"]
    assert list(read_sentences(tmp_path / "b.txt.gz")) == ["good night"]
