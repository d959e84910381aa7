"""Sections of the study's notebook: what is compared, the committed runs in a figure and a table, and what follows from them.

Conclusions come from the comparison with several seeds on real speech, whose runs are committed in `results/study_evidence`, or
from the full-size runs of this session. A trial of the machinery draws none.
"""

from collections.abc import Mapping
from pathlib import Path

from IPython.display import Markdown, display

from vuilab.figures import show
from vuilab.models.builder import RNNModel
from vuilab.runs.record import RESULTS
from vuilab.scoring.predictions import print_predictions
from vuilab.study.claims import Question, Setting, conclusions, judge, mean_text
from vuilab.study.questions import QUESTIONS, question
from vuilab.study.runs import STUDY, best_losses, figure_of, get_generator, load_model, runs_of, train_settings
from vuilab.text import markdown_rows

EVIDENCE = RESULTS / "study_evidence"
SMOKE_TEST = ("features",)  # the questions that a smoke test of the notebook runs
SCALES = {"full": "full", "quick": "tiny", "tiny": "smoke"}  # of the notebook -> of the networks


def section(key: str, scale: str = "quick", epochs: int = 1, folder: str | Path = STUDY) -> None:
    """Show one question: its networks, the committed runs on real speech, and what they say about the reference's findings.

    Args:
        key: of the question.
        scale: 'full' also trains the networks of the reference at their own size and shows them.
        epochs, folder: passes over the training data, and the folder of their files, for 'full'.
    """
    item = question(key)
    rows = [(label, f"`{setting.name}`") for label, setting in item.settings.items()]
    display(Markdown(f"{item.text}\n\n{markdown_rows(('configuration', 'network'), rows, left=2)}"))
    if scale == "full":
        train_settings(item.settings, epochs, folder=folder)
        _show_runs(item.settings, folder, f"{item.title} Runs of this session at full size.")
    _show_runs(item.evidence, EVIDENCE, f"{item.title} Committed runs on real speech, several seeds.")
    display(Markdown("\n".join(f"- {sentence}" for sentence in conclusion(item, scale, folder))))


def trial(scale: str = "quick", epochs: int = 1, folder: str | Path = STUDY) -> None:
    """Train a few small networks, to see that the machinery works; no conclusion is drawn from them.

    Args:
        scale: 'quick': about twenty networks of 24 units; 'tiny': two; 'full': none, since the sections train.
        epochs: passes over the training data.
        folder: for their files.
    """
    for item in QUESTIONS.values():
        train_settings(networks_at(item, scale), epochs, folder=folder)


def networks_at(item: Question, scale: str) -> dict[str, Setting]:
    """Return the networks of a question that a trial trains."""
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {list(SCALES)}. Received: scale={scale!r}")
    left_out = scale == "full" or (scale == "tiny" and item not in map(question, SMOKE_TEST))
    return {} if left_out else item.at_scale(SCALES[scale])


def conclusion(item: Question, scale: str, folder: str | Path = STUDY, evidence: str | Path = EVIDENCE) -> list[str]:
    """Return the sentences that close a section: from the committed runs, else the full runs of this session, or "not run"."""
    if losses := best_losses(item.evidence, evidence):
        return conclusions(item, losses)
    if scale == "full":
        return conclusions(item, best_losses(item.settings, folder)) or ["The reference left this question open."]
    if not item.claims:
        return ["The reference states no finding here. Not run on real speech yet."]
    return [f"The reference found: {claim.text} Here: not run on real speech yet." for claim in item.claims]


def verdict_table(scale: str, folder: str | Path = STUDY) -> str:
    """Return a Markdown table of all findings of the reference and what the runs here say about them."""
    rows = []
    for item in QUESTIONS.values():
        losses = best_losses(item.evidence, EVIDENCE)
        if not losses and scale == "full":
            losses = best_losses(item.settings, folder)
        verdicts = (judge(claim, losses) for claim in item.claims)
        rows += [(item.title, verdict.claim.text, verdict.outcome, verdict.reason) for verdict in verdicts]
    return markdown_rows(("question", "the reference found", "here", "why"), rows, left=4)


def _show_runs(settings: Mapping[str, Setting], folder: str | Path, alt: str) -> None:
    """Show figure and table of these settings' runs, where there are any."""
    found = runs_of(settings, folder)
    if not found:
        return
    lowest = (f"{label} {min(run.best_loss for run in runs):.0f}" for label, runs in found.items())
    show(figure_of(found), alt=f"{alt} Lowest validation losses: {', '.join(lowest)}")
    rows = [
        (
            label,
            f"{runs[0].parameters or 0:,}",
            str(len(runs)),
            mean_text([run.best_loss for run in runs]),
            mean_text([100 * run.at_best("val_cer") for run in runs]),
            f"{min(run.best_epoch for run in runs)} to {max(run.best_epoch for run in runs)}",
        )
        for label, runs in found.items()
    ]
    head = ("configuration", "parameters", "seeds", "best validation loss", "CER %", "best epoch")
    display(Markdown(markdown_rows(head, rows)))


def compare_features(models: Mapping[str, RNNModel], folder: str | Path = STUDY, number: int = 20) -> None:
    """Print what trained networks (features -> network) make of as many training and validation utterances, shortest first."""
    pairs = [load_model(get_generator(features == "spectrogram"), model, folder) for features, model in models.items()]
    for partition in ("train", "validation"):
        print(f"---- {partition} utterances\n")
        print_predictions(pairs, number, partition, names=list(models))
