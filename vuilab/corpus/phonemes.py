"""How words are pronounced: the phonemes of espeak-ng's rules and dictionary, as a second target beside letters.

English spelling tells sounds badly, so a network with little speech to learn from has to learn spelling and sounds at once.
A layer that is trained on phonemes (see `residual_birnn_model(phoneme_heads=...)`) is told the sounds (an auxiliary phone
loss on the way: Krishna, Toshniwal and Livescu, arXiv:1807.06234). Only training needs phonemes; a trained model does not.
"""

import ctypes
import re
from collections.abc import Iterable

import numpy as np

from vuilab.corpus.voices import espeak_library
from vuilab.text import int_sequence_to_text

ACCENT = "en-us"
WORD_BOUNDARY = " "
# International Phonetic Alphabet without stress and length; one class each, then the boundary between words
PHONEMES = (
    *("p", "b", "t", "d", "k", "ɡ", "f", "v", "θ", "ð", "s", "z", "ʃ", "ʒ", "h", "tʃ", "dʒ", "m", "n", "ŋ", "l", "ɹ"),
    *("w", "j", "i", "ɪ", "ɛ", "æ", "ʌ", "ə", "ɑ", "ɔ", "ʊ", "u", "ɚ", "eɪ", "aɪ", "ɔɪ", "oʊ", "aʊ"),
    WORD_BOUNDARY,
)
NUM_PHONEME_CLASSES = len(PHONEMES) + 1  # and the blank, which is the last
_INDEX = {symbol: number for number, symbol in enumerate(PHONEMES)}
# espeak-ng's finer or joint symbols
_SAME = {"ɾ": "t", "ᵻ": "ɪ", "ɐ": "ə", "ɜ": "ɚ", "ɫ": "l", "r": "ɹ", "g": "ɡ", "x": "k", "a": "æ", "e": "ɛ", "o": "ɔ"}
_ISOLATED = {"a": ("ə",)}  # within a sentence it is not the letter's name
_SEPARATOR = "_"
_IPA, _UTF8 = 2, 1  # of espeak_TextToPhonemes: symbols and characters


def pronounce(words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the phonemes, out of `PHONEMES`, of words of a-z and apostrophe, each as it is spoken by itself.

    Example:
        >>> pronounce(["church"])
        {'church': ('tʃ', 'ɚ', 'tʃ')}
    """
    found = {}
    with espeak_library() as (library, _):
        library.espeak_SetVoiceByName(ACCENT.encode())
        spell = library.espeak_TextToPhonemes
        spell.restype = ctypes.c_char_p
        spell.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        for word in words:
            text = ctypes.c_char_p(word.encode())
            symbols = spell(ctypes.byref(text), _UTF8, (ord(_SEPARATOR) << 8) | _IPA) or b""
            found[word] = _ISOLATED.get(word) or tuple(_read(symbols.decode()))
    return found


def phoneme_targets(the_labels: np.ndarray, label_length: np.ndarray) -> dict[str, np.ndarray]:
    """Return the phonemes of a batch of transcripts: (batch, width) classes of letters, and (batch,) their numbers.

    Returns:
        `the_phonemes` (batch, width) int32, zeros behind the end (wider only where there are more phonemes than letters), and
        `phoneme_length` (batch,) int32.
    """
    pairs = zip(the_labels, label_length, strict=True)
    rows = [classes_of(int_sequence_to_text(labels[:length]).split()) for labels, length in pairs]
    width = max(the_labels.shape[1], *map(len, rows))
    the_phonemes = np.zeros((len(rows), width), np.int32)
    for row, classes in zip(the_phonemes, rows, strict=True):
        row[: len(classes)] = classes
    return {"the_phonemes": the_phonemes, "phoneme_length": np.array([len(classes) for classes in rows], np.int32)}


_CLASSES: dict[str, list[int]] = {}  # of the words met so far


def classes_of_words(words: Iterable[str]) -> dict[str, list[int]]:
    """Return word -> classes of its phonemes; none for what is not spoken, such as a lone apostrophe."""
    words = list(words)
    if new := sorted({*words}.difference(_CLASSES)):
        _CLASSES.update({word: [_INDEX[symbol] for symbol in symbols] for word, symbols in pronounce(new).items()})
    return {word: _CLASSES[word] for word in words}


def classes_of(words: Iterable[str]) -> list[int]:
    """Return the classes of a sentence, with one boundary between words that are spoken."""
    words, found = list(words), []
    spoken = classes_of_words(words)
    for word in words:
        if spoken[word]:
            found += [_INDEX[WORD_BOUNDARY]] * bool(found) + spoken[word]
    return found


def _read(text: str) -> list[str]:
    """Split espeak-ng's symbols into phonemes; what English does not have is left out."""
    text = re.sub(r"[ˈˌː̩̃ʲ]", "", text)
    found: list[str] = []
    for symbol in re.split(rf"[{_SEPARATOR}\s]", text):
        while symbol:
            size = 2 if symbol[:2] in _INDEX else 1
            part = _SAME.get(symbol[:size], symbol[:size])
            again = part == "ɹ" and found[-1:] == ["ɹ"]  # ʊɹ and ɹ in one word
            found += [part] * (part in _INDEX and not again)
            symbol = symbol[size:]
    return found
