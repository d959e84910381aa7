"""Sections of the study's notebook: what is compared, its runs, one figure, a table, and a conclusion computed from runs.

Conclusions come from the comparison with several seeds on real speech, whose runs are committed in
`results/librispeech/study`, or from the full-size runs of this session. A trial of the machinery draws none.
"""

from collections.abc import Mapping
from pathlib import Path

from IPython.display import HTML, Markdown, display

from vuilab.figures import show
from vuilab.models.builder import RNNModel
from vuilab.runs.record import RESULTS
from vuilab.scoring import comparison
from vuilab.study.claims import Question, Setting, conclusions, judge
from vuilab.study.questions import QUESTIONS, question
from vuilab.study.runs import STUDY, best_losses, figure_of, run_files, train_settings
from vuilab.text import markdown_rows

EVIDENCE = RESULTS / "librispeech" / "study"
SMOKE_TEST = ("features",)  # the questions that a smoke test of the notebook runs
SCALES = {"full": "full", "quick": "tiny", "tiny": "smoke"}  # of the notebook -> of the networks


def section(key: str, scale: str = "quick", epochs: int = 1, folder: str | Path = STUDY) -> None:
    """Show one question: its networks; the runs of this session, trained where they are not there; the conclusion.

    Args:
        key: of the question.
        scale: 'full': the networks of the reference; 'quick': a few small ones, to try the machinery; 'tiny': for one question.
        epochs: passes over the training data.
        folder: for the files of this session's runs.
    """
    item = question(key)
    settings = networks_at(item, scale)
    display(Markdown(_configurations_text(item)))
    if settings:
        train_settings(settings, epochs, folder=folder)
        _show_runs(settings, folder, f"{item.title} Runs of this session.")
    display(Markdown("\n".join(f"- {sentence}" for sentence in conclusion(item, scale, folder))))


def networks_at(item: Question, scale: str) -> dict[str, Setting]:
    """Return the networks that this session trains for a question."""
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {list(SCALES)}. Received: scale={scale!r}")
    if scale == "tiny" and item.key not in SMOKE_TEST:
        return {}
    return item.at_scale(SCALES[scale])


def conclusion(item: Question, scale: str, folder: str | Path = STUDY, evidence: str | Path = EVIDENCE) -> list[str]:
    """Return the sentences that close a section: from the committed runs, the full runs of this session, or "not run"."""
    losses = best_losses(item.evidence, evidence) if item.evidence else {}
    if losses:
        return [
            f"On real speech, smaller networks, several seeds (`{Path(evidence).as_posix()}`):",
            *conclusions(item, losses),
        ]
    if scale == "full":
        return conclusions(item, best_losses(item.settings, folder)) or ["The reference left this question open."]
    if not item.claims:
        return ["The reference states no finding here. Not run at full size."]
    return [f"The reference found: {claim.text} Here: not run at full size." for claim in item.claims]


def show_evidence(key: str, evidence: str | Path = EVIDENCE) -> None:
    """Show the committed runs of a question: the figure and the table."""
    item = question(key)
    if not best_losses(item.evidence, evidence):
        print("No runs with several seeds.")
        return
    _show_runs(item.evidence, evidence, f"{item.title} Committed runs on real speech, several seeds.")


def verdict_table(scale: str, folder: str | Path = STUDY) -> str:
    """Return a Markdown table of all findings of the reference and what the runs here say about them."""
    rows = []
    for item in QUESTIONS:
        losses = best_losses(item.evidence, EVIDENCE) if item.evidence else {}
        if not losses and scale == "full":
            losses = best_losses(item.settings, folder)
        for claim in item.claims:
            verdict = judge(claim, losses)
            rows.append((item.title, claim.text, verdict.outcome, verdict.reason))
    return markdown_rows(("question", "the reference found", "here", "why"), rows, left=4)


def _configurations_text(item: Question) -> str:
    rows = [(label, f"`{setting.name}`") for label, setting in item.settings.items()]
    return f"{item.text}\n\n{markdown_rows(('configuration', 'network'), rows, left=2)}"


def _show_runs(settings: Mapping[str, Setting], folder: str | Path, alt: str) -> None:
    figure = figure_of(settings, folder)
    if figure is None:
        return
    losses = best_losses(settings, folder)
    parts = ", ".join(f"{label} {min(values):.0f}" for label, values in losses.items())
    show(figure, alt=f"{alt} Lowest validation losses: {parts}")
    runs = comparison.load_runs([path.stem for path in run_files(settings, folder)], folder)
    display(HTML(comparison.html_table(runs)))


def compare_features(models: Mapping[str, RNNModel], folder: str | Path = STUDY, number: int = 20) -> None:
    """Print what networks on different features make of the same training and validation utterances, shortest first.

    Args:
        models: features ('spectrogram' or 'mfcc') -> network, trained before.
        folder: where their runs are.
        number: of utterances in each of the two sets.
    """
    from vuilab.scoring.predictions import print_predictions
    from vuilab.study.runs import get_generator, load_model

    pairs = [load_model(get_generator(features == "spectrogram"), model, folder) for features, model in models.items()]
    for partition in ("train", "validation"):
        print(f"---- {partition} utterances\n")
        print_predictions(pairs, number, partition, names=list(models))
