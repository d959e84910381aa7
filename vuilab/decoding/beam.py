"""CTC prefix beam search with an n-gram model of words or characters.

Many frame-by-frame paths read as the same text. The search (Graves and Jaitly, ICML 2014; Hannun et al., arXiv:1408.2873) keeps
the most promising texts and, for each, the probability of its paths that end in a blank and of those that do not. A text
is ranked by

    ln p(text | audio) + alpha ln p(words) + beta (number of words) + bonuses of hot words

where the second term comes from a language model, word by word as words end. A word that has only begun is ranked by the best
word that it can become, so that texts of unequal state are compared fairly; that guess is replaced when the word ends. A model of
characters speaks with each of them, and knows no vocabulary.
"""

import concurrent.futures
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vuilab.alphabet import ALPHABET
from vuilab.decoding.lexicon import Lexicon, Weights, begin_word, end_word, in_letters
from vuilab.decoding.ngram import NGramModel, score_word
from vuilab.decoding.paths import NEVER, log_add, log_probabilities, text_log_probs
from vuilab.decoding.settings import BeamSettings
from vuilab.files import compiled
from vuilab.text import int_sequence_to_text, text_to_int_sequence

SPACE = ALPHABET.index(" ")
RESCORED = 16  # texts whose probability is summed over all paths at the end
RESCORE_MARGIN = 6.0  # nats; not for texts that far behind the best


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """A text with its score."""

    text: str
    score: float  # acoustic + language
    acoustic: float  # ln p(text | audio), for the best texts over all paths, else over those that the search kept
    language: float  # alpha ln p(words) + beta (number of words) + bonuses


class BeamDecoder:
    """Decodes probabilities with a beam search; one decoder serves many utterances, also from several threads.

    Args:
        language_model, settings: of the search; without a model the acoustic probabilities count alone.
        hot_words: word -> bonus in nats, for names and terms that are likely here; words outside the vocabulary are allowed.

    Raises:
        ValueError: for hot words outside the alphabet.
    """

    def __init__(
        self,
        language_model: NGramModel | None = None,
        settings: BeamSettings | None = None,
        hot_words: Mapping[str, float] | None = None,
    ):
        self.language_model = language_model
        self.settings = settings or BeamSettings()
        weights = self.settings.alpha, self.settings.letter_log_prob
        self.lexicon = in_letters(language_model, dict(hot_words or {}), *weights)

    def decode(self, probabilities: np.ndarray, n_best: int = 1) -> list[Hypothesis]:
        """Return the best texts of one utterance, best first.

        Args:
            probabilities: (num_output_frames, num_classes); the blank is the last class.
            n_best: how many texts at most.

        Raises:
            ValueError: when the probabilities are no finite matrix, or `n_best` is under 1.
        """
        if n_best < 1:
            raise ValueError(f"n_best must be at least 1. Received: n_best={n_best}")
        log_probs = log_probabilities(probabilities)
        if not len(log_probs):
            return [Hypothesis("", 0.0, 0.0, 0.0)]
        settings = self.settings if self.language_model else dataclasses.replace(self.settings, beta=0.0)
        return _ranked(log_probs, *beams(log_probs, settings, self.lexicon, SPACE))[:n_best]

    def decode_batch(self, batch: Sequence[np.ndarray], n_best: int = 1) -> list[list[Hypothesis]]:
        """Decode the probabilities of several utterances in parallel; each comes out as it would alone.

        The search releases Python's lock.
        """
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return list(pool.map(lambda rows: self.decode(rows, n_best=n_best), batch))


