"""Comparing runs: the loss plot, the results table, and sentences that state what the numbers say.

Everything is computed from the pickled histories and the run records beside them, so that another winner, a tie or a
diverged run changes the words.
"""

import dataclasses
import fnmatch
import html
import math
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vuilab.figures import curve_style
from vuilab.files import asset
from vuilab.runs.history import load_history
from vuilab.runs.record import RESULTS, read_record
from vuilab.text import join, markdown_rows, percent_with_interval

WORD = re.compile(
    r"(?<!\S)(?:(?:relu|BN|DO\(\S+\))(?: (?=relu|BN|DO\())?)+(?!\S)|(?:[^\s(]|\((?:[^()]|\([^()]*\))*\))+"
)
LONGEST_LABEL = 28  # characters beside a curve
NO_LETTERS = 0.995  # CER from which on nothing has been learnt
TIE = 0.02  # relative difference of two losses under which the text speaks of a tie (one seed each)
OVERFITS = 1.05  # times its minimum, beyond which a validation loss at the end says that a run overfits


@dataclasses.dataclass(frozen=True)
class RunResult:
    """A run as the comparison sees it."""

    name: str
    history: dict[str, list[float]]
    record: dict | None = None

    def series(self, key: str) -> np.ndarray:
        """Return one curve, (num_epochs,); empty when the history has none."""
        return np.asarray(self.history.get(key, []), float)

    @property
    def best_loss(self) -> float:
        """Lowest validation loss in nats per utterance; NaN when there is none."""
        return self.at_best("val_loss")

    @property
    def best_epoch(self) -> int:
        """Epoch of the lowest validation loss, from 1; 0 when there is none."""
        losses = self.series("val_loss")
        return int(np.nanargmin(losses)) + 1 if np.isfinite(losses).any() else 0

    @property
    def diverged_epoch(self) -> int:
        """First epoch with a loss that is NaN or infinite, from 1; 0 when there is none."""
        wrong = [np.flatnonzero(~np.isfinite(self.series(key))) for key in ("loss", "val_loss")]
        return int(np.concatenate(wrong).min()) + 1 if any(map(len, wrong)) else 0

    def at_best(self, key: str) -> float:
        """Return a curve's value at the epoch with the lowest validation loss."""
        series = self.series(key)
        return float(series[self.best_epoch - 1]) if 0 < self.best_epoch <= len(series) else math.nan

    @property
    def seconds_per_epoch(self) -> float:
        """Median seconds of an epoch, validation included."""
        seconds = self.series("seconds")
        return float(np.median(seconds)) if len(seconds) else math.nan

    @property
    def parameters(self) -> int | None:
        """Number of parameters, from the run record."""
        return (self.record or {}).get("parameters")


def load_runs(model_names: Sequence[str] | None = None, folder: str | Path = RESULTS) -> list[RunResult]:
    """Read the pickled histories in a folder.

    A run is called by the full name in its record, where it has one (the study's runs do), else by its file.

    Args:
        model_names: names or patterns such as 'model_*', of files or full names, in the order to show; None: all, sorted.

    Raises:
        FileNotFoundError: when there are none, or one of the names matches nothing.
        ValueError: when a pickle is no plain history.
    """
    stems = sorted(path.stem for path in Path(folder).glob("*.pickle"))
    records_of = {stem: read_record(path) for stem in stems if (path := Path(folder) / f"{stem}.json").is_file()}
    full_name = {stem: records_of.get(stem, {}).get("full_name", stem) for stem in stems}
    matches = {
        pattern: [
            stem
            for stem in stems
            if any(name == pattern or fnmatch.fnmatchcase(name, pattern) for name in (stem, full_name[stem]))
        ]
        for pattern in model_names or ()
    }
    missing = [pattern for pattern, found in matches.items() if not found]
    chosen = stems if model_names is None else [stem for found in matches.values() for stem in found]
    if missing or not chosen:
        raise FileNotFoundError(
            f"No history in {folder} matches {missing or 'anything'}; there are: "
            f"{sorted(set(full_name.values()))}. Train that model first, or check the name."
        )
    runs = []
    for stem in dict.fromkeys(chosen):
        alike = [other for other in stems if full_name[other] == full_name[stem]]
        name = full_name[stem] if len(alike) == 1 else f"{full_name[stem]} [{alike.index(stem) + 1}]"
        runs.append(RunResult(name, load_history(Path(folder) / f"{stem}.pickle"), records_of.get(stem)))
    return runs


def short_labels(names: Sequence[str]) -> list[str]:
    """Return what tells names apart: the words that all of them share are left out.

    Example:
        >>> short_labels(["Spec BD(sum) GRU(200 x1) TD(D)", "Spec BD(mul) GRU(200 x1) TD(D)"])
        ['BD(sum)', 'BD(mul)']
    """
    words = [[match[0] for match in WORD.finditer(name)] for name in names]
    shared = set.intersection(*map(set, words)) if len(names) > 1 else set()
    short = [" ".join(word for word in row if word not in shared) for row in words]
    return short if len(set(short)) == len(set(names)) and all(short) else list(names)


