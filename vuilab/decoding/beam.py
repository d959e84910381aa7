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

import numba
import numpy as np

from vuilab.alphabet import ALPHABET
from vuilab.decoding.lexicon import Lexicon, in_letters
from vuilab.decoding.ngram import NGramModel, score_word
from vuilab.decoding.paths import NEVER, log_add, text_log_probs
from vuilab.text import int_sequence_to_text, text_to_int_sequence

SPACE = ALPHABET.index(" ")
RESCORED = 16  # texts whose probability is summed over all paths at the end
RESCORE_MARGIN = 6.0  # nats; not for texts that far behind the best
ANY_LETTER = -math.log(len(ALPHABET))  # ln p where all are equally likely


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """A text with its score."""

    text: str
    score: float  # acoustic + language
    acoustic: float  # ln p(text | audio), for the best texts over all paths, else over those that the search kept
    language: float  # alpha ln p(words) + beta (number of words) + bonuses


@dataclasses.dataclass(frozen=True)
class BeamSettings:
    """How the search runs.

    Raises:
        ValueError: at construction, for values out of range.
    """

    beam_width: int = 100  # texts that are kept
    token_margin: float = 8.0  # nats; characters that much less probable than the frame's best are not tried
    score_margin: float = 14.0  # nats; texts that far behind the best are dropped
    blank_skip: float = 0.999  # a frame with a more probable blank only moves paths to "ends in a blank"
    alpha: float = 0.8  # weight of the language model
    beta: float = 1.0  # per word; longer texts have lower probability, which this balances
    # ln p of each letter of a word outside the vocabulary, for which <unk> is the probability of all such words together
    letter_log_prob: float = ANY_LETTER

    def __post_init__(self) -> None:
        if self.beam_width < 1:
            raise ValueError(f"beam_width must be at least 1. Received: beam_width={self.beam_width}")
        if self.token_margin <= 0 or self.score_margin <= 0:
            raise ValueError(f"Margins are positive nats. Received: {self.token_margin}, {self.score_margin}")
        if not 0 < self.blank_skip <= 1:
            raise ValueError(f"blank_skip is a probability in 0..1. Received: blank_skip={self.blank_skip}")
        if self.alpha < 0:
            raise ValueError(f"alpha is not negative. Received: alpha={self.alpha}")
        if not -math.inf < self.letter_log_prob <= 0:
            raise ValueError(f"ln p is finite and not above 0. Received: letter_log_prob={self.letter_log_prob}")

    def unpruned(self) -> "BeamSettings":
        """Return the same search without margins and skipping: slower, and the measure of what pruning costs."""
        return dataclasses.replace(self, token_margin=math.inf, score_margin=math.inf, blank_skip=1.0)


class BeamDecoder:
    """Decodes probabilities with a beam search; one decoder serves many utterances, also from several threads.

    Args:
        language_model: None: the acoustic probabilities alone.
        settings: of the search.
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
        self.lexicon = in_letters(
            language_model, dict(hot_words or {}), self.settings.alpha, self.settings.letter_log_prob
        )

    def decode(self, probabilities: np.ndarray, num_frames: int | None = None, n_best: int = 1) -> list[Hypothesis]:
        """Return the best texts of one utterance, best first.

        Args:
            probabilities: (num_output_frames, num_classes); the blank is the last class.
            num_frames: true frames, when the rest is padding.
            n_best: how many texts at most.

        Raises:
            ValueError: when the probabilities are no finite matrix, or `n_best` is under 1.
        """
        if n_best < 1:
            raise ValueError(f"n_best must be at least 1. Received: n_best={n_best}")
        log_probs = log_probabilities(np.asarray(probabilities)[:num_frames])
        if not len(log_probs):
            return [Hypothesis("", 0.0, 0.0, 0.0)]
        settings = self.settings if self.language_model else dataclasses.replace(self.settings, beta=0.0)
        return _ranked(log_probs, *beams(log_probs, settings, self.lexicon, SPACE))[:n_best]

    def decode_batch(
        self,
        batch: Sequence[np.ndarray],
        num_frames: Sequence[int] | None = None,
        n_best: int = 1,
        workers: int | None = None,
    ) -> list[list[Hypothesis]]:
        """Decode several utterances in parallel; each comes out as it would alone.

        Args:
            batch: probabilities of each utterance.
            num_frames: true frames of each.
            n_best: how many texts for each.
            workers: threads; None: one for each core. The search releases Python's lock.
        """
        frames = [None] * len(batch) if num_frames is None else [int(number) for number in num_frames]
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda pair: self.decode(*pair, n_best=n_best), zip(batch, frames, strict=True)))


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithms (num_output_frames, num_classes) that a search works on.

    Raises:
        ValueError: when the probabilities are no finite matrix.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or not np.isfinite(probabilities).all():
        raise ValueError(
            "Expected probabilities (num_output_frames, num_classes) without NaN. Received: shape "
            f"{probabilities.shape}. A model whose training diverged gives NaN; train it again with clipping."
        )
    return np.log(np.maximum(probabilities, 1e-37)).astype(np.float32)


def beams(
    log_probs: np.ndarray, settings: BeamSettings, lexicon: Lexicon, space: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return the texts of the last beam: (classes of each, acoustic scores (num,), language scores (num,)).

    Args:
        log_probs: (num_output_frames, num_classes) of one utterance, the blank being the last class.
        settings: of the search.
        lexicon: of words in these classes.
        space: the class between words.
    """
    texts, lengths, acoustic, language = search(
        log_probs,
        settings.beam_width,
        min(settings.token_margin, -2 * NEVER),
        min(settings.score_margin, -2 * NEVER),
        math.log(settings.blank_skip) if settings.blank_skip < 1 else math.inf,
        settings.alpha,
        settings.beta,
        space,
        lexicon.use,
        *lexicon.arrays,
        *lexicon.model_arrays,
    )
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
    found = [
        Hypothesis(text, float(p + w), float(p), float(w)) for text, p, w in zip(spelled, paths, words, strict=True)
    ]
    return sorted(found, key=lambda item: -item.score)


