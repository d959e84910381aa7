"""`vui study`, `vui compare`, `vui report` and `vui export`: the model study, the ledger, notebooks and other formats."""

import argparse
import sys
import tempfile
from pathlib import Path

from vuilab.cli.flags import argument

PARALLEL = "in parallel (needs Ray)"


@argument("questions", nargs="*", metavar="QUESTION", help="keys, or all (default: list them)")
@argument("--scale", choices=("tiny", "evidence", "full"), default="tiny", help="which networks")
@argument("--corpus", type=Path, help="folder with manifests (default: the active corpus)")
@argument("--results", type=Path, default=Path("results/study"), help="folder for the files")
@argument("--epochs", type=int, default=1, group="training", help="passes over the training data")
@argument("--seeds", type=int, nargs="+", default=(0,), group="training", help="one run for each")
@argument("--batch-size", type=int, default=32, group="training", help="utterances per step")
@argument("--patience", type=int, group="training", help="stop after so many epochs without a lower loss")
@argument("--parallel", action="store_true", group=PARALLEL, help="as many runs at a time as fit")
@argument("--address", group=PARALLEL, help="of a Ray cluster that makes the runs")
@argument("--cpus-per-trial", type=float, default=1, group=PARALLEL, help="cores that a run needs")
@argument("--gpus-per-trial", type=float, default=0, group=PARALLEL, help="graphics processors that a run needs")
def study(arguments: argparse.Namespace) -> int:
    """Train what a question of the model study compares, and say what comes out."""
    from vuilab.study.claims import conclusions
    from vuilab.study.questions import QUESTIONS, question

    if not arguments.questions:
        for key, item in QUESTIONS.items():
            print(f"{key:18} {item.title}")
        return 0
    chosen = [question(key) for key in (QUESTIONS if arguments.questions == ["all"] else arguments.questions)]
    if arguments.corpus is not None:
        from vuilab.corpus.manifest import set_active_corpus

        set_active_corpus(arguments.corpus)
    from vuilab.study.runs import best_losses, train_settings
    from vuilab.training.options import TrainingOptions

    more = {"folder": arguments.results, "minibatch_size": arguments.batch_size}
    more["options"] = TrainingOptions(arguments.epochs, patience=arguments.patience)
    if arguments.parallel or arguments.address:
        from vuilab.study.sweep import Workers
        from vuilab.study.sweep import sweep as train_settings

        more["workers"] = Workers(arguments.address, arguments.cpus_per_trial, arguments.gpus_per_trial)
    failures = []
    for item in chosen:
        print(f"== {item.title}")
        settings = item.at_scale(arguments.scale)
        if not settings:
            print(f"There is nothing to run at scale {arguments.scale!r}.")
            continue
        failures += train_settings(settings, arguments.epochs, arguments.seeds, **more)
        print("\n".join(conclusions(item, best_losses(settings, arguments.results))))
    for failure in failures:
        print(f"Failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


@argument("names", nargs="*", help="names or patterns (default: all)")
@argument("--results", type=Path, default=Path("results"), help="folder with the runs")
@argument("--figure", type=Path, help="also write the comparison plot here")
@argument("--check", action="store_true", group="pages", help="fail when a page differs from the committed records")
@argument("--update", action="store_true", group="pages", help="write the pages' tables from the committed records")
def compare(arguments: argparse.Namespace) -> int:
    """Print a table of the runs on disk, or keep the tables of the pages true."""
    from vuilab.reports.ledger import check_project, update_pages
    from vuilab.scoring.comparison import load_runs, plot_comparison, text_table

    if arguments.update:
        print("Pages updated." if update_pages() else "The pages are up to date.")
    if arguments.check:
        problems = check_project()
        for problem in problems:
            print(problem, file=sys.stderr)
        print("Pages and records agree." if not problems else f"{len(problems)} disagreements.")
        return 1 if problems else 0
    if arguments.update:
        return 0
    print(text_table(load_runs(arguments.names or None, arguments.results)))
    if arguments.figure is not None:
        arguments.figure.parent.mkdir(parents=True, exist_ok=True)
        plot_comparison(arguments.names or None, folder=arguments.results).savefig(arguments.figure, dpi=110)
        print(f"Figure: {arguments.figure}")
    return 0


@argument("notebook", nargs="?", type=Path, default=Path("vui_notebook.ipynb"), help="what to run")
@argument("--out", type=Path, help="HTML file (default: results/NOTEBOOK.html)")
@argument("--scale", choices=("full", "quick", "tiny"), default="full", help="of models and runs")
def report(arguments: argparse.Namespace) -> None:
    """Run a notebook from the top and export it as self-contained HTML."""
    from vuilab.reports.notebook import run_notebook

    tiny = arguments.scale == "tiny"
    html = arguments.out or Path("results") / f"{arguments.notebook.stem}{'-tiny' * tiny}.html"
    with tempfile.TemporaryDirectory() as empty:  # a smoke test touches neither corpus nor models of the user
        run_notebook(arguments.notebook, html, {"VUI_SCALE": arguments.scale}, empty if tiny else None)


@argument("weights", type=Path, metavar="WEIGHTS", help="weights file")
@argument("--format", choices=("savedmodel", "litert", "onnx"), required=True, help="of the result")
@argument("--out", type=Path, help="file or folder (default: beside the weights)")
def export(arguments: argparse.Namespace) -> None:
    """Write a trained model for use without this project: SavedModel, LiteRT or ONNX."""
    from vuilab.inference import export as exporting
    from vuilab.inference.formats import require
    from vuilab.inference.transcribe import load_recogniser

    require(arguments.format)  # what is missing is said before anything is loaded
    path = arguments.out or exporting.default_path(arguments.weights, arguments.format)
    recogniser = load_recogniser(arguments.weights)
    print(exporting.describe(path, exporting.export(recogniser, path, arguments.format)))
