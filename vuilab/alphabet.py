"""The alphabet of the recogniser and its class indices.

Twenty-eight characters (apostrophe, space, a-z) are the classes 0..27. The CTC blank is always the last
class, `NUM_CLASSES - 1`; it stands for "no character here" and decodes to nothing.

Example:
    >>> char_map["'"], char_map[" "], char_map["a"], char_map["z"]
    (0, 1, 2, 27)
    >>> index_map[2], BLANK, NUM_CLASSES
    ('a', 28, 29)
"""

import string

ALPHABET = "' " + string.ascii_lowercase

char_map: dict[str, int] = {character: index for index, character in enumerate(ALPHABET)}
index_map: dict[int, str] = {index: character for character, index in char_map.items()}

NUM_CLASSES = len(ALPHABET) + 1
BLANK = NUM_CLASSES - 1
