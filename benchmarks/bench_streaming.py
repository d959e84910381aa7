"""How long the text lags behind the voice: recognition of one stream, frame by frame, on one processor.

    python -m benchmarks.bench_streaming                      # from the project's folder; `make bench` runs it too
    python -m benchmarks.bench_streaming --models model_1 --features mfcc

Noise that rises and falls like speech goes through features, model (untrained weights) and greedy decoding, 10 ms at a time, as
from a microphone. Latency has two parts: the look-ahead, which is the sound from the beginning of an output frame's window to
its end that must be there before the frame can be computed, and the computing itself, of which the table has the median and
the 95th percentile over all chunks. Computing must stay under 10 ms a chunk to keep up. The last column is the largest
difference between these probabilities and those that Keras gives for the whole recording.
"""

import argparse
import time

import numpy as np

from benchmarks import harness
from benchmarks.harness import say

WARM_UP = 50  # chunks that are not counted


def measure(name: str, kind: str, seconds: float, chunk_ms: float) -> dict:
    """Return the look-ahead, the computing time of each chunk in milliseconds, and the difference from the offline result."""
    import keras

    import sample_models
    from vuilab.audio import SAMPLE_RATE
    from vuilab.features import FeatureSettings
    from vuilab.inference.streaming import StreamingRecogniser
    from vuilab.inference.transcribe import Recogniser

    keras.utils.set_random_seed(0)
    settings = FeatureSettings(kind)
    rng, size = np.random.default_rng(0), round(chunk_ms * SAMPLE_RATE / 1000)
    samples = rng.standard_normal(round(seconds * SAMPLE_RATE), dtype=np.float32)
    samples *= 0.1 + 0.08 * np.sin(2 * np.pi * 3 * np.arange(len(samples), dtype=np.float32) / SAMPLE_RATE)
    features = settings.extract(samples)
    model = sample_models.ZOO[name](settings.num_features)
    recogniser = Recogniser(model, settings, features.mean(axis=0), features.std(axis=0), {})
    stream = StreamingRecogniser(recogniser)
    found, times = [], []
    for start in range(0, len(samples), size):
        begun = time.perf_counter()
        found.append(stream.add(samples[start : start + size]))
        times.append(1000 * (time.perf_counter() - begun))
    found.append(stream.finish())
    offline = recogniser.probabilities(samples)
    return {
        "model": name,
        "features": kind,
        "look_ahead_ms": 1000 * stream.look_ahead,
        "chunk_ms": chunk_ms,
        "p50_ms": float(np.quantile(times[WARM_UP:], 0.5)),
        "p95_ms": float(np.quantile(times[WARM_UP:], 0.95)),
        "max_ms": max(times[WARM_UP:]),
        "real_time_factor": sum(times) / 1000 / seconds,
        "difference": float(np.abs(np.concatenate(found) - offline).max()),
    }


def report(results: list[dict]) -> str:
    """Return the table."""
    header = [
        "model",
        "look-ahead, ms",
        "computing p50, ms",
        "p95",
        "longest",
        "latency p50, ms",
        "p95",
        "real-time factor",
        "difference",
    ]
    rows = [
        [
            f"{r['model']}, {r['features']}",
            f"{r['look_ahead_ms']:.0f}",
            *(f"{r[key]:.2f}" for key in ("p50_ms", "p95_ms", "max_ms")),
            *(f"{r['look_ahead_ms'] + r[key]:.1f}" for key in ("p50_ms", "p95_ms")),
            f"{r['real_time_factor']:.4f}",
            f"{r['difference']:.0e}",
        ]
        for r in results
    ]
    return harness.table(header, rows)


def main() -> None:
    """Measure each model and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["model_0", "model_1", "model_2", "model_3"])
    parser.add_argument("--features", default="spectrogram", choices=("spectrogram", "mfcc", "logmel"))
    parser.add_argument("--seconds", type=float, default=30.0, help="of sound")
    parser.add_argument("--chunk-ms", type=float, default=10.0, help="length of a chunk")
    options = harness.parse(parser, {"models": ["model_1"], "seconds": 1.0})
    environment = harness.environment()
    results = []
    for name in options.models:
        result = harness.in_own_process(measure, name, options.features, options.seconds, options.chunk_ms)
        say(f"{name}: look-ahead {result['look_ahead_ms']:.0f} ms, computing {result['p50_ms']:.2f} ms")
        results.append(result)
    notes = [f"One stream of {options.seconds:g} s in chunks of {options.chunk_ms:g} ms."]
    text = harness.header("Streaming", environment, notes) + "\n" + report(results)
    path = harness.save(options, "streaming", {**environment, "results": results}, text)
    say(f"\n{path.read_text()}\nWritten: {path} and {path.with_suffix('.json').name}")


if __name__ == "__main__":
    main()
