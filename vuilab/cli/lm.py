"""`vui lm`: language models made and measured."""

import argparse
from pathlib import Path
from typing import Any

from vuilab.cli.flags import add_command


def add_lm(parser: argparse.ArgumentParser) -> None:
    """Add `train` and `perplexity` with their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    _add_train(kinds)
    _add_perplexity(kinds)


def _add_train(kinds: Any) -> None:
    parser = add_command(kinds, "train", "modified Kneser-Ney n-grams from text files (plain or .gz)", _train)
    parser.add_argument("texts", nargs="+", type=Path, metavar="TEXT", help="one sentence or paragraph a line")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".npz, .arpa or .arpa.gz")
    parser.add_argument("--order", type=int, default=3, help="words, or characters, of the longest n-gram")
    parser.add_argument("--prune", type=int, nargs="+", default=(), help="leave out n-grams seen so often, e.g. 0 0 1")
    parser.add_argument("--min-count", type=int, default=1, help="rarer words are unknown")
    parser.add_argument("--max-words", type=int, help="size of the vocabulary")
    parser.add_argument(
        "--characters", action="store_true", help="of characters, for which orders of 6 to 10 make sense"
    )


def _train(arguments: argparse.Namespace) -> int:
    from vuilab.corpus.books import read_sentences
    from vuilab.decoding.kneser_ney import train_ngram
    from vuilab.decoding.language_model import save_language_model

    sentences = [sentence for path in arguments.texts for sentence in read_sentences(path)]
    counts = arguments.prune, arguments.min_count, arguments.max_words
    model = train_ngram(sentences, arguments.order, *counts, arguments.characters)
    save_language_model(model, arguments.out)
    told = ", ".join(f"{number:,} {n}-grams" for n, number in enumerate(model.num_ngrams, start=1))
    print(f"{arguments.out}: {len(sentences):,} sentences, {told} ({arguments.out.stat().st_size / 1e6:.1f} MB)")
    return 0


def _add_perplexity(kinds: Any) -> None:
    parser = add_command(kinds, "perplexity", "how well a model predicts a text or manifest", _perplexity)
    parser.add_argument("model", type=Path, help="a language model")
    parser.add_argument("text", type=Path, help="plain text, or a manifest")


def _perplexity(arguments: argparse.Namespace) -> int:
    from vuilab.corpus.books import read_sentences
    from vuilab.decoding.language_model import load_language_model

    model = load_language_model(arguments.model)
    if arguments.text.suffix == ".json":
        from vuilab.corpus.manifest import read_manifest

        sentences = [utterance.text for utterance in read_manifest(arguments.text)]
    else:
        sentences = list(read_sentences(arguments.text))
    print(model.perplexity(sentences))
    share = model.overlap(sentences)
    if share:
        print(f"{100 * share:.1f} % of the sentences of six words or more stand in the model's own text.")
    return 0
