"""Inference with one model, backend and number of recordings at once, in a process of its own; see `bench_inference.py`.

Run by the driver as `python -m benchmarks.inference_worker MODEL --batch 32 --seconds 10 --repeats 7`. The one request is
`{"action": "run"}`.
"""

import argparse
import time

import numpy as np

from benchmarks import harness
from vuilab.audio import SAMPLE_RATE
from vuilab.features import FeatureSettings


def run(options: argparse.Namespace) -> dict:
    """Return the real-time factor, the seconds of the first call, and the memory before and after."""
    import keras

    import sample_models
    from vuilab.decoding.greedy import greedy_decode
    from vuilab.training.devices import configure_gpu

    configure_gpu()
    keras.utils.set_random_seed(0)
    settings = FeatureSettings("spectrogram")
    model = sample_models.ZOO[options.model](settings.num_features)
    rng = np.random.default_rng(0)
    recordings = 0.1 * rng.standard_normal((options.batch, round(options.seconds * SAMPLE_RATE)), dtype=np.float32)
    before = harness.peak_memory_mb()

    def transcribe() -> float:
        started = time.perf_counter()
        features = np.stack([settings.extract(samples) for samples in recordings])
        features = (features - features.mean(axis=(0, 1))) / features.std(axis=(0, 1))
        for probabilities in np.asarray(model.predict_on_batch(features)):
            greedy_decode(probabilities)
        return time.perf_counter() - started

    first = transcribe()
    seconds = harness.median(transcribe() for _ in range(options.repeats))
    return {
        "real_time_factor": seconds / (options.batch * options.seconds),
        "first_seconds": first,
        "before_mb": before,
        "peak_mb": harness.peak_memory_mb(),
    }


def main() -> None:
    """Answer the driver's request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    harness.claim_stdout()
    harness.serve(lambda _: run(options))


if __name__ == "__main__":
    main()
