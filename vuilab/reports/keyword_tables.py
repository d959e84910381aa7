"""Tables about keyword classifiers: the split, runs and their errors for the notebook, runs over several seeds for the pages."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vuilab.keywords.corpus import PARTS, Dataset
from vuilab.keywords.scores import KeywordScore, Proportion, score_of
from vuilab.runs.history import load_history
from vuilab.runs.record import RESULTS, read_record, read_records
from vuilab.text import escape_markdown, join, markdown_rows, percent_with_interval

NOISE_COLUMNS = 6  # of a recorded table of noise, from the loudest; pages show at most seven columns
HEAD = ["model", "parameters", "accuracy % [95 %]", "apart from the best"]
SLOPES = {"white": 0, "pink": -3, "blue": 3, "brown": -6, "violet": 6}  # dB per octave of each colour of noise


def split_table(dataset: Dataset) -> str:
    """Return a Markdown table of the parts: speakers, how many of them are in another part too, clips of each label."""
    counts, speakers = dataset.counts(), {part: set(dataset.speakers(part)) for part in PARTS}
    rows = []
    for part in PARTS:
        others = set().union(*(speakers[other] for other in PARTS if other != part))
        numbers = [len(speakers[part]), len(speakers[part] & others), *counts[part].values()]
        rows.append([part, *(f"{number:,}" for number in numbers)])
    return markdown_rows(["part", "speakers", "also in another part", *map(escape_markdown, dataset.labels)], rows)


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
    def score(self) -> KeywordScore:
        """Return what the best weights made of the validation part."""
        return score_of(self.record["report"])

    @property
    def accuracy(self) -> Proportion:
        """Accuracy on the validation part."""
        return self.score.accuracy

    def at_best(self, key: str) -> float:
        """Return 'val_accuracy' or 'val_loss' on the development part, which chose the weights, at the epoch they are from."""
        return self.history[key][self.record["best_epoch"] - 1]


def load_keyword_runs(names: Sequence[str], folder: str | Path = RESULTS) -> list[KeywordRun]:
    """Read the runs with these names that are in a folder, in this order; those that were never trained are left out.

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


def best_keyword_run(runs: Sequence[KeywordRun]) -> KeywordRun:
    """Return the run that is best on the development part: highest accuracy, then lowest loss.

    The validation part has no say, so that its accuracy stays an honest estimate.
    """

    def rank(run: KeywordRun) -> tuple[float, float]:
        loss = run.at_best("val_loss")
        return run.at_best("val_accuracy"), -loss if math.isfinite(loss) else -math.inf

    return max(runs, key=rank)


def apart_from_best(runs: Sequence[Any]) -> list[str]:
    """Return of each, by its `accuracy`, whether its interval lies below that of the best one: 'yes', 'no', or 'best'."""
    best = max(runs, key=lambda run: run.accuracy.rate)
    low = best.accuracy.interval[0]
    return ["best" if run is best else "yes" if run.accuracy.interval[1] < low else "no" for run in runs]


