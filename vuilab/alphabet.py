"""The alphabet of the recogniser and its class indices.

Apostrophe and space are the classes 0 and 1; behind them come the letters, a-z by default. The CTC blank is always the last
class, `NUM_CLASSES - 1`; it stands for "no character here" and decodes to nothing.

The environment variable VUI_ALPHABET sets other letters, such as `abcdefghijklmnopqrstuvwxyzäöüß`, before Python starts. Weights
carry their alphabet and are read in that (`using`), whatever is set.

Example:
    >>> char_map["'"], char_map[" "], char_map["a"], char_map["z"]
    (0, 1, 2, 27)
    >>> index_map[2], BLANK, NUM_CLASSES
    ('a', 28, 29)
"""

import contextlib
import functools
import os
import string
import unicodedata
from collections.abc import Iterator

SETTING = "VUI_ALPHABET"
MARKS = "' "
ENGLISH = MARKS + string.ascii_lowercase


def alphabet_of(letters: str) -> str:
    """Return an alphabet, apostrophe and space before its letters.

    Raises:
        ValueError: for letters that stand there twice, in capitals, or that are none.

    Example:
        >>> alphabet_of("abcö")
        "' abcö"
    """
    found = unicodedata.normalize("NFC", letters).removeprefix(MARKS) if isinstance(letters, str) else ""
    wrong = [
        one for one in found if one.lower() != one or found.count(one) > 1 or unicodedata.category(one)[0] not in "LM"
    ]
    if wrong or not found:
        raise ValueError(
            f"An alphabet is different small letters, such as {SETTING}={string.ascii_lowercase}äöüß; apostrophe and space are "
            f"classes of each. Received: {letters!r}" + (f", in which {wrong} cannot be" if wrong else "")
        )
    return MARKS + found


ALPHABET = alphabet_of(os.environ.get(SETTING) or ENGLISH)

char_map: dict[str, int] = {character: index for index, character in enumerate(ALPHABET)}
index_map: dict[int, str] = {index: character for character, index in char_map.items()}

NUM_CLASSES = len(ALPHABET) + 1
BLANK = NUM_CLASSES - 1

_current = ALPHABET


def current() -> str:
    """Return the characters that texts are written in: those of `using`, else those that are set."""
    return _current


@contextlib.contextmanager
def using(characters: str) -> Iterator[None]:
    """Read and write texts in another alphabet for a while, that of weights.

    Raises:
        ValueError: when it is none, see `alphabet_of`.
    """
    global _current
    before, _current = _current, alphabet_of(characters)
    try:
        yield
    finally:
        _current = before


@functools.cache
def classes_of(characters: str) -> dict[str, int]:
    """Return the class of each character of an alphabet."""
    return {character: index for index, character in enumerate(characters)}
