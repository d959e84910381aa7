"""How good are the transcripts: word and character error rates with intervals.

Error rates are (substitutions + deletions + insertions) / reference length, pooled over the utterances, so they can exceed
100 %. The 95 % intervals come from a bootstrap: over speakers where there are at least ten, else over utterances
stratified by speaker (Bisani and Ney, ICASSP 2004).
"""

import collections
import dataclasses
import html
from collections.abc import Mapping, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

NUM_RESAMPLES = 2000
MIN_SPEAKERS = 10  # from here on whole speakers are drawn


@dataclasses.dataclass(frozen=True)
class ErrorRate:
    """Errors of one kind (characters or words), pooled over utterances."""

    substitutions: int
    deletions: int
    insertions: int
    num_reference: int  # characters or words in the references
    low: float  # limits of the 95 % interval of the rate
    high: float

    @property
    def rate(self) -> float:
        """Errors per reference token; NaN without references."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.num_reference if self.num_reference else float("nan")

    def __str__(self) -> str:
        return (
            f"{100 * self.rate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]  ({self.substitutions} substitutions, "
            f"{self.deletions} deletions, {self.insertions} insertions, {self.num_reference} in all)"
        )

    def as_dict(self) -> dict:
        """Return plain data for records and `--json`."""
        return {"rate": self.rate, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Score:
    """Character and word error rates of a set of utterances."""

    cer: ErrorRate
    wer: ErrorRate
    num_utterances: int
    num_empty: int  # hypotheses without any character
    method: str  # of the intervals
    by_speaker: dict[str, tuple[float, float]]  # speaker -> (CER, WER)

    def as_dict(self) -> dict:
        """Return plain data for records and `--json`."""
        return {
            "cer": self.cer.as_dict(),
            "wer": self.wer.as_dict(),
            "num_utterances": self.num_utterances,
            "empty_share": self.num_empty / self.num_utterances,
            "interval": self.method,
            "by_speaker": {name: {"cer": cer, "wer": wer} for name, (cer, wer) in self.by_speaker.items()},
        }


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorCounts:
    """The errors in each utterance: what rates, intervals and comparisons of models are computed from."""

    speakers: np.ndarray  # (num_utterances,)
    characters: np.ndarray  # (num_utterances, 2): errors and characters of the reference
    words: np.ndarray  # (num_utterances, 2): likewise

    def of(self, chosen: np.ndarray) -> "ErrorCounts":
        """Return those of some utterances, given by a mask (num_utterances,) or by their numbers."""
        return ErrorCounts(self.speakers[chosen], self.characters[chosen], self.words[chosen])

    def pooled(self, unit: str = "char") -> float:
        """Return the pooled error rate alone, without the work of its interval."""
        return _rate(self._counts(unit).sum(axis=0))

    def rate(self, unit: str = "char") -> tuple[float, float, float]:
        """Return (rate, low, high): the pooled error rate of a unit, 'char' or 'word', with its 95 % interval.

        Raises:
            ValueError: when there are no utterances.
        """
        if not len(self.speakers):
            raise ValueError("There are no utterances to compute an error rate of.")
        rates = _bootstrap_rates(self._counts(unit), _resamples(self.speakers)[0])
        return self.pooled(unit), *_limits(rates)

    def difference(self, other: "ErrorCounts", unit: str = "char") -> tuple[float, float, float]:
        """Return (difference, low, high): the error rate of `other` minus this one, with a paired 95 % bootstrap interval.

        Raises:
            ValueError: when the utterances differ.
        """
        same = len(self.speakers) == len(other.speakers) and (self.speakers == other.speakers).all()
        if not same or (self.characters[:, 1] != other.characters[:, 1]).any():
            raise ValueError("Only results on the same utterances, in the same order, can be compared pair by pair.")
        draws, _ = _resamples(self.speakers)
        rates = _bootstrap_rates(other._counts(unit), draws) - _bootstrap_rates(self._counts(unit), draws)
        return other.pooled(unit) - self.pooled(unit), *_limits(rates)

    def _counts(self, unit: str) -> np.ndarray:
        return {"char": self.characters, "word": self.words}[unit]

    def as_dict(self) -> dict[str, str]:
        """Return plain data for records: a line of numbers for each column."""
        columns = {"speakers": self.speakers}
        for unit, counts in (("character", self.characters), ("word", self.words)):
            columns |= {f"{unit}_errors": counts[:, 0], f"{unit}s": counts[:, 1]}
        return {name: " ".join(map(str, values)) for name, values in columns.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, str]) -> "ErrorCounts":
        """Return the counts that `as_dict` made plain."""
        columns = {name: values.split() for name, values in data.items()}
        characters, words = (
            np.array([columns[f"{unit}_errors"], columns[f"{unit}s"]], np.int64).T for unit in ("character", "word")
        )
        return cls(np.array(columns["speakers"]), characters, words)


def count_errors(
    references: Sequence[str], hypotheses: Sequence[str], speakers: Sequence[str | None] | None = None
) -> ErrorCounts:
    """Count the errors of each utterance; arguments and errors are those of `score`."""
    names, *matrices = _counted(references, hypotheses, speakers)
    return ErrorCounts(names, *(np.stack([counts[:, :3].sum(axis=1), counts[:, 3]], axis=1) for counts in matrices))


def edit_counts(reference: Sequence, hypothesis: Sequence) -> tuple[int, int, int]:
    """Count substitutions, deletions and insertions of a shortest edit path between characters (strings) or words (lists).

    Example:
        >>> edit_counts("kitten", "sitting")
        (2, 0, 1)
    """
    kinds = collections.Counter(operation.tag for operation in Levenshtein.editops(reference, hypothesis))
    return kinds["replace"], kinds["delete"], kinds["insert"]


def score(
    references: Sequence[str], hypotheses: Sequence[str], speakers: Sequence[str | None] | None = None, seed: int = 0
) -> Score:
    """Compute pooled CER and WER with bootstrap intervals.

    Args:
        references, hypotheses: true and predicted texts, in the same order.
        speakers: of each utterance; None: all unknown.
        seed: of the bootstrap.

    Raises:
        ValueError: when the numbers differ or there are none.
    """
    names, characters, words = _counted(references, hypotheses, speakers)
    draws, method = _resamples(names, seed)
    by_speaker = {
        name: (_rate(characters[names == name].sum(axis=0)), _rate(words[names == name].sum(axis=0)))
        for name in np.unique(names)
    }
    rates = _error_rate(characters, draws), _error_rate(words, draws)
    return Score(*rates, len(references), sum(not text for text in hypotheses), method, by_speaker)


def count_matrix(references: Sequence[Sequence], hypotheses: Sequence[Sequence]) -> np.ndarray:
    """Return (num_utterances, 4): substitutions, deletions, insertions and reference length."""
    rows = [(*edit_counts(ref, hyp), len(ref)) for ref, hyp in zip(references, hypotheses, strict=True)]
    return np.array(rows, np.int64).reshape(-1, 4)


def paired_difference(
    references: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    unit: str = "char",
) -> tuple[float, float, float]:
    """Compare two models on the same utterances: error rate of `second` minus that of `first`.

    Args:
        references, first, second: true texts, those of one model and those of the other.
        speakers: of each utterance; None: all unknown.
        unit: 'char' or 'word'.

    Returns:
        (difference, low, high) with a paired 95 % bootstrap interval.

    Raises:
        ValueError: when the numbers differ or there are none.
    """
    one, other = (count_errors(references, texts, speakers) for texts in (first, second))
    return one.difference(other, unit)


def _counted(
    references: Sequence[str], hypotheses: Sequence[str], speakers: Sequence[str | None] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the speakers (num_utterances,) and the count matrices of characters and of words."""
    speakers = ["unknown"] * len(references) if speakers is None else speakers
    if not len(references) or not len(references) == len(hypotheses) == len(speakers):
        raise ValueError(
            "Expected as many hypotheses (and speakers) as references, at least one. Received: "
            f"{len(references)} references, {len(hypotheses)} hypotheses, {len(speakers)} speakers."
        )
    words = ([text.split() for text in texts] for texts in (references, hypotheses))
    return np.array([str(name) for name in speakers]), count_matrix(references, hypotheses), count_matrix(*words)


