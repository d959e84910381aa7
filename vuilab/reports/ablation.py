"""How the final model came about: its ablation table, from run records.

A row of the table is named by what differs from the recipe of its network; its runs differ in their seed alone.
"""

import argparse
import ast
import collections
import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vuilab.runs.record import read_records
from vuilab.scoring.error_rates import ErrorCounts
from vuilab.study.claims import COUNTS, mean_text, spread
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
    "start_from": "from {}",
}
EARLIER = "earlier weights"  # where nobody says which
HEAD = ("what differs", "passes", "CER %", "change", "WER %", "WER % with LM", "with phonemes too")
SELDOM = ("change", "with phonemes too")  # columns that are shown where a row has them


@dataclasses.dataclass(frozen=True)
class Row:
    """The finished runs that differ in their seed alone."""

    differences: dict[str, Any]  # from the recipe of the network, option -> value
    passes: int  # over the training speech
    records: tuple[dict, ...]  # one run record for each seed, by seed

    @property
    def label(self) -> str:
        """The differences in words; the table has the number of another row in the place of its run's name."""
        return ", ".join(_in_words(*difference) for difference in self.differences.items()) or "the recipe"

    def values(self, kind: str) -> list[float]:
        """Return rates of the seeds: 'cer', 'wer', and with a key of `DECODINGS` behind of those so decoded."""
        if kind in UNITS:
            return [record["scores"][kind]["rate"] for record in self.records]
        decoding = DECODINGS[kind[3:]]
        found = (errors_of(record, decoding, record["configuration"]["max_duration"]) for record in self.records)
        return [counts.pooled(UNITS[kind[:3]]) for counts in found if counts is not None]


def errors_of(record: dict, decoding: str = GREEDY, longest: float | None = None) -> ErrorCounts | None:
    """Return the errors of each utterance that `vui.py evaluate --record` left in a record; None where there are none.

    Those of a decoding, `GREEDY`, `FUSED`, `SOUNDS` or `CHARACTERS`, up to the `longest` utterance in seconds.
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
    if name == "monitor":
        value = value.removeprefix("val_").upper()
    values = value if isinstance(value, tuple) else (value,)
    text = join([f"{one:g}" if isinstance(one, float) else str(one) for one in values])
    return WORDS.get(name, f"{name.replace('_', ' ')} {{}}").format(text)


def _told_by_the_command(record: Mapping[str, Any], network: str) -> dict[str, Any]:
    """Return what new records hold under 'builder' and 'start_from'; those of version 0.1 have it in their command alone."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model-options", nargs="+", default=())
    parser.add_argument("--start-from", default=EARLIER)
    told, _ = parser.parse_known_args(shlex.split(record["command"]))
    pairs = (text.split("=", 1) for text in told.model_options)
    options = {name: ast.literal_eval(value) for name, value in pairs}
    return {"builder": {"name": network, "options": options}, "start_from": told.start_from}


