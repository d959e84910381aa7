"""From texts to sentences in the alphabet: what a language model learns from.

Transcripts of LibriSpeech are lower case, without punctuation, numbers written as words, "mister" and "missus" spelt out. Text
for a language model has to look the same, since a word that is spelt otherwise is another word; `text.normalize` sees to that.
Books are paragraphs, cut into lines anywhere; corpora of sentences have one a line, often without capitals and full stops.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vuilab.alphabet import current
from vuilab.text import expand, normalize, read_text

SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*$")


def read_sentences(path: str | Path, per_line: bool | None = None) -> Iterator[str]:
    """Yield the sentences of a text file, normalised; for the arguments see `sentences_of`, for the errors `read_text`."""
    return sentences_of(read_text(path), per_line)


def sentences_of(text: str, per_line: bool | None = None) -> Iterator[str]:
    """Yield the sentences of a text, normalised; headings in capitals are left out of books.

    Args:
        text: a book, or a corpus with a sentence or a paragraph a line.
        per_line: True: each line is a sentence, whatever stands in it; None: look whether lines are cut anywhere.

    Example:
        >>> list(sentences_of("CHAPTER I.\\n\\nMr. Brown's dog\\nran. He saw 21 cats--all grey!"))
        ["mister brown's dog ran", 'he saw twenty one cats all grey']
        >>> list(sentences_of("GOOD NIGHT\\nHE SAW CATS"))
        ['good night', 'he saw cats']
    """
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    in_capitals = 2 * sum(line.isupper() for line in lines) > len(lines)
    whole = has_whole_lines(lines) if per_line is None else per_line
    for paragraph in lines if whole else re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        if line.upper() != line or in_capitals or per_line:
            yield from filter(None, map(normalize, [line] if per_line else split_sentences(expand(line))))


def has_whole_lines(lines: Sequence[str]) -> bool:
    """Return whether the lines of a text hold whole sentences: most end or begin as one, or none ends inside them."""
    ends, begins, one_case, ends_inside = (
        sum(map(bool, found)) / max(1, len(lines))
        for found in (
            map(SENTENCE_END.search, lines),
            (line.lstrip("\"'“‘([_")[:1].isupper() for line in lines),
            (line.isupper() or line.islower() for line in lines),
            (re.search(r"[.!?]\W*\s+\w", line) for line in lines),
        )
    )
    return ends > 0.7 or begins > 0.7 or (one_case > 0.9 and ends_inside < 0.05)


def split_sentences(text: str) -> list[str]:
    """Cut text behind full stops, question and exclamation marks that a new sentence follows."""
    first = r"\w" if text.islower() else f"[{current()[2:].upper()}]"
    return re.split(rf"(?<=[.!?])[\"'”)\]]*\s+(?=[\"'“(\[]*{first})", text)
