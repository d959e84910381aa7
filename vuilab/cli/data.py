"""`vui data`: corpora made, fetched or indexed."""

import argparse
from pathlib import Path
from typing import Any

from vuilab.cli.flags import add_command


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of corpora and their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for add in (_add_demo, _add_synthetic, _add_words, _add_librispeech, _add_speech_commands, _add_index):
        add(kinds)


def _add_demo(kinds: Any) -> None:
    parser = add_command(kinds, "demo", "synthesise the embedded demo corpus", _demo)
    parser.add_argument("--out", type=Path, help="folder (default: LibriSpeech/demo)")
    parser.add_argument("--seed", type=int, default=1, help="of voices and sentences")
    parser.add_argument("--scale", choices=("full", "tiny"), default="full", help="size of the corpus")


def _demo(arguments: argparse.Namespace) -> int:
    from vuilab.corpus.demo import make_demo

    make_demo(arguments.out, seed=arguments.seed, scale=arguments.scale)
    return 0


def _add_synthetic(kinds: Any) -> None:
    parser = add_command(kinds, "synthetic", "synthetic speech of the sentences of books, to train on", _synthetic)
    parser.add_argument("texts", nargs="+", type=Path, metavar="TEXT", help="plain text, gzipped or not")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new corpus")
    parser.add_argument("--hours", type=float, default=1.0, help="hours of speech")
    parser.add_argument(
        "--beside", type=Path, metavar="DIR", help="corpus whose utterances are added, and that validates"
    )
    parser.add_argument("--seed", type=int, default=0, help="of sentences and voices")


def _synthetic(arguments: argparse.Namespace) -> int:
    from vuilab.corpus.synthetic import make_synthetic

    print(make_synthetic(arguments.texts, arguments.out, arguments.hours, arguments.beside, arguments.seed))
    return 0


def _add_words(kinds: Any) -> None:
    parser = add_command(kinds, "words", "manifests with the time of each word, for train --splice", _words)
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="folder with manifests")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets the new manifests")
    parser.add_argument("--model", type=Path, help="weights that align (default: the released ones)")


def _words(arguments: argparse.Namespace) -> int:
    from vuilab.inference.word_times import add_word_times

    print(add_word_times(arguments.corpus, arguments.out, arguments.model))
    return 0


def _add_librispeech(kinds: Any) -> None:
    parser = add_command(
        kinds, "librispeech", "download, verify and index LibriSpeech subsets from OpenSLR", _librispeech
    )
    parser.add_argument("subsets", nargs="+", metavar="SUBSET", help="dev-clean, train-clean-100, ..., or mini")
    parser.add_argument("--root", type=Path, default=Path("LibriSpeech"), help="folder that gets them")
    parser.add_argument("--base-url", help="a mirror of the server's /resources folder")


def _librispeech(arguments: argparse.Namespace) -> int:
    from vuilab.corpus.librispeech import fetch_librispeech

    for report in fetch_librispeech(arguments.subsets, arguments.root, arguments.base_url).values():
        print(report)
    return 0


def _add_speech_commands(kinds: Any) -> None:
    text = "download and verify Google Speech Commands, or speak a small one"
    parser = add_command(kinds, "speech_commands", text, _speech_commands)
    parser.add_argument("--root", type=Path, help="folder that gets the corpus (default: data)")
    fetched = parser.add_argument_group("download")
    fetched.add_argument(
        "--version", type=int, choices=(1, 2), default=2, help="1: 30 words, 1.5 GB; 2: 35 words, 2.4 GB"
    )
    fetched.add_argument("--base-url", help="a mirror of the folder with the archives")
    spoken = parser.add_argument_group("demo")
    spoken.add_argument("--demo", action="store_true", help="let the demo voices speak a small corpus, offline")
    spoken.add_argument("--words", nargs="+", metavar="WORD", help="of the demo (default: 16 words)")
    spoken.add_argument("--scale", choices=("full", "tiny"), default="full", help="of the demo")


def _speech_commands(arguments: argparse.Namespace) -> int:
    from vuilab.keywords.fetch import DEMO_WORDS, fetch_speech_commands, make_word_demo

    if arguments.demo:
        out = None if arguments.root is None else arguments.root / "speech_commands_demo"
        print(make_word_demo(out, tuple(arguments.words or DEMO_WORDS), scale=arguments.scale))
        return 0
    root = {} if arguments.root is None else {"root": arguments.root}
    print(fetch_speech_commands(arguments.version, base_url=arguments.base_url, **root))
    return 0


def _add_index(kinds: Any) -> None:
    parser = add_command(kinds, "index", "write manifests for a tree in LibriSpeech's layout", _index)
    parser.add_argument("path", type=Path, help="the tree")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets {train,valid,test}_corpus.json")
    parser.add_argument("--valid-speakers", nargs="+", default=(), metavar="ID", help="speakers that validate")
    parser.add_argument("--test-speakers", nargs="+", default=(), metavar="ID", help="speakers that test")
    parser.add_argument("--test", action="store_true", help="everything is test data")


def _index(arguments: argparse.Namespace) -> int:
    from vuilab.corpus.index import index_tree

    speakers = arguments.valid_speakers, arguments.test_speakers
    print(index_tree(arguments.path, arguments.out, *speakers, arguments.test))
    return 0
