"""`vui study`, `vui compare`, `vui report` and `vui export`: the model study, the ledger, notebooks and other formats."""

import argparse
import sys
from pathlib import Path

# ------------------------------------------------------------------------------------------------------ study


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the options of `study`."""
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="keys (default: list them)")
    parser.add_argument("--scale", choices=("tiny", "evidence", "full"), default="tiny", help="which networks")
    parser.add_argument("--corpus", type=Path, help="folder with manifests (default: the active corpus)")
    parser.add_argument("--results", type=Path, default=Path("results/study"), help="folder for the files")
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, default=1, help="passes over the training data")
    training.add_argument("--seeds", type=int, nargs="+", default=(0,), help="one run for each")
    training.add_argument("--batch-size", type=int, default=32, help="utterances per step")
    training.add_argument("--patience", type=int, help="stop after so many epochs without a lower loss")
    parallel = parser.add_argument_group("in parallel (needs Ray)")
    parallel.add_argument("--parallel", action="store_true", help="as many runs at a time as fit")
    parallel.add_argument("--address", help="of a Ray cluster that makes the runs")
    parallel.add_argument("--cpus-per-trial", type=float, default=1, help="cores that a run needs")
    parallel.add_argument("--gpus-per-trial", type=float, default=0, help="graphics processors that a run needs")
    parser.set_defaults(run=_study)


def _study(arguments: argparse.Namespace) -> int:
    from vuilab.study.claims import conclusions
    from vuilab.study.questions import QUESTIONS, question

    if not arguments.questions:
        for item in QUESTIONS:
            print(f"{item.key:18} {item.title}")
        return 0
    chosen = [question(key) for key in arguments.questions]
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


# ---------------------------------------------------------------------------------------------------- compare


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    parser.add_argument("names", nargs="*", help="names or patterns (default: all)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with the runs")
    parser.add_argument("--figure", type=Path, help="also write the comparison plot here")
    pages = parser.add_argument_group("pages").add_mutually_exclusive_group()
    pages.add_argument("--check", action="store_true", help="fail when a page differs from the committed records")
    pages.add_argument("--update", action="store_true", help="write the pages' tables from the committed records")
    parser.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from vuilab.reports.ledger import check_project, update_readme
    from vuilab.scoring.comparison import load_runs, plot_comparison, text_table

    if arguments.check:
        problems = check_project()
        for problem in problems:
            print(problem, file=sys.stderr)
        print("Pages and records agree." if not problems else f"{len(problems)} disagreements.")
        return 1 if problems else 0
    if arguments.update:
        print("Pages updated." if update_readme() else "The pages are up to date.")
        return 0
    print(text_table(load_runs(arguments.names or None, arguments.results)))
    if arguments.figure is not None:
        arguments.figure.parent.mkdir(parents=True, exist_ok=True)
        plot_comparison(arguments.names or None, folder=arguments.results).savefig(arguments.figure, dpi=110)
        print(f"Figure: {arguments.figure}")
    return 0


# ----------------------------------------------------------------------------------------------------- report


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of `report`."""
    parser.add_argument("notebook", nargs="?", type=Path, default=Path("vui_notebook.ipynb"), help="what to run")
    parser.add_argument("--out", type=Path, help="HTML file (default: results/NOTEBOOK.html)")
    parser.add_argument("--scale", choices=("full", "quick", "tiny"), default="full", help="of models and runs")
    parser.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    from vuilab.reports.notebook import run_notebook

    html = arguments.out or Path("results") / f"{arguments.notebook.stem}.html"
    run_notebook(arguments.notebook, html, {"VUI_SCALE": arguments.scale})
    return 0


# ----------------------------------------------------------------------------------------------------- export


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="weights file")
    parser.add_argument("--format", choices=("savedmodel", "litert", "onnx"), required=True, help="of the result")
    parser.add_argument("--out", type=Path, help="file or folder (default: beside the weights)")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    from vuilab.inference.export import default_path, describe, export
    from vuilab.inference.formats import require
    from vuilab.inference.transcribe import load_recogniser

    require(arguments.format)  # what is missing is said before anything is loaded
    path = arguments.out or default_path(arguments.weights, arguments.format)
    print(describe(path, export(load_recogniser(arguments.weights), path, arguments.format)))
    return 0