def differences(record: Mapping[str, Any], usual_corpus: int) -> dict[str, Any]:
    """Return what of a run differs from its network's recipe, option -> value, the network first.

    The corpus counts where it has another number of utterances than `usual_corpus`, which most runs share.
    """
    configuration, network = record["configuration"], record.get("model", "").removesuffix("_model")
    optimizer = configuration.get("optimizer", {}).get("config", {})
    told = record if "builder" in record else _told_by_the_command(record, network)
    used = {name: configuration.get(name, value) for name, value in USUAL.items()}
    used["ema"] = optimizer.get("ema_momentum") if optimizer.get("use_ema") else None
    if used["start_from"]:
        used["start_from"] = Path(told.get("start_from", EARLIER)).stem
    usual, train, builder = USUAL | RECIPES.get(network, {}), record["corpus"]["train"], told["builder"]
    found = {} if train["num_utterances"] == usual_corpus else {"corpus": f"{train['hours']:.1f} h"}
    found |= {} if builder["name"] == network else {"network": builder["name"]}
    found |= builder["options"] | {name: value for name, value in used.items() if _plain(value) != usual[name]}
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def final_rows(folder: str | Path) -> list[Row]:
    """Return the rows of a folder's finished runs: by passes, then in the order in which they were first run."""
    runs = sorted((r for r in read_records(folder) if r.get("status") == "finished"), key=lambda record: record["date"])
    sizes = collections.Counter(record["corpus"]["train"]["num_utterances"] for record in runs)
    usual = sizes.most_common(1)[0][0] if sizes else 0
    rows: dict[tuple, Row] = {}
    for record in runs:
        passes = record["configuration"]["epochs"] * len(record["configuration"].get("speeds", (1.0,)))
        found = differences(record, usual)
        key = passes, frozenset(found.items())
        alike = (*rows[key].records, record) if key in rows else (record,)
        rows[key] = Row(found, passes, tuple(sorted(alike, key=lambda one: one["configuration"]["seed"])))
    return sorted(rows.values(), key=lambda row: row.passes)


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
        values = (100 * np.array(row.values(kind)) for kind in ("cer", "wer", "wer_lm", "wer_sounds"))
        cer, *others = (mean_text(one) if len(one) else "" for one in values)
        lines.append([f"{number}: {label}", f"{row.passes}", cer, _change_text(rows, row), *others])
    used = [column for column, name in enumerate(HEAD) if name not in SELDOM or any(line[column] for line in lines)]
    return markdown_rows([HEAD[k] for k in used], [[line[k] for k in used] for line in lines])


def _spread(rows: Sequence[Row], passes: int) -> float:
    """Return the largest spread of CER over seeds, in points, of the rows with so many passes; NaN where each has one seed."""
    return 100 * spread({number: row.values("cer") for number, row in enumerate(rows) if row.passes == passes})


def _change_text(rows: Sequence[Row], row: Row) -> str:
    """Return by how many points a row's CER differs from the yardstick's after as many passes, in bold where that counts."""
    first = _yardstick(rows, row.passes)
    if first is None or first is row:
        return ""
    change = 100 * float(np.mean(row.values("cer")) - np.mean(first.values("cer")))
    return f"**{change:+.1f}**" if abs(change) > COUNTS * _spread(rows, row.passes) else f"{change:+.1f}"


def _rule(rows: Sequence[Row]) -> str:
    """Return how large a change of CER must be to count; nothing where no row is compared, or none has several seeds."""
    spreads = {passes: _spread(rows, passes) for passes in sorted({r.passes for r in rows if _change_text(rows, r)})}
    known = [
        f"{COUNTS * one:.1f} points after {passes} passes" for passes, one in spreads.items() if not math.isnan(one)
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
    fused = min(rows, key=_fused_wer)
    for row in dict.fromkeys([rows.index(best), rows.index(best if _fused_wer(fused) == math.inf else fused)]):
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


def _fused_wer(row: Row) -> float:
    """Return the lowest mean WER with a language model, phonemes or not; infinite without one."""
    found = (row.values(kind) for kind in ("wer_lm", "wer_sounds"))
    return min((float(np.mean(values)) for values in found if values), default=math.inf)


def _change(first: Row, second: Row, unit: str, decoding: str) -> str:
    """Return how an error rate changes from one row to another, pair by pair; nothing without any pair.

    A row that was not read by phonemes is compared as it was read by letters.
    """
    longest = first.records[0]["configuration"]["max_duration"]
    pair = [errors_of(row.records[0], decoding, longest) for row in (first, second)]
    if decoding == SOUNDS and pair[0] is None:
        pair[0] = errors_of(first.records[0], FUSED, longest)
    return "" if None in pair else _difference(*pair, UNITS[unit])


def _difference(first: ErrorCounts, second: ErrorCounts, unit: str) -> str:
    change, low, high = (100 * value for value in first.difference(second, unit))
    return f"{change:+.1f} [{low:+.1f}, {high:+.1f}]"
