"""The vocabulary of a beam search: a trie of the letters, or the phonemes, of its words.

Every node knows the best score that the beginning of a word which it stands for can still reach, so that the search compares
texts whose last word is unfinished with others. Words that sound alike share a node of a trie of phonemes; the language model
chooses among them as they end.
"""

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vuilab.alphabet import current
from vuilab.decoding.ngram import END, NGramModel, NGrams, characters_of, score_word
from vuilab.decoding.paths import NEVER
from vuilab.files import compiled
from vuilab.text import text_to_int_sequence

# a language model in which every word has probability 1
NO_MODEL = NGrams(
    np.array([-1, 0], np.int32),
    np.array([1, 2, 2], np.int32),
    np.zeros(2, np.float32),
    np.zeros(2, np.float32),
    np.zeros(2, np.int32),
)


class Words(NamedTuple):
    """A trie of words as compiled code reads it; arrays (num_nodes,) unless told otherwise, node 0 being the root."""

    use: bool  # whether there is anything to look up
    children: np.ndarray  # (num_nodes, num_symbols), -1: none
    word_of: np.ndarray  # number of the word that ends here, 0 of one that the language model lacks, -1: none
    same_sound: np.ndarray  # (num_words,) the next word that ends at the same node, or -1
    bonus_of: np.ndarray  # nats of the hot word that ends here
    best_of: np.ndarray  # the best score that a word which begins so can reach
    depth_of: np.ndarray  # symbols
    letter: float  # score of each symbol of a word that the vocabulary lacks
    unknown: float  # score of all such words together
    symbols: np.ndarray  # (num_symbols,) numbers in a model of characters; of words: (0,)
    begin_state: int  # of the language model
    end_word: int  # its number of the end of a sentence


class Weights(NamedTuple):
    """What the language counts, and which class ends a word."""

    alpha: float
    beta: float
    space: int


class Lexicon:
    """A trie of words with what a language model and hot words give each.

    Beginnings of no word are no nodes of the trie; the search writes -n for those of n symbols.

    Args:
        model: its vocabulary and unigrams; None: no language model.
        spellings: word -> the classes of its letters or phonemes, for all words of `model` and all hot words.
        num_symbols: classes of those, without the blank.
        alpha: weight of the language model.
        letter: score of each symbol of a word that the vocabulary lacks.
        bonus: word -> nats.
    """

    def __init__(
        self,
        model: NGramModel | None,
        spellings: Mapping[str, Sequence[int]],
        num_symbols: int,
        alpha: float,
        letter: float,
        bonus: Mapping[str, float],
    ):
        spelled = model is not None and model.of_characters
        numbers = {} if model is None or spelled else model.index
        children, self.parents, nodes, depth_of = _trie(spellings, num_symbols)
        word_of, bonus_of = np.full(len(self.parents), -1, np.int32), np.zeros(len(self.parents))
        same_sound = np.full(max(1, len(numbers)), -1, np.int32)
        self.unigrams = model.log_prob[1 : 1 + len(model.words)].astype(np.float64) if numbers else np.zeros(1)
        self.likeliest = np.full(len(self.parents), NEVER)  # ln p of the most probable word that ends at a node
        for word, node in zip(spellings, nodes, strict=True):
            number = numbers.get(word, 0)
            if number and word_of[node] > 0:
                same_sound[number] = word_of[node]
            word_of[node] = number or word_of[node].clip(0)
            bonus_of[node] = max(bonus.get(word, 0.0), bonus_of[node])
            self.likeliest[node] = max(self.likeliest[node], self.unigrams[number])
        self.ngrams = NO_MODEL if model is None else model.ngrams
        # the number that a model of characters has for each class
        symbols = np.array([model.word_id(token) for token in characters_of(current())] if spelled else [], np.int32)
        ends = (0, 0) if model is None else (model.begin_state, model.word_id(END))
        trie = (bool(spellings) or spelled, children, word_of, same_sound, bonus_of, np.zeros(0), depth_of)
        self.words = self._weighed(Words(*trie, 0.0, 0.0, symbols, *ends), alpha, letter)

    def weighted(self, alpha: float, letter: float) -> "Lexicon":
        """Return the same words under another weight of the language model, and score of letters outside the vocabulary."""
        other = copy.copy(self)
        other.words = self._weighed(self.words, alpha, letter)
        return other

    def _weighed(self, words: Words, alpha: float, letter: float) -> Words:
        unknown, ends = alpha * float(self.unigrams[0]), words.word_of >= 0
        best = np.full(len(self.parents), NEVER)
        best[ends] = alpha * self.likeliest[ends] + words.bonus_of[ends]
        # a beginning may also become a word outside; without a model any such word is as good as none
        best = np.maximum(_reachable(best, self.parents), unknown + letter * words.depth_of)
        return words._replace(best_of=best, letter=float(letter), unknown=unknown)


