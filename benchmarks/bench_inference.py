"""Everything but training: feature extraction, inference on one and on many recordings, and greedy decoding.

    python vui.py data demo
    python -m benchmarks.bench_inference                      # from the project's folder; `make bench` runs it too
    python -m benchmarks.bench_inference --models model_2 --limit 60

- Features: hours of audio per minute, cold (audio files read, features computed, cache written) and cached (read from the cache
  and normalised). The audio files may be in the memory of the operating system already.
- Inference: from the waveform to the text (features, model with untrained weights, greedy decoding) for 1 and 32 recordings of
  equal length at once, after a first call that compiles. The real-time factor is seconds of work per second of audio: lower is
  better.
- Greedy decoding alone: output frames per second, and how many times faster than speech that is.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.harness import median, say
from vuilab.corpus.manifest import MANIFESTS, read_manifest, summarize, write_manifest
from vuilab.data.feature_cache import load_features
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.decoding.greedy import greedy_decode
from vuilab.features import FeatureSettings
from vuilab.files import repository

FRAMES_PER_SECOND = 100
BACKEND_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX"}


def measure_features(corpus: Path, kinds: list[str], limit: int | None) -> dict[str, dict]:
    """Return hours of audio per minute for each kind of features, cold and cached."""
    results = {}
    for kind in kinds:
        settings = FeatureSettings(kind)
        with tempfile.TemporaryDirectory() as folder:
            os.environ.pop("VUI_CACHE", None)  # the cache belongs into the temporary folder, beside the manifest
            manifest = Path(folder) / MANIFESTS["train"]
            write_manifest(manifest, read_manifest(corpus / MANIFESTS["train"])[:limit])
            utterances = read_manifest(manifest)
            hours = summarize(utterances)["hours"]
            started = time.perf_counter()
            load_features(manifest, utterances, settings, progress=False)
            cold = time.perf_counter() - started
            size = sum(file.stat().st_size for file in Path(folder).rglob("*.npy"))
            generator = BatchGenerator(settings, DataOptions(max_duration=None))
            started = time.perf_counter()
            generator.load("train", manifest)
            generator.set_statistics(np.zeros(settings.num_features), np.ones(settings.num_features))
            for indices in generator.plan("train", 0):
                generator.assemble("train", indices)
            cached = time.perf_counter() - started
            del generator
        results[kind] = {
            "hours": hours,
            "cold_seconds": cold,
            "cached_seconds": cached,
            "cold_hours_per_minute": hours / cold * 60,
            "cached_hours_per_minute": hours / cached * 60,
            "cache_mb_per_hour": size / 1e6 / hours,
        }
        say(f"{kind}: cold {hours / cold * 60:.1f} h a minute, cached {hours / cached * 60:.0f} h a minute")
    return results


def measure_decoding(num_frames: int, repeats: int) -> dict:
    """Return the output frames that greedy decoding reads per second, on probabilities of random logits."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((num_frames, 29), dtype=np.float32) * 4
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    greedy_decode(probabilities)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        greedy_decode(probabilities)
        seconds.append(time.perf_counter() - started)
    speed = num_frames / median(seconds)
    return {"num_frames": num_frames, "frames_per_second": speed, "times_real_time": speed / FRAMES_PER_SECOND}


def measure_inference(options: argparse.Namespace) -> list[dict]:
    """Return one result for each model, backend and number of recordings at once."""
    results = []
    for model in options.models:
        for backend in options.backends:
            for batch in options.batches:
                arguments = [model, "--batch", str(batch), "--seconds", str(options.seconds), "--repeats"]
                try:
                    with harness.Worker(
                        "benchmarks.inference_worker", [*arguments, str(options.repeats)], backend
                    ) as worker:
                        result = worker.ask(action="run")
                except harness.WorkerError as error:
                    say(f"{model}, {backend}, {batch} at once: {error}")
                    continue
                results.append({"model": model, "backend": backend, "batch": batch, **result})
                say(
                    f"{model}, {BACKEND_NAMES[backend]}, {batch} at once: real-time factor "
                    f"{result['real_time_factor']:.4f}, {result['peak_mb']:.0f} MB"
                )
    return results


def report(features: dict, inference: list[dict], decoding: dict, seconds: float) -> str:
    """Return the three tables."""
    feature_rows = [
        [
            kind,
            f"{r['cold_hours_per_minute']:.1f}",
            f"{r['cached_hours_per_minute']:,.0f}",
            f"{r['cache_mb_per_hour']:.0f}",
        ]
        for kind, r in features.items()
    ]
    inference_rows = [
        [
            f"{r['model']}, {BACKEND_NAMES[r['backend']]}, {r['batch']} at once",
            f"{r['real_time_factor']:.4f}",
            f"{1 / r['real_time_factor']:,.0f}",
            f"{r['first_seconds']:.1f}",
            f"{r['peak_mb']:,.0f}",
            f"{r['peak_mb'] - r['before_mb']:,.0f}",
        ]
        for r in inference
    ]
    header = ["", "real-time factor", "times real time", "first call, s", "peak memory, MB", "of it by inference, MB"]
    return "\n\n".join(
        [
            "Feature extraction, hours of audio per minute:",
            harness.table(["features", "cold", "cached", "cache, MB per hour"], feature_rows),
            f"Inference from waveform to text, recordings of {seconds:g} s:",
            harness.table(header, inference_rows),
            f"Greedy decoding: {decoding['frames_per_second']:,.0f} output frames per second, "
            f"{decoding['times_real_time']:,.0f} times real time at {FRAMES_PER_SECOND} frames a second.",
        ]
    )


def main() -> None:
    """Measure all three and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--corpus", type=Path, default=repository() / "LibriSpeech" / "demo", help="folder with manifests"
    )
    parser.add_argument("--limit", type=int, default=None, help="utterances for the features; default: all of training")
    parser.add_argument("--kinds", nargs="+", default=["spectrogram", "mfcc"], help="of features")
    parser.add_argument("--models", nargs="+", default=["model_2", "cnn_birnn_model"])
    parser.add_argument("--backends", nargs="+", default=list(harness.BACKENDS), choices=harness.BACKENDS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32], help="recordings at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a recording")
    parser.add_argument("--repeats", type=int, default=7)
    quick = {"limit": 12, "models": ["model_2"], "batches": [1, 2], "seconds": 2.0, "repeats": 2}
    options = harness.parse(parser, quick)
    environment = harness.environment()
    features = harness.in_own_process(measure_features, options.corpus, options.kinds, options.limit)
    decoding = harness.in_own_process(measure_decoding, round(options.seconds * FRAMES_PER_SECOND), options.repeats)
    inference = measure_inference(options)
    text = harness.header("Features, inference and decoding", environment) + "\n"
    text += report(features, inference, decoding, options.seconds)
    data = {"features": features, "inference": inference, "decoding": decoding, "seconds": options.seconds}
    path = harness.save(options, "inference", {**environment, **data}, text)
    say(f"\n{path.read_text()}\nWritten: {path} and {path.with_suffix('.json').name}")


if __name__ == "__main__":
    main()
