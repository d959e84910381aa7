"""What the notebook says about keyword classifiers: tables and sentences computed from datasets, run records and scores.

Another winner, a tie, a label that nobody recognises or a corpus that lacks words changes the words.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from vuilab.keywords.corpus import PARTS, Dataset
from vuilab.keywords.scores import KeywordScore, Proportion, score_of
from vuilab.runs.history import load_history
from vuilab.runs.record import RESULTS, read_record
from vuilab.text import escape_markdown, join, markdown_rows, percent_with_interval

Ranked = TypeVar("Ranked")
NOISE_COLUMNS = 6  # of a table of noise, from the loudest; wider ones are hard to read
OVERFITS = 1.1  # so many times its minimum the development loss must be at the end before the text speaks of it


# ------------------------------------------------------------------------------------------------ the split


def split_table(dataset: Dataset) -> str:
    """Return clips of each label and speakers of each part as a Markdown table."""
    counts = dataset.counts()
    rows = [
        [part, f"{len(dataset.speakers(part)):,}", *(f"{counts[part][label]:,}" for label in dataset.labels)]
        for part in PARTS
    ]
    return markdown_rows(["part", "speakers", *map(escape_markdown, dataset.labels)], rows)


def split_reading(dataset: Dataset) -> str:
    """Say how many clips and speakers there are, whether a speaker is in two parts, and which commands are missing."""
    speakers = {part: set(dataset.speakers(part)) for part in PARTS}
    shared = sum(len(speakers[a] & speakers[b]) for n, a in enumerate(PARTS) for b in PARTS[n + 1 :])
    text = (
        f"{len(dataset.clips):,} clips with {len(dataset.labels)} labels, the words by {len(set().union(*speakers.values())):,} "
        "speakers. "
    )
    text += (
        "No speaker is in two parts."
        if not shared
        else f"**{shared} speakers are in two parts**, so accuracies would flatter."
    )
    empty = [part for part in PARTS if not dataset.part(part)]
    if empty:
        text += f" There are no clips for: {join(empty)}."
    if dataset.missing:
        text += (
            f" Of the ten commands the corpus lacks {join(dataset.missing)}, so the task is easier by as many labels."
        )
    return text


# --------------------------------------------------------------------------------------------------- the runs


@dataclasses.dataclass(frozen=True)
class KeywordRun:
    """A finished run of `train_keywords`."""

    name: str
    record: dict
    history: dict[str, list[float]]

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.record["parameters"]

    @property
    def seconds(self) -> float:
        """Seconds that training took, validation included."""
        return self.record["wall_seconds"]

    @property
    def score(self) -> KeywordScore:
        """Return what the best weights made of the validation part."""
        return score_of(self.record["report"])

    @property
    def accuracy(self) -> Proportion:
        """Accuracy on the validation part."""
        return self.score.accuracy

    @property
    def development_accuracy(self) -> float:
        """Accuracy on the development part, which chose the weights, at the epoch that they are from."""
        return self.history["val_accuracy"][self.record["best_epoch"] - 1]

    @property
    def development_loss(self) -> float:
        """Loss on the development part at that epoch, in nats per clip."""
        return self.history["val_loss"][self.record["best_epoch"] - 1]


def load_keyword_runs(names: Sequence[str], folder: str | Path = RESULTS) -> list[KeywordRun]:
    """Read the runs with these names that are there, in this order.

    Args:
        names: of runs; those that were never trained are left out.
        folder: where records and histories are.

    Raises:
        FileNotFoundError: when none of them is there.
        ValueError: when a run was stopped before it was measured, or a file is damaged.
    """
    folder, runs = Path(folder), []
    for name in names:
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        record = read_record(path)
        if "report" not in record:
            raise ValueError(
                f"The run {name} has not been measured on the validation part: it was stopped, or that part has no clips. Train "
                "it again with resume=True."
            )
        runs.append(KeywordRun(name, record, load_history(folder / f"{name}.pickle")))
    if not runs:
        raise FileNotFoundError(f"No finished run in {folder} is called {' or '.join(names)}. Train one of them first.")
    return runs


def best_run(runs: Sequence[KeywordRun]) -> KeywordRun:
    """Return the run that is best on the development part: highest accuracy, then lowest loss.

    The validation part has no say, so that its accuracy stays an honest estimate.
    """
    return max(
        runs,
        key=lambda run: (
            run.development_accuracy,
            -run.development_loss if math.isfinite(run.development_loss) else -math.inf,
        ),
    )


def runs_table(runs: Sequence[KeywordRun], latencies: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Return the runs as a Markdown table.

    Args:
        runs: to show.
        latencies: name of the run -> what `scores.latency` measured.
    """
    head = ["model", "parameters", "accuracy % [95 %]", "errors", "epoch", "training (s)"]
    rows = [
        [
            escape_markdown(run.name),
            f"{run.parameters:,}",
            _percent(run.accuracy),
            f"{run.score.num_errors} of {run.score.num_clips:,}",
            f"{run.record['best_epoch']} of {run.record['epochs']}",
            f"{run.seconds:.0f}",
        ]
        for run in runs
    ]
    if latencies:
        head.append("one clip (ms)")
        rows = [
            [*row, f"{latencies[run.name]['total_ms']:.1f}" if run.name in latencies else ""]
            for row, run in zip(rows, runs, strict=True)
        ]
    return markdown_rows(head, rows)


