#!/usr/bin/env python3
"""The command line of the laboratory: `python vui.py COMMAND --help`.

data        make, fetch or index a corpus
train       train a model of the zoo
evaluate    word and character error rates of a model on a manifest
transcribe  text of audio files
study       train what a question of the model study compares, and say what comes out
compare     table of the runs on disk; keep the README's table true
report      run a notebook from the top and export it as self-contained HTML
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

JSON_VERSION = 1  # of what --json prints
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0 success, 1 a clear error, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up log is not for users of this command
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("Stopped by hand.", file=sys.stderr)
        return 130
    except (ValueError, OSError, IndexError, RuntimeError) as error:
        if os.environ.get("VUI_DEBUG"):
            raise
        print(f"Error: {_message(error)}", file=sys.stderr)
        return 1


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error)


# -------------------------------------------------------------------------------------------------- parsers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vui.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_data(commands.add_parser("data", help="make, fetch or index a corpus"))
    _add_train(commands.add_parser("train", help="train a model of the zoo"))
    _add_evaluate(commands.add_parser("evaluate", help="error rates of a model on a manifest"))
    _add_transcribe(commands.add_parser("transcribe", help="text of audio files"))
    _add_study(commands.add_parser("study", help="runs and answers of the model study"))
    _add_compare(commands.add_parser("compare", help="table of the runs on disk"))
    _add_report(commands.add_parser("report", help="run a notebook and export HTML"))
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    demo = kinds.add_parser("demo", help="synthesise the embedded demo corpus")
    demo.add_argument("--out", type=Path, default=None, help="folder (default: LibriSpeech/demo)")
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument("--scale", choices=("full", "tiny"), default="full")
    demo.set_defaults(run=_data_demo)
    libri = kinds.add_parser("librispeech", help="download, verify and index LibriSpeech subsets from OpenSLR")
    libri.add_argument("subsets", nargs="+", metavar="SUBSET", help="dev-clean, train-clean-100, ..., or mini")
    libri.add_argument("--root", type=Path, default=Path("LibriSpeech"))
    libri.add_argument("--base-url", default=None, help="a mirror of the server's /resources folder")
    libri.set_defaults(run=_data_librispeech)
    index = kinds.add_parser("index", help="write manifests for a tree in LibriSpeech's layout")
    index.add_argument("path", type=Path)
    index.add_argument("--out", type=Path, required=True, help="folder that gets {train,valid,test}_corpus.json")
    index.add_argument("--valid-speakers", nargs="+", default=(), metavar="ID")
    index.add_argument("--test-speakers", nargs="+", default=(), metavar="ID")
    index.add_argument("--test", action="store_true", help="everything is test data")
    index.set_defaults(run=_data_index)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", help="model_0 ... model_6, wavenet_model, final_model, ..., or a run name of the study"
    )
    parser.add_argument("--corpus", type=Path, default=None, help="folder with manifests (default: the active corpus)")
    parser.add_argument("--name", default=None, help="of the files (default: the model's name)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder for the files")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--features", choices=("spectrogram", "mfcc", "logmel", "raw"), default="spectrogram")
    parser.add_argument("--mfcc-dim", type=int, default=13)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--max-duration", type=float, default=10.0, help="seconds")
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--learning-rate", type=float, default=None)
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="constant")
    parser.add_argument("--warmup-epochs", type=float, default=0.0)
    parser.add_argument(
        "--augment", action="store_true", help="SpecAugment, and a random stretch of the frequency axis"
    )
    parser.add_argument("--monitor", choices=("val_loss", "val_cer", "val_wer"), default="val_loss")
    parser.add_argument("--patience", type=int, default=None, help="stop after so many epochs without a better value")
    parser.add_argument(
        "--speeds", type=float, nargs="+", default=(1.0,), help="play each utterance so fast, e.g. 0.9 1 1.1"
    )
    parser.add_argument("--ema", type=float, default=None, metavar="MOMENTUM", help="average the weights, e.g. 0.999")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of the layers; weights stay float32"
    )
    parser.add_argument("--devices", type=int, default=None, help="so many GPUs share each batch")
    parser.add_argument("--sort-by-duration", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="train even when the same run is finished")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was killed or stopped")
    parser.set_defaults(run=_train)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", type=Path, default=None, metavar="WEIGHTS", help="default: the released weights")
    parser.add_argument("--max-duration", type=float, default=None, help="seconds; default: every utterance")
    parser.add_argument("--allow-training-speakers", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_evaluate)


def _add_transcribe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--model", type=Path, default=None, metavar="WEIGHTS", help="default: the released weights")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(run=_transcribe)


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="keys (default: list them)")
    parser.add_argument("--scale", choices=("tiny", "evidence", "full"), default="tiny", help="which networks")
    parser.add_argument("--corpus", type=Path, default=None, help="folder with manifests (default: the active corpus)")
    parser.add_argument("--results", type=Path, default=Path("results/study"), help="folder for the files")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--patience", type=int, default=None, help="stop after so many epochs without a lower loss")
    parser.add_argument("--parallel", action="store_true", help="as many runs at a time as fit (needs Ray)")
    parser.add_argument("--address", default=None, help="of a Ray cluster that makes the runs")
    parser.add_argument("--cpus-per-trial", type=float, default=1)
    parser.add_argument("--gpus-per-trial", type=float, default=0)
    parser.set_defaults(run=_study)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help="names or patterns (default: all)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with the runs")
    parser.add_argument("--figure", type=Path, default=None, help="also write the comparison plot here")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="fail when the README differs from the committed records")
    group.add_argument("--update", action="store_true", help="write the README's table from the committed records")
    parser.set_defaults(run=_compare)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebook", nargs="?", type=Path, default=Path("vui_notebook.ipynb"))
    parser.add_argument("--out", type=Path, default=None, help="default: results/NOTEBOOK.html")
    parser.add_argument("--scale", choices=("full", "quick", "tiny"), default="full")
    parser.set_defaults(run=_report)


# ------------------------------------------------------------------------------------------------- commands


def _data_demo(options: argparse.Namespace) -> int:
    from synthesis import make_demo

    make_demo(options.out, seed=options.seed, scale=options.scale)
    return 0


def _data_librispeech(options: argparse.Namespace) -> int:
    from downloads import fetch_librispeech

    for report in fetch_librispeech(options.subsets, options.root, options.base_url).values():
        print(report)
    return 0


def _data_index(options: argparse.Namespace) -> int:
    from indexing import index_tree

    print(index_tree(options.path, options.out, options.valid_speakers, options.test_speakers, options.test))
    return 0


def _train(options: argparse.Namespace) -> int:
    if options.corpus is not None:
        from corpora import set_active_corpus

        set_active_corpus(options.corpus)
    from utils import FeatureSettings

    build, notes = _look_up_model(options)
    import keras

    from augment import Augmentation
    from train_utils import configure_gpu, train_model

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
        ema=options.ema,
        monitor=options.monitor,
        seed=options.seed,
        force=options.force,
        resume=options.resume,
        patience=options.patience,
        notes=notes,
    )
    print(f"Weights: {options.results / name}.h5   record: {options.results / name}.json")
    return 0


def _look_up_model(options: argparse.Namespace) -> tuple[Callable, dict | None]:
    """Return what builds the model from a number of features, and what its record says more.

    A run name of the study tells the features too, which then stand in the options.
    """
    from sample_models import ZOO

    if " " not in options.model:
        if options.model not in ZOO:
            raise ValueError(f"Unknown model {options.model!r}. Expected one of: {', '.join(ZOO)}")
        return ZOO[options.model], None
    from model_builder import RNNModel

    model, options.features = RNNModel.parse(options.model)
    if options.name is None:
        raise ValueError("A network of the study needs a --name for its files.")
    return model.build, {"full_name": options.model}


def _optimizer(options: argparse.Namespace):
    import keras

    if options.learning_rate is not None and options.learning_rate <= 0:
        raise ValueError(f"--learning-rate must be positive. Received: {options.learning_rate}")
    if options.optimizer == "adamw":
        return keras.optimizers.AdamW(options.learning_rate or 1e-3, weight_decay=1e-4)
    if options.learning_rate is None:
        return None
    return keras.optimizers.SGD(options.learning_rate, momentum=0.9, nesterov=True, clipnorm=5)


def _evaluate(options: argparse.Namespace) -> int:
    from corpora import read_manifest, summarize
    from evaluation import generator_for, predict_texts, score
    from transcription import load_recogniser

    summarize(read_manifest(options.manifest))  # a missing or broken manifest is said before TensorFlow is loaded
    recogniser = load_recogniser(options.model)
    generator = generator_for(
        recogniser.metadata, recogniser.settings.num_features, options.manifest, "test", options.max_duration
    )
    utterances = generator.partitions["test"].utterances
    learnt = set(recogniser.metadata.get("train_speakers", [])) & {utterance.speaker for utterance in utterances}
    if learnt and not options.allow_training_speakers:
        raise ValueError(
            f"The model was trained on {len(learnt)} of these speakers ({', '.join(sorted(learnt)[:5])}...), so the error "
            "rate would flatter it. Choose other speakers, or pass --allow-training-speakers."
        )
    texts = predict_texts(recogniser.model, generator, "test")
    result = score([u.text for u in utterances], texts, [u.speaker for u in utterances])
    if options.json:
        print(json.dumps({"version": JSON_VERSION, "manifest": str(options.manifest), **result.as_dict()}, indent=1))
        return 0
    print(f"{result.num_utterances} utterances, {len(result.by_speaker)} speakers, {result.num_empty} empty hypotheses")
    print(f"CER {result.cer}\nWER {result.wer}\n95 % intervals: {result.method}")
    unseen = [bool(utterance.extra.get("unseen_words")) for utterance in utterances]
    for flag, label in ((True, "with a word that training never had"), (False, "with known words only")):
        chosen = [index for index, value in enumerate(unseen) if value == flag]
        if any(unseen) and chosen:
            part = score([utterances[i].text for i in chosen], [texts[i] for i in chosen])
            print(
                f"  {len(chosen)} sentences {label}: CER {100 * part.cer.rate:.1f} %, WER {100 * part.wer.rate:.1f} %"
            )
    for speaker, (cer, wer) in result.by_speaker.items():
        print(f"  speaker {speaker}: CER {100 * cer:.1f} %, WER {100 * wer:.1f} %")
    return 0


def _transcribe(options: argparse.Namespace) -> int:
    from transcription import load_recogniser

    recogniser = load_recogniser(options.model)
    results, skipped = [], []
    for path in options.files:
        try:
            text = recogniser.transcribe(path)
        except (ValueError, OSError) as error:
            skipped.append({"file": str(path), "reason": str(error)})
            continue
        results.append({"file": str(path), "text": text})
        if options.format == "text":
            print(text if len(options.files) == 1 else f"{path}: {text}", flush=True)
    if options.format == "json":
        print(json.dumps({"version": JSON_VERSION, "results": results, "skipped": skipped}, indent=1))
    for item in skipped:
        print(f"Skipped {item['file']}: {item['reason']}", file=sys.stderr)
    return 0 if results else 1


def _study(options: argparse.Namespace) -> int:
    from study_claims import conclusions
    from study_questions import QUESTIONS, question

    if not options.questions:
        for item in QUESTIONS:
            print(f"{item.key:18} {item.title}")
        return 0
    chosen = [question(key) for key in options.questions]
    if options.corpus is not None:
        from corpora import set_active_corpus

        set_active_corpus(options.corpus)
    from study import best_losses, train_settings

    more = {"folder": options.results, "minibatch_size": options.batch_size, "patience": options.patience}
    if options.parallel or options.address:
        from sweeps import sweep as train_settings

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


def _compare(options: argparse.Namespace) -> int:
    from comparison import load_runs, plot_comparison, text_table
    from ledger import check_project, update_readme

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


def _report(options: argparse.Namespace) -> int:
    from report import run_notebook

    html = options.out or Path("results") / f"{options.notebook.stem}.html"
    run_notebook(options.notebook, html, {"VUI_SCALE": options.scale})
    return 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
