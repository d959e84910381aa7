"""`vui lm`: language models made and measured."""

import argparse
from pathlib import Path

from vuilab.cli.flags import argument

per_line = argument(
    "--sentences-per-line",
    action="store_true",
    default=None,
    help="each line of the text is a sentence (default: see whether its lines are cut as those of books are)",
)


@argument("texts", nargs="+", type=Path, metavar="TEXT", help="books, or a sentence or paragraph a line; plain or .gz")
@per_line
@argument("--out", type=Path, required=True, metavar="FILE", help=".npz, .arpa or .arpa.gz")
@argument("--order", type=int, default=3, help="words, or characters, of the longest n-gram")
@argument("--prune", type=int, nargs="+", default=(), help="leave out n-grams seen so often, e.g. 0 0 1")
@argument("--min-count", type=int, default=1, help="rarer words are unknown")
@argument("--max-words", type=int, help="size of the vocabulary")
@argument("--characters", action="store_true", help="of characters, for which orders of 6 to 10 make sense")
def train(arguments: argparse.Namespace) -> None:
    """Make modified Kneser-Ney n-grams from text files (plain or .gz)."""
    from vuilab.corpus.books import read_sentences
    from vuilab.decoding.kneser_ney import train_ngram
    from vuilab.decoding.language_model import save_language_model

    sentences = []
    for path in arguments.texts:
        found = list(read_sentences(path, arguments.sentences_per_line))
        print(f"{path}: {len(found):,} sentences, {sum(len(one.split()) for one in found):,} words")
        sentences += found
    if not sentences:
        raise ValueError(f"There is no text in {' '.join(map(str, arguments.texts))} to make a language model from.")
    counts = arguments.prune, arguments.min_count, arguments.max_words
    model = train_ngram(sentences, arguments.order, *counts, arguments.characters)
    save_language_model(model, arguments.out)
    told = ", ".join(f"{number:,} {n}-grams" for n, number in enumerate(model.num_ngrams, start=1))
    print(f"{arguments.out}: {len(sentences):,} sentences, {told} ({arguments.out.stat().st_size / 1e6:.1f} MB)")


@argument("model", type=Path, help="a language model")
@argument("text", type=Path, help="plain text, or a manifest")
@per_line
def perplexity(arguments: argparse.Namespace) -> None:
    """Say how well a model predicts a text or manifest."""
    from vuilab.corpus.books import read_sentences
    from vuilab.decoding.language_model import load_language_model

    model = load_language_model(arguments.model)
    if arguments.text.suffix == ".json":
        from vuilab.corpus.manifest import read_manifest

        sentences = [utterance.text for utterance in read_manifest(arguments.text)]
    else:
        sentences = list(read_sentences(arguments.text, arguments.sentences_per_line))
    print(model.perplexity(sentences))
    share = model.overlap(sentences)
    if share:
        print(
            f"{100 * share:.1f} % of the sentences of six words or more, or of their runs of six, stand in the model's own text."
        )


lm = (train, perplexity)
