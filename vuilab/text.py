"""Transcripts and class indices, and text that Markdown shows as it is."""

import re
from collections.abc import Iterable

from vuilab.alphabet import char_map, index_map


def invalid_characters(text: str) -> list[str]:
    """Return the sorted distinct characters of `text` that the alphabet does not hold.

    Example:
        >>> invalid_characters("take 2, please")
        [',', '2']
    """
    return sorted(set(text) - set(char_map))


def text_to_int_sequence(text: str) -> list[int]:
    """Turn a transcript into class indices.

    Args:
        text: lower-case letters, spaces and apostrophes.

    Returns:
        One integer in 0..27 per character.

    Raises:
        ValueError: when the text holds a character outside the alphabet.

    Example:
        >>> text_to_int_sequence("it's")
        [10, 21, 0, 20]
    """
    wrong = invalid_characters(text)
    if wrong:
        raise ValueError(
            f"The text holds characters outside the alphabet (a-z, space, apostrophe): {wrong}. Received: "
            f"{text[:80]!r}. Write it in lower case, spell numbers out and drop punctuation."
        )
    return [char_map[character] for character in text]


def int_sequence_to_text(ints: Iterable[int]) -> str:
    """Turn class indices into text; classes without a character (the blank) give nothing.

    Example:
        >>> int_sequence_to_text([10, 28, 21, 0, 20])
        "it's"
    """
    return "".join(index_map.get(int(index), "") for index in ints)


def escape_markdown(text: str) -> str:
    """Return a text that Markdown and HTML show as it is, whatever stands in it, such as the name of a file.

    Example:
        >>> escape_markdown("bed/0a_1.wav | <b>")
        'bed/0a_1.wav &#124; &#60;b&#62;'
    """
    text = text.encode("utf-8", "backslashreplace").decode()  # names of files may hold bytes that are no text
    return re.sub(r"[^\w .:/,;()%'+-]|:(?=\S)|(?<![^\W_])_|_(?![^\W_])", lambda match: f"&#{ord(match[0])};", text)
