"""How the final model came about: its ablation table, and the model card of the released weights, both from run records.

A row of the table is a command line without what does not change the result; its runs differ in their seed alone.
"""

import collections
import dataclasses
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vuilab.runs.record import read_records
from vuilab.scoring.error_rates import ErrorCounts
from vuilab.text import join, markdown_rows

# as evaluations name them; what rows call the rates
GREEDY, FUSED, SOUNDS = "greedy", "with language model", "with language model and phonemes"
CHARACTERS = "with a language model of characters"  # has an evaluation of its own, which calls it `FUSED`
DECODINGS = {"": GREEDY, "_lm": FUSED, "_sounds": SOUNDS}
UNITS = {"cer": "char", "wer": "word"}
# options, and how many values each has
WITHOUT_EFFECT = {
    "--name": 1,
    "--seed": 1,
    "--results": 1,
    "--resume": 0,
    "--force": 0,
    "--epochs": 1,
}
CORPUS = re.compile(r"--corpus \S+")
HEAD = (
    "row: `vui.py train ...`",
    "parameters",
    "passes",
    "seeds",
    "loss",
    "CER %",
    "change",
    "WER %",
    "CER % with LM",
    "WER % with LM",
    "CER % with phonemes too",
    "WER % with phonemes too",
    "minutes",
)


# shown where a row has them
SELDOM = [column for column, name in enumerate(HEAD) if name == "change" or name.endswith("phonemes too")]


@dataclasses.dataclass(frozen=True)
class Row:
    """The finished runs of one command line, by seed.

    Args:
        label: model and options.
        passes: over the training speech.
        records: one run record for each seed.
    """

    label: str
    passes: int
    records: tuple[dict, ...]

    def values(self, kind: str) -> list[float]:
        """Return values of the seeds: 'val_loss', 'cer', 'wer', and with a key of `DECODINGS` behind of those so decoded."""
        if kind == "val_loss":
            return [record["scores"][kind] for record in self.records]
        if kind in UNITS:
            return [record["scores"][kind]["rate"] for record in self.records]
        decoding = DECODINGS[kind[3:]]
        found = (errors_of(record, decoding, record["configuration"]["max_duration"]) for record in self.records)
        return [counts.rate(UNITS[kind[:3]])[0] for counts in found if counts is not None]

    @property
    def minutes(self) -> float:
        """Median over the seeds."""
        return float(np.median([record["seconds_per_epoch"] * record["epochs"] for record in self.records])) / 60


def errors_of(record: dict, decoding: str = GREEDY, longest: float | None = None) -> ErrorCounts | None:
    """Return the errors of each utterance that `vui.py evaluate --record` left in a record; None where there are none.

    Args:
        record: of a run.
        decoding: 'greedy', `FUSED`, `SOUNDS` or `CHARACTERS`.
        longest: seconds; longer utterances are left out.
    """
    part, name = ("character_evaluation", FUSED) if decoding == CHARACTERS else ("evaluation", decoding)
    utterances = record.get(part, {}).get("utterances", {})
    if name not in utterances:
        return None
    seconds = np.array(utterances["seconds"].split(), float)
    return ErrorCounts.from_dict(utterances[name]).of(seconds <= (longest or np.inf))


def label_of(command: str) -> str:
    """Return what decides a run: model and options of a training command, without name, seed, results folder and epochs.

    Example:
        >>> label_of("KERAS_BACKEND=jax python vui.py train model_1 --name a --seed 3 --ema 0.99 --resume")
        'model_1 --ema 0.99'
    """
    words = shlex.split(command)
    kept, skip = [], 0
    for word in words[words.index("train") + 1 :]:
        if skip:
            skip -= 1
        elif word in WITHOUT_EFFECT:
            skip = WITHOUT_EFFECT[word]
        else:
            kept.append(word)
    return shlex.join(kept)


