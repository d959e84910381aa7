"""How the final model came about: its ablation table, from run records.

A row of the table is named by what differs from the recipe of its network; its runs differ in their seed alone.
"""

import ast
import collections
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vuilab.runs.record import read_records
from vuilab.scoring.error_rates import ErrorCounts
from vuilab.study.claims import COUNTS
from vuilab.text import join, markdown_rows
from vuilab.training.recipes import RECIPES

# as evaluations name them; what rows call the rates
GREEDY, FUSED, SOUNDS = "greedy", "with language model", "with language model and phonemes"
CHARACTERS = "with a language model of characters"  # has an evaluation of its own, which calls it `FUSED`
DECODINGS = {"": GREEDY, "_lm": FUSED, "_sounds": SOUNDS}
UNITS = {"cer": "char", "wer": "word"}
# of training, where neither recipe nor record say otherwise
USUAL = {
    "speeds": (1.0,),
    "schedule": "constant",
    "warmup_epochs": 0.0,
    "monitor": "val_loss",
    "splice": 0.0,
    "batch_frames": None,
    "ema": None,
    "start_from": None,
}
# how a value that differs is told; other options by name and value
WORDS = {
    "network": "{}",
    "conv_stride": "stride {}",
    "heads": "draft after layer {}",
    "phoneme_heads": "phonemes after layer {}",
    "recur_layers": "{} recurrent layers",
    "conformer_blocks": "{} Conformer blocks",
    "filters": "{} filters",
    "speeds": "speeds {}",
    "schedule": "{} learning rate",
    "warmup_epochs": "warm-up {}",
    "ema": "average {}",
    "monitor": "epoch by {}",
    "splice": "spliced {}",
    "batch_frames": "batches of {} frames",
    "corpus": "corpus of {}",
}
EARLIER = "earlier weights"  # where nobody says which
HEAD = ("what differs", "passes", "CER %", "change", "WER %", "WER % with LM", "with phonemes too")
SELDOM = ("change", "with phonemes too")  # columns that are shown where a row has them


@dataclasses.dataclass(frozen=True)
class Row:
    """The finished runs that differ in their seed alone.

    Args:
        differences: from the recipe of the network, option -> value.
        passes: over the training speech.
        records: one run record for each seed, by seed.
    """

    differences: dict[str, Any]
    passes: int
    records: tuple[dict, ...]

    @property
    def label(self) -> str:
        """The differences in words; the table has the number of another row in the place of its run's name."""
        if not self.differences:
            return "the recipe"
        return ", ".join(_in_words(*difference) for difference in self.differences.items())

    def values(self, kind: str) -> list[float]:
        """Return values of the seeds: 'val_loss', 'cer', 'wer', and with a key of `DECODINGS` behind of those so decoded."""
        if kind == "val_loss":
            return [record["scores"][kind] for record in self.records]
        if kind in UNITS:
            return [record["scores"][kind]["rate"] for record in self.records]
        decoding = DECODINGS[kind[3:]]
        found = (errors_of(record, decoding, record["configuration"]["max_duration"]) for record in self.records)
        return [counts.pooled(UNITS[kind[:3]]) for counts in found if counts is not None]


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


def _in_words(name: str, value: Any) -> str:
    """Return one difference in words.

    Example:
        >>> _in_words("heads", (1,)), _in_words("dilations", ()), _in_words("units", 128)
        ('draft after layer 1', 'no dilations', 'units 128')
    """
    if value == ():
        return f"no {name}"
    if name == "speeds" and value == (1.0,):
        return "one speed"
    if name == "start_from":
        return f"from {value}"
    if name == "monitor":
        value = value.removeprefix("val_").upper()
    values = value if isinstance(value, tuple) else (value,)
    text = join([f"{one:g}" if isinstance(one, float) else str(one) for one in values])
    return WORDS[name].format(text) if name in WORDS else f"{name.replace('_', ' ')} {text}"


def _option(command: Sequence[str], name: str) -> list[str]:
    """Return the values of an option in the words of a command."""
    if name not in command:
        return []
    rest = list(command[command.index(name) + 1 :])
    return rest[: next((number for number, word in enumerate(rest) if word.startswith("--")), len(rest))]


