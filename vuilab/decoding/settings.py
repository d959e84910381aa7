"""What decoding is told: which decoder reads a model's probabilities, and with what weights. Nothing heavy is loaded."""

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

from vuilab.alphabet import ALPHABET
from vuilab.options import option
from vuilab.text import normalize, unspelt

ANY_LETTER = -math.log(len(ALPHABET))  # ln p where all are equally likely
HOT_WORD_BONUS = 8.0  # nats


@dataclasses.dataclass(frozen=True)
class BeamSettings:
    """How the beam search runs.

    Raises:
        ValueError: at construction, for values out of range.
    """

    beam_width: int = option(100, "texts that the beam search keeps")
    token_margin: float = option(8.0, "nats; characters that much less probable than the frame's best are not tried")
    score_margin: float = option(14.0, "nats; texts that far behind the best are dropped")
    blank_skip: float = option(0.999, 'a frame with a more probable blank only moves paths to "ends in a blank"')
    alpha: float = option(0.8, "weight of the language model")
    beta: float = option(1.0, "bonus for each word; longer texts have lower probability, which this balances")
    letter_log_prob: float = option(
        ANY_LETTER,
        "ln p of each letter of a word outside the vocabulary, for which <unk> is the probability of all such words together",
    )

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


@dataclasses.dataclass(frozen=True)
class SoundWeights:
    """How texts are ranked that are read from letters and phonemes; see `decoding/sounds.py`.

    Raises:
        ValueError: at construction, when the weight of the phonemes is not in 0..1 or that of the language model negative.
    """

    phonemes: float = option(0.5, "weight of the phonemes beside the letters, 0..1")
    alpha: float = option(0.8, "weight of the language model")
    beta: float = option(1.0, "bonus for each word")

    def __post_init__(self) -> None:
        if not 0 <= self.phonemes <= 1 or self.alpha < 0:
            raise ValueError(
                "The weight of the phonemes is in 0..1 and that of the language model not negative. Received: "
                f"phonemes={self.phonemes}, alpha={self.alpha}"
            )


class TunedLanguageModel(NamedTuple):
    """A language model, and the weights that a run record chose for it on all speakers."""

    path: Path
    weights: dict[str, float]  # alpha and beta, for letters alone
    sounds: dict[str, float] | None  # phonemes, alpha and beta, for letters and phonemes


@dataclasses.dataclass(frozen=True)
class Decoding:
    """Which decoder reads a model's probabilities. What is None is as it was tuned, or else as the search has it by itself.

    Raises:
        ValueError: at construction, when it asks for greedy decoding and for more.
    """

    lm: Path | None = option(
        None,
        "language model: .npz, .arpa or .arpa.gz (default: the released one with the released weights, else none)",
        metavar="FILE",
    )
    greedy: bool = option(False, "the most probable character of each frame, no language model")
    alpha: float | None = option(None, "weight of the language model (default: as tuned, else 0.8)", metavar="W")
    beta: float | None = option(None, "bonus in nats for each word (default: as tuned, else 1)", metavar="NATS")
    beam_width: int = option(100, "texts that the beam search keeps", metavar="N")
    phonemes: float | None = option(
        None, "weight beside the letters, of models that learnt both; 0..1 (default: as tuned, else 0.5)", metavar="W"
    )
    hot_words: tuple[str, ...] = option(
        (), "names and terms that are likely here; quote those of several words", metavar="WORD"
    )
    tuned: TunedLanguageModel | None = None  # what goes with the model, where nothing is asked for

    def __post_init__(self) -> None:
        if self.greedy and (self.lm is not None or self.hot_words):
            raise ValueError("--greedy decodes without --lm and --hot-words: leave one of them out.")

    def with_tuned(self, found: TunedLanguageModel | None) -> "Decoding":
        """Return the same with the language model that comes with the weights, unless another or greedy decoding is asked for."""
        if found is None or self.greedy or self.lm is not None:
            return self
        return dataclasses.replace(self, lm=found.path, tuned=found)

    @property
    def beam(self) -> BeamSettings:
        """Settings of the search for letters."""
        weights = {**(self.tuned.weights if self.tuned else {}), **self._given("alpha", "beta")}
        return BeamSettings(beam_width=self.beam_width, **weights)

    @property
    def sounds(self) -> SoundWeights:
        """Weights of letters, phonemes and language model together."""
        tuned = {**self.tuned.weights, **(self.tuned.sounds or {})} if self.tuned else {}
        return SoundWeights(**{**tuned, **self._given("phonemes", "alpha", "beta")})

    @property
    def bonuses(self) -> dict[str, float]:
        """Hot words with what each adds to the score of a text, in nats.

        Of a term of several words those of three letters or fewer count only where it has no others: "of" comes everywhere.

        Raises:
            ValueError: for a term that cannot be spelt.
        """
        for term in self.hot_words:
            if unspelt(term) or not normalize(term):
                raise ValueError(f"A hot word is spelt with the letters of the alphabet. Received: {term!r}")
        terms = [normalize(term).split() for term in self.hot_words]
        chosen = [word for words in terms for word in [word for word in words if len(word) > 3] or words]
        return dict.fromkeys(chosen, HOT_WORD_BONUS)

    def _given(self, *names: str) -> dict[str, float]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}
