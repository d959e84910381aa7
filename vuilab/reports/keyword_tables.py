"""Keyword classifiers over several seeds: what a folder of run records adds up to, as tables for the README."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vuilab.keywords.scores import KeywordScore, Proportion, score_of
from vuilab.keywords.tables import noise_table, overlapping
from vuilab.runs.record import read_records
from vuilab.text import escape_markdown, join, markdown_rows, percent_with_interval


@dataclasses.dataclass(frozen=True)
class SeededRuns:
    """The finished runs of one model on one task that differ in their seed only.

    Args:
        model: name of the builder.
        records: one run record for each seed, by seed.
    """

    model: str
    records: tuple[dict, ...]

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
    for record in read_records(folder):
        configuration = record.get("configuration", {})
        if configuration.get("task") != "keywords" or "report" not in record:
            continue
        train = record["corpus"]["train"]["num_clips"]
        same = (record["model"], configuration["features"]["kind"], configuration["epochs"], train)
        found.setdefault(tuple(configuration["labels"]), {}).setdefault(same, []).append(record)
    return {
        labels: sorted(
            (
                SeededRuns(same[0], tuple(sorted(runs, key=lambda record: record["configuration"]["seed"])))
                for same, runs in found[labels].items()
            ),
            key=lambda runs: -runs.rate,
        )
        for labels in sorted(found, key=len)
    }


def keyword_block(folder: str | Path) -> str:
    """Return the Markdown of a README block: for each task a sentence on its clips, a table, and who is best.

    Raises:
        FileNotFoundError: when the folder holds no finished run of a keyword classifier.
    """
    tasks = keyword_tasks(folder)
    if not tasks:
        raise FileNotFoundError(f"{folder} holds no run of a keyword classifier. Train one: vui.py keywords train DIR")
    return "\n\n".join(_task(labels, models) for labels, models in tasks.items()) + "\n"


def _task(labels: Sequence[str], models: Sequence[SeededRuns]) -> str:
    corpus, clips = models[0].records[0]["corpus"], models[0].scores[0].num_clips
    head = (
        f"**{join([escape_markdown(label) for label in labels])}.** Accuracy on the {clips:,} validation clips. The epoch was "
        f"chosen on clips of {corpus['validation']['num_speakers']:,} other speakers; those of training "
        f"({corpus['train']['num_speakers']:,}) are in neither."
    )
    return "\n\n".join([head, _table(models), _finding(models), *_in_noise(models)])


def _in_noise(models: Sequence[SeededRuns]) -> list[str]:
    """Return a table of the accuracy in noise for the best model for which it was recorded, and its heading; or nothing."""
    for runs in models:
        for record in runs.records:
            noise = record.get("evaluation", {}).get("noise")
            if noise:
                seed = record["configuration"]["seed"]
                return [f"Accuracy of {escape_markdown(runs.model)} (seed {seed}) in noise, %:", noise_table(noise)]
    return []


def _table(models: Sequence[SeededRuns]) -> str:
    head = [
        "model",
        "parameters",
        "accuracy % [95 %]",
        "errors by seed",
        "training clips",
        "training (min)",
        "one clip (ms)",
    ]
    rows = [
        [
            escape_markdown(runs.model),
            f"{runs.records[0]['parameters']:,}",
            percent_with_interval(runs.rate, *runs.accuracy.interval),
            ", ".join(str(score.num_errors) for score in runs.scores),
            f"{runs.records[0]['corpus']['train']['num_clips']:,}",
            f"{np.median([_seconds(record) for record in runs.records]) / 60:.1f}",
            _clip_milliseconds(runs.records),
        ]
        for runs in models
    ]
    return markdown_rows(head, rows)


def _clip_milliseconds(records: Sequence[dict]) -> str:
    """Return how long features and network take for a batch of one, where it was recorded."""
    found = [
        record["evaluation"]["latency"]["total_ms"] for record in records if "latency" in record.get("evaluation", {})
    ]
    return f"{np.median(found):.1f}" if found else ""


def _seconds(record: dict) -> float:
    return record["seconds_per_epoch"] * record["epochs"]


def _finding(models: Sequence[SeededRuns]) -> str:
    best = models[0]

    def name(runs: SeededRuns) -> str:
        alike = [other for other in models if other.model == runs.model]
        clips = runs.records[0]["corpus"]["train"]["num_clips"]
        return runs.model if len(alike) == 1 else f"{runs.model} trained on {clips:,} clips"

    several = len(best.records) > 1
    text = f"{name(best)} is best{' on average' if several else ''}, {100 * best.rate:.1f} %"
    if len(models) == 1:
        return text + "."
    near = overlapping(models)
    if not near:
        return text + f"; the interval of the next, {name(models[1])}, does not overlap with its own."
    names = join([f"{name(runs)} ({100 * runs.rate:.1f} %)" for runs in near])
    return (
        text
        + f"; the interval{'s' if len(near) > 1 else ''} of {names} overlap{'' if len(near) > 1 else 's'} with its own."
    )
