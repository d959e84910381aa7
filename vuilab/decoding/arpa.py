"""Reading and writing ARPA files, the text format that n-gram tools exchange.

A file begins with `\\data\\` and the number of n-grams of each order; then each order has a section with one n-gram a line:
logarithm (base 10) of its probability, its words, and, below the highest order, the logarithm of its backoff weight.
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vuilab.decoding.ngram import BEGIN, END, MAX_ORDER, NO_PROBABILITY, SPECIAL, NGramModel, build_model


class _Lines:
    """The lines of a file, counted, so that an error can say where it is."""

    def __init__(self, path: Path):
        self.path, self.number = path, 0
        self.heading = ""  # the line that ended a section: the next one's heading, or \\end\\
        opener = gzip.open if path.suffix == ".gz" else open
        self.file = opener(path, "rt", encoding="utf-8", newline="\n")

    def __iter__(self) -> Iterator[str]:
        try:
            for line in self.file:
                self.number += 1
                yield line.rstrip("\r\n")
        except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
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
    counts = []
    for line in lines:
        if not counts and line.strip() in ("", "\\data\\"):
            continue
        match = re.fullmatch(r"ngram (\d+)\s*=\s*(\d+)", line.strip())
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
    words = np.empty((number, n), np.int32)
    weights, row = np.zeros((number, 2), np.float64), 0
    if n == 1:
        lines.heading = next((line.strip() for line in lines if line.strip()), "")
    if lines.heading != f"\\{n}-grams:":
        lines.fail(f"\\{n}-grams: should stand here; found {lines.heading[:60]!r}")
    lines.heading = ""
    for line in lines:
        if line.startswith("\\"):
            lines.heading = line.strip()
            break
        fields = line.split()
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


def _assemble(lines: _Lines, levels: list[tuple], vocabulary: dict[str, int]) -> NGramModel:
    """Number the words anew, special ones first, and sort each order by context and word."""
    for word in (BEGIN, END):
        if word not in vocabulary:
            raise ValueError(f"{lines.path} has no unigram {word}; a model of sentences needs it.")
    names = [*SPECIAL, *(word for word in vocabulary if word not in SPECIAL)]
    number = {word: new for new, word in enumerate(names)}
    renumber = np.array([number[word] for word in vocabulary], np.int32)
    size = len(names)
    unigrams = np.full((size, 2), NO_PROBABILITY * math.log(10))  # stays so for <unk> where the file has none
    unigrams[:, 1] = 0
    unigrams[renumber] = levels[0][1]
    sections = [(np.zeros(size, np.int64), np.arange(size), unigrams[:, 0], unigrams[:, 1])]
    keys = []  # of each order from bigrams on: parent * size + word, sorted
    for n, (words, weights) in enumerate(levels[1:], start=2):
        words = renumber[words]
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
        order = np.lexsort((words[:, -1], parents))
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
