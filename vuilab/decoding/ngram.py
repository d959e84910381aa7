"""N-gram models of words or characters: a trie in flat arrays, and looking up probabilities in it.

A model gives the probability of a word after the words before it, from n-grams up to an order. Where an n-gram was not seen
the model backs off: it drops the oldest word and pays the context's backoff weight (Katz, 1987). In a model of characters these
stand in the place of words, with `<space>` between those that people call words.

The n-grams are a trie in flat arrays, level by level: node 0 is the empty context, then come all unigrams in the order of the
vocabulary, then all bigrams sorted by context and word, and so on. The children of a node are neighbours, so a binary search
finds one, and 20 bytes hold an n-gram.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vuilab.files import compiled

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPECIAL = (UNKNOWN, BEGIN, END)  # words 0, 1 and 2
MAX_ORDER = 10
LETTER_SPACE = "<space>"  # in models of characters
NO_PROBABILITY = -99.0  # base 10, what ARPA files give <s>
WINDOW = 6  # words whose order tells a text
SKETCH = 2**18  # windows that a model keeps, those with the smallest hashes: 2 MB


class NGrams(NamedTuple):
    """The trie as compiled code reads it; see `NGramModel`."""

    word: np.ndarray
    first_child: np.ndarray
    log_prob: np.ndarray
    backoff: np.ndarray
    suffix: np.ndarray


@dataclasses.dataclass(frozen=True)
class NGramModel:
    """A backoff n-gram model."""

    order: int  # words, or characters, of the longest n-gram
    words: list[str]  # the vocabulary; the first three are <unk>, <s> and </s>
    level_starts: np.ndarray  # (order + 2,) first node of each level; level n holds the n-grams of n words; and the end
    word: np.ndarray  # (num_nodes,) last word of each n-gram
    first_child: np.ndarray  # (num_nodes + 1,) where the children of each node begin
    log_prob: np.ndarray  # (num_nodes,) natural logarithm of the probability of the last word after the others
    backoff: np.ndarray  # (num_nodes,) natural logarithm of the weight for words that do not follow this n-gram
    suffix: np.ndarray  # (num_nodes,) node of the longest n-gram that remains when first words are dropped
    # sorted hashes of the sentences that the model was made from; empty for foreign models
    sentence_hashes: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.uint64))
    # and the smallest hashes of what stands in that text, `WINDOW` words at a time, however it was cut into sentences
    window_hashes: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.uint64))

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {word: number for number, word in enumerate(self.words)})

    @property
    def num_ngrams(self) -> list[int]:
        """N-grams of each order, from unigrams."""
        return np.diff(self.level_starts)[1:].tolist()

    @property
    def of_characters(self) -> bool:
        """Whether its n-grams are of characters."""
        return LETTER_SPACE in self.index

    @property
    def begin_state(self) -> int:
        """The state at the beginning of a sentence."""
        return 1 + SPECIAL.index(BEGIN) if self.order > 1 else 0

    @property
    def ngrams(self) -> NGrams:
        """What `score_word` needs."""
        return NGrams(self.word, self.first_child, self.log_prob, self.backoff, self.suffix)

    def word_id(self, word: str) -> int:
        """Return the number of a word; 0 for words outside the vocabulary."""
        return self.index.get(word, 0)

    def score(self, word: str, state: int) -> tuple[float, int]:
        """Return (natural log probability of a word in a state, next state)."""
        return score_word(state, self.word_id(word), self.ngrams)

    def tokens(self, sentence: str) -> list[str]:
        """Return the words of a sentence, or its characters where the model is of characters."""
        return characters_of(sentence) if self.of_characters else sentence.split()

    def sentence_scores(self, sentence: str) -> list[float]:
        """Return the natural log probability of each word, or character, of a sentence and of its end."""
        state, scores = self.begin_state, []
        for token in [*self.tokens(sentence), END]:
            score, state = self.score(token, state)
            scores.append(score)
        return scores

    def perplexity(self, sentences: Iterable[str]) -> "Perplexity":
        """Measure how well the model predicts sentences; per word also where the model is of characters.

        Raises:
            ValueError: when there is no sentence with a word.
        """
        total = known = 0.0
        num_words = num_unknown = num_sentences = 0
        for sentence in sentences:
            words = sentence.split()
            if not words:
                continue
            scores = self.sentence_scores(sentence)
            unknown = [self.word_id(token) == 0 for token in self.tokens(sentence)]
            num_sentences += 1
            num_words += len(words)
            num_unknown += sum(unknown)
            total += sum(scores)
            known += sum(score for score, flag in zip(scores, [*unknown, False], strict=True) if not flag)
        if not num_words:
            raise ValueError("There is no sentence to measure a language model on. Expected text, one sentence a line.")
        events = num_words + num_sentences
        return Perplexity(
            num_sentences,
            num_words,
            num_unknown,
            math.exp(-total / events),
            math.exp(-known / max(1, events - num_unknown)),
        )

    def overlap(self, sentences: Iterable[str], min_words: int = WINDOW) -> float:
        """Return the share of sentences of `min_words` words, or of their runs of `WINDOW` words, that the model's text holds.

        Runs of words are found however the text was cut; of a long text and the sentences the same part of the runs is compared.
        """
        chosen = [words for words in map(str.split, sentences) if len(words) >= min_words]
        windows = np.concatenate([np.empty(0, np.uint64), *(hash_windows(words) for words in chosen)])
        if len(self.window_hashes) == SKETCH:
            windows = windows[windows <= self.window_hashes[-1]]
        pairs = (hash_sentences(map(" ".join, chosen)), self.sentence_hashes), (windows, self.window_hashes)
        return max(float(np.isin(asked, known).mean()) if len(asked) else 0.0 for asked, known in pairs)


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """How well a model predicts text."""

    num_sentences: int
    num_words: int
    num_unknown: int
    perplexity: float  # with unknown words, and sentence ends as events
    known_perplexity: float  # without unknown words

    def __str__(self) -> str:
        return (
            f"{self.num_sentences:,} sentences, {self.num_words:,} words, {self.num_unknown:,} unknown "
            f"({100 * self.num_unknown / self.num_words:.1f} %); perplexity {self.perplexity:.1f}, without unknown words "
            f"{self.known_perplexity:.1f}"
        )


def characters_of(sentence: str) -> list[str]:
    """Return the characters of a sentence as models of characters have them.

    Example:
        >>> characters_of("oh no")
        ['o', 'h', '<space>', 'n', 'o']
    """
    return [LETTER_SPACE if character == " " else character for character in " ".join(sentence.split())]


def hash_sentences(sentences: Iterable[str]) -> np.ndarray:
    """Return a 64-bit hash of each sentence, uint64."""
    digests = [hashlib.blake2b(" ".join(s.split()).encode(), digest_size=8).digest() for s in sentences]
    return np.frombuffer(b"".join(digests), np.uint64)


def hash_windows(words: Iterable[str]) -> np.ndarray:
    """Return a 64-bit hash of each `WINDOW` words that follow each other, (num_words - WINDOW + 1,) or nothing, uint64."""
    numbers: dict[str, int] = {}
    places = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.int64)
    hashes = hash_sentences(numbers)[places]
    length = max(0, len(places) - WINDOW + 1)
    found = np.zeros(length, np.uint64)
    for start in range(WINDOW if length else 0):
        found = found * np.uint64(0x9E3779B97F4A7C15) + hashes[start : start + length]
    return found


@compiled()
def find_child(node, word_id, word, first_child):
    """Return the child of a node with this last word, or -1."""
    low, high = first_child[node], first_child[node + 1]
    while low < high:
        middle = (low + high) // 2
        if word[middle] < word_id:
            low = middle + 1
        else:
            high = middle
    if low < first_child[node + 1] and word[low] == word_id:
        return low
    return -1


@compiled()
def score_word(state, word_id, ngrams):
    """Return (natural log probability of a word after a context, the next context).

    Every model has all unigrams, so that the search ends at the empty context. A context, `state`, is a node.
    """
    total = 0.0
    child = find_child(state, word_id, ngrams.word, ngrams.first_child)
    while child < 0:
        total += ngrams.backoff[state]
        state = ngrams.suffix[state]
        child = find_child(state, word_id, ngrams.word, ngrams.first_child)
    total += ngrams.log_prob[child]
    while child > 0 and ngrams.first_child[child] == ngrams.first_child[child + 1] and ngrams.backoff[child] == 0:
        child = ngrams.suffix[child]  # nothing follows it: the shorter context says the same
    return total, child


def build_model(
    order: int,
    words: Sequence[str],
    levels: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    sentence_hashes: np.ndarray | None = None,
) -> NGramModel:
    """Put the n-grams of all orders into a trie.

    Args:
        order, words, sentence_hashes: see `NGramModel`.
        levels: for each order n (parents, words, log_prob, backoff): `parents` are positions within the level before (0 for
            unigrams), sorted by (parent, word). The unigrams are all words in order.
    """
    sizes = [1, *(len(level[1]) for level in levels)]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    word = np.concatenate([[-1], *(level[1] for level in levels)]).astype(np.int32)
    parent = np.concatenate([[0], *(level[0] + starts[n] for n, level in enumerate(levels))]).astype(np.int64)
    first_child = np.searchsorted(parent[1:], np.arange(len(word) + 1), side="left") + 1
    suffix = np.zeros(len(word), np.int32)
    keys = parent * len(words) + word
    keys[0] = -1
    for n in range(2, order + 1):  # unigrams end at the empty context
        nodes = np.arange(starts[n], starts[n + 1])
        context = suffix[parent[nodes]]
        found = np.full(len(nodes), -1, np.int64)
        while (found < 0).any():  # a suffix that was pruned is passed over
            wanted = context.astype(np.int64) * len(words) + word[nodes]
            position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            hit = (found < 0) & (keys[position] == wanted)
            found[hit] = position[hit]
            context = np.where(found < 0, suffix[context], context)
        suffix[nodes] = found
    return NGramModel(
        order=order,
        words=list(words),
        level_starts=starts,
        word=word,
        first_child=first_child.astype(np.int32),
        log_prob=np.concatenate([[0], *(level[2] for level in levels)]).astype(np.float32),
        backoff=np.concatenate([[0], *(level[3] for level in levels)]).astype(np.float32),
        suffix=suffix,
        sentence_hashes=np.empty(0, np.uint64) if sentence_hashes is None else np.unique(sentence_hashes),
    )