def plot_comparison(
    model_names: Sequence[str] | None = None,
    min_loss: float | None = None,
    max_loss: float | None = None,
    max_epoch: int | None = None,
    *,
    folder: str | Path = RESULTS,
) -> Figure:
    """Plot training and validation loss and validation CER of several runs, each curve labelled at its end.

    Args:
        model_names, folder: names or patterns, None: every pickle, and where the histories are.
        min_loss, max_loss, max_epoch: limits of the loss axes, and right limit of the epoch axes.
    """
    runs = load_runs(model_names, folder)
    panels = [("loss", "training loss (nats per utterance)"), ("val_loss", "validation loss (nats per utterance)")]
    if any(len(run.series("val_cer")) for run in runs):
        panels.append(("val_cer", "validation character error rate (%)"))
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 4.6), layout="constrained")
    labels = short_labels([run.name for run in runs])
    numbered = max(map(len, labels)) > LONGEST_LABEL  # then the curves bear numbers, and a key stands below
    run_labels = [str(number) for number in range(1, len(runs) + 1)] if numbered else labels
    longest = max_epoch or max(len(run.series("loss")) for run in runs)
    for ax, (key, label) in zip(axes, panels, strict=True):
        ends = []
        for number, (run, run_label) in enumerate(zip(runs, run_labels, strict=True)):
            values = run.series(key)[:longest] * (100 if key == "val_cer" else 1)
            if not np.isfinite(values).any():
                continue
            style = {**curve_style(number), "markevery": max(1, longest // 10)}
            ax.plot(np.arange(1, len(values) + 1), values, **style)
            last = np.flatnonzero(np.isfinite(values))[-1]
            ends.append((last + 1, values[last], run_label, style["color"]))
        ax.set(xlabel="epoch", ylabel=label, xlim=(1, max(longest, 2)))
        if key != "val_cer":
            ax.set_ylim(bottom=min_loss, top=max_loss)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _label_ends(ax, ends)
    if numbered:
        lines = [Line2D([], [], **curve_style(number)) for number in range(len(runs))]
        key = [f"{number}: {label}" for number, label in zip(run_labels, labels, strict=True)]
        figure.legend(lines, key, loc="outside lower left", fontsize=8, frameon=False)
    return figure


def _label_ends(ax, ends: list[tuple[float, float, str, tuple]]) -> None:
    """Write each curve's name beside its last point, moved apart where names would overlap."""
    (low, high), right = ax.get_ylim(), ax.get_xlim()[1]
    gap = min(0.055, 1 / max(1, len(ends))) * (high - low)
    ends = sorted(ends, key=lambda end: end[1])
    places: list[float] = []
    for _, y, _, _ in ends:
        places.append(max(float(np.clip(y, low, high)), places[-1] + gap if places else -np.inf))
    for number in range(len(places) - 1, -1, -1):  # what was pushed over the top comes down again
        limit = high if number == len(places) - 1 else places[number + 1] - gap
        places[number] = min(places[number], limit)
    for (x, y, name, color), position in zip(ends, places, strict=True):
        arrow = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "linestyle": ":"}  # unlike any curve
        style = {"color": color, "fontsize": 8, "va": "center", "arrowprops": arrow, "annotation_clip": False}
        ax.annotate(name, (x, float(np.clip(y, low, high))), (right + 0.02 * (right - 1), position), **style)


# -------------------------------------------------------------------------------------------------- tables

COLUMNS = ("model", "parameters", "best validation loss", "CER %", "WER %", "WER % with LM", "epoch", "s / epoch")
FUSED = COLUMNS.index("WER % with LM")


def table(runs: Sequence[RunResult]) -> list[tuple[str, ...]]:
    """Return heading and one row of texts per run; CER and WER with their interval where it is known.

    The column of the language model is there when a run was evaluated with one (`vui.py evaluate --lm FILE --record`).

    Raises:
        ValueError: naming the run whose files are damaged.
    """
    rows = [COLUMNS, *map(_row, runs)]
    return rows if any(row[FUSED] for row in rows[1:]) else [row[:FUSED] + row[FUSED + 1 :] for row in rows]


def _row(run: RunResult) -> tuple[str, ...]:
    try:
        return _cells(run)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"The record or the history of {run.name} is damaged ({type(error).__name__}: {error}). Train it again, or move both."
        ) from error


def _cells(run: RunResult) -> tuple[str, ...]:
    fused = (run.record or {}).get("evaluation", {}).get("language_model", {}).get("wer")
    return (
        run.name,
        f"{run.parameters:,}" if run.parameters else "",
        "diverged" if math.isnan(run.best_loss) else f"{run.best_loss:.1f}",
        _rate_text(run, "cer"),
        _rate_text(run, "wer"),
        percent(fused) if fused else "",
        f"{run.best_epoch} of {len(run.series('loss'))}",
        f"{run.seconds_per_epoch:.1f}",
    )


def _rate_text(run: RunResult, kind: str) -> str:
    rate = (run.record or {}).get("scores", {}).get(kind)
    if rate and rate.get("rate") is not None:
        return percent(rate)
    value = run.at_best(f"val_{kind}")
    return "" if math.isnan(value) else f"{100 * value:.1f}"


