"""Reading words from phonemes as well as from letters.

English spelling tells sounds badly, so that guesses of letters and guesses of phonemes err in different places. A model that was
trained on both (`residual_birnn_model(phoneme_heads=...)`) is read twice: by beam searches that find letters, and by others that
find phonemes that make words of the language model's vocabulary. What they find, each under several weights of the language
model, since none suits every recording, and what can be put together from it, is ranked by

    (1 - w) ln p(letters | audio) + w ln p(phonemes | audio) + alpha ln p(words) + beta (number of words) + bonuses of hot words

where both probabilities are summed over all paths of the text.
"""

import concurrent.futures
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from vuilab.corpus.phonemes import PHONEMES, WORD_BOUNDARY, classes_of, classes_of_words
from vuilab.decoding.beam import SPACE, BeamDecoder, Hypothesis, beams
from vuilab.decoding.greedy import Posteriors
from vuilab.decoding.lexicon import Lexicon, vocabulary
from vuilab.decoding.ngram import END, NGramModel, score_word
from vuilab.decoding.paths import NEVER, log_probabilities, text_log_probs
from vuilab.decoding.settings import BeamSettings, SoundWeights
from vuilab.text import int_sequence_to_text, text_to_int_sequence

BOUNDARY = PHONEMES.index(WORD_BOUNDARY)
# weight of the language model and bonus per word
SEARCHES = ((0.3, 0.0), (0.45, 0.0), (0.6, -1.0), (0.6, 0.0), (0.9, 1.0))
N_BEST = 8  # texts that each search contributes
ROUNDS = 8  # of changing the best text; few utterances need more


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Texts of one utterance, and what speaks for each."""

    texts: list[str]  # different ones
    # (num_texts, 5): ln p(letters | audio), ln p(phonemes | audio), ln p(words), number of words, bonuses
    scores: np.ndarray

    def ranks(self, weights: SoundWeights) -> np.ndarray:
        """Return the score of each text, (num_texts,)."""
        return self.scores @ (1 - weights.phonemes, weights.phonemes, weights.alpha, weights.beta, 1.0)

    def best(self, weights: SoundWeights) -> str:
        """Return the text with the highest score."""
        return self.texts[int(self.ranks(weights).argmax())]


class SoundDecoder:
    """Decodes probabilities of letters and of phonemes together; one decoder serves many utterances, also from several threads.

    Args:
        language_model: whose words are pronounced.
        weights: of the ranking.
        settings: width and margins of all searches; its weights are for letters alone.
        hot_words: word -> bonus in nats; those outside the vocabulary are found by their letters.

    Raises:
        ValueError: for hot words outside the alphabet, and for a language model of characters.
    """

    def __init__(
        self,
        language_model: NGramModel,
        weights: SoundWeights | None = None,
        settings: BeamSettings | None = None,
        hot_words: Mapping[str, float] | None = None,
    ):
        if language_model.of_characters:
            raise ValueError(
                "Phonemes are read as words of a vocabulary. Received: a language model of characters, which has none. "
                "Pass one of words, or read letters alone with BeamDecoder."
            )
        self.language_model, self.weights = language_model, weights or SoundWeights()
        self.letters = BeamDecoder(language_model, settings, hot_words)
        self.hot_words = dict(hot_words or {})
        price, spoken = self.letters.settings.letter_log_prob, _as_it_sounds(language_model)
        self._spelled = [self.letters.lexicon.weighted(alpha, alpha * price) for alpha, _ in SEARCHES]
        self._spoken = [spoken.weighted(alpha, NEVER) for alpha, _ in SEARCHES]

    def decode(self, letters: np.ndarray, phonemes: np.ndarray | None = None, n_best: int = 1) -> list[Hypothesis]:
        """Return the `n_best` best texts of `Posteriors`, best first; without phonemes by letters alone.

        Raises:
            ValueError: when either is no finite matrix.
        """
        if phonemes is None or not len(phonemes):
            return self.letters.decode(letters, n_best=n_best)
        found = self.candidates(letters, phonemes)
        ranks, weight = found.ranks(self.weights), self.weights.phonemes
        heard = found.scores[:, :2] @ (1 - weight, weight)
        order = np.argsort(-ranks, kind="stable")[:n_best]
        return [
            Hypothesis(found.texts[row], *map(float, (ranks[row], heard[row], ranks[row] - heard[row])))
            for row in order
        ]

    def candidates(self, letters: np.ndarray, phonemes: np.ndarray) -> Candidates:
        """Return what both searches find, and what the best of it becomes with stretches of the others.

        A text that is right in one half and one that is right in the other are often found, but not both halves together:
        each search reads by letters or by phonemes alone. So every stretch in which another text differs from the best one is
        put into that, in turn; the best of all texts is changed again, until none is better (`ROUNDS` times at most).
        """
        log_probs = log_probabilities(letters), log_probabilities(phonemes)
        texts = list(dict.fromkeys([*self.by_letters(letters), *self.by_phonemes(phonemes)]))
        found, others = Candidates(texts, self._scores(texts, *log_probs)), [text.split() for text in texts]
        for _ in range(ROUNDS):
            new = sorted(_with_stretches(found.best(self.weights).split(), others).difference(found.texts))
            if not new:
                break
            scores = np.concatenate([found.scores, self._scores(new, *log_probs)])
            found = Candidates([*found.texts, *new], scores)
        return found

    def _scores(self, texts: Sequence[str], log_letters: np.ndarray, log_phonemes: np.ndarray) -> np.ndarray:
        """Return what speaks for each text; see `Candidates`."""
        scores = np.zeros((len(texts), 5))
        scores[:, 0] = text_log_probs(log_letters, [text_to_int_sequence(text) for text in texts], SPACE)
        scores[:, 1] = text_log_probs(log_phonemes, [classes_of(text.split()) for text in texts], BOUNDARY)
        scores[:, 2:] = [self._language(text) for text in texts]
        return scores

    def candidates_of_all(self, posteriors: Sequence[Posteriors]) -> list[Candidates]:
        """Return the candidates of several utterances, found in parallel."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            return list(pool.map(lambda pair: self.candidates(*pair), posteriors))

    def by_letters(self, letters: np.ndarray) -> list[str]:
        """Return texts that the letters of an utterance spell, the best of each search first."""
        labels = self._search(letters, self._spelled, SPACE)
        return list(dict.fromkeys(int_sequence_to_text(row.tolist()).strip() for row in labels))

    def by_phonemes(self, phonemes: np.ndarray) -> list[str]:
        """Return texts that the phonemes of an utterance spell, the best of each search first, all in words of the vocabulary."""
        labels = self._search(phonemes, self._spoken, BOUNDARY)
        return list(dict.fromkeys(map(self._words, labels)))

    def _search(self, probabilities: np.ndarray, lexicons: Sequence[Lexicon], space: int) -> Iterator[np.ndarray]:
        """Yield the classes of the best texts of each search."""
        log_probs = log_probabilities(probabilities)
        for (alpha, beta), lexicon in zip(SEARCHES, lexicons, strict=True):
            settings = dataclasses.replace(self.letters.settings, alpha=alpha, beta=beta)
            labels, acoustic, language = beams(log_probs, settings, lexicon, space)
            order = np.argsort(-(acoustic + language), kind="stable")[:N_BEST]
            yield from (labels[row] for row in order if language[row] > NEVER / 2)

    def _words(self, labels: np.ndarray) -> str:
        """Return the words of phonemes; of those that sound alike the ones that make the most probable sentence."""
        lexicon, model = self._spoken[0].words, self.language_model
        reached = {model.begin_state: (0.0, ())}  # state of the language model -> the best words that lead there
        node = 0
        for label in [*labels, BOUNDARY]:
            if label != BOUNDARY:
                node = lexicon.children[node, label]
                continue
            longer: dict[int, tuple[float, tuple[int, ...]]] = {}
            number, node = lexicon.word_of[node], 0
            while number >= 0:
                for state, (score, words) in reached.items():
                    value, after = score_word(state, number, model.ngrams)
                    if after not in longer or score + value > longer[after][0]:
                        longer[after] = score + value, (*words, number)
                number = lexicon.same_sound[number]
            reached = longer or reached  # nothing ends at a boundary that follows another
        end = model.word_id(END)
        ended = [(score + score_word(state, end, model.ngrams)[0], words) for state, (score, words) in reached.items()]
        return " ".join(model.words[number] for number in max(ended)[1])

    def _language(self, text: str) -> tuple[float, int, float]:
        """Return (ln p(words), number of words, bonuses)."""
        words, model = text.split(), self.language_model
        spelled = sum(len(word) for word in words if not model.word_id(word) and word not in self.hot_words)
        log_prob = sum(model.sentence_scores(text)) + self.letters.settings.letter_log_prob * spelled
        return log_prob, len(words), sum(self.hot_words.get(word, 0.0) for word in words)


def _with_stretches(words: Sequence[str], others: Sequence[Sequence[str]]) -> set[str]:
    """Return the texts that `words` become when one stretch is as another text has it, each stretch by itself."""
    found = set()
    for other in others:
        for change in Levenshtein.opcodes(words, other):
            if change.tag != "equal":
                stretch = other[change.dest_start : change.dest_end]
                found.add(" ".join([*words[: change.src_start], *stretch, *words[change.src_end :]]))
    return found


def _as_it_sounds(model: NGramModel) -> Lexicon:
    """Return the vocabulary of a language model in phonemes."""
    spoken = classes_of_words(vocabulary(model))
    return Lexicon(model, {word: classes for word, classes in spoken.items() if classes}, len(PHONEMES), 1.0, NEVER, {})
