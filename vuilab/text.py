"""Transcripts and class indices, written text as it is said, files of text, and the texts that tables are made of."""

import codecs
import gzip
import re
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vuilab.alphabet import ENGLISH, classes_of, current


def invalid_characters(text: str) -> list[str]:
    """Return the sorted distinct characters of `text` that the alphabet does not hold.

    Example:
        >>> invalid_characters("take 2, please")
        [',', '2']
    """
    return sorted(set(text) - set(current()))


def text_to_int_sequence(text: str) -> list[int]:
    """Turn a transcript into class indices.

    Args:
        text: lower-case letters, spaces and apostrophes.

    Returns:
        One integer per character, below that of the blank.

    Raises:
        ValueError: when the text holds a character outside the alphabet.

    Example:
        >>> text_to_int_sequence("it's")
        [10, 21, 0, 20]
    """
    wrong = invalid_characters(text)
    if wrong:
        raise ValueError(
            f"The text holds characters outside the alphabet {current()!r}: {wrong}. Received: "
            f"{text[:80]!r}. Write it in lower case, spell numbers out and drop punctuation."
        )
    classes = classes_of(current())
    return [classes[character] for character in text]


def int_sequence_to_text(ints: Iterable[int]) -> str:
    """Turn class indices into text; classes without a character (the blank) give nothing.

    Example:
        >>> int_sequence_to_text([10, 28, 21, 0, 20])
        "it's"
    """
    characters = current()
    return "".join(characters[index] for index in map(int, ints) if 0 <= index < len(characters))


# ---------------------------------------------------------------------------------- what is written and what is said

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
SYMBOLS = {"&c.": "et cetera", "&": "and", "%": "per cent", "@": "at", "+": "plus", "=": "equals", "°": "degrees"}
CURRENCIES = {"£": "pounds", "$": "dollars", "€": "euros"}
AMOUNT = r"([£$€])\s?((?:\d[\d,.]*)?\d(?: (?:hundred|thousand|million|billion)\b)?)"
PLAIN = str.maketrans({"æ": "ae", "œ": "oe", "ß": "ss", "ø": "o", "ł": "l", **dict.fromkeys("’‘ʼ‛`´′", "'")})
LONGEST_NUMBER = 15  # digits; longer ones are no numbers that anybody reads


def normalize(text: str) -> str:
    """Return text in the alphabet: what every transcript and every text of a language model goes through.

    Text of letters, apostrophes and spaces is lower-cased. In any other numbers, symbols and abbreviations become words (in
    English), accents that the alphabet lacks and punctuation go, quotation marks with them; what cannot be spelt is left out
    (`unspelt` names it).

    Example:
        >>> normalize("“Noël, don't!” cried Mr. Fox, the 3rd of the 'good-natured' men in 1851.")
        "noel don't cried mister fox the third of the good natured men in eighteen fifty one"
        >>> normalize("THE BOYS' CLUB")
        "the boys' club"
    """
    plain = " ".join(text.lower().split())
    if not invalid_characters(plain):
        return plain
    words = (word.strip("'") for word in re.sub(f"[^{re.escape(current())}]+", " ", _spelt(text)).split())
    return " ".join(word for word in words if word)


def unspelt(text: str) -> list[str]:
    """Return the characters of a text that are said, but that `normalize` cannot spell: letters, digits and symbols.

    Example:
        >>> unspelt("Route 66, “café” <noise>"), unspelt("½ 日本")
        (['<', '>'], ['1', '2', '⁄', '日', '本'])
    """
    if not invalid_characters(" ".join(text.lower().split())):
        return []
    kinds = {letter: unicodedata.category(letter) for letter in invalid_characters(_spelt(text))}
    return [letter for letter, kind in kinds.items() if letter in "#[&%@" or (kind[0] in "LNS" and kind != "Sk")]


def expand(text: str) -> str:
    """Spell out symbols and abbreviations; their full stops would end sentences. In another alphabet than English they stay."""
    if current() != ENGLISH:
        return text
    text = re.sub(AMOUNT, lambda found: f"{found[2]} {CURRENCIES[found[1]][: -1 if found[2] == '1' else None]} ", text)
    for symbol, word in (SYMBOLS | CURRENCIES).items():
        text = text.replace(symbol, f" {word} ")
    pattern = rf"\b({'|'.join(ABBREVIATIONS)})\.(?=\W)"
    text = re.sub(pattern, lambda match: ABBREVIATIONS[match[1].lower()], text + " ", flags=re.IGNORECASE)
    return re.sub(r"\b([A-Z])\.(?=\s*[A-Z])", r"\1 ", text).strip()  # initials


