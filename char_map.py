"""The alphabet under the names that notebooks use; the code stands in `vuilab/alphabet.py`."""

from vuilab.alphabet import ALPHABET, BLANK, NUM_CLASSES, char_map, index_map

__all__ = ["ALPHABET", "BLANK", "NUM_CLASSES", "char_map", "index_map"]
