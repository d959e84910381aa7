"""Transcripts and class indices, and the texts that tables are made of."""

import re
from collections.abc import Iterable, Mapping, Sequence

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