def _spelt(text: str) -> str:
    """Return text in lower case without accents, with words for numbers and symbols; punctuation and what has no word stay."""
    if current() == ENGLISH:
        text = expand(text.translate(PLAIN))
        text = re.sub(r"(?i)(\d(?:[\d,]*\d)?)(\.\d+)?(?:(st|nd|rd|th)\b)?", _number, text)
    text = text.lower().replace("_", "")
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    return "".join(letter if letter in current() else _folded(letter) for letter in text)


def _folded(letter: str) -> str:
    """Return a letter, or sign, that the alphabet lacks as others that are read alike, without accents."""
    parts = unicodedata.normalize("NFKD", letter.translate(PLAIN))
    return "".join(part for part in parts if not unicodedata.combining(part))


def _number(match: re.Match) -> str:
    from num2words import num2words  # knows fifty languages, and takes as long to load

    digits, decimals = match[1].replace(",", ""), match[2] or ""
    if len(digits) > LONGEST_NUMBER:
        return match[0]
    year = digits == match[1] and not decimals and 1100 <= int(digits) <= 1999
    kind = "ordinal" if match[3] else "year" if year else "cardinal"
    parts = [num2words(int(digits), to=kind), *["point"] * bool(decimals), *map(num2words, map(int, decimals[1:]))]
    return f" {re.sub(r'[-,]', ' ', ' '.join(parts))} "


# --------------------------------------------------------------------------------------------------- files of text


def read_text(path: str | Path) -> str:
    """Return the text of a file, plain or gzipped, in UTF-8, UTF-16 or Windows-1252 (Latin-1), lines ended by one line feed.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it cannot be read or is no text, with the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No text at {path}.")
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    encoding = _encoding(raw)
    text = raw.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace")
    wrong = re.search("[\x00-\x08\x0e-\x19\ud800-\udfff]" + "|\ufffd" * encoding.startswith("utf-16"), text)
    if wrong:
        line = text.count("\n", 0, wrong.start()) + 1
        raise ValueError(
            f"{path}, line {line}: no text. Expected a file of text; save it as UTF-8 (it was read as {encoding})."
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _encoding(raw: bytes) -> str:
    """Return the encoding of a text: UTF-16 has a mark or zeros at every other place; what is not UTF-8 anywhere is Windows'."""
    zeros = [raw[side:4096:2].count(0) for side in (0, 1)]
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if max(zeros) > len(raw[:4096]) / 4:
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        damaged = re.search("[\x80-\ud7ff\ue000-\U0010ffff]", raw.decode("utf-8", "surrogateescape"))
        return "utf-8-sig" if damaged else "cp1252"
    return "utf-8-sig"


# ------------------------------------------------------------------------------------------------------ tables


def escape_markdown(text: str) -> str:
    """Return a text that Markdown and HTML show as it is, whatever stands in it, such as the name of a file.

    Example:
        >>> escape_markdown("bed/0a_1.wav | <b>")
        'bed/0a_1.wav &#124; &#60;b&#62;'
    """
    text = text.encode("utf-8", "backslashreplace").decode()  # names of files may hold bytes that are no text
    return re.sub(r"[^\w .:/,;()%'+-]|:(?=\S)|(?<![^\W_])_|_(?![^\W_])", lambda match: f"&#{ord(match[0])};", text)


def markdown_rows(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table, its first `left` columns left-aligned, the others right-aligned.

    Example:
        >>> print(markdown_rows(["model", "CER %"], [["a", "12.0"]]))
        | model | CER % |
        | --- | ---: |
        | a | 12.0 |
    """
    lines = [head, ["---"] * left + ["---:"] * (len(head) - left), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def facts_table(facts: Mapping[str, str]) -> str:
    """Return names and values as a Markdown table of two columns that shows them as they are.

    Example:
        >>> print(facts_table({"frames": "99", "level": "-20 dB"}))
        |  |  |
        | --- | --- |
        | frames | 99 |
        | level | -20 dB |
    """
    return markdown_rows(["", ""], [[escape_markdown(text) for text in fact] for fact in facts.items()], left=2)


def join(items: Sequence[str]) -> str:
    """Return items as a list in words.

    Example:
        >>> join(["yes", "no", "up"])
        'yes, no and up'
    """
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def percent_with_interval(rate: float, low: float, high: float) -> str:
    """Return a rate and its interval in percent, as tables show them.

    Example:
        >>> percent_with_interval(0.437, 0.4255, 0.4481)
        '43.7 [42.5, 44.8]'
    """
    return f"{100 * rate:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
