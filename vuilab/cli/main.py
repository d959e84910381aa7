"""The command line of the laboratory: `python vui.py COMMAND --help`.

data        make, fetch or index a corpus
train       train a model of the zoo
evaluate    word and character error rates of a model on a manifest
transcribe  text of audio files
listen      text of what is said into the microphone, while it is said
align       when each word of a text was spoken
study       train what a question of the model study compares, and say what comes out
lm          make a language model from text, or measure one
keywords    train, evaluate or export a classifier of single words
spot        find spoken commands in recordings, or while they are said
compare     table of the runs on disk; keep the README's table true
report      run a notebook from the top and export it as self-contained HTML
export      a trained model for use without this project: SavedModel, LiteRT or ONNX
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vuilab.cli import commands, decode, evaluate, keywords
from vuilab.cli.keyword_options import RECORD_HELP, add_keywords, add_sound_source, add_spot
from vuilab.training.recipes import recipe_of

FORMATS = ("text", "json", "srt", "vtt", "textgrid")
EXPORT_FORMATS = ("savedmodel", "litert", "onnx")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def main(arguments: Sequence[str] | None = None, zoo: Callable[[], Mapping[str, Callable]] = dict) -> int:
    """Run a command and return the exit status: 0 success, 1 a clear error, 2 wrong usage.

    Args:
        arguments: of the command line; None: those of this process.
        zoo: returns the builders that `train` knows by name.
    """
    options = _parser().parse_args(arguments)
    recipe = recipe_of(options.command, getattr(options, "model", None))
    if recipe:  # again, so that what is given on the command line comes before the recipe
        options = _parser(recipe).parse_args(arguments)
    options.zoo = zoo
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


def _parser(recipe: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """Return the parser, with the recipe's values as defaults of `train`."""
    parser = argparse.ArgumentParser(
        prog="vui.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_data(subparsers.add_parser("data", help="make, fetch or index a corpus"))
    train = subparsers.add_parser("train", help="train a model of the zoo")
    _add_train(train)
    train.set_defaults(**(recipe or {}))
    _add_evaluate(subparsers.add_parser("evaluate", help="error rates of a model on a manifest"))
    _add_transcribe(subparsers.add_parser("transcribe", help="text of audio files"))
    _add_listen(subparsers.add_parser("listen", help="text of what is said into the microphone"))
    _add_align(subparsers.add_parser("align", help="when each word of a text was spoken"))
    _add_lm(subparsers.add_parser("lm", help="language models: train, perplexity"))
    add_keywords(subparsers.add_parser("keywords", help="classifiers of single words: train, evaluate, export"))
    add_spot(subparsers.add_parser("spot", help="find spoken commands in long recordings or live"))
    _add_study(subparsers.add_parser("study", help="runs and answers of the model study"))
    _add_compare(subparsers.add_parser("compare", help="table of the runs on disk"))
    _add_report(subparsers.add_parser("report", help="run a notebook and export HTML"))
    _add_export(subparsers.add_parser("export", help="a trained model as SavedModel, LiteRT or ONNX"))
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    demo = kinds.add_parser("demo", help="synthesise the embedded demo corpus")
    demo.add_argument("--out", type=Path, default=None, help="folder (default: LibriSpeech/demo)")
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument("--scale", choices=("full", "tiny"), default="full")
    demo.set_defaults(run=commands.data_demo)
    synthetic = kinds.add_parser("synthetic", help="synthetic speech of the sentences of books, to train on")
    synthetic.add_argument("texts", nargs="+", type=Path, metavar="TEXT", help="plain text, gzipped or not")
    synthetic.add_argument("--out", type=Path, required=True, help="folder of the new corpus")
    synthetic.add_argument("--hours", type=float, default=1.0)
    synthetic.add_argument(
        "--beside", type=Path, default=None, metavar="DIR", help="corpus whose utterances are added, and that validates"
    )
    synthetic.add_argument("--seed", type=int, default=0)
    synthetic.set_defaults(run=commands.data_synthetic)
    times = kinds.add_parser("words", help="manifests with the time of each word, for train --splice")
    times.add_argument("corpus", type=Path, metavar="CORPUS")
    times.add_argument("--out", type=Path, required=True, help="folder that gets the manifests")
    times.add_argument("--model", type=Path, default=None, help="weights that align (default: the released ones)")
    times.set_defaults(run=commands.data_words)
    libri = kinds.add_parser("librispeech", help="download, verify and index LibriSpeech subsets from OpenSLR")
    libri.add_argument("subsets", nargs="+", metavar="SUBSET", help="dev-clean, train-clean-100, ..., or mini")
    libri.add_argument("--root", type=Path, default=Path("LibriSpeech"))
    libri.add_argument("--base-url", default=None, help="a mirror of the server's /resources folder")
    libri.set_defaults(run=commands.data_librispeech)
    words = kinds.add_parser("speech_commands", help="download and verify Google Speech Commands, or speak a small one")
    words.add_argument(
        "--version", type=int, choices=(1, 2), default=2, help="1: 30 words, 1.5 GB; 2: 35 words, 2.4 GB"
    )
    words.add_argument("--root", type=Path, default=None, help="folder that gets the corpus (default: data)")
    words.add_argument("--base-url", default=None, help="a mirror of the folder with the archives")
    words.add_argument("--demo", action="store_true", help="let the demo voices speak a small corpus, offline")
    words.add_argument("--words", nargs="+", default=None, metavar="WORD", help="of the demo (default: 16 words)")
    words.add_argument("--scale", choices=("full", "tiny"), default="full", help="of the demo")
    words.set_defaults(run=keywords.data_speech_commands)
    index = kinds.add_parser("index", help="write manifests for a tree in LibriSpeech's layout")
    index.add_argument("path", type=Path)
    index.add_argument("--out", type=Path, required=True, help="folder that gets {train,valid,test}_corpus.json")
    index.add_argument("--valid-speakers", nargs="+", default=(), metavar="ID")
    index.add_argument("--test-speakers", nargs="+", default=(), metavar="ID")
    index.add_argument("--test", action="store_true", help="everything is test data")
    index.set_defaults(run=commands.data_index)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        help="model_0 ... model_6, wavenet_model, final_model, ..., or a run name of the study; residual_birnn has a recipe of "
        "its own, whose values stand in for the defaults below",
    )
    parser.add_argument("--corpus", type=Path, default=None, help="folder with manifests (default: the active corpus)")
    parser.add_argument(
        "--model-options",
        nargs="+",
        default=(),
        metavar="KEY=VALUE",
        help="of the model's builder, e.g. units=128 dropout=0.3",
    )
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
    parser.add_argument(
        "--splice", type=float, default=0.0, metavar="SHARE", help="so many utterances are novel sentences, e.g. 0.5"
    )
    parser.add_argument("--ema", type=float, default=None, metavar="MOMENTUM", help="average the weights, e.g. 0.999")
    parser.add_argument(
        "--plan",
        type=float,
        nargs="+",
        default=(),
        metavar="HOURS",
        help="say what so much speech would take; train nothing",
    )
    parser.add_argument("--start-from", type=Path, metavar="WEIGHTS", help="of the same model, to train further")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of the layers; weights stay float32"
    )
    parser.add_argument("--devices", type=int, default=None, help="so many GPUs share each batch")
    parser.add_argument("--sort-by-duration", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="train even when the same run is finished")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was killed or stopped")
    parser.set_defaults(run=commands.train)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", type=Path, default=None, metavar="WEIGHTS", help="default: the released weights")
    parser.add_argument("--max-duration", type=float, default=None, help="seconds; default: every utterance")
    parser.add_argument("--allow-training-speakers", action="store_true")
    _add_decoding(parser)
    parser.add_argument("--tune", action="store_true", help="choose the weights, leaving one speaker out at a time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", action="store_true", help=RECORD_HELP)
    parser.set_defaults(run=evaluate.evaluate)