def percent(rate: dict) -> str:
    """Return a rate with its interval, in percent, from the plain data of a record."""
    return percent_with_interval(rate["rate"], rate["low"], rate["high"])


def markdown_table(runs: Sequence[RunResult]) -> str:
    """Return the results table in Markdown."""
    head, *rows = table(runs)
    return markdown_rows(head, rows)


def text_table(runs: Sequence[RunResult]) -> str:
    """Return the results table for a terminal."""
    rows = table(runs)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        )  # the names to the left, numbers to the right
        for row in rows
    )


def html_table(runs: Sequence[RunResult]) -> str:
    """Return the results table as HTML whose columns sort at a click on their heading; it loads nothing."""
    columns, *rows = table(runs)
    head = "".join(f'<th scope="col"><button type="button">{html.escape(column)}</button></th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    rows_and_head = f'<table class="vui-sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return rows_and_head + asset("scoring/sortable.html")


# ------------------------------------------------------------------------------------------------ findings


def findings(runs: Sequence[RunResult], speed: bool = True) -> list[str]:
    """State what a comparison of at least one run shows, in sentences computed from its numbers.

    They are about the best run and how clear its lead is, runs that diverged, runs that overfit, and speed; not about `speed`
    where the machine did other work.
    """
    finite = sorted((run for run in runs if not math.isnan(run.best_loss)), key=lambda run: run.best_loss)
    sentences = []
    for run in runs:
        if run.diverged_epoch:
            reached = f"it is ranked by what it had reached in epoch {run.best_epoch}."
            rank = "it takes no part in the ranking." if math.isnan(run.best_loss) else reached
            sentences.append(
                f"The loss of {run.name} became undefined (NaN or infinite) in epoch {run.diverged_epoch}, so {rank}"
            )
    if not finite:
        return [*sentences, "No run has a finite validation loss, so there is nothing to rank."]
    best = finite[0]
    ties = [run for run in finite[1:] if run.best_loss <= best.best_loss * (1 + TIE)]
    lead = f"{best.name} has the lowest validation loss, {best.best_loss:.1f} nats per utterance in epoch {best.best_epoch}"
    if ties:
        names = join([f"{run.name} ({run.best_loss:.1f})" for run in ties])
        sentences.append(
            f"{lead}, but {names} {'is' if len(ties) == 1 else 'are'} within {100 * TIE:.0f} % of it: "
            "with one seed each that is a tie."
        )
    elif len(finite) > 1:
        second, more = finite[1], 100 * (finite[1].best_loss / best.best_loss - 1)
        sentences.append(f"{lead}; the next, {second.name}, is {more:.0f} % higher ({second.best_loss:.1f}).")
    else:
        sentences.append(f"{lead}; there is no other run to compare it with.")
    if len(finite) > 1:
        sentences.append(f"The highest is that of {finite[-1].name}, {finite[-1].best_loss:.1f}.")
    # those that put out nothing right in any epoch, as before CTC leaves its plateau of blanks
    silent = [
        run for run in finite if len(rates := run.series("val_cer")) and np.nanmin(rates, initial=np.inf) >= NO_LETTERS
    ]
    sentences += _overfitting([run for run in finite if run not in silent])
    if silent:
        sentences.append(f"{join([run.name for run in silent])} learnt no letters: the CER stays at 100 %.")
    return sentences + (_speed(finite) if speed else [])


def _overfitting(runs: Sequence[RunResult]) -> list[str]:
    share = f"{100 * (OVERFITS - 1):.0f} %"
    overfit = [(run, end) for run in runs if (end := run.series("val_loss")[-1]) > OVERFITS * run.best_loss]
    parts = [f"{run.name} (minimum in epoch {run.best_epoch}, {end:.1f} at the end)" for run, end in overfit]
    if not parts:
        return [f"No run's validation loss rises by more than {share} after its minimum, so none overfits clearly yet."]
    first = f"The validation loss rises again by more than {share} in {parts[0]}: further training fits the training set only."
    return [first, *(f"The same holds for {join(parts[n : n + 2])}." for n in range(1, len(parts), 2))]


def _speed(runs: Sequence[RunResult]) -> list[str]:
    timed = [run for run in runs if not math.isnan(run.seconds_per_epoch)]
    if len(timed) < 2 or timed[0] is not runs[0]:
        return []
    best, fastest = timed[0], min(timed, key=lambda run: run.seconds_per_epoch)
    if fastest is best:
        return [
            f"{best.name} is also the fastest, {best.seconds_per_epoch:.1f} s an epoch: here accuracy costs no time."
        ]
    ratio = best.seconds_per_epoch / fastest.seconds_per_epoch
    return [
        f"The fastest is {fastest.name} with {fastest.seconds_per_epoch:.1f} s an epoch; {best.name} takes {ratio:.1f} times as "
        f"long and has a validation loss {100 * (1 - best.best_loss / fastest.best_loss):.0f} % lower."
    ]
