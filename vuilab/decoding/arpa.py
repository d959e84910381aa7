"""Reading and writing ARPA files, the text format that n-gram tools exchange.

A file begins with `\\data\\` and the number of n-grams of each order; then each order has a section with one n-gram a line:
logarithm (base 10) of its probability, its words, and, below the highest order, the logarithm of its backoff weight. Files of
other tools may have text before `\\data\\`, capitals, and words that this alphabet cannot spell, which are left out.
"""

import gzip
import math
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vuilab.decoding.ngram import (
    BEGIN,
    END,
    LETTER_SPACE,
    MAX_ORDER,
    NO_PROBABILITY,
    SPECIAL,
    NGramModel,
    build_model,
)
from vuilab.text import normalize, unspelt

LARGEST_RATIO = 1100  # of the size of a text to that of the gzipped one


class _Lines:
    """The lines of a file, counted, so that an error can say where it is."""

    def __init__(self, path: Path):
        self.path, self.number = path, 0
        self.heading = ""  # the line that ended a section: the next one's heading, or \\end\\
        opener, ratio = (gzip.open, LARGEST_RATIO) if path.suffix == ".gz" else (open, 1)
        self.most_characters = path.stat().st_size * ratio
        self.file = opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="\n")

    def __iter__(self) -> Iterator[str]:
        try:
            for line in self.file:
                self.number += 1
                yield line.rstrip("\r\n")
        except (EOFError, OSError, zlib.error) as error:
            self.number += 1
            self.fail(f"cannot be read ({error})")

    def fail(self, what: str):
        raise ValueError(f"{self.path}, line {self.number}: {what}. Expected an ARPA file; make or fetch it again.")


def read_arpa(path: str | Path) -> NGramModel:
    """Read an ARPA file, plain or gzipped.

    Raises:
        ValueError: when it is none, with the number of the line.
    """
    lines = _Lines(Path(path))
    with lines.file:
        counts = _read_header(lines)
        vocabulary: dict[str, int] = {}
        levels = [_read_section(lines, n, counts, vocabulary) for n in range(1, len(counts) + 1)]
        if lines.heading != "\\end\\":
            lines.fail(f"\\end\\ should follow; found {lines.heading!r}")
    return _assemble(lines, levels, vocabulary)


def _read_header(lines: _Lines) -> list[int]:
    counts: list[int] = []
    if not any(line.strip().lower() == "\\data\\" for line in lines):
        lines.fail("\\data\\ stands nowhere")
    for line in lines:
        if not counts and not line.strip():
            continue
        match = re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line.strip().lower())
        if match is None:
            if counts and not line.strip():
                return counts
            lines.fail(f"a count such as 'ngram 1=200' should stand here; found {line[:60]!r}")
        if int(match[1]) != len(counts) + 1 or len(counts) == MAX_ORDER:
            lines.fail(f"orders 1, 2, ... up to {MAX_ORDER} should follow each other; found {line!r}")
        counts.append(int(match[2]))
    lines.fail("the file ends in its header")


def _read_section(lines: _Lines, n: int, counts: list[int], vocabulary: dict[str, int]) -> tuple:
    """Read the n-grams of one order: (word numbers (count, n), log_prob, backoff), natural logarithms."""
    number, highest = counts[n - 1], n == len(counts)
    if number * 2 * (n + 1) > lines.most_characters:
        lines.fail(f"the header promises {number} {n}-grams, more than so small a file can hold")
    words = np.empty((number, n), np.int32)
    weights, row = np.zeros((number, 2), np.float64), 0
    if n == 1:
        lines.heading = next((line.strip().lower() for line in lines if line.strip()), "")
    if lines.heading != f"\\{n}-grams:":
        lines.fail(f"\\{n}-grams: should stand here; found {lines.heading[:60]!r}")
    lines.heading = ""
    for line in lines:
        if line.startswith("\\"):
            lines.heading = line.strip().lower()
            break
        fields = [
            field for field in line.replace("\t", " ").split(" ") if field
        ]  # a word may hold another kind of space
        if not fields:
            continue
        if row == number:
            lines.fail(f"there are more {n}-grams than the {number} that the header promises")
        if len(fields) not in ((n + 1,) if highest else (n + 1, n + 2)):
            lines.fail(f"a probability, {n} words and (below the highest order) a backoff weight should stand here")
        ngram = fields[1 : n + 1]
        if n == 1 and vocabulary.setdefault(ngram[0], row) != row:
            lines.fail(f"the word {ngram[0]!r} stands twice")
        try:
            weights[row] = float(fields[0]), float(fields[-1]) if len(fields) == n + 2 else 0.0
            words[row] = [vocabulary[word] for word in ngram]
        except ValueError as error:
            lines.fail(f"{error}")
        except KeyError as error:
            lines.fail(f"the word {error} is not among the unigrams")
        row += 1
    if row != number:
        lines.fail(f"the header promises {number} {n}-grams, there are {row}")
    if np.isnan(weights).any() or (weights[:, 0] > 1e-6).any():
        lines.fail(f"the {n}-grams above hold a probability over 1 or no number")
    return words, weights * math.log(10)


