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
from vuilab.scoring.comparison import html_table
from vuilab.scoring.predictions import print_predictions
from vuilab.study.claims import Question, Setting, conclusions, judge
from vuilab.study.questions import QUESTIONS, question
from vuilab.study.runs import STUDY, best_losses, figure_of, get_generator, load_model, runs_of, train_settings
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
    rows = [(label, f"`{setting.name}`") for label, setting in item.settings.items()]
    display(Markdown(f"{item.text}\n\n{markdown_rows(('configuration', 'network'), rows, left=2)}"))
    train_settings(settings, epochs, folder=folder)
    _show_runs(settings, folder, f"{item.title} Runs of this session.")
    display(Markdown("\n".join(f"- {sentence}" for sentence in conclusion(item, scale, folder))))


def networks_at(item: Question, scale: str) -> dict[str, Setting]:
    """Return the networks that this session trains for a question."""
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {list(SCALES)}. Received: scale={scale!r}")
    left_out = scale == "tiny" and item not in map(question, SMOKE_TEST)
    return {} if left_out else item.at_scale(SCALES[scale])


def conclusion(item: Question, scale: str, folder: str | Path = STUDY, evidence: str | Path = EVIDENCE) -> list[str]:
    """Return the sentences that close a section: from the committed runs, the full runs of this session, or "not run"."""
    if losses := best_losses(item.evidence, evidence):
        where = f"On real speech, smaller networks, several seeds (`{Path(evidence).as_posix()}`):"
        return [where, *conclusions(item, losses)]
    if scale == "full":
        return conclusions(item, best_losses(item.settings, folder)) or ["The reference left this question open."]
    if not item.claims:
        return ["The reference states no finding here. Not run at full size."]
    return [f"The reference found: {claim.text} Here: not run at full size." for claim in item.claims]


def show_evidence(key: str) -> None:
    """Show the committed runs of a question: the figure and the table."""
    item = question(key)
    if not _show_runs(item.evidence, EVIDENCE, f"{item.title} Committed runs on real speech, several seeds."):
        print("No runs with several seeds.")


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


def _show_runs(settings: Mapping[str, Setting], folder: str | Path, alt: str) -> bool:
    """Show figure and table of these settings' runs; return whether there are any."""
    found = runs_of(settings, folder)
    if found:
        lowest = (f"{label} {min(run.best_loss for run in runs):.0f}" for label, runs in found.items())
        show(figure_of(found), alt=f"{alt} Lowest validation losses: {', '.join(lowest)}")
        display(HTML(html_table([run for runs in found.values() for run in runs])))
    return bool(found)


def compare_features(models: Mapping[str, RNNModel], folder: str | Path = STUDY, number: int = 20) -> None:
    """Print what trained networks (features -> network) make of as many training and validation utterances, shortest first."""
    pairs = [load_model(get_generator(features == "spectrogram"), model, folder) for features, model in models.items()]
    for partition in ("train", "validation"):
        print(f"---- {partition} utterances\n")
        print_predictions(pairs, number, partition, names=list(models))
