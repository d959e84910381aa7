"""From books to sentences in the alphabet: what a language model learns from.

Transcripts of LibriSpeech are lower case, without punctuation, numbers written as words, "mister" and "missus" spelt out. Text
for a language model has to look the same, since a word that is spelt otherwise is another word.
"""

import gzip
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from num2words import num2words

ABBREVIATIONS = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "messrs": "messieurs",
    "st": "saint",
    "mme": "madame",
    "mlle": "mademoiselle",
    "capt": "captain",
    "col": "colonel",
    "gen": "general",
    "hon": "honorable",
    "rev": "reverend",
    "esq": "esquire",
    "prof": "professor",
    "etc": "et cetera",
}
SYMBOLS = {"&c.": " et cetera ", "&": " and ", "%": " per cent ", "£": " pounds ", "’": "'", "‘": "'", "ʼ": "'"}
LONGEST_NUMBER = 15  # digits; longer ones are no numbers that anybody reads


def read_sentences(path: str | Path) -> Iterator[str]:
    """Yield the sentences of a text file, plain or gzipped, normalised.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no UTF-8 text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No text at {path}.")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            text = file.read()
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}).") from error
    yield from sentences_of(text)


def sentences_of(text: str) -> Iterator[str]:
    """Yield the sentences of running text, normalised; headings in capitals are left out.

    Example:
        >>> list(sentences_of("CHAPTER I.\\n\\nMr. Brown's dog\\nran. He saw 21 cats--all grey!"))
        ["mister brown's dog ran", 'he saw twenty one cats all grey']
    """
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        if not any(letter.islower() for letter in line):
            continue
        for sentence in split_sentences(expand(line)):
            words = normalize(sentence)
            if words:
                yield words


def expand(text: str) -> str:
    """Spell out symbols and abbreviations; their full stops would end sentences."""
    for symbol, word in SYMBOLS.items():
        text = text.replace(symbol, word)
    pattern = rf"\b({'|'.join(ABBREVIATIONS)})\.(?=\W)"
    text = re.sub(pattern, lambda match: ABBREVIATIONS[match[1].lower()], text + " ", flags=re.IGNORECASE)
    return re.sub(r"\b([A-Z])\.(?=\s*[A-Z])", r"\1 ", text).strip()  # initials


def split_sentences(text: str) -> list[str]:
    """Cut text behind full stops, question and exclamation marks that a new sentence follows."""
    return re.split(r"(?<=[.!?])[\"'”)\]]*\s+(?=[\"'“(\[]*[A-Z])", text)


def normalize(text: str) -> str:
    """Return text in the alphabet: lower case, numbers as words, nothing but letters, apostrophes and spaces.

    Example:
        >>> normalize("“Noël, don't!” cried the 3rd of the 'good-natured' men in 1851.")
        "noel don't cried the third of the good natured men in eighteen fifty one"
    """
    text = re.sub(r"\d[\d,]*(st|nd|rd|th)?\b", _number, text)
    text = unicodedata.normalize("NFKD", text.lower().replace("æ", "ae").replace("œ", "oe"))
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    text = re.sub(r"[^a-z' ]+", " ", text.replace("_", ""))
    words = (word.strip("'") for word in text.split())
    return " ".join(word for word in words if word)


def _number(match: re.Match) -> str:
    digits = match[0].rstrip("sthndr").replace(",", "")
    if len(digits) > LONGEST_NUMBER:
        return " "
    number, plain = int(digits), "," not in match[0]
    kind = "ordinal" if match[1] else "year" if plain and 1100 <= number <= 1999 else "cardinal"
    return " " + re.sub(r"[-,]", " ", num2words(number, to=kind)) + " "
