"""Training n-gram models from text: modified Kneser-Ney smoothing (Chen and Goodman, 1999), interpolated.

A count says how often an n-gram was seen; below the highest order it says how many different words were seen before it, which is
what matters once the longer n-gram is unknown ("Francisco" is frequent, but follows one word only). From every count a
discount is taken, more from larger counts up to 3, and given to what the context has not seen, in proportion to the next
lower order.
The unigrams share theirs with a uniform distribution over the vocabulary, as KenLM does (Heafield et al., ACL 2013).
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from vuilab.alphabet import current
from vuilab.decoding.ngram import (
    BEGIN,
    END,
    LETTER_SPACE,
    MAX_ORDER,
    NO_PROBABILITY,
    SKETCH,
    SPECIAL,
    NGramModel,
    build_model,
    characters_of,
    hash_sentences,
    hash_windows,
)
from vuilab.text import invalid_characters

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # where the text is too small to estimate them
BEGIN_ID, END_ID = SPECIAL.index(BEGIN), SPECIAL.index(END)


@dataclasses.dataclass
class _Level:
    """All n-grams of one order, sorted by context and last word."""

    parent: np.ndarray  # position of the context within the order below
    word: np.ndarray  # last word
    count: np.ndarray  # how often it was seen
    suffix: np.ndarray  # position within the order below of the n-gram without its first word
    from_begin: np.ndarray  # whether its first word is <s>


def train_ngram(
    sentences: Iterable[str],
    order: int = 3,
    prune: Sequence[int] = (),
    min_count: int = 1,
    max_words: int | None = None,
    characters: bool = False,
) -> NGramModel:
    """Make a model from sentences.

    Args:
        sentences: texts of words separated by spaces, in the alphabet.
        order: words, or characters, of the longest n-gram, 1 to 10.
        prune: n-grams seen at most so often are left out: one number for each order, not falling; shorter sequences are
            continued with their last number. (0, 0, 1) leaves out trigrams seen once.
        min_count: rarer words become <unk>.
        max_words: keep only so many of the most frequent words.
        characters: make a model of characters: it knows any word, and no word as such.

    Raises:
        ValueError: for arguments out of range, text outside the alphabet, or no text.
    """
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order must be in 1..{MAX_ORDER}. Received: order={order}")
    thresholds = [*prune, *[prune[-1] if prune else 0] * (order - len(prune))][:order]
    if any(low < 0 for low in thresholds) or sorted(thresholds) != thresholds or thresholds[0] > 0:
        raise ValueError(
            f"prune holds a 0 for unigrams and then numbers that do not fall. Received: prune={tuple(prune)}"
        )
    texts = [words for words in (sentence.split() for sentence in sentences) if words]
    if not texts:
        raise ValueError("There is no text to make a language model from. Expected sentences, one a line.")
    parts = [characters_of(" ".join(text)) for text in texts] if characters else texts
    words, tokens, position = _number_words(parts, min_count, max_words)
    levels = _count(tokens, position, len(words), order)
    hashes = hash_sentences(" ".join(text) for text in texts)
    model = build_model(order, words, _estimate(levels, thresholds, len(words)), hashes)
    windows = np.unique(hash_windows(itertools.chain.from_iterable(texts)))[:SKETCH]
    return dataclasses.replace(model, window_hashes=windows)


def _number_words(
    texts: list[list[str]], min_count: int, max_words: int | None
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return (vocabulary, all words of all sentences as numbers, position of each within its sentence)."""
    flat = np.array([word for text in texts for word in text])
    found, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
    wrong = invalid_characters("".join(word for word in found if word != LETTER_SPACE))
    if wrong:
        example = next(word for word in found if set(wrong) & set(word))
        raise ValueError(
            f"The text holds characters outside the alphabet: {wrong[:8]} (in {str(example)!r}). "
            f"Write it in lower case with the letters {current()[2:]}, apostrophe and space; numbers as words."
        )
    kept = counts >= min_count
    if max_words is not None and kept.sum() > max_words:
        rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
        kept &= rank < max_words
    number = np.where(kept, np.cumsum(kept) + len(SPECIAL) - 1, 0)
    lengths = np.array([len(text) for text in texts])
    starts = np.concatenate([[0], np.cumsum(lengths + 2)[:-1]])
    tokens = np.full(int((lengths + 2).sum()), -1, np.int64)
    tokens[starts] = BEGIN_ID
    tokens[starts + lengths + 1] = END_ID
    tokens[tokens < 0] = number[inverse]
    position = np.arange(len(tokens)) - np.repeat(starts, lengths + 2)
    return [*SPECIAL, *found[kept].tolist()], tokens, position


