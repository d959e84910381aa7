"""Whole epochs on the demo corpus, from loading to validation, against the way of the official CTC example of Keras.

    python vui.py data demo
    python -m benchmarks.bench_epoch                          # from the project's folder; `make bench` runs it too
    python -m benchmarks.bench_epoch --models model_2 --limit 60

This project trains through `train_model` with its features cached; the stock way computes them anew in each epoch (see
`stock_epoch.py`). The first epoch holds compilation; a later one shows what each further epoch costs. Also measured: the share
of the training time that the loop waits for data, and the share of padding among the frames.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import say
from vuilab.corpus.manifest import MANIFESTS, read_manifest, summarize, write_manifest
from vuilab.files import repository

CONTESTANTS = {"tensorflow": "this project, TensorFlow", "jax": "this project, JAX", "stock": "stock Keras"}
NOTES = (
    "",
    "Seconds from loading the manifests to the end of the first validation (compilation included; JAX keeps compiled programs in "
    "`.cache/jax`, so its first run takes longer than its second), and of a later epoch (the last one) with its validation. This "
    "project with its features cached; stock Keras computes them in each epoch, and its audio was turned from FLAC into WAV "
    "beforehand. Importing libraries does not count.",
    "",
)


def shortened(corpus: Path, limit: int | None, folder: Path) -> Path:
    """Return the corpus, or a copy of its manifests with only the first `limit` utterances (half as many for validation)."""
    if limit is None:
        return corpus
    for split, count in (("train", limit), ("validation", max(1, limit // 2))):
        write_manifest(folder / MANIFESTS[split], read_manifest(corpus / MANIFESTS[split])[:count])
    return folder


def measure(model: str, corpus: Path, options: argparse.Namespace) -> dict:
    """Measure one model: contestant -> what it answered."""
    results = {}
    for name in options.contestants:
        arguments = [name, model, str(corpus), "--batch", str(options.batch), "--epochs", str(options.epochs)]
        try:
            backend = name if name in harness.BACKENDS else "tensorflow"
            with harness.Worker("benchmarks.epoch_worker", arguments, backend) as worker:
                results[name] = worker.ask(action="run")
        except harness.WorkerError as error:
            say(f"{model}, {CONTESTANTS[name]}: {error}")
            continue
        seconds = ", ".join(f"{value:.1f}" for value in results[name]["epoch_seconds"])
        say(f"{model}, {CONTESTANTS[name]}: loading {results[name]['load_seconds']:.1f} s, epochs {seconds} s")
    return results


def first_and_later(result: dict) -> tuple[float, float]:
    """Return the seconds from loading to the first validation, and those of the last epoch."""
    return result["load_seconds"] + result["epoch_seconds"][0], result["epoch_seconds"][-1]


def report(models: dict[str, dict]) -> str:
    """Return the table and what it says about the goals."""
    rows, waiting, padding = [], [], []
    for model, results in models.items():
        stock = first_and_later(results["stock"]) if "stock" in results else None
        for name, result in results.items():
            first, later = first_and_later(result)
            ratios = ["", ""] if stock is None else [f"{stock[0] / first:.1f}", f"{stock[1] / later:.1f}"]
            wait = result["waiting_share"][-1] if "waiting_share" in result else None
            if wait is not None:
                waiting.append(100 * wait)
                padding.append(100 * result["padding_share"])
            rows.append(
                [
                    f"{model}, {CONTESTANTS[name]}",
                    f"{first:.1f}",
                    f"{later:.1f}",
                    *ratios,
                    "" if wait is None else f"{100 * wait:.1f}",
                    f"{100 * result['padding_share']:.1f}",
                    f"{result['memory_mb']:,.0f}",
                ]
            )
    header = ["", "loading and first epoch, s", "later epoch, s", "stock / this, first", "stock / this, later"]
    header += ["waiting for data, %", "padding, %", "peak memory, MB"]
    lines = [harness.table(header, rows), ""]
    if waiting:
        lines.append(harness.goal("waiting for data under 5 % of the step", max(waiting), max(waiting) < 5, " %"))
        lines.append(harness.goal("padding under 8 % of the frames", max(padding), max(padding) < 8, " %"))
    return "\n".join(lines)


def main() -> None:
    """Measure every model and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["model_2", "model_1"])
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument(
        "--corpus", type=Path, default=repository() / "LibriSpeech" / "demo", help="folder with manifests"
    )
    parser.add_argument("--epochs", type=int, default=2, help="at least 2, for a later epoch")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--limit", type=int, default=None, help="training utterances; default: all")
    options = harness.parse(parser, {"models": ["model_2"], "limit": 12, "batch": 4})
    if options.epochs < 2:
        raise SystemExit(f"--epochs must be at least 2. Received: {options.epochs}")
    environment = harness.environment()
    with tempfile.TemporaryDirectory() as folder:
        corpus = shortened(options.corpus.resolve(), options.limit, Path(folder))
        sizes = {split: summarize(read_manifest(corpus / MANIFESTS[split])) for split in ("train", "validation")}
        models = {model: measure(model, corpus, options) for model in options.models}
    train, valid = sizes["train"], sizes["validation"]
    text = harness.header("One epoch, from loading to validation", environment, NOTES)
    text += f"{train['num_utterances']} training utterances ({train['hours']:.2f} h), {valid['num_utterances']} for validation "
    text += f"({valid['hours']:.2f} h), batches of {options.batch}.\n\n{report(models)}\n"
    path = harness.save(options, "epoch", {**environment, "corpus": sizes, "models": models}, text)
    say(f"\n{path.read_text()}\nWritten: {path} and {path.with_suffix('.json').name}")


if __name__ == "__main__":
    main()