def findings(runs: Sequence[KeywordRun]) -> list[str]:
    """State what a comparison shows: who recognises most and how surely, chance, size, and runs that overfit."""
    ranked = sorted(runs, key=lambda run: -run.accuracy.rate)
    return [_lead(ranked), _chance(ranked), *_size(ranked), _overfitting(ranked)]


def overlapping(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Return those whose interval reaches into that of the first, which is the best: whom this many clips do not tell apart.

    Args:
        ranked: anything with an `accuracy`, best first.
    """
    return [other for other in ranked[1:] if other.accuracy.interval[1] >= ranked[0].accuracy.interval[0]]


def _lead(ranked: Sequence[KeywordRun]) -> str:
    best = ranked[0]
    text = f"{best.name} recognises most, {best.accuracy} of {best.score.num_clips:,} clips (95 % interval of Wilson)"
    if len(ranked) == 1:
        return text + "; there is no other run to compare it with."
    ties = overlapping(ranked)
    if not ties:
        return text + f"; the next, {ranked[1].name}, has {ranked[1].accuracy}, and the intervals do not overlap."
    names = join([f"{run.name} ({100 * run.accuracy.rate:.1f} %)" for run in ties])
    which = "whose interval overlaps" if len(ties) == 1 else "whose intervals overlap"
    return text + f", but not surely more than {names}, {which} with it: this many clips do not decide between them."


def _chance(ranked: Sequence[KeywordRun]) -> str:
    totals = ranked[0].score.confusion.sum(axis=1)
    chance = float(totals.max() / totals.sum())
    poor = [run.name for run in ranked if run.accuracy.interval[0] <= chance]
    text = f"Who always gives the most frequent label is right in {100 * chance:.1f} %"
    if not poor:
        return text + "; all models are clearly above that."
    return text + f"; {join(poor)} {'is' if len(poor) == 1 else 'are'} not clearly above that."


def _size(ranked: Sequence[KeywordRun]) -> list[str]:
    if len(ranked) < 2:
        return []
    smallest, largest = (choose(ranked, key=lambda run: run.parameters) for choose in (min, max))
    points = 100 * (largest.accuracy.rate - smallest.accuracy.rate)
    verdict = (
        "recognises as much" if points == 0 else f"is {abs(points):.1f} points {'better' if points > 0 else 'worse'}"
    )
    return [
        f"The largest model, {largest.name}, has {largest.parameters / smallest.parameters:,.1f} times the parameters of the "
        f"smallest, {smallest.name}, and {verdict}."
    ]


def _overfitting(ranked: Sequence[KeywordRun]) -> str:
    parts = [
        f"{run.name} (minimum {min(run.history['val_loss']):.2f}, {run.history['val_loss'][-1]:.2f} at the end)"
        for run in ranked
        if run.history["val_loss"][-1] > OVERFITS * min(run.history["val_loss"])
    ]
    if not parts:
        return "No run's development loss ends more than 10 % above its minimum, so none of them overfits clearly."
    return f"The development loss ends more than 10 % above its minimum in {join(parts)}: these learn their clips by heart."


# ----------------------------------------------------------------------------------- words, errors, noise


def words_table(score: KeywordScore) -> str:
    """Return precision and recall of each label as a Markdown table."""
    rows = [
        [
            escape_markdown(label),
            f"{score.recall[label].num_cases:,}",
            _percent(score.precision[label]),
            _percent(score.recall[label]),
        ]
        for label in score.labels
    ]
    return markdown_rows(["label", "clips", "precision % [95 %]", "recall % [95 %]"], rows)


def score_reading(score: KeywordScore) -> str:
    """Say which label is recognised least and what is taken for what most often."""
    if not score.num_errors:
        return f"All {score.num_clips:,} clips are recognised."
    recall = {label: value for label, value in score.recall.items() if value.num_cases}
    worst = min(recall, key=lambda label: recall[label].rate)
    text = (
        f"{score.num_errors} of {score.num_clips:,} clips are taken for something else. '{worst}' is recognised least, "
        f"{recall[worst].num_hits} of {recall[worst].num_cases} times. "
    )
    confusions = score.confusion - np.diag(np.diag(score.confusion))
    spoken, taken = np.unravel_index(confusions.argmax(), confusions.shape)
    most = int(confusions[spoken, taken])
    if most == 1:
        return text + "No confusion happens twice."
    return text + f"Most often, {most} times, '{score.labels[spoken]}' is taken for '{score.labels[taken]}'."


def errors_table(score: KeywordScore, number: int = 10) -> str:
    """Return the most confident errors as a Markdown table."""
    if not score.errors:
        return "There are no errors to list."
    rows = [
        [escape_markdown(text) for text in (error.key, error.label, error.predicted)]
        + [f"{100 * error.probability:.0f} %"]
        for error in score.errors[:number]
    ]
    table = markdown_rows(["clip", "spoken", "taken for", "probability"], rows)
    more = len(score.errors) - number
    return table + (f"\n\nAnd {more} more." if more > 0 else "")


def noise_table(noise: dict) -> str:
    """Return accuracies in percent as a Markdown table: a row for each colour of noise, a column for each of the lowest ratios.

    Args:
        noise: as `vui.py keywords evaluate --noise` records it.
    """
    head = ["noise", *(f"{snr:g} dB" for snr in noise["snr_db"][:NOISE_COLUMNS])]
    rows = [
        [colour, *(f"{100 * value['rate']:.1f}" for value in values[:NOISE_COLUMNS])]
        for colour, values in noise["accuracy"].items()
    ]
    return markdown_rows(head, rows)


def noise_reading(
    curve: Mapping[str, Sequence[Proportion]], snrs: Sequence[float], clean: Proportion | None = None
) -> str:
    """Say what the loudest noise costs, and which colour of noise costs most and least at the ratio where they differ most.

    Args:
        curve: from `scores.noise_curve`.
        snrs: its signal-to-noise ratios in dB.
        clean: accuracy without noise.
    """
    rates = np.array([[value.rate for value in values] for values in curve.values()])  # (num_colours, num_ratios)
    colours = list(curve)
    loudest = int(np.argmin(snrs))
    text = (
        f"At {snrs[loudest]:g} dB, the loudest noise, {100 * rates[:, loudest].mean():.0f} % are recognised on average"
    )
    text += f", without noise {100 * clean.rate:.0f} %. " if clean is not None else ". "
    spread = rates.max(axis=0) - rates.min(axis=0)
    place = int(spread.argmax())
    if len(colours) < 2 or not spread[place]:
        return text + "The colour of the noise makes no difference."
    worst, best = colours[int(rates[:, place].argmin())], colours[int(rates[:, place].argmax())]
    return text + (
        f"The colours differ most at {snrs[place]:g} dB: {worst} noise leaves {100 * rates[:, place].min():.0f} %, {best} noise "
        f"{100 * rates[:, place].max():.0f} %."
    )


def slopes_reading(slopes: Mapping[str, float]) -> str:
    """Say how far the measured slopes of noises (dB per octave) are from what their colours promise."""
    promised = {"white": 0.0, "pink": -3.0, "blue": 3.0, "brown": -6.0, "violet": 6.0}
    errors = {colour: abs(slope - promised[colour]) for colour, slope in slopes.items()}
    worst = max(errors, key=errors.get)
    listed = join([f"{colour} {round(slope, 1) + 0:+.1f}" for colour, slope in slopes.items()])
    return f"Measured slopes in dB per octave: {listed}. The furthest from its colour's is {worst}, by {errors[worst]:.2f} dB."


def conclusion(
    small: Sequence[KeywordRun],
    large: Sequence[KeywordRun],
    curve: Mapping[str, Sequence[Proportion]],
    snrs: Sequence[float],
) -> str:
    """Return the closing paragraph: the best of both tasks, what is hard, and noise.

    Args:
        small: runs of the first task.
        large: runs of the second.
        curve: from `noise_curve`, of the best of `large`.
        snrs: of the curve, in dB.
    """
    first, second = best_run(small), best_run(large)
    texts = [
        f"Of the models of {join(first.score.labels)}, the development part chose {first.name}, which recognises "
        f"{first.accuracy} of the validation clips. Of those with {len(second.score.labels)} labels it chose {second.name}, "
        f"which recognises {second.accuracy} with {second.parameters:,} parameters.",
        score_reading(second.score),
        noise_reading(curve, snrs, second.accuracy),
    ]
    if min(first.score.num_clips, second.score.num_clips) < 500:
        texts.append(
            "With so few clips the intervals are wide: a difference of some points between two models means little here."
        )
    return " ".join(texts)


def _percent(value: Proportion) -> str:
    return percent_with_interval(value.rate, *value.interval) if value.num_cases else ""