# ------------------------------------------------------------------------------------------------- the search


@numba.njit(cache=True)
def end_word(state, trie_node, alpha, beta, vocabulary, model):
    """Return (what the language adds when a word ends, next state); of words that sound alike the most probable one ends."""
    word_of, same_sound, bonus_of, depth_of, letter, symbols = vocabulary
    word, first_child, log_prob, backoff, suffix = model
    if len(symbols):
        return beta + (bonus_of[trie_node] if trie_node >= 0 else 0.0), state
    word_id = 0
    if trie_node >= 0 and word_of[trie_node] >= 0:
        word_id = word_of[trie_node]
        extra = bonus_of[trie_node]  # a hot word may be outside the vocabulary too, but its spelling is known
    else:
        extra = letter * (depth_of[trie_node] if trie_node >= 0 else -trie_node)
    value, after = score_word(state, word_id, word, first_child, log_prob, backoff, suffix)
    other = same_sound[word_id]
    while other >= 0:
        another, then = score_word(state, other, word, first_child, log_prob, backoff, suffix)
        if another > value:
            value, after = another, then
        other = same_sound[other]
    return alpha * value + beta + extra, after


@numba.njit(cache=True, nogil=True)
def search(
    log_probs, beam_width, token_margin, score_margin, blank_skip, alpha, beta, space, use_lexicon,
    children, word_of, same_sound, bonus_of, best_of, depth_of, letter, unknown, symbols,
    word, first_child, log_prob, backoff, suffix, begin_state, end_word_id,
):  # fmt: skip
    """Search one utterance; see `BeamDecoder.decode` for what goes in.

    Returns:
        texts (num, longest), lengths (num,), acoustic (num,) and language (num,) scores of the texts in the last beam.
    """
    num_frames, num_classes = log_probs.shape
    blank = num_classes - 1
    vocabulary = (word_of, same_sound, bonus_of, depth_of, letter, symbols)
    model = (word, first_child, log_prob, backoff, suffix)
    capacity = num_frames * beam_width + 1
    # of each text that ever stood in the beam
    parent = np.empty(capacity, np.int32)
    last = np.empty(capacity, np.int32)
    state = np.empty(capacity, np.int32)  # of the language model after its last whole word
    trie = np.empty(capacity, np.int32)  # where its unfinished word stands
    settled = np.empty(capacity, np.float64)  # language score of its whole words
    guess = np.empty(capacity, np.float64)  # of its unfinished word
    extension = np.full((capacity, num_classes), -1, np.int32)
    slot = np.full(capacity, -1, np.int32)  # place in the beam
    parent[0], last[0], state[0], trie[0], settled[0], guess[0] = -1, -1, begin_state, 0, 0.0, 0.0
    num_nodes = 1

    beam = np.zeros(beam_width, np.int32)
    with_blank = np.full(beam_width, NEVER)  # log probability of the paths that end in a blank
    without = np.full(beam_width, NEVER)
    with_blank[0] = 0.0
    slot[0] = 0
    size = 1
    most = beam_width * (num_classes + 1)
    c_node = np.empty(most, np.int32)  # candidates: a text of the beam, or its extension by a character
    c_char = np.empty(most, np.int32)
    c_blank = np.empty(most)
    c_without = np.empty(most)
    c_score = np.empty(most)
    c_state = np.empty(most, np.int32)
    c_trie = np.empty(most, np.int32)
    c_settled = np.empty(most)
    c_guess = np.empty(most)

    for t in range(num_frames):
        frame = log_probs[t]
        if frame[blank] > blank_skip:
            for i in range(size):
                with_blank[i] = log_add(with_blank[i], without[i]) + frame[blank]
                without[i] = NEVER
            continue
        limit = frame.max() - token_margin
        count = size
        for i in range(size):  # the same texts again
            node = beam[i]
            c_node[i], c_char[i] = node, -1
            if last[node] < 0 or last[node] == space:  # more spaces do not change what is read
                c_blank[i] = log_add(with_blank[i], without[i]) + log_add(frame[blank], frame[space])
                c_without[i] = NEVER
                continue
            c_blank[i] = log_add(with_blank[i], without[i]) + frame[blank]
            c_without[i] = without[i] + frame[last[node]]
        for i in range(size):  # and one character more
            node = beam[i]
            total = log_add(with_blank[i], without[i])
            for char in range(blank):
                if frame[char] < limit or (char == space and (last[node] < 0 or last[node] == space)):
                    continue
                value = frame[char] + (with_blank[i] if char == last[node] else total)
                longer = extension[node, char]
                if longer >= 0 and slot[longer] >= 0:
                    place = slot[longer]
                    c_without[place] = log_add(c_without[place], value)
                    continue
                c_node[count], c_char[count] = node, char
                c_blank[count], c_without[count] = NEVER, value
                count += 1
        best = NEVER
        for k in range(count):
            node = c_node[k]
            char = c_char[k]
            if char < 0:
                c_state[k], c_trie[k], c_settled[k], c_guess[k] = state[node], trie[node], settled[node], guess[node]
            else:
                c_state[k], c_trie[k], c_settled[k], c_guess[k] = state[node], trie[node], settled[node], 0.0
                if use_lexicon:
                    if char == space:
                        gain, after = end_word(state[node], trie[node], alpha, beta, vocabulary, model)
                        c_settled[k] += gain
                        c_state[k] = after
                        c_trie[k] = 0
                    else:
                        at = trie[node]
                        after = children[at, char] if at >= 0 and char < children.shape[1] else -1
                        if after < 0:
                            after = -(1 + (depth_of[at] if at >= 0 else -at))
                        c_trie[k] = after
                        c_guess[k] = beta + (best_of[after] if after >= 0 else unknown - letter * after)
                    if char < len(symbols):
                        value, c_state[k] = score_word(state[node], symbols[char], *model)
                        c_settled[k] += alpha * value
            c_score[k] = log_add(c_blank[k], c_without[k]) + c_settled[k] + c_guess[k]
            if c_score[k] > best:
                best = c_score[k]
        threshold = best - score_margin
        if count > beam_width:
            kth = np.partition(c_score[:count], count - beam_width)[count - beam_width]
            threshold = max(threshold, kth)
        for i in range(size):
            slot[beam[i]] = -1
        size = 0
        for k in range(count):
            if c_score[k] < threshold or size == beam_width:
                continue
            node = c_node[k]
            if c_char[k] >= 0:
                longer = extension[node, c_char[k]]
                if longer < 0:
                    longer = num_nodes
                    num_nodes += 1
                    extension[node, c_char[k]] = longer
                    parent[longer], last[longer] = node, c_char[k]
                    state[longer], trie[longer] = c_state[k], c_trie[k]
                    settled[longer], guess[longer] = c_settled[k], c_guess[k]
                node = longer
            beam[size], with_blank[size], without[size] = node, c_blank[k], c_without[k]
            slot[node] = size
            size += 1

    acoustic = np.empty(size)
    language = np.empty(size)
    lengths = np.zeros(size, np.int32)
    for i in range(size):
        node = beam[i]
        acoustic[i] = log_add(with_blank[i], without[i])
        if len(symbols) and last[node] == space:
            node = parent[node]  # a space at the end is not read
        language[i] = settled[node]
        after = state[node]
        if use_lexicon:
            if last[node] != space and last[node] >= 0:
                gain, after = end_word(state[node], trie[node], alpha, beta, vocabulary, model)
                language[i] += gain
            value, after = score_word(after, end_word_id, word, first_child, log_prob, backoff, suffix)
            language[i] += alpha * value
        node = beam[i]
        while node > 0:
            lengths[i] += 1
            node = parent[node]
    texts = np.full((size, max(1, lengths.max())), -1, np.int32)
    for i in range(size):
        node, place = beam[i], lengths[i]
        while node > 0:
            place -= 1
            texts[i, place] = last[node]
            node = parent[node]
    return texts, lengths, acoustic, language