def _told_by_the_command(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what new records hold under 'builder' and 'start_from'; those of version 0.1 have it in their command alone."""
    command = shlex.split(record["command"])
    pairs = (text.split("=", 1) for text in _option(command, "--model-options"))
    builder = {"name": _network(record), "options": {name: ast.literal_eval(value) for name, value in pairs}}
    return {"builder": builder, "start_from": next(iter(_option(command, "--start-from")), EARLIER)}


def _network(record: Mapping[str, Any]) -> str:
    """Return the name of a record's network, as recipes have it."""
    return record.get("model", "").removesuffix("_model")


def differences(record: Mapping[str, Any], usual_corpus: int) -> dict[str, Any]:
    """Return what of a run differs from its network's recipe, option -> value, the network first.

    Args:
        record: of the run.
        usual_corpus: number of training utterances that most runs share.
    """
    configuration = record["configuration"]
    optimizer = configuration.get("optimizer", {}).get("config", {})
    used = {name: configuration.get(name, value) for name, value in USUAL.items()}
    used["ema"] = optimizer.get("ema_momentum") if optimizer.get("use_ema") else None
    told = record if "builder" in record else _told_by_the_command(record)
    if used["start_from"]:
        used["start_from"] = Path(told.get("start_from", EARLIER)).stem
    usual = USUAL | RECIPES.get(_network(record), {})
    found = {name: tuple(value) if isinstance(value, list) else value for name, value in used.items()}
    train = record["corpus"]["train"]
    corpus = {} if train["num_utterances"] == usual_corpus else {"corpus": f"{train['hours']:.1f} h"}
    builder = told["builder"]
    network = {} if builder["name"] == _network(record) else {"network": builder["name"]}
    network |= {name: tuple(v) if isinstance(v, list) else v for name, v in builder["options"].items()}
    return corpus | network | {name: value for name, value in found.items() if value != usual[name]}


def final_rows(folder: str | Path) -> list[Row]:
    """Return the rows of a folder's finished runs: by passes, then in the order in which they were first run."""
    runs = sorted((r for r in read_records(folder) if r.get("status") == "finished"), key=lambda record: record["date"])
    sizes = collections.Counter(record["corpus"]["train"]["num_utterances"] for record in runs)
    usual = sizes.most_common(1)[0][0] if sizes else 0
    rows: list[Row] = []
    for record in runs:
        passes = record["configuration"]["epochs"] * len(record["configuration"].get("speeds", (1.0,)))
        row = Row(differences(record, usual), passes, (record,))
        alike = [n for n, other in enumerate(rows) if (other.differences, other.passes) == (row.differences, passes)]
        if alike:
            seeds = sorted((*rows[alike[0]].records, record), key=lambda one: one["configuration"]["seed"])
            rows[alike[0]] = dataclasses.replace(row, records=tuple(seeds))
        else:
            rows.append(row)
    return sorted(rows, key=lambda row: row.passes)


def final_block(folder: str | Path) -> str:
    """Return the Markdown of the ablation: conditions, a row for each recipe, which differences count, what leads.

    Rows are compared with the one that follows the recipe, the yardstick.

    Raises:
        FileNotFoundError: when the folder holds no finished run.
    """
    rows = final_rows(folder)
    if not rows:
        raise FileNotFoundError(f"{folder} holds no finished run. Train one: python vui.py train residual_birnn --help")
    parts = (_conditions(rows), _table(rows), _rule(rows), _lead(rows), _of_characters(rows))
    return "\n\n".join(filter(None, parts)) + "\n"


def _yardstick(rows: Sequence[Row], passes: int | None = None) -> Row | None:
    """Return the row with the fewest differences, the one with so many passes or else with the most; None where there is none."""
    fewest = min((row.differences for row in rows), key=len)
    plain = [row for row in rows if row.differences == fewest and passes in (None, row.passes)]
    return plain[-1] if plain else None


def _conditions(rows: Sequence[Row]) -> str:
    record = _yardstick(rows).records[0]
    train, valid = record["corpus"]["train"], record["corpus"]["validation"]
    return (
        f"Trained on {train['num_utterances']} utterances of {train['num_speakers']} speakers ({train['hours']:.2f} h, every "
        f"speed counted), measured on {valid['num_utterances']} of {valid['num_speakers']} others, all up to "
        f"{record['configuration']['max_duration']:g} s.\nA pass hears each training utterance once, at one speed. Rows with "
        "several seeds show mean ± standard deviation.\nEach run is measured at the epoch that its validation set chose."
    )


def _table(rows: Sequence[Row]) -> str:
    numbers = {record["name"]: f"row {number}" for number, row in enumerate(rows, start=1) for record in row.records}
    lines = []
    for number, row in enumerate(rows, start=1):
        start = {name: numbers.get(value, value) for name, value in row.differences.items() if name == "start_from"}
        label = dataclasses.replace(row, differences=row.differences | start).label
        cer, wer, *fused = (
            _mean_text(100 * np.array(row.values(kind))) for kind in ("cer", "wer", "wer_lm", "wer_sounds")
        )
        lines.append([f"{number}: {label}", f"{row.passes}", cer, _change_text(rows, row), wer, *fused])
    used = [column for column, name in enumerate(HEAD) if name not in SELDOM or any(line[column] for line in lines)]
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
    return f"**{change:+.1f}**" if spread is not None and abs(change) > COUNTS * spread else f"{change:+.1f}"


def _rule(rows: Sequence[Row]) -> str:
    """Return how large a change of CER must be to count; nothing where no row is compared, or none has several seeds."""
    compared = sorted({row.passes for row in rows if _change_text(rows, row)})
    spreads = {passes: _spread(rows, passes) for passes in compared}
    known = [
        f"{COUNTS * spread:.1f} points after {passes} passes"
        for passes, spread in spreads.items()
        if spread is not None
    ]
    if not known:
        return ""
    return (
        f"The change is that of CER against {_yardstick(rows).label} after as many passes. It is in bold where it counts: where "
        f"it exceeds\ntwice the spread over seeds, that of the row where it is largest ({join(known)})."
    )


def _lead(rows: Sequence[Row]) -> str:
    """Return how the rows with the lowest CER, and the lowest WER with a language model, compare with the yardstick.

    Both are read in the same way, utterance by utterance; reading phonemes too is compared with the language model alone
    where the yardstick learnt none.
    """
    yardstick, lines = _yardstick(rows), []
    best = min(rows, key=lambda row: np.mean(row.values("cer")))
    best_fused = min((row for row in rows if _fused_wer(row) is not None), key=_fused_wer, default=best)
    for row in dict.fromkeys([rows.index(best), rows.index(best_fused)]):
        reading = [("cer", GREEDY), ("wer", FUSED), ("cer", SOUNDS), ("wer", SOUNDS)]
        changes = [_change(yardstick, rows[row], unit, decoding) for unit, decoding in reading]
        if rows[row] is not yardstick and any(changes):
            lines.append([f"{row + 1} against {rows.index(yardstick) + 1}", *changes])
    head = ("row", "CER", "WER with LM", "CER with phonemes too", "WER with phonemes too")
    told = "Change in points with 95 % interval, first seed of each, paired by utterance:"
    return f"{told}\n\n{markdown_rows(head, lines)}" if lines else ""


def _of_characters(rows: Sequence[Row]) -> str:
    """Return what a language model of characters makes of each row that was decoded with one; nothing without any."""
    lines = []
    for number, row in enumerate(rows, start=1):
        record, longest = row.records[0], row.records[0]["configuration"]["max_duration"]
        words, characters = (errors_of(record, decoding, longest) for decoding in (FUSED, CHARACTERS))
        if words is None or characters is None:
            continue
        cells = []
        for unit in UNITS.values():
            cells += [f"{100 * characters.rate(unit)[0]:.1f}", _difference(words, characters, unit)]
        lines.append([f"{number}: character {record['character_evaluation']['language_model']['order']}-gram", *cells])
    told = "With a language model of characters, and the change against the one of words:"
    return f"{told}\n\n{markdown_rows(('row', 'CER %', 'change', 'WER %', 'change'), lines)}" if lines else ""


def _fused_wer(row: Row) -> float | None:
    """Return the lowest mean WER with a language model, phonemes or not; None without one."""
    found = [float(np.mean(values)) for kind in ("wer_lm", "wer_sounds") if (values := row.values(kind))]
    return min(found, default=None)


def _change(first: Row, second: Row, unit: str, decoding: str) -> str:
    """Return how an error rate changes from one row to another, pair by pair; nothing without any pair.

    A row that was not read by phonemes is compared as it was read by letters.
    """
    longest = first.records[0]["configuration"]["max_duration"]
    pair = [errors_of(row.records[0], decoding, longest) for row in (first, second)]
    if decoding == SOUNDS and pair[0] is None:
        pair[0] = errors_of(first.records[0], FUSED, longest)
    if None in pair:
        return ""
    return _difference(*pair, UNITS[unit])


def _difference(first: ErrorCounts, second: ErrorCounts, unit: str) -> str:
    change, low, high = (100 * value for value in first.difference(second, unit))
    return f"{change:+.1f} [{low:+.1f}, {high:+.1f}]"