def _spelling(word: str) -> str | None:
    """Return how this project writes a word of another tool's model; None when it cannot, or only as several words."""
    plain = word.lower()
    if plain in (*SPECIAL, LETTER_SPACE):
        return plain
    plain = normalize(word)
    return plain if plain and " " not in plain and word.isprintable() and not unspelt(word) else None


def _assemble(lines: _Lines, levels: list[tuple], vocabulary: dict[str, int]) -> NGramModel:
    """Number the words anew, special ones first, and sort each order by context and word; of spellings the likeliest counts."""
    spellings = [_spelling(word) for word in vocabulary]
    left_out = [word for word, spelling in zip(vocabulary, spellings, strict=True) if spelling is None]
    if left_out:
        told = f"{len(left_out)} of {len(vocabulary)} words left out, which are not spelt in the alphabet"
        print(f"{lines.path}: {told}: {str(left_out[:5])[1:-1]}", file=sys.stderr)
    for word in (BEGIN, END):
        if word not in spellings:
            raise ValueError(f"{lines.path} has no unigram {word}; a model of sentences needs it.")
    names = [*SPECIAL, *dict.fromkeys(word for word in spellings if word is not None and word not in SPECIAL)]
    number = {word: new for new, word in enumerate(names)}
    renumber = np.array([-1 if word is None else number[word] for word in spellings], np.int32)
    size = len(names)
    unigrams = np.full((size, 2), NO_PROBABILITY * math.log(10))  # stays so for <unk> where the file has none
    unigrams[:, 1] = 0
    rows = np.argsort(levels[0][1][:, 0], kind="stable")  # the likeliest is written last
    rows = rows[renumber[rows] >= 0]
    unigrams[renumber[rows]] = levels[0][1][rows]
    sections = [(np.zeros(size, np.int64), np.arange(size), unigrams[:, 0], unigrams[:, 1])]
    keys = []  # of each order from bigrams on: parent * size + word, sorted
    for n, (words, weights) in enumerate(levels[1:], start=2):
        words = renumber[words]
        spelt = (words >= 0).all(axis=1)
        words, weights = words[spelt], weights[spelt]
        parents = words[:, 0].astype(np.int64)
        for column in range(1, n - 1):
            wanted = parents * size + words[:, column]
            parents = np.minimum(np.searchsorted(keys[column - 1], wanted), len(keys[column - 1]) - 1)
            missing = np.flatnonzero(keys[column - 1][parents] != wanted)
            if len(missing):
                text = " ".join(names[word] for word in words[missing[0]])
                raise ValueError(
                    f"{lines.path} has the {n}-gram {text!r} but not the {n - 1}-gram before its last word."
                )
        order = np.lexsort((-weights[:, 0], words[:, -1], parents))
        order = order[np.unique(parents[order] * size + words[order, -1], return_index=True)[1]]
        sections.append((parents[order], words[order, -1], weights[order, 0], weights[order, 1]))
        keys.append(parents[order] * size + words[order, -1])
    return build_model(len(levels), names, sections)


def arpa_lines(model: NGramModel) -> Iterable[str]:
    """Yield the lines of the ARPA file of a model; logarithms there are to base 10."""
    yield "\\data\\\n"
    for n, number in enumerate(model.num_ngrams, start=1):
        yield f"ngram {n}={number}\n"
    texts = [""]
    for n in range(1, model.order + 1):
        yield f"\n\\{n}-grams:\n"
        begin, end = model.level_starts[n], model.level_starts[n + 1]
        parents = np.searchsorted(model.first_child, np.arange(begin, end), side="right") - 1
        new_texts = []
        for node, parent in zip(range(begin, end), parents.tolist(), strict=True):
            context = texts[parent - (model.level_starts[n - 1])]
            text = f"{context} {model.words[model.word[node]]}" if context else model.words[model.word[node]]
            new_texts.append(text)
            backoff = f"\t{model.backoff[node] / math.log(10):.7g}" if n < model.order else ""
            yield f"{model.log_prob[node] / math.log(10):.7g}\t{text}{backoff}\n"
        texts = new_texts
    yield "\n\\end\\\n"