def runs_table(runs: Sequence[KeywordRun], latencies: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Return the runs of one task as a Markdown table, above what the most frequent label as only answer would reach.

    `latencies` has for the name of a run what `scores.latency` measured.
    """
    head = [*HEAD, "epoch", "loss at the end / lowest", "training (s)", "one clip (ms)"]
    rows = [
        [
            escape_markdown(run.name),
            f"{run.parameters:,}",
            _percent(run.accuracy),
            apart,
            f"{run.record['best_epoch']} of {run.record['epochs']}",
            f"{run.history['val_loss'][-1] / min(run.history['val_loss']):.2f}",
            f"{run.record['wall_seconds']:.0f}",
            f"{latencies[run.name]['total_ms']:.1f}" if latencies and run.name in latencies else "",
        ]
        for run, apart in zip(runs, apart_from_best(runs), strict=True)
    ]
    totals = runs[0].score.confusion.sum(axis=1)
    rows.append(["(most frequent label)", "0", f"{100 * totals.max() / totals.sum():.1f}", *[""] * 5])
    return markdown_rows(head, rows)


def best_table(tasks: Mapping[str, Sequence[KeywordRun]]) -> str:
    """Return a Markdown table of the run that the development part chose for each task: name -> runs."""
    rows = []
    for name, runs in tasks.items():
        best = best_keyword_run(runs)
        errors = f"{best.score.num_errors:,} of {best.score.num_clips:,}"
        cells = [f"{len(best.score.labels)}", escape_markdown(best.name), f"{best.parameters:,}"]
        rows.append([name, *cells, _percent(best.accuracy), errors])
    return markdown_rows(["task", "labels", "chosen model", "parameters", "accuracy % [95 %]", "errors"], rows)


def words_table(score: KeywordScore) -> str:
    """Return precision, recall and the most frequent wrong answer for each label as a Markdown table."""
    wrong = score.confusion - np.diag(np.diag(score.confusion))
    rows = []
    for label, row in zip(score.labels, wrong, strict=True):
        taken = f"{escape_markdown(score.labels[int(row.argmax())])} ({row.max()})" if row.any() else ""
        name, cases = escape_markdown(label), f"{score.recall[label].num_cases:,}"
        rows.append([name, cases, _percent(score.precision[label]), _percent(score.recall[label]), taken])
    return markdown_rows(["label", "clips", "precision % [95 %]", "recall % [95 %]", "most often taken for"], rows)


def errors_table(score: KeywordScore, number: int = 10) -> str:
    """Return the most confident errors as a Markdown table."""
    rows = [
        [*map(escape_markdown, (error.key, error.label, error.predicted)), f"{100 * error.probability:.0f} %"]
        for error in score.errors[:number]
    ]
    return markdown_rows(["clip", "spoken", "taken for", "probability"], rows)


def noise_table(snrs: Sequence[float], rates: Mapping[str, Sequence[float]]) -> str:
    """Return accuracies in percent as a Markdown table: ratios in dB, and for each colour of noise a row of shares of 1."""
    rows = [[colour, *(f"{100 * rate:.1f}" for rate in values)] for colour, values in rates.items()]
    return markdown_rows(["noise", *(f"{snr:g} dB" for snr in snrs)], rows)


def recorded_noise_table(noise: dict) -> str:
    """Return the table of what `vui.py keywords evaluate --noise` wrote into a record, for the lowest ratios."""
    accuracy, few = noise["accuracy"], slice(NOISE_COLUMNS)
    rates = {colour: [value["rate"] for value in values[few]] for colour, values in accuracy.items()}
    return noise_table(noise["snr_db"][few], rates)


def slopes_table(slopes: Mapping[str, float]) -> str:
    """Return measured slopes of noises (dB per octave) beside those of their colours as a Markdown table."""
    rows = [[colour, f"{round(slope, 2) + 0:+.2f}", f"{SLOPES[colour]:+.0f}"] for colour, slope in slopes.items()]
    return markdown_rows(["noise", "measured, dB per octave", "its colour's"], rows)


def _percent(value: Proportion) -> str:
    return percent_with_interval(value.rate, *value.interval) if value.num_cases else ""


@dataclasses.dataclass(frozen=True)
class SeededRuns:
    """The finished runs of one model on one task that differ in their seed only."""

    model: str  # name of the builder
    records: tuple[dict, ...]  # one for each seed, by seed

    @property
    def scores(self) -> list[KeywordScore]:
        """What each seed's weights made of the same clips."""
        return [score_of(record["report"]) for record in self.records]

    @property
    def accuracy(self) -> Proportion:
        """The mean over the seeds; its interval is that of one set of clips, since every seed is measured on the same ones."""
        scores = self.scores
        return Proportion(round(np.mean([score.accuracy.num_hits for score in scores])), scores[0].num_clips)

    @property
    def rate(self) -> float:
        """Mean accuracy over the seeds, not rounded to whole clips."""
        return float(np.mean([score.accuracy.rate for score in self.scores]))


def keyword_tasks(folder: str | Path) -> dict[tuple[str, ...], list[SeededRuns]]:
    """Return the runs in a folder: labels of the task -> models, best first; tasks in the order of their number of labels."""
    found: dict[tuple[str, ...], dict[tuple, list[dict]]] = {}
    ours = [
        one
        for one in read_records(folder)
        if one.get("configuration", {}).get("task") == "keywords" and "report" in one
    ]
    for record in sorted(ours, key=lambda one: one["configuration"]["seed"]):
        configuration = record["configuration"]
        train = record["corpus"]["train"]["num_clips"]
        same = (record["model"], configuration["features"]["kind"], configuration["epochs"], train)
        found.setdefault(tuple(configuration["labels"]), {}).setdefault(same, []).append(record)
    tasks = {}
    for labels in sorted(found, key=len):
        runs = [SeededRuns(model, tuple(records)) for (model, *_), records in found[labels].items()]
        tasks[labels] = sorted(runs, key=lambda one: -one.rate)
    return tasks


def keyword_block(folder: str | Path) -> str:
    """Return the Markdown of a block: for each task its labels and clips, a table, and the best model in noise.

    Raises:
        FileNotFoundError: when the folder holds no finished run of a keyword classifier.
    """
    tasks = keyword_tasks(folder)
    if not tasks:
        raise FileNotFoundError(f"{folder} holds no run of a keyword classifier. Train one: vui.py keywords train DIR")
    return "\n\n".join(_task(labels, models) for labels, models in tasks.items()) + "\n"


def _task(labels: Sequence[str], models: Sequence[SeededRuns]) -> str:
    corpus, clips = models[0].records[0]["corpus"], models[0].scores[0].num_clips
    speakers = [f"{corpus[part]['num_speakers']:,}" for part in ("train", "validation")]
    head = (
        f"**{join([escape_markdown(label) for label in labels])}** ({clips:,} validation clips; {speakers[0]} speakers for "
        f"training, {speakers[1]} others to choose the epoch)"
    )
    return "\n\n".join([head, _table(models), *_in_noise(models)])


def _in_noise(models: Sequence[SeededRuns]) -> list[str]:
    """Return a table of the accuracy in noise for the best model for which it was recorded, and its heading; or nothing."""
    for runs in models:
        for record in runs.records:
            noise = record.get("evaluation", {}).get("noise")
            if noise:
                seed = record["configuration"]["seed"]
                heading = f"Accuracy of {escape_markdown(runs.model)} (seed {seed}) in noise, %:"
                return [heading, recorded_noise_table(noise)]
    return []


def _table(models: Sequence[SeededRuns]) -> str:
    rows = []
    for runs, apart in zip(models, apart_from_best(models), strict=True):
        first = runs.records[0]
        minutes = np.median([record["seconds_per_epoch"] * record["epochs"] for record in runs.records]) / 60
        clips, epochs = first["corpus"]["train"]["num_clips"], first["configuration"]["epochs"]
        rows.append(
            [
                escape_markdown(runs.model),
                f"{first['parameters']:,}",
                percent_with_interval(runs.rate, *runs.accuracy.interval),
                apart,
                ", ".join(str(score.num_errors) for score in runs.scores),
                f"{clips:,} clips, {epochs} epochs, {minutes:.1f} min",
                _clip_milliseconds(runs.records),
            ]
        )
    return markdown_rows([*HEAD, "errors of each seed", "training", "one clip (ms)"], rows)


def _clip_milliseconds(records: Sequence[dict]) -> str:
    """Return how long features and network take for a batch of one, where it was recorded."""
    measured = [record["evaluation"] for record in records if "latency" in record.get("evaluation", {})]
    return f"{np.median([found['latency']['total_ms'] for found in measured]):.1f}" if measured else ""