def _count(tokens: np.ndarray, position: np.ndarray, num_words: int, order: int) -> list[_Level]:
    """Count the n-grams of every order; those of order n end at places at least n - 1 words into a sentence."""
    zeros = np.zeros(num_words, np.int64)
    unigram_counts = np.bincount(tokens, minlength=num_words)
    levels = [_Level(zeros, np.arange(num_words), unigram_counts, zeros, np.arange(num_words) == BEGIN_ID)]
    number = tokens  # of the n-gram that ends at each place
    for n in range(2, order + 1):
        ends = np.flatnonzero(position >= n - 1)
        keys, first, inverse, counts = np.unique(
            number[ends - 1] * num_words + tokens[ends], return_index=True, return_inverse=True, return_counts=True
        )
        parent = keys // num_words
        levels.append(_Level(parent, keys % num_words, counts, number[ends[first]], levels[-1].from_begin[parent]))
        number = np.full(len(tokens), -1, np.int64)
        number[ends] = inverse
    return levels


def _adjusted_counts(levels: list[_Level]) -> list[np.ndarray]:
    """Return the counts that Kneser-Ney uses: below the highest order, how many words were seen before an n-gram.

    Nothing stands before <s>, so n-grams that begin with it keep their counts.
    """
    lower = (
        np.where(level.from_begin, level.count, np.bincount(longer.suffix, minlength=len(level.word)))
        for level, longer in itertools.pairwise(levels)
    )
    adjusted = [counts.astype(np.float64) for counts in (*lower, levels[-1].count)]
    adjusted[0][BEGIN_ID] = 0  # is never predicted
    return adjusted


def discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """Estimate what is taken from adjusted counts of 1, 2, and 3 or more (Chen and Goodman 1999, equation 26).

    Where the text is too small to tell the discounts are fixed ones.
    """
    n1, n2, n3, n4 = (int(np.sum(counts == k)) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return FALLBACK_DISCOUNTS
    share = n1 / (n1 + 2 * n2)
    found = (1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3)
    if any(not 0 <= value <= k for k, value in enumerate(found, start=1)):
        return FALLBACK_DISCOUNTS
    return found


def _estimate(levels: list[_Level], thresholds: Sequence[int], num_words: int) -> list[tuple]:
    """Return (parents, words, log_prob, backoff) of every order for `build_model`, pruned, in natural logarithms."""
    lower = number = np.empty(0)  # of the order below: probabilities, and numbers after pruning
    kept_before = np.empty(0, bool)
    sections, backoffs = [], []
    for level, counts, threshold in zip(levels, _adjusted_counts(levels), thresholds, strict=True):
        taken = np.array([0.0, *discounts(counts)])[np.minimum(counts, 3).astype(int)]
        lowest = not sections
        kept = np.ones(len(counts), bool) if lowest else level.count > threshold
        num_contexts = 1 if lowest else len(lower)
        total = np.bincount(level.parent, counts, num_contexts)
        left_over = np.bincount(level.parent, np.where(kept, taken, counts), num_contexts)
        weight = np.divide(left_over, total, out=np.ones(num_contexts), where=total > 0)
        own = np.divide(counts - taken, total[level.parent], out=np.zeros(len(counts)), where=counts > 0)
        base = np.full(num_words, 1 / (num_words - 1)) if lowest else lower[level.suffix]
        probability = own + weight[level.parent] * base
        if lowest:
            probability[BEGIN_ID] = 10**NO_PROBABILITY
        else:
            backoffs.append(weight[kept_before])
        parent = level.parent if lowest else number[level.parent]
        sections.append((parent[kept], level.word[kept], np.log(probability[kept])))
        lower, kept_before, number = probability, kept, np.cumsum(kept) - 1
    backoffs.append(np.ones(len(sections[-1][0])))
    return [(*section, np.log(np.maximum(backoff, 1e-99))) for section, backoff in zip(sections, backoffs, strict=True)]