def _add_transcribe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--model", type=Path, default=None, metavar="WEIGHTS", help="default: the released weights")
    _add_decoding(parser)
    parser.add_argument(
        "--hot-words", nargs="+", default=(), metavar="WORD", help="names and terms that are likely here"
    )
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.set_defaults(run=decode.transcribe)


def _add_listen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, default=None, metavar="WEIGHTS", help="default: the released weights")
    _add_decoding(parser)
    parser.add_argument(
        "--hot-words", nargs="+", default=(), metavar="WORD", help="names and terms that are likely here"
    )
    add_sound_source(parser)
    parser.set_defaults(run=decode.listen)


def _add_align(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", type=Path)
    parser.add_argument("text", type=Path, metavar="TEXT_FILE", help="what is said in it")
    parser.add_argument("--model", type=Path, default=None, metavar="WEIGHTS", help="default: the released weights")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.set_defaults(run=decode.align)


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lm",
        type=Path,
        default=None,
        metavar="FILE",
        help="language model: .npz, .arpa or .arpa.gz (default: the released one with the released weights, else none)",
    )
    parser.add_argument(
        "--greedy", action="store_true", help="the most probable character of each frame, no language model"
    )
    parser.add_argument("--alpha", type=float, default=None, help="weight of the language model")
    parser.add_argument("--beta", type=float, default=None, help="bonus for each word")
    parser.add_argument("--beam-width", type=int, default=None)
    parser.add_argument(
        "--phonemes",
        type=float,
        default=None,
        metavar="W",
        help="weight beside the letters, of models that learnt both; 0 to 1",
    )


def _add_lm(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    train = kinds.add_parser("train", help="modified Kneser-Ney n-grams from text files (plain or .gz)")
    train.add_argument("texts", nargs="+", type=Path, metavar="TEXT")
    train.add_argument("--order", type=int, default=3)
    train.add_argument("--out", type=Path, required=True, metavar="FILE", help=".npz, .arpa or .arpa.gz")
    train.add_argument("--prune", type=int, nargs="+", default=(), help="leave out n-grams seen so often, e.g. 0 0 1")
    train.add_argument("--min-count", type=int, default=1, help="rarer words are unknown")
    train.add_argument("--max-words", type=int, default=None, help="size of the vocabulary")
    train.add_argument(
        "--characters", action="store_true", help="of characters, for which orders of 6 to 10 make sense"
    )
    train.set_defaults(run=decode.lm_train)
    perplexity = kinds.add_parser("perplexity", help="how well a model predicts a text or manifest")
    perplexity.add_argument("model", type=Path)
    perplexity.add_argument("text", type=Path)
    perplexity.set_defaults(run=decode.lm_perplexity)


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
    parser.set_defaults(run=commands.study)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help="names or patterns (default: all)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with the runs")
    parser.add_argument("--figure", type=Path, default=None, help="also write the comparison plot here")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="fail when the README differs from the committed records")
    group.add_argument("--update", action="store_true", help="write the README's table from the committed records")
    parser.set_defaults(run=commands.compare)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebook", nargs="?", type=Path, default=Path("vui_notebook.ipynb"))
    parser.add_argument("--out", type=Path, default=None, help="default: results/NOTEBOOK.html")
    parser.add_argument("--scale", choices=("full", "quick", "tiny"), default="full")
    parser.set_defaults(run=commands.report)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    parser.add_argument("--format", choices=EXPORT_FORMATS, required=True)
    parser.add_argument("--out", type=Path, default=None, help="file or folder (default: beside the weights)")
    parser.set_defaults(run=commands.export)
