"""What a question of the study is made of, and what its runs say about the reference's findings.

A `Question` holds configurations under short labels, and claims: the findings of the reference study, in a form that can be
checked. `conclusions` computes the verdicts from the runs; nothing in them is written by hand.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from vuilab.models.builder import RNNModel
from vuilab.training.options import OptimizerOptions

FULL_WIDTH = 200  # units and filters of the reference
TINY_WIDTH = 24  # in a trial of the machinery
COUNTS = 2  # a difference of means counts when it exceeds so many times the spread over seeds


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network with its features and learning rate."""

    model: RNNModel
    features: str = "spectrogram"  # or 'mfcc', 'raw'
    learning_rate: float | None = None  # None: the default, 0.02

    @property
    def name(self) -> str:
        """The run's name."""
        return self.model.name(self.features)

    def optimizer(self):
        """Return a fresh optimiser with this learning rate."""
        return OptimizerOptions(learning_rate=self.learning_rate).build()

    def scaled(self, width: int) -> "Setting":
        """Return the same network with `width` units and filters in the place of 200, others in proportion."""

        def scale(units: int) -> int:
            return max(1, round(units * width / FULL_WIDTH))

        cnn = self.model.cnn_config
        if cnn is not None:
            cnn = dataclasses.replace(cnn, filters=scale(cnn.filters))
        units = scale(self.model.rnn_units)
        if not self.model.time_distributed_dense:
            units = max(units, 32)  # the classes of the softmax
        return dataclasses.replace(self, model=dataclasses.replace(self.model, cnn_config=cnn, rnn_units=units))

    def shallow(self) -> "Setting":
        """Return the same network with at most one recurrent layer; these are what takes long to build."""
        layers = min(self.model.rnn_layers, 1)
        return dataclasses.replace(self, model=dataclasses.replace(self.model, rnn_layers=layers, rnn_dense=False))


@dataclasses.dataclass(frozen=True)
class Claim:
    """A finding of the reference that runs can confirm or contradict.

    Either `better` has a lower validation loss than each of `others`, or, with `better` left out, all of `others` are alike.
    """

    text: str
    others: tuple[str, ...]
    better: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All configurations that the claim speaks of."""
        return self.others if self.better is None else (self.better, *self.others)


@dataclasses.dataclass(frozen=True)
class Question:
    """A section of the study.

    Args:
        key: short name, for the command line.
        title: the question.
        text: what is compared and why, for the notebook.
        settings: label -> what is trained.
        claims: what the reference found.
        evidence: smaller networks under the same labels, for a comparison with several seeds on a small machine.
        tiny: labels that stand for the question in a trial of the machinery.
    """

    key: str
    title: str
    text: str
    settings: Mapping[str, Setting]
    claims: tuple[Claim, ...]
    evidence: Mapping[str, Setting] = dataclasses.field(default_factory=dict)
    tiny: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for claim in self.claims:
            unknown = set(claim.labels) - set(self.settings)
            if unknown:
                raise ValueError(
                    f"Question {self.key!r}: a claim names {sorted(unknown)}, which are no configurations."
                )
        foreign = (set(self.evidence) | set(self.tiny)) - set(self.settings)
        if foreign:
            raise ValueError(f"Question {self.key!r}: {sorted(foreign)} are no configurations.")

    def at_scale(self, scale: str) -> dict[str, Setting]:
        """Return what is trained.

        Args:
            scale: 'full': everything; 'evidence': the small comparison; 'tiny': a trial of the machinery; 'smoke': that with one
                recurrent layer, in seconds.
        """
        if scale == "full":
            return dict(self.settings)
        if scale == "evidence":
            return dict(self.evidence)
        if scale in ("tiny", "smoke"):
            narrow = {label: self.settings[label].scaled(TINY_WIDTH) for label in self.tiny}
            return {label: setting.shallow() for label, setting in narrow.items()} if scale == "smoke" else narrow
        raise ValueError(f"scale must be 'smoke', 'tiny', 'evidence' or 'full'. Received: scale={scale!r}")


# ------------------------------------------------------------------------------------------------ conclusions


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the runs say about a claim."""

    claim: Claim
    outcome: str  # 'holds', 'does not hold', 'undecided' or 'not run'
    reason: str

    def __str__(self) -> str:
        return f"The reference found: {self.claim.text} Here: {self.outcome} ({self.reason})."


def spread(losses: Mapping[str, Sequence[float]]) -> float:
    """Return the largest standard deviation over seeds among the configurations; NaN where each has one run only."""
    deviations = [float(np.std(values, ddof=1)) for values in losses.values() if len(values) > 1]
    return max(deviations) if deviations else math.nan


def judge(claim: Claim, losses: Mapping[str, Sequence[float]]) -> Verdict:
    """Hold a claim against best validation losses; a difference of means counts when it exceeds twice the spread over seeds.

    Args:
        claim: of the reference.
        losses: label -> one best validation loss per seed, in nats per utterance; NaN or infinite for a run that diverged.
    """
    missing = [label for label in claim.labels if not losses.get(label)]
    if missing:
        return Verdict(claim, "not run", f"no runs of {', '.join(missing)}")
    used = {label: list(losses[label]) for label in claim.labels}
    diverged = [label for label, values in used.items() if not np.isfinite(values).all()]
    if diverged:
        return Verdict(claim, "undecided", f"the loss of {', '.join(diverged)} became undefined in at least one run")
    threshold = COUNTS * spread(used)
    if math.isnan(threshold):
        return Verdict(claim, "undecided", "one seed each, so that chance cannot be told from a difference")
    means = {label: float(np.mean(values)) for label, values in used.items()}
    if claim.better is None:
        low, high = min(means, key=means.get), max(means, key=means.get)
        gap = means[high] - means[low]
        outcome = "does not hold" if gap > threshold else "holds, as far as these runs can tell"
        return Verdict(
            claim, outcome, f"{high} is {gap:.1f} nats above {low}, twice the spread over seeds is {threshold:.1f}"
        )
    gaps = {label: means[label] - means[claim.better] for label in claim.others}
    closest = min(gaps, key=gaps.get)
    if gaps[closest] > threshold:
        outcome = "holds"
    elif gaps[closest] < -threshold:
        outcome = "does not hold"
    else:
        outcome = "undecided"
    word = "below" if gaps[closest] >= 0 else "above"
    return Verdict(
        claim,
        outcome,
        f"{claim.better} is {abs(gaps[closest]):.1f} nats {word} {closest}, twice the spread over seeds is {threshold:.1f}",
    )


def conclusions(question: Question, losses: Mapping[str, Sequence[float]]) -> list[str]:
    """Return what the runs of a question show, in sentences: the configurations in order, then a verdict for each claim.

    Args:
        question: the question.
        losses: label -> best validation losses, one per seed; labels that were not run are absent or empty.
    """
    finite = {label: values for label, values in losses.items() if len(values) and np.isfinite(values).all()}
    ranking = sorted(finite, key=lambda label: float(np.mean(finite[label])))
    sentences = []
    if ranking:
        parts = [f"{label} {_mean_text(finite[label])}" for label in ranking]
        sentences.append("Best validation loss in nats per utterance, lowest first: " + "; ".join(parts) + ".")
    sentences += [str(judge(claim, losses)) for claim in question.claims]
    return sentences


def _mean_text(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f} (one seed)"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f} ({len(values)} seeds)"
