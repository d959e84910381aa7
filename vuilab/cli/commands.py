"""What the commands of `cli/main.py` do, one function each; `cli/main.py` has their options.

Each takes the parsed options and returns the exit status. Imports stand inside, so that `--help` and the commands that need
no deep learning load none.
"""

import argparse
import ast
import functools
import sys
from collections.abc import Callable
from pathlib import Path


def data_demo(options: argparse.Namespace) -> int:
    """Synthesise the demo corpus."""
    from vuilab.corpus.demo import make_demo

    make_demo(options.out, seed=options.seed, scale=options.scale)
    return 0


def data_synthetic(options: argparse.Namespace) -> int:
    """Speak sentences of books with synthetic voices."""
    from vuilab.corpus.synthetic import make_synthetic

    print(make_synthetic(options.texts, options.out, options.hours, options.beside, options.seed))
    return 0


def data_words(options: argparse.Namespace) -> int:
    """Write manifests that tell when each word of the training utterances is spoken."""
    from vuilab.inference.word_times import add_word_times

    print(add_word_times(options.corpus, options.out, options.model))
    return 0


def data_librispeech(options: argparse.Namespace) -> int:
    """Fetch, verify and index LibriSpeech subsets."""
    from vuilab.corpus.librispeech import fetch_librispeech

    for report in fetch_librispeech(options.subsets, options.root, options.base_url).values():
        print(report)
    return 0


def data_index(options: argparse.Namespace) -> int:
    """Write manifests for a tree in LibriSpeech's layout."""
    from vuilab.corpus.index import index_tree

    print(index_tree(options.path, options.out, options.valid_speakers, options.test_speakers, options.test))
    return 0


def train(options: argparse.Namespace) -> int:
    """Train a model of the zoo, or a network of the study by its run name."""
    if options.corpus is not None:
        from vuilab.corpus.manifest import set_active_corpus

        set_active_corpus(options.corpus)
    from vuilab.features import FeatureSettings

    build, notes = _look_up_model(options)
    import keras

    from vuilab.augment import Augmentation
    from vuilab.training.recogniser import configure_gpu, train_model

    print(configure_gpu(devices=options.devices))
    keras.config.set_dtype_policy(options.precision)
    keras.utils.set_random_seed(options.seed)
    settings = FeatureSettings(options.features, mfcc_dim=options.mfcc_dim)
    model = build(settings.num_features)
    name = options.name or options.model
    train_model(
        model,
        options.results / f"{name}.pickle",
        options.results / f"{name}.h5",
        minibatch_size=options.batch_size,
        optimizer=_optimizer(options),
        epochs=options.epochs,
        sort_by_duration=options.sort_by_duration,
        max_duration=options.max_duration,
        features=settings,
        schedule=options.schedule,
        warmup_epochs=options.warmup_epochs,
        augmentation=Augmentation(warp=0.0 if options.features == "mfcc" else 0.12) if options.augment else None,
        speeds=options.speeds,
        splice=options.splice,
        ema=options.ema,
        start_from=options.start_from,
        monitor=options.monitor,
        seed=options.seed,
        force=options.force,
        resume=options.resume,
        patience=options.patience,
        notes=notes,
        plan=options.plan,
    )
    if not options.plan:
        print(f"Weights: {options.results / name}.h5   record: {options.results / name}.json")
    return 0


def _look_up_model(options: argparse.Namespace) -> tuple[Callable, dict | None]:
    """Return what builds the model from a number of features, and what its record says more.

    A run name of the study tells the features too, which then stand in the options.
    """
    if " " not in options.model:
        from vuilab.models.acoustic import build_by_name

        return functools.partial(build_by_name, options.zoo(), options.model, **_model_options(options)), None
    from vuilab.models.builder import RNNModel

    if options.model_options:
        raise ValueError("A network of the study has its options in its name: leave --model-options out.")
    model, options.features = RNNModel.parse(options.model)
    if options.name is None:
        raise ValueError("A network of the study needs a --name for its files.")
    return model.build, {"full_name": options.model}


def _model_options(options: argparse.Namespace) -> dict:
    """Return the builder's keyword arguments: KEY=VALUE, where a value that is no Python literal is text."""
    found = {}
    for text in options.model_options:
        key, equals, value = text.partition("=")
        if not (equals and key.isidentifier()):
            raise ValueError(f"--model-options are written KEY=VALUE, such as units=128. Received: {text!r}")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def _optimizer(options: argparse.Namespace):
    import keras

    if options.learning_rate is not None and options.learning_rate <= 0:
        raise ValueError(f"--learning-rate must be positive. Received: {options.learning_rate}")
    if options.optimizer == "adamw":
        return keras.optimizers.AdamW(options.learning_rate or 1e-3, weight_decay=1e-4)
    from vuilab.training.run import default_optimizer

    return default_optimizer(options.learning_rate)


def study(options: argparse.Namespace) -> int:
    """Train what questions of the study compare, and print what comes out."""
    from vuilab.study.claims import conclusions
    from vuilab.study.questions import QUESTIONS, question

    if not options.questions:
        for item in QUESTIONS:
            print(f"{item.key:18} {item.title}")
        return 0
    chosen = [question(key) for key in options.questions]
    if options.corpus is not None:
        from vuilab.corpus.manifest import set_active_corpus

        set_active_corpus(options.corpus)
    from vuilab.study.runs import best_losses, train_settings

    more = {"folder": options.results, "minibatch_size": options.batch_size, "patience": options.patience}
    if options.parallel or options.address:
        from vuilab.study.sweep import sweep as train_settings

        more |= {"cpus_per_trial": options.cpus_per_trial, "gpus_per_trial": options.gpus_per_trial}
        more["address"] = options.address
    failures = []
    for item in chosen:
        print(f"== {item.title}")
        settings = item.at_scale(options.scale)
        if not settings:
            print(f"There is nothing to run at scale {options.scale!r}.")
            continue
        failures += train_settings(settings, options.epochs, options.seeds, **more)
        print("\n".join(conclusions(item, best_losses(settings, options.results))))
    for failure in failures:
        print(f"Failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def compare(options: argparse.Namespace) -> int:
    """Print the table of the runs, or keep the README's true."""
    from vuilab.reports.ledger import check_project, update_readme
    from vuilab.scoring.comparison import load_runs, plot_comparison, text_table

    if options.check:
        problems = check_project()
        for problem in problems:
            print(problem, file=sys.stderr)
        print("README and records agree." if not problems else f"{len(problems)} disagreements.")
        return 1 if problems else 0
    if options.update:
        print("README updated." if update_readme() else "The README is up to date.")
        return 0
    print(text_table(load_runs(options.names or None, options.results)))
    if options.figure is not None:
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        plot_comparison(options.names or None, folder=options.results).savefig(options.figure, dpi=110)
        print(f"Figure: {options.figure}")
    return 0


def report(options: argparse.Namespace) -> int:
    """Run a notebook and export HTML."""
    from vuilab.reports.notebook import run_notebook

    html = options.out or Path("results") / f"{options.notebook.stem}.html"
    run_notebook(options.notebook, html, {"VUI_SCALE": options.scale})
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a trained model in another format, checked against Keras."""
    from vuilab.inference.export import default_path, describe, export
    from vuilab.inference.formats import require
    from vuilab.inference.transcribe import load_recogniser

    require(options.format)  # what is missing is said before anything is loaded
    path = options.out or default_path(options.weights, options.format)
    print(describe(path, export(load_recogniser(options.weights), path, options.format)))
    return 0