def beams(
    log_probs: np.ndarray, settings: BeamSettings, lexicon: Lexicon, space: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return the texts of the last beam: (classes of each, acoustic scores (num,), language scores (num,)).

    Args:
        log_probs: (num_output_frames, num_classes) of one utterance, the blank being the last class.
        settings, lexicon: of the search; of words in these classes.
        space: the class between words.
    """
    limits = Limits(
        settings.beam_width,
        float(min(settings.token_margin, -2 * NEVER)),
        float(min(settings.score_margin, -2 * NEVER)),
        math.log(settings.blank_skip) if settings.blank_skip < 1 else math.inf,
    )
    weights = Weights(float(settings.alpha), float(settings.beta), space)
    texts, lengths, acoustic, language = search(log_probs, limits, weights, lexicon.words, lexicon.ngrams)
    return [row[:length] for row, length in zip(texts, lengths, strict=True)], acoustic, language


def _ranked(log_probs, texts, acoustic, language) -> list[Hypothesis]:
    """Return the texts of the last beam, best first, the first of them with the probability of all their paths.

    The search loses paths of texts that were out of the beam for a while; how many depends on the text, so that the best are
    compared by the full sum.
    """
    order = np.argsort(-(acoustic + language), kind="stable")
    rows: dict[str, int] = {}  # a text with and without a space at its end is one
    for row in order:
        rows.setdefault(int_sequence_to_text(texts[row].tolist()).rstrip(" "), row)
    paths, words = acoustic[list(rows.values())].astype(np.float64), language[list(rows.values())].astype(np.float64)
    near = np.flatnonzero(paths + words > paths[0] + words[0] - RESCORE_MARGIN)[:RESCORED]
    spelled = list(rows)
    paths[near] = text_log_probs(log_probs, [text_to_int_sequence(spelled[row]) for row in near], SPACE)
    scores = zip(spelled, (paths + words).tolist(), paths.tolist(), words.tolist(), strict=True)
    return sorted((Hypothesis(*row) for row in scores), key=lambda item: -item.score)


# ------------------------------------------------------------------------------------------------- the search


class Limits(NamedTuple):
    """What the search leaves out, in nats; see `BeamSettings`."""

    beam_width: int
    token_margin: float
    score_margin: float
    blank_skip: float  # ln p of a blank, from which a frame only moves paths to "ends in a blank"


class Nodes(NamedTuple):
    """Each text that ever stood in the beam, as what it has more than its parent; arrays (capacity,), text 0 is empty."""

    parent: np.ndarray
    last: np.ndarray  # class, -1 of the empty text
    state: np.ndarray  # of the language model after its last whole word
    trie: np.ndarray  # where its unfinished word stands
    settled: np.ndarray  # language score of its whole words
    guess: np.ndarray  # of its unfinished word
    longer: np.ndarray  # (capacity, num_classes) the text with one class more, or -1
    slot: np.ndarray  # place in the beam, or -1


class Beam(NamedTuple):
    """The texts that are kept; arrays (beam_width,)."""

    node: np.ndarray
    with_blank: np.ndarray  # ln p of the paths that end in a blank
    without: np.ndarray  # ln p of the others


class Candidates(NamedTuple):
    """The texts of a frame: those of the beam in their order, then their extensions by a class; arrays (most,)."""

    node: np.ndarray
    char: np.ndarray  # class that is added, -1: none
    state: np.ndarray
    trie: np.ndarray
    with_blank: np.ndarray
    without: np.ndarray
    score: np.ndarray
    settled: np.ndarray
    guess: np.ndarray


@compiled(nogil=True)
def search(log_probs, limits, weights, words, ngrams):
    """Search one utterance; see `BeamDecoder.decode` for what goes in.

    Returns:
        texts (num, longest), lengths (num,), acoustic (num,) and language (num,) scores of the texts in the last beam.
    """
    num_frames, num_classes = log_probs.shape
    blank, width = num_classes - 1, limits.beam_width
    capacity, most = num_frames * width + 1, width * (num_classes + 1)
    whole, real = np.zeros((4, capacity), np.int32), np.zeros((2, capacity))
    longer, slot = np.full((capacity, num_classes), -1, np.int32), np.full(capacity, -1, np.int32)
    nodes = Nodes(whole[0], whole[1], whole[2], whole[3], real[0], real[1], longer, slot)
    nodes.parent[0], nodes.last[0], nodes.state[0], nodes.slot[0] = -1, -1, words.begin_state, 0
    beam = Beam(np.zeros(width, np.int32), np.full(width, NEVER), np.full(width, NEVER))
    beam.with_blank[0] = 0.0
    size = num_nodes = np.int64(1)  # as `_prune` returns them, else numba compiles what takes them twice
    some, more = np.empty((4, most), np.int32), np.empty((5, most))
    candidates = Candidates(some[0], some[1], some[2], some[3], more[0], more[1], more[2], more[3], more[4])
    for t in range(num_frames):
        frame = log_probs[t]
        if frame[blank] > limits.blank_skip:
            for i in range(size):
                beam.with_blank[i] = log_add(beam.with_blank[i], beam.without[i]) + frame[blank]
                beam.without[i] = NEVER
            continue
        count = _extend(frame, frame.max() - limits.token_margin, weights.space, nodes, beam, size, candidates)
        best = _score(count, weights, words, ngrams, nodes, candidates)
        for i in range(size):
            nodes.slot[beam.node[i]] = -1
        size, num_nodes = _prune(count, best - limits.score_margin, num_nodes, nodes, beam, candidates)
    acoustic, language = _scores_at_the_end(size, weights, words, ngrams, nodes, beam)
    texts, lengths = _backtrace(beam.node[:size], nodes)
    return texts, lengths, acoustic, language


@compiled()
def _extend(frame, limit, space, nodes, beam, size, candidates):
    """Write the acoustic side of the candidates: each text again, and with every class above the limit; return their number."""
    blank = len(frame) - 1
    for i in range(size):  # the same texts again
        node = beam.node[i]
        last = nodes.last[node]
        candidates.node[i], candidates.char[i] = node, -1
        total = log_add(beam.with_blank[i], beam.without[i])
        if last < 0 or last == space:  # more spaces do not change what is read
            candidates.with_blank[i] = total + log_add(frame[blank], frame[space])
            candidates.without[i] = NEVER
            continue
        candidates.with_blank[i] = total + frame[blank]
        candidates.without[i] = beam.without[i] + frame[last]
    count = size
    for i in range(size):  # and one character more
        node = beam.node[i]
        last = nodes.last[node]
        total = log_add(beam.with_blank[i], beam.without[i])
        for char in range(blank):
            if frame[char] < limit or (char == space and (last < 0 or last == space)):
                continue
            value = frame[char] + (beam.with_blank[i] if char == last else total)
            longer = nodes.longer[node, char]
            if longer >= 0 and nodes.slot[longer] >= 0:
                place = nodes.slot[longer]
                candidates.without[place] = log_add(candidates.without[place], value)
                continue
            candidates.node[count], candidates.char[count] = node, char
            candidates.with_blank[count], candidates.without[count] = NEVER, value
            count += 1
    return count


@compiled()
def _score(count, weights, words, ngrams, nodes, candidates):
    """Write the language side and the score of each candidate; return the highest score."""
    best = NEVER
    for k in range(count):
        node, char = candidates.node[k], candidates.char[k]
        state, trie = nodes.state[node], nodes.trie[node]
        settled, guess = nodes.settled[node], nodes.guess[node]
        if char >= 0:
            guess = 0.0
            if words.use:
                if char == weights.space:
                    gain, state = end_word(state, trie, weights, words, ngrams)
                    settled += gain
                    trie = 0
                else:
                    trie, guess = begin_word(trie, char, weights.beta, words)
                if char < len(words.symbols):
                    value, state = score_word(nodes.state[node], words.symbols[char], ngrams)
                    settled += weights.alpha * value
        candidates.state[k], candidates.trie[k] = state, trie
        candidates.settled[k], candidates.guess[k] = settled, guess
        candidates.score[k] = log_add(candidates.with_blank[k], candidates.without[k]) + settled + guess
        if candidates.score[k] > best:
            best = candidates.score[k]
    return best


@compiled()
def _prune(count, threshold, num_nodes, nodes, beam, candidates):
    """Fill the beam with the best candidates not below the threshold; return its size and the number of texts there are."""
    width = len(beam.node)
    if count > width:
        threshold = max(threshold, _kth_largest(candidates.score[:count], width))
    size = 0
    for k in range(count):
        if candidates.score[k] < threshold or size == width:
            continue
        node, char = candidates.node[k], candidates.char[k]
        if char >= 0:
            longer = nodes.longer[node, char]
            if longer < 0:
                longer = num_nodes
                num_nodes += 1
                nodes.longer[node, char] = longer
                nodes.parent[longer], nodes.last[longer] = node, char
                nodes.state[longer], nodes.trie[longer] = candidates.state[k], candidates.trie[k]
                nodes.settled[longer], nodes.guess[longer] = candidates.settled[k], candidates.guess[k]
            node = longer
        beam.node[size] = node
        beam.with_blank[size], beam.without[size] = candidates.with_blank[k], candidates.without[k]
        nodes.slot[node] = size
        size += 1
    return size, num_nodes


@compiled()
def _kth_largest(values, k):
    """Return the k-th largest value (Hoare's FIND; numba takes eight seconds to compile `np.partition`)."""
    values = values.copy()
    low, high, place = 0, len(values) - 1, len(values) - k
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if place <= right:
            high = right
        elif place >= left:
            low = left
        else:
            break
    return values[place]


@compiled()
def _scores_at_the_end(size, weights, words, ngrams, nodes, beam):
    """Return acoustic and language scores (size,) of the texts, their last words ended."""
    acoustic, language = np.empty(size), np.empty(size)
    for i in range(size):
        node = beam.node[i]
        acoustic[i] = log_add(beam.with_blank[i], beam.without[i])
        if len(words.symbols) and nodes.last[node] == weights.space:
            node = nodes.parent[node]  # a space at the end is not read
        language[i] = nodes.settled[node]
        if words.use:
            state = nodes.state[node]
            if nodes.last[node] != weights.space and nodes.last[node] >= 0:
                gain, state = end_word(state, nodes.trie[node], weights, words, ngrams)
                language[i] += gain
            value, state = score_word(state, words.end_word, ngrams)
            language[i] += weights.alpha * value
    return acoustic, language


@compiled()
def _backtrace(ends, nodes):
    """Return the classes of texts (num, longest), filled up with -1, and their lengths (num,)."""
    lengths = np.zeros(len(ends), np.int32)
    for i in range(len(ends)):
        node = ends[i]
        while node > 0:
            lengths[i] += 1
            node = nodes.parent[node]
    texts = np.full((len(ends), max(1, lengths.max())), -1, np.int32)
    for i in range(len(ends)):
        node, place = ends[i], lengths[i]
        while node > 0:
            place -= 1
            texts[i, place] = nodes.last[node]
            node = nodes.parent[node]
    return texts, lengths