def in_letters(
    model: NGramModel | None, hot_words: Mapping[str, float], alpha: float, letter_log_prob: float
) -> Lexicon:
    """Return the vocabulary in letters; other words may come up too, letter by letter.

    Args:
        model, alpha: language model or None, and its weight.
        hot_words: word -> bonus in nats; words outside the vocabulary are allowed.
        letter_log_prob: ln p of each letter of a word that the vocabulary lacks.

    Raises:
        ValueError: for hot words outside the alphabet.
    """
    for word in hot_words:
        if not word or " " in word:
            raise ValueError(f"A hot word is one word; pass the words of a phrase one by one. Received: {word!r}")
    spellings = {word: text_to_int_sequence(word) for word in (*vocabulary(model), *hot_words)}
    letter = 0.0 if model is None or model.of_characters else alpha * letter_log_prob
    return Lexicon(model, spellings, len(current()), alpha, letter, hot_words)


def vocabulary(model: NGramModel | None) -> list[str]:
    """Return the words that a language model knows, without its special ones; none without a model or of characters."""
    if model is None or model.of_characters:
        return []
    return [word for word, number in model.index.items() if number > 2]


def _trie(
    spellings: Mapping[str, Sequence[int]], num_symbols: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (children (num_nodes, num_symbols), parent of each node, node of each word, depth of each node)."""
    lengths = np.array([len(symbols) for symbols in spellings.values()], np.int64)
    symbols = np.fromiter(itertools.chain.from_iterable(spellings.values()), np.int64, lengths.sum())
    return _grown(symbols, lengths, num_symbols)


@compiled()
def _grown(symbols, lengths, num_symbols):
    children = np.full((len(symbols) + 1, num_symbols), -1, np.int32)
    parents, depths = np.zeros(len(symbols) + 1, np.int32), np.zeros(len(symbols) + 1, np.int32)
    nodes, count, place = np.zeros(len(lengths), np.int32), 1, 0
    for word in range(len(lengths)):
        node = 0
        for symbol in symbols[place : place + lengths[word]]:
            if children[node, symbol] < 0:
                children[node, symbol], parents[count], depths[count] = count, node, depths[node] + 1
                count += 1
            node = children[node, symbol]
        nodes[word], place = node, place + lengths[word]
    return children[:count].copy(), parents[:count].copy(), nodes, depths[:count].copy()


@compiled()
def _reachable(best, parents):
    """Return for each node the highest value of itself and all nodes below it."""
    for node in range(len(parents) - 1, 0, -1):  # children come after their parents
        best[parents[node]] = max(best[parents[node]], best[node])
    return best


@compiled()
def begin_word(trie, char, beta, words):
    """Return where a word stands with one letter more, and the best score that it can reach."""
    after = words.children[trie, char] if trie >= 0 and char < words.children.shape[1] else -1
    if after < 0:
        after = -(1 + (words.depth_of[trie] if trie >= 0 else -trie))
    return after, beta + (words.best_of[after] if after >= 0 else words.unknown - words.letter * after)


@compiled()
def end_word(state, trie, weights, words, ngrams):
    """Return (what the language adds when a word ends, next state); of words that sound alike the most probable one ends."""
    if len(words.symbols):
        return weights.beta + (words.bonus_of[trie] if trie >= 0 else 0.0), state
    word_id = 0
    if trie >= 0 and words.word_of[trie] >= 0:
        word_id = words.word_of[trie]
        extra = words.bonus_of[trie]  # a hot word may be outside the vocabulary too, but its spelling is known
    else:
        extra = words.letter * (words.depth_of[trie] if trie >= 0 else -trie)
    value, after = score_word(state, word_id, ngrams)
    other = words.same_sound[word_id]
    while other >= 0:
        another, then = score_word(state, other, ngrams)
        if another > value:
            value, after = another, then
        other = words.same_sound[other]
    return weights.alpha * value + weights.beta + extra, after
