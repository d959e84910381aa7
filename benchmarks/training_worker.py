"""One contestant of `bench_training.py` in a process of its own: builds one model and trains it on request.

Run by the driver as `python -m benchmarks.training_worker CONTESTANT MODEL --batch 20 --frames 700`. Requests:

- `{"action": "start"}`: build and take the first steps, compilation included; answers the number of trainable parameters, the
  seconds and the loss, or `{"absent": reason}` where this project has no such model;
- `{"action": "run", "steps": N}`: answers the seconds of each step and the last loss.
"""

import argparse
import contextlib
import sys
import time

import numpy as np

from benchmarks import harness
from benchmarks.workloads import CLIP_NORM, LEARNING_RATE, MODELS, MOMENTUM, NUM_FEATURES, Workload, true_frames

WARM_UP = 3  # steps before the first measurement; each batch has been seen by then


class ProjectPeer:
    """Trains a model of this project as `train_model` does, on the backend that KERAS_BACKEND names.

    Args:
        name: in `sample_models.ZOO`.

    Raises:
        KeyError: when there is no such model.
    """

    def __init__(self, name: str):
        import keras

        import sample_models
        from vuilab.models.ctc import add_ctc_loss, mean_loss
        from vuilab.training.devices import configure_gpu
        from vuilab.training.sharing import train_step

        configure_gpu()
        keras.utils.set_random_seed(0)
        with contextlib.redirect_stdout(sys.stderr):  # the summary
            model = sample_models.ZOO[name](NUM_FEATURES)
        self.train_step = train_step
        self.trainer = add_ctc_loss(model)
        optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, nesterov=True, global_clipnorm=CLIP_NORM)
        self.trainer.compile(optimizer=optimizer, loss=mean_loss, jit_compile=keras.backend.backend() != "tensorflow")
        self.parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)

    def step(self, batch: dict[str, np.ndarray]) -> float:
        """Train on one batch and return the mean loss in nats per utterance."""
        return self.train_step(self.trainer, batch, {"ctc": np.zeros(len(batch["input_length"]), np.float32)})


def make_peer(contestant: str, model: str):
    """Return a contestant with a method `step(batch)` and the attribute `parameters`.

    Raises:
        ValueError: for an unknown contestant.
        KeyError: when this project has no such model.
    """
    if contestant in harness.BACKENDS:
        return ProjectPeer(model)
    if contestant == "pytorch":
        from benchmarks.peers_torch import TorchPeer

        return TorchPeer(MODELS[model])
    if contestant.startswith("stock"):
        from benchmarks.peers_keras import StockPeer

        return StockPeer(MODELS[model], contestant)
    raise ValueError(f"Unknown contestant. Received: {contestant!r}")


def main() -> None:
    """Answer the driver's requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contestant")
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--frames", type=int, default=700)
    options = parser.parse_args()
    harness.claim_stdout()
    batches = Workload(options.batch, options.frames).batches()
    peer, steps_done = None, 0

    def timed_step() -> tuple[float, float]:
        nonlocal steps_done
        batch = batches[steps_done % len(batches)]
        started = time.perf_counter()
        loss = peer.step(batch)
        steps_done += 1
        return time.perf_counter() - started, loss

    def answer(request: dict) -> dict:
        nonlocal peer
        if request["action"] == "start":
            started = time.perf_counter()
            try:
                peer = make_peer(options.contestant, options.model)
            except KeyError as error:
                return {"absent": f"sample_models.ZOO has no {error}"}
            losses = [timed_step()[1] for _ in range(WARM_UP)]
            return {
                "parameters": peer.parameters,
                "start_seconds": time.perf_counter() - started,
                "true_frames": true_frames(batches),
                "loss": losses[0],
            }
        steps = [timed_step() for _ in range(request["steps"])]
        return {
            "seconds": [seconds for seconds, _ in steps],
            "loss": steps[-1][1],
            "memory_mb": harness.peak_memory_mb(),
        }

    harness.serve(answer)


if __name__ == "__main__":
    main()