def _resamples(names: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
    """Return how often each utterance is drawn in each resample, (NUM_RESAMPLES, num_utterances), and the method."""
    rng = np.random.default_rng(seed)
    unique, speaker = np.unique(names, return_inverse=True)
    if len(unique) >= MIN_SPEAKERS:
        drawn = rng.multinomial(len(unique), np.full(len(unique), 1 / len(unique)), size=NUM_RESAMPLES)
        return drawn[:, speaker], f"bootstrap over {len(unique)} speakers"
    weights = np.zeros((NUM_RESAMPLES, len(names)), np.int64)
    for number in range(len(unique)):
        members = np.flatnonzero(speaker == number)
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=NUM_RESAMPLES)
    return weights, f"bootstrap over utterances, stratified by speaker ({len(unique)})"


def _bootstrap_rates(matrix: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the rate in each resample; the last column is the reference's length, those before it count errors."""
    errors, length = draws @ matrix[:, :-1].sum(axis=1), draws @ matrix[:, -1]
    return np.divide(errors, length, out=np.full(len(draws), np.nan), where=length > 0)


def _rate(totals: np.ndarray) -> float:
    return float(totals[:-1].sum() / totals[-1]) if totals[-1] else float("nan")


def _limits(rates: np.ndarray) -> tuple[float, float]:
    """Return the limits of the 95 % interval that resampled rates give."""
    low, high = np.nanquantile(rates, [0.025, 0.975])
    return float(low), float(high)


def _error_rate(matrix: np.ndarray, draws: np.ndarray) -> ErrorRate:
    return ErrorRate(*(int(total) for total in matrix.sum(axis=0)), *_limits(_bootstrap_rates(matrix, draws)))


def confusions(references: Sequence[str], hypotheses: Sequence[str], unit: str = "char") -> collections.Counter:
    """Count what was taken for what: pairs (true, predicted) of a unit, 'char' or 'word', '' standing for nothing."""
    split = {"char": list, "word": str.split}[unit]
    pairs: collections.Counter = collections.Counter()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        true, predicted = split(reference), split(hypothesis)
        for operation in Levenshtein.editops(true, predicted):
            source = true[operation.src_pos] if operation.tag != "insert" else ""
            target = predicted[operation.dest_pos] if operation.tag != "delete" else ""
            pairs[source, target] += 1
    return pairs


def marked(reference: str, hypothesis: str, markup: str = "text") -> str:
    """Return the hypothesis with its differences from the reference marked, character by character.

    Args:
        reference, hypothesis: the true and the predicted text.
        markup: 'text': wrong characters in [brackets], missing ones as {braces}; 'html': bold and struck through.

    Example:
        >>> marked("the cat sat", "the kat at")
        'the [k]at {s}at'
    """
    wrong, missing = ("<b>{}</b>", "<del>{}</del>") if markup == "html" else ("[{}]", "{{{}}}")
    escape = html.escape if markup == "html" else str
    pieces = []
    for block in Levenshtein.opcodes(reference, hypothesis):
        true, predicted = (
            escape(reference[block.src_start : block.src_end]),
            escape(hypothesis[block.dest_start : block.dest_end]),
        )
        shown = {"equal": predicted, "delete": missing.format(true)}
        pieces.append(shown.get(block.tag, wrong.format(predicted)))
    return "".join(pieces)
