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
        cnn, units = self.model.cnn_config, max(1, round(self.model.rnn_units * width / FULL_WIDTH))
        if cnn is not None:
            cnn = dataclasses.replace(cnn, filters=max(1, round(cnn.filters * width / FULL_WIDTH)))
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

    Raises:
        ValueError: at construction, for labels that are no configurations.
    """

    title: str
    text: str  # what is compared and why, for the notebook
    settings: Mapping[str, Setting]  # label -> what is trained
    claims: tuple[Claim, ...] = ()  # what the reference found
    # smaller networks under the same labels, for a comparison with several seeds on a small machine
    evidence: Mapping[str, Setting] = dataclasses.field(default_factory=dict)
    tiny: tuple[str, ...] = ()  # labels that stand for the question in a trial of the machinery

    def __post_init__(self) -> None:
        named = {*self.evidence, *self.tiny, *(label for claim in self.claims for label in claim.labels)}
        if unknown := named - set(self.settings):
            raise ValueError(f"{self.title!r} names {sorted(unknown)}, which are none of {list(self.settings)}.")

    def at_scale(self, scale: str) -> dict[str, Setting]:
        """Return what is trained.

        Args:
            scale: 'full': everything; 'evidence': the small comparison; 'tiny': a trial of the machinery; 'smoke': that with one
                recurrent layer, in seconds.
        """
        if scale not in ("smoke", "tiny", "evidence", "full"):
            raise ValueError(f"scale must be 'smoke', 'tiny', 'evidence' or 'full'. Received: scale={scale!r}")
        if scale in ("evidence", "full"):
            return dict(self.evidence if scale == "evidence" else self.settings)
        narrow = {label: self.settings[label].scaled(TINY_WIDTH) for label in self.tiny}
        return {label: setting.shallow() for label, setting in narrow.items()} if scale == "smoke" else narrow


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
    return max((float(np.std(values, ddof=1)) for values in losses.values() if len(values) > 1), default=math.nan)


def judge(claim: Claim, losses: Mapping[str, Sequence[float]]) -> Verdict:
    """Hold a claim against best validation losses; a difference of means counts when it exceeds twice the spread over seeds.

    Args:
        claim: of the reference.
        losses: label -> one best validation loss per seed, in nats per utterance; NaN or infinite for a run that diverged.
    """
    used = {label: losses.get(label, ()) for label in claim.labels}
    missing = ", ".join(label for label, values in used.items() if not len(values))
    if missing:
        return Verdict(claim, "not run", f"no runs of {missing}")
    diverged = ", ".join(label for label, values in used.items() if not np.isfinite(values).all())
    if diverged:
        return Verdict(claim, "undecided", f"the loss of {diverged} became undefined in at least one run")
    threshold = COUNTS * spread(used)
    if math.isnan(threshold):
        return Verdict(claim, "undecided", "one seed each, so that chance cannot be told from a difference")
    means = {label: float(np.mean(values)) for label, values in used.items()}
    rest = f"twice the spread over seeds is {threshold:.1f}"
    if claim.better is None:
        low, high = min(means, key=means.get), max(means, key=means.get)
        gap = means[high] - means[low]
        outcome = "does not hold" if gap > threshold else "holds, as far as these runs can tell"
        return Verdict(claim, outcome, f"{high} is {gap:.1f} nats above {low}, {rest}")
    closest = min(claim.others, key=means.get)
    gap = means[closest] - means[claim.better]
    outcome = "undecided" if abs(gap) <= threshold else "holds" if gap > 0 else "does not hold"
    word = "below" if gap >= 0 else "above"
    return Verdict(claim, outcome, f"{claim.better} is {abs(gap):.1f} nats {word} {closest}, {rest}")


def conclusions(question: Question, losses: Mapping[str, Sequence[float]]) -> list[str]:
    """Return what the runs of a question show, in sentences: the configurations in order, then a verdict for each claim.

    The losses are those of `judge`; labels that were not run are absent or empty.
    """
    finite = {label: values for label, values in losses.items() if len(values) and np.isfinite(values).all()}
    parts = []
    for label in sorted(finite, key=lambda label: np.mean(finite[label])):
        seeds = "one seed" if len(finite[label]) == 1 else f"{len(finite[label])} seeds"
        parts.append(f"{label} {mean_text(finite[label])} ({seeds})")
    order = f"Best validation loss in nats per utterance, lowest first: {'; '.join(parts)}."
    return [*([order] if parts else []), *(str(judge(claim, losses)) for claim in question.claims)]


def mean_text(values: Sequence[float]) -> str:
    """Return the mean, and with several values their standard deviation."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")
