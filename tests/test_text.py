"""Text to classes and back, and texts that are shown as Markdown."""

import numpy as np
import pytest

from vuilab.text import escape_markdown, int_sequence_to_text, invalid_characters, text_to_int_sequence


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
