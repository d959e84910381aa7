"""`vui data`: corpora made, fetched or indexed."""

import argparse
from pathlib import Path

from vuilab.cli.flags import argument, exit_status
from vuilab.corpus.layouts import LAYOUTS


@argument("--out", type=Path, help="folder (default: LibriSpeech/demo)")
@argument("--seed", type=int, default=1, help="of voices and sentences")
@argument("--scale", choices=("full", "tiny"), default="full", help="size of the corpus")
def demo(arguments: argparse.Namespace) -> None:
    """Synthesise the embedded demo corpus."""
    from vuilab.corpus.demo import make_demo

    make_demo(arguments.out, seed=arguments.seed, scale=arguments.scale)


@argument("texts", nargs="+", type=Path, metavar="TEXT", help="plain text, gzipped or not")
@argument("--out", type=Path, required=True, help="folder of the new corpus")
@argument("--hours", type=float, default=1.0, help="hours of speech")
@argument("--beside", type=Path, metavar="DIR", help="corpus whose utterances are added, and that validates")
@argument("--seed", type=int, default=0, help="of sentences and voices")
def synthetic(arguments: argparse.Namespace) -> None:
    """Make synthetic speech of the sentences of books, to train on."""
    from vuilab.corpus.synthetic import make_synthetic

    print(make_synthetic(arguments.texts, arguments.out, arguments.hours, arguments.beside, arguments.seed))


@argument("corpus", type=Path, metavar="CORPUS", help="folder with manifests")
@argument("--out", type=Path, required=True, help="folder that gets the new manifests")
@argument("--model", type=Path, help="weights that align (default: the released ones)")
def words(arguments: argparse.Namespace) -> None:
    """Write manifests with the time of each word, for train --splice."""
    from vuilab.inference.word_times import add_word_times

    print(add_word_times(arguments.corpus, arguments.out, arguments.model))


@argument("subsets", nargs="+", metavar="SUBSET", help="dev-clean, train-clean-100, ..., or mini")
@argument("--root", type=Path, default=Path("LibriSpeech"), help="folder that gets them")
@argument("--base-url", help="a mirror of the server's /resources folder")
def librispeech(arguments: argparse.Namespace) -> None:
    """Download, verify and index LibriSpeech subsets from OpenSLR."""
    from vuilab.corpus.librispeech import fetch_librispeech

    print(*fetch_librispeech(arguments.subsets, arguments.root, arguments.base_url).values(), sep="\n")


@argument("--root", type=Path, help="folder that gets the corpus (default: data)")
@argument(
    "--version", type=int, choices=(1, 2), default=2, group="download", help="1: 30 words, 1.5 GB; 2: 35 words, 2.4 GB"
)
@argument("--base-url", group="download", help="a mirror of the folder with the archives")
@argument("--demo", action="store_true", group="demo", help="let the demo voices speak a small corpus, offline")
@argument("--words", nargs="+", metavar="WORD", group="demo", help="of the demo (default: 16 words)")
@argument("--scale", choices=("full", "tiny"), default="full", group="demo", help="of the demo")
def speech_commands(arguments: argparse.Namespace) -> None:
    """Download and verify Google Speech Commands, or speak a small one."""
    from vuilab.keywords.fetch import DEMO_WORDS, ROOT, fetch_speech_commands, make_word_demo

    root = arguments.root or ROOT
    if arguments.demo:
        words = tuple(arguments.words or DEMO_WORDS)
        print(make_word_demo(root / "speech_commands_demo", words, scale=arguments.scale))
    else:
        print(fetch_speech_commands(arguments.version, root, arguments.base_url))


@argument("path", type=Path, help="the folder, or a table of recordings")
@argument("--out", type=Path, required=True, help="folder that gets {train,valid,test}_corpus.json")
@argument("--valid-speakers", nargs="+", default=(), metavar="ID", help="speakers that validate")
@argument("--test-speakers", nargs="+", default=(), metavar="ID", help="speakers that test")
@argument("--test", action="store_true", help="everything is test data")
@argument("--layout", choices=LAYOUTS, help="of the folder (default: see which one it is)")
def index(arguments: argparse.Namespace) -> int:
    """Write manifests for your own recordings, in one of the layouts that corpora have."""
    from vuilab.corpus.index import index_tree

    speakers = arguments.valid_speakers, arguments.test_speakers
    report = index_tree(arguments.path, arguments.out, *speakers, arguments.test, arguments.layout)
    print(report)
    return exit_status(len(report.splits), len(report.left_out))


data = (demo, synthetic, words, librispeech, speech_commands, index)
