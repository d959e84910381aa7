"""One contestant of `bench_epoch.py` in a process of its own: whole epochs on a corpus, from loading to validation.

Run by the driver as `python -m benchmarks.epoch_worker CONTESTANT MODEL CORPUS --batch 20 --epochs 2`. The one request is
`{"action": "run"}`; libraries are loaded before the clock starts.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks import harness
from vuilab.corpus.manifest import MANIFESTS, read_manifest

MAX_DURATION = 10.0  # seconds, the project's default


def run_ours(model: str, corpus: Path, batch: int, epochs: int) -> dict:
    """Train with `train_model`, feature cache warm, and return times and shares."""
    import keras

    import sample_models
    from train_utils import configure_gpu, train_model
    from vuilab.data.generator import BatchGenerator
    from vuilab.data.options import DataOptions

    class Clock(keras.callbacks.Callback):
        """Notes for each epoch the seconds inside and between the steps; between them the loop waits for data."""

        def __init__(self):
            super().__init__()
            self.waiting, self.working = [], []

        def on_epoch_begin(self, epoch, logs=None):
            self.waiting.append(0.0)
            self.working.append(0.0)
            self.mark = time.perf_counter()

        def on_train_batch_begin(self, batch, logs=None):
            now = time.perf_counter()
            self.waiting[-1] += now - self.mark
            self.mark = now

        def on_train_batch_end(self, batch, logs=None):
            now = time.perf_counter()
            self.working[-1] += now - self.mark
            self.mark = now

    configure_gpu()
    keras.utils.set_random_seed(0)
    train_json, valid_json = corpus / MANIFESTS["train"], corpus / MANIFESTS["validation"]
    generator = BatchGenerator(options=DataOptions(batch, MAX_DURATION))
    generator.load_train_data(train_json)
    generator.load_validation_data(valid_json)
    padding = padding_share(generator)  # makes the cache where there is none yet
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        history = train_model(
            sample_models.ZOO[model](161),
            Path(folder) / "bench.pickle",
            Path(folder) / "bench.h5",
            train_json,
            valid_json,
            minibatch_size=batch,
            max_duration=MAX_DURATION,
            epochs=epochs,
            verbose=0,
            callbacks=[clock],
        )
        total = time.perf_counter() - started
    return {
        "load_seconds": total - sum(history["seconds"]),
        "epoch_seconds": history["seconds"],
        "padding_share": padding,
        "waiting_share": [wait / (wait + work) for wait, work in zip(clock.waiting, clock.working, strict=True)],
        "wer": history["val_wer"],
    }


def padding_share(generator) -> float:
    """Return the share of padding among the frames of the training batches of one epoch."""
    true = padded = 0
    for indices in generator.plan("train", 0):
        inputs, _ = generator.assemble("train", indices)
        true += int(inputs["input_length"].sum())
        padded += inputs["the_input"].shape[0] * inputs["the_input"].shape[1]
    return 1 - true / padded


def prepare_stock(corpus: Path, folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Write the corpus as WAV files and return for each split the paths and transcripts."""
    from benchmarks.stock_epoch import to_wav

    splits = {}
    for split in ("train", "validation"):
        kept = [u for u in read_manifest(corpus / MANIFESTS[split]) if u.duration <= MAX_DURATION]
        paths = [to_wav(u.path, folder / f"{split}-{number}.wav") for number, u in enumerate(kept)]
        splits[split] = paths, [u.text for u in kept]
    return splits


def run_stock(model: str, corpus: Path, batch: int, epochs: int) -> dict:
    """Train as the official example of Keras does."""
    from benchmarks import stock_epoch

    with tempfile.TemporaryDirectory() as folder:
        splits = prepare_stock(corpus, Path(folder))
        return stock_epoch.run(model, splits, batch, epochs)


def main() -> None:
    """Answer the driver's request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contestant", choices=[*harness.BACKENDS, "stock"])
    parser.add_argument("model")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    harness.claim_stdout()
    run = run_stock if options.contestant == "stock" else run_ours

    def answer(_: dict) -> dict:
        result = run(options.model, options.corpus, options.batch, options.epochs)
        return {**result, "memory_mb": harness.peak_memory_mb()}

    harness.serve(answer)


if __name__ == "__main__":
    main()
