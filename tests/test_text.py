"""Text to classes and back, and texts that are shown as Markdown."""

import gzip

import numpy as np
import pytest

from vuilab.alphabet import ALPHABET
from vuilab.text import (
    escape_markdown,
    int_sequence_to_text,
    invalid_characters,
    normalize,
    read_text,
    text_to_int_sequence,
    unspelt,
)


def test_text_becomes_the_integers_of_a_hand_table():
    assert text_to_int_sequence("a z'") == [2, 1, 27, 0]
    assert text_to_int_sequence("") == []


def test_random_texts_survive_the_round_trip():
    rng = np.random.default_rng(0)
    for _ in range(50):
        text = "".join(rng.choice(list("' abcdefghijklmnopqrstuvwxyz"), size=rng.integers(0, 40)))
        assert int_sequence_to_text(text_to_int_sequence(text)) == text


def test_classes_without_a_character_give_nothing():
    assert int_sequence_to_text(np.array([2, 28, 3, 250])) == "ab"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("Hello", r"\['H'\]"), ("room 12", r"\['1', '2'\]"), ("café\n", r"\['\\n', 'é'\]"), ("it’s", r"\['’'\]")],
)
def test_characters_outside_the_alphabet_are_named_with_the_fix(text, wrong):
    with pytest.raises(ValueError, match=f"{wrong}. Received: .*lower case, spell numbers out"):
        text_to_int_sequence(text)


def test_invalid_characters_are_sorted_and_distinct():
    assert invalid_characters("b2a1!1") == ["!", "1", "2"]
    assert invalid_characters("it's fine") == []


# ---------------------------------------------------------------------------------- what is written and what is said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("  It’s  Mr. O´Neil’s\tdog  ", "it's mister o'neil's dog"),
        ("HE'D SEEN THE BOYS' DOG AN' 'TIS GONE", "he'd seen the boys' dog an' 'tis gone"),
        ("'Yes,' he said, 'don't!'", "yes he said don't"),
        ("Smith & Sons: 5% of $20", "smith and sons five per cent of twenty dollars"),
        ("$1, €2.50 and £3 million", "one dollar two point five zero euros and three million pounds"),
        ("3D in 12ft, the 22ND of 3.14", "three d in twelve feet the twenty second of three point one four"),
        ("a@b + c = 90°", "a at b plus c equals ninety degrees"),
        ("Straße, Øre, Łódź, naïve", "strasse ore lodz naive"),
        ("...", ""),
    ],
)
def test_text_is_written_as_it_is_said(written, said):
    said = said.replace("feet", "ft")  # units are no words
    assert normalize(written) == normalize(said) == said
    assert unspelt(written) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("日本 and ½", ["1", "2", "⁄", "日", "本"]),
        ("<unk> x^2", ["<", ">"]),
        ("[noise] #1", ["#", "["]),
        ("1234567812345678", list("12345678")),
    ],
)
def test_what_is_said_but_cannot_be_spelt_is_named(text, wrong):
    assert unspelt(text) == wrong


def test_everything_normalised_is_in_the_alphabet_and_stays():
    text = "".join(chr(code) for code in range(32, 0x500)) + " 42 日本 😀"
    assert set(normalize(text)) <= set(ALPHABET)
    assert normalize(normalize(text)) == normalize(text)


# --------------------------------------------------------------------------------------------------- files of text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_text_is_read_in_any_usual_encoding(encoding, suffix, tmp_path):
    path, raw = tmp_path / f"a{suffix}", "It’s a café.\r\nTwo\rthree\n".encode(encoding)
    path.write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
    assert read_text(path) == "It’s a café.\nTwo\nthree\n"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xff\xfe\x00\x01\x80", "line 1: no text.*UTF-8.*utf-16"),
        ("one\ncafé\n".encode() + b"caf\xe9", "line 3: no text.*UTF-8"),
        (b"one\nRIFF\x01\x02\x03", "line 2: no text.*UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(raw, message, tmp_path):
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(ValueError, match=rf"a\.txt, {message}"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match="No text"):
        read_text(tmp_path / "b.txt")
    (tmp_path / "c.txt.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"c\.txt\.gz cannot be read"):
        read_text(tmp_path / "c.txt.gz")


# ---------------------------------------------------------------------------------------------- texts to show


@pytest.mark.parametrize(
    "text",
    [
        "bed/0a7c_nohash_0.wav",
        "5 % of 1,200 clips (a, b): 'x' + 2.0; -3",
        "<img src=x onerror=alert(1)>",
        "*a* _b_ __c__ `d` [e](http://f) ![g](h) $i$ # j | k ~~l~~ & m \\n",
        "javascript:alert(1)",
    ],
)
def test_a_text_shown_as_markdown_reads_as_it_stands_and_is_nothing_but_text(text):
    import html.parser

    import nbconvert.filters

    page = nbconvert.filters.markdown2html(escape_markdown(text))
    pieces, tags = [], []
    reader = html.parser.HTMLParser()
    reader.handle_starttag = lambda tag, attributes: tags.append(tag)
    reader.handle_data = pieces.append
    reader.feed(page)
    reader.close()
    assert "".join(pieces).strip() == text and tags == ["p"]


def test_a_name_with_line_breaks_or_broken_bytes_stays_in_its_cell_of_a_table():
    assert escape_markdown("a\nb|c") == "a&#10;b&#124;c"
    assert escape_markdown("a\udc80").encode("utf-8") == b"a&#92;udc80"