def final_rows(folder: str | Path) -> list[Row]:
    """Return the rows of a folder's finished runs: by passes, then in the order in which they were first run.

    The corpus that most runs share is left out of the labels.
    """
    runs = sorted((r for r in read_records(folder) if r.get("status") == "finished"), key=lambda record: record["date"])
    labels = [label_of(record["command"]) for record in runs]
    corpora = collections.Counter(corpus for label in labels for corpus in CORPUS.findall(label))
    usual = corpora.most_common(1)[0][0] if corpora else ""
    found: dict[tuple[str, int], list[dict]] = {}
    for record, label in zip(runs, labels, strict=True):
        passes = record["configuration"]["epochs"] * len(record["configuration"].get("speeds", (1.0,)))
        label = re.sub(rf"{re.escape(usual)}(?=\s|$)", "", label) if usual else label
        found.setdefault((" ".join(label.split()), passes), []).append(record)
    rows = [Row(*key, tuple(sorted(found[key], key=lambda record: record["configuration"]["seed"]))) for key in found]
    return sorted(rows, key=lambda row: row.passes)


def final_block(folder: str | Path) -> str:
    """Return the Markdown of the ablation: conditions, a row for each command line, which differences count, what leads.

    Rows are compared with the one without options, the yardstick.

    Raises:
        FileNotFoundError: when the folder holds no finished run.
    """
    rows = final_rows(folder)
    if not rows:
        raise FileNotFoundError(f"{folder} holds no finished run. Train one: python vui.py train residual_birnn --help")
    told = [f"- {text}" for text in (*_lead(rows), *_of_characters(rows))]
    parts = (_conditions(rows), _table(rows), _rule(rows), "\n".join(told))
    return "\n\n".join(filter(None, parts)) + "\n"


def _yardstick(rows: Sequence[Row], passes: int | None = None) -> Row | None:
    """Return the row without any options, the one with so many passes or else with the most; None where there is none."""
    label = min((row.label for row in rows), key=len)
    plain = [row for row in rows if row.label == label and passes in (None, row.passes)]
    return plain[-1] if plain else None


def _conditions(rows: Sequence[Row]) -> str:
    record = _yardstick(rows).records[0]
    train, valid = record["corpus"]["train"], record["corpus"]["validation"]
    return (
        f"Trained on {train['num_utterances']} utterances ({train['hours']:.2f} h, every speed counted; {train['num_speakers']} "
        f"speakers), measured on {valid['num_utterances']} of {valid['num_speakers']} other speakers, all up to "
        f"{record['configuration']['max_duration']:g} s. A pass hears each training utterance once, at one speed. Rows with "
        "several seeds show mean ± standard deviation. Each run is measured at the epoch that its validation set chose."
    )


def _table(rows: Sequence[Row]) -> str:
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = [
            f"{number}: `{row.label}`",
            f"{row.records[0]['parameters']:,}",
            f"{row.passes}",
            f"{len(row.records)}",
        ]
        cells.append(_mean_text(row.values("val_loss")))
        kinds = [kind + how for how in DECODINGS for kind in UNITS]
        rates = [_mean_text(100 * np.array(row.values(kind))) for kind in kinds]
        lines.append([*cells, rates[0], _change_text(rows, row), *rates[1:], f"{row.minutes:.0f}"])
    used = [column for column in range(len(HEAD)) if column not in SELDOM or any(line[column] for line in lines)]
    return markdown_rows([HEAD[k] for k in used], [[line[k] for k in used] for line in lines])


def _mean_text(values: Sequence[float]) -> str:
    """Return the mean, and with several values their standard deviation; nothing of nothing."""
    if not len(values):
        return ""
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{deviation}"


def _spread(rows: Sequence[Row], passes: int) -> float | None:
    """Return the standard deviation of CER over seeds, in points: the largest of the rows with so many passes."""
    several = [row.values("cer") for row in rows if row.passes == passes and len(row.records) > 1]
    return 100 * max(float(np.std(values, ddof=1)) for values in several) if several else None


def _change_text(rows: Sequence[Row], row: Row) -> str:
    """Return by how many points a row's CER differs from the yardstick's after as many passes, in bold where that counts."""
    first, spread = _yardstick(rows, row.passes), _spread(rows, row.passes)
    if first is None or first is row:
        return ""
    change = 100 * float(np.mean(row.values("cer")) - np.mean(first.values("cer")))
    return f"**{change:+.1f}**" if spread is not None and abs(change) > 2 * spread else f"{change:+.1f}"


