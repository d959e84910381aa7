"""What it costs that an utterance's probabilities do not depend on padding and neighbours, in training and in recognition.

    python -m benchmarks.bench_length_awareness               # from the project's folder; `make bench` runs it too

The final model against the same network of plain layers: 'same' convolutions, batch normalisation that counts padding, and
backward layers that begin in it. Both stand in one process and take a step each in turn; the ratio is the median over the
rounds of the ratio within a round.
"""

import argparse
import os
import time

import numpy as np

from benchmarks import harness
from benchmarks.harness import median, say
from benchmarks.workloads import CLIP_NORM, Workload

NUM_BANDS = 80
WARM_UP = 3  # rounds that are not counted
GOAL = 1.05


def plain_model():
    """Return the network of `residual_birnn_model` from layers that know nothing of lengths."""
    import keras
    from keras import layers

    from vuilab.models.acoustic import acoustic_model
    from vuilab.models.recurrent import GRU

    def conv(x, name, kernel_size, dilation=1, stride=1):
        x = layers.Conv1D(256, kernel_size, stride, "same", dilation_rate=dilation, activation="relu", name=name)(x)
        return layers.Dropout(0.1, name=f"{name}_dropout")(layers.BatchNormalization(name=f"{name}_bn")(x))

    the_input = keras.Input(shape=(None, NUM_BANDS), name="the_input")
    x = conv(the_input, "conv", 11, stride=2)
    for number, dilation in enumerate((1, 2, 4), start=1):
        x = layers.Add(name=f"add_{number}")([x, conv(x, f"residual_{number}", 5, dilation)])
    for number in (1, 2, 3):
        x = layers.Bidirectional(GRU(192, return_sequences=True), name=f"birnn_{number}")(x)
        x = layers.BatchNormalization(name=f"birnn_{number}_bn")(x)
        x = layers.Dropout(0.1, name=f"birnn_{number}_dropout")(x)
    return acoustic_model(the_input, layers.Dense(29, name="time_distributed")(x), "plain", print_summary=False)


def measure(batch: int, num_frames: int, rounds: int) -> dict:
    """Return the seconds of each step in training and in recognition: kind -> contestant -> seconds."""
    import keras

    from vuilab.models.ctc import add_ctc_loss, mean_loss
    from vuilab.models.residual_birnn import residual_birnn_model
    from vuilab.training.sharing import train_step

    (inputs,) = Workload(batch, num_frames).batches(1)
    inputs["the_input"] = np.ascontiguousarray(inputs["the_input"][..., :NUM_BANDS])
    outputs = {"ctc": np.zeros(batch, np.float32)}
    models = {"length-aware": residual_birnn_model(NUM_BANDS, print_summary=False), "plain": plain_model()}
    counts = {name: sum(int(np.prod(w.shape)) for w in model.trainable_weights) for name, model in models.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"Both networks must have the same number of parameters. Received: {counts}")
    trainers = {name: add_ctc_loss(model) for name, model in models.items()}
    for trainer in trainers.values():
        optimizer = keras.optimizers.AdamW(1e-3, global_clipnorm=CLIP_NORM)
        trainer.compile(optimizer, loss=mean_loss, jit_compile=keras.backend.backend() != "tensorflow")
    steps = {
        "training": lambda name: train_step(trainers[name], inputs, outputs),
        "recognition": lambda name: models[name].predict_on_batch(inputs["the_input"]),
    }
    seconds: dict = {kind: {name: [] for name in models} for kind in steps}
    for number in range(rounds + WARM_UP):
        for kind, step in steps.items():
            for name in list(models)[:: -1 if number % 2 else 1]:
                started = time.perf_counter()
                step(name)
                seconds[kind][name].append(time.perf_counter() - started)
    return {kind: {name: times[WARM_UP:] for name, times in found.items()} for kind, found in seconds.items()}


def report(results: dict[str, dict]) -> str:
    """Return the table and whether the goal is met."""
    rows, goals = [], []
    for backend, kinds in results.items():
        for kind, found in kinds.items():
            ratio = median(own / other for own, other in zip(found["length-aware"], found["plain"], strict=True))
            rows.append([f"{kind}, {backend}", *(f"{median(found[name]):.3f}" for name in found), f"{ratio:.3f}"])
            goals.append(harness.goal(f"{kind} on {backend}, at most {GOAL} times as long", ratio, ratio <= GOAL))
    return "\n".join([harness.table(["", "length-aware, s", "plain, s", "ratio"], rows), "", *goals])


def main() -> None:
    """Measure on each backend and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=20, help="utterances")
    parser.add_argument("--frames", type=int, default=700, help="of a padded utterance")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--backends", nargs="+", default=list(harness.BACKENDS), choices=harness.BACKENDS)
    options = harness.parse(parser, {"batch": 2, "frames": 100, "rounds": 2})
    environment = harness.environment()
    results = {}
    for backend in options.backends:
        os.environ["KERAS_BACKEND"] = backend  # of the process that measures
        results[backend] = harness.in_own_process(measure, options.batch, options.frames, options.rounds)
        say(f"{backend}: measured")
    notes = [
        f"Batches of {options.batch} utterances of up to {options.frames} frames, 80 log-mel bands, {options.rounds} rounds."
    ]
    text = harness.header("Length awareness", environment, notes) + "\n" + report(results)
    path = harness.save(options, "length_awareness", {**environment, "results": results}, text)
    say(f"\n{path.read_text()}\nWritten: {path} and {path.with_suffix('.json').name}")


if __name__ == "__main__":
    main()