def _rule(rows: Sequence[Row]) -> str:
    """Return how large a change of CER must be to count; nothing where no row is compared, or none has several seeds."""
    compared = sorted({row.passes for row in rows if _change_text(rows, row)})
    spreads = {passes: _spread(rows, passes) for passes in compared}
    known = [
        f"{2 * spread:.1f} points after {passes} passes" for passes, spread in spreads.items() if spread is not None
    ]
    if not known:
        return ""
    return (
        f"The change is that of CER against `{_yardstick(rows).label}` after as many passes; in bold where it counts, that is, "
        f"exceeds twice the spread over seeds, that of the row where it is largest ({join(known)})."
    )


def _lead(rows: Sequence[Row]) -> list[str]:
    """Return how the rows with the lowest CER, and the lowest WER with a language model, compare with the yardstick."""
    yardstick, texts = _yardstick(rows), []
    best = min(rows, key=lambda row: np.mean(row.values("cer")))
    best_fused = min((row for row in rows if _fused_wer(row) is not None), key=_fused_wer, default=best)
    for row in [best] if best_fused is best else [best, best_fused]:
        pairs = [
            _change(yardstick, row, "cer", GREEDY),
            _change(yardstick, row, "wer", FUSED),
            *(_change(yardstick, row, unit, SOUNDS) for unit in UNITS),
        ]
        told = [text for text, _ in filter(None, pairs)]
        if row is not yardstick and told:
            number = max(number for _, number in filter(None, pairs))
            numbers = [rows.index(one) + 1 for one in (row, yardstick)]
            texts.append(
                f"Row {numbers[0]} against row {numbers[1]} (`{yardstick.label}`, {yardstick.passes} passes), "
                f"both with their first seed, on the same {number} utterances: {', '.join(told)}."
            )
    return texts


def _of_characters(rows: Sequence[Row]) -> list[str]:
    """Return what a language model of characters makes of each row that was decoded with one, and how that differs from words."""
    texts = []
    for row in rows:
        record, longest = row.records[0], row.records[0]["configuration"]["max_duration"]
        pair = [errors_of(record, decoding, longest) for decoding in (FUSED, CHARACTERS)]
        if None in pair:
            continue
        model = record["character_evaluation"]["language_model"]
        told = []
        for name, unit in UNITS.items():
            change, low, high = (100 * value for value in pair[0].difference(pair[1], unit))
            rate = 100 * pair[1].rate(unit)[0]
            told.append(f"{name.upper()} {rate:.1f} % ({change:+.1f} points [{low:+.1f}, {high:+.1f}])")
        texts.append(
            f"With a language model of characters (order {model['order']}) in the place of the one of words row "
            f"{rows.index(row) + 1} has {join(told)}."
        )
    return texts


def _fused_wer(row: Row) -> float | None:
    """Return the lowest mean WER with a language model, phonemes or not; None without one."""
    found = [float(np.mean(values)) for kind in ("wer_lm", "wer_sounds") if (values := row.values(kind))]
    return min(found, default=None)


def _change(first: Row, second: Row, unit: str, decoding: str) -> tuple[str, int] | None:
    """Return how an error rate changes from one row to another, pair by pair, and the number of pairs; None without any.

    A row that was not read by phonemes is compared as it was read by letters.
    """
    longest = first.records[0]["configuration"]["max_duration"]
    pair = [errors_of(row.records[0], decoding, longest) for row in (first, second)]
    name = unit.upper() + {GREEDY: "", FUSED: " with LM", SOUNDS: " with LM and phonemes"}[decoding]
    if decoding == SOUNDS and pair[0] is None:
        pair[0] = errors_of(first.records[0], FUSED, longest)
        name += ", which the latter lacks,"
    if None in pair:
        return None
    change, low, high = (100 * value for value in pair[0].difference(pair[1], UNITS[unit]))
    return f"{name} {change:+.1f} points [{low:+.1f}, {high:+.1f}]", len(pair[0].speakers)
