"""Training speed of this project on both backends, of PyTorch, and of stock Keras, in frames of speech per second.

    python -m benchmarks.bench_training                       # from the project's folder; `make bench` runs it too
    python -m benchmarks.bench_training --models model_1 --contestants jax pytorch --rounds 9

The same architecture, batches, true lengths, optimiser and clipping for everyone. Each contestant trains in a process of its
own; the driver goes round them and lets one at a time take a few steps, in turned order every other round, so that whatever
else slows the machine down meets all of them. A contestant's time is the median over the rounds of the median step; a ratio is
the median over the rounds of the ratio within a round. Frames of padding do not count.
"""

import argparse
import math

from benchmarks import harness
from benchmarks.harness import median, say
from benchmarks.workloads import MODELS, PARAMETER_TOLERANCE

CONTESTANTS = {
    "tensorflow": "this project, TensorFlow",
    "jax": "this project, JAX",
    "pytorch": "PyTorch",
    "stock": "stock Keras",
    "stock_dense": "stock Keras, plain Dense",
    "stock_keras2": "stock Keras, loss of Keras 2",
}
DEFAULT = ("tensorflow", "jax", "pytorch", "stock")
NOTES = (
    "",
    "Frames of speech per second in training (padding not counted), float32, the same batches for everyone. SGD with "
    "Nesterov momentum; the norm of all gradients together is clipped (`global_clipnorm=5`, "
    "`torch.nn.utils.clip_grad_norm_`), as in the project's default optimiser.",
    "",
)


def measure(model: str, options: argparse.Namespace) -> dict | None:
    """Measure one model: contestant -> what it answered; None where this project does not have the model."""
    workers, results = {}, {}
    try:
        for name in options.contestants:
            backend = name if name in harness.BACKENDS else "tensorflow"
            arguments = [name, model, "--batch", str(options.batch), "--frames", str(options.frames)]
            worker = harness.Worker("benchmarks.training_worker", arguments, backend)
            try:
                started = worker.ask(action="start")
            except harness.WorkerError as error:
                say(f"{model}, {CONTESTANTS[name]}: {error}")
                results[name] = {"error": str(error).splitlines()[0]}
                worker.close()
                continue
            workers[name] = worker
            if "absent" in started:
                say(f"{model} is left out: {started['absent']}.")
                return None
            say(
                f"{model}, {CONTESTANTS[name]}: {started['parameters']:,} trainable parameters, first steps "
                f"{started['start_seconds']:.1f} s, loss {started['loss']:.1f}"
            )
            results[name] = {**started, "rounds": []}
        require_equal_sizes(model, results)
        run_rounds(model, workers, results, options)
    finally:
        for worker in workers.values():
            worker.close()
    return results


def run_rounds(model: str, workers: dict, results: dict, options: argparse.Namespace) -> None:
    """Let the contestants take turns; their seconds a step go into `results`."""
    for number in range(options.rounds):
        order = list(workers)[:: -1 if number % 2 else 1]
        for name in order:
            try:
                reply = workers[name].ask(action="run", steps=options.steps)
            except harness.WorkerError as error:
                say(f"{model}, {CONTESTANTS[name]}: {error}")
                results[name] = {"error": str(error).splitlines()[0]}
                workers.pop(name).close()
                continue
            result = results[name]
            result["rounds"].append(median(reply["seconds"]))
            result["finite"] = result.get("finite", True) and math.isfinite(reply["loss"])
            result["memory_mb"] = reply["memory_mb"]
        shown = ", ".join(f"{name} {results[name]['rounds'][-1]:.3f} s" for name in workers)
        say(f"{model}, round {number + 1} of {options.rounds}: {shown}")
    for result in results.values():
        if "error" not in result:
            result["frames_per_second"] = result["true_frames"] / median(result["rounds"])


def require_equal_sizes(model: str, results: dict) -> None:
    """Check that all contestants train the same number of parameters, up to bias vectors.

    Raises:
        ValueError: naming the counts.
    """
    counts = {name: result["parameters"] for name, result in results.items() if "error" not in result}
    if counts and max(counts.values()) > min(counts.values()) * (1 + PARAMETER_TOLERANCE):
        raise ValueError(
            f"The contestants' {model} must have equally many trainable parameters, up to {PARAMETER_TOLERANCE:.0%}. "
            f"Received: {counts}. Bring `MODELS` in benchmarks/workloads.py in line with sample_models.py."
        )


def ratio(results: dict, ours: str, peer: str) -> float | None:
    """Return how many times as fast `ours` is as `peer`: the median of the ratios within the rounds."""
    if any(not results.get(name, {}).get("rounds") for name in (ours, peer)):
        return None
    pairs = zip(results[peer]["rounds"], results[ours]["rounds"], strict=True)
    return median(theirs / own for theirs, own in pairs)


def best_of_ours(results: dict, peer: str) -> tuple[str, float] | None:
    """Return the faster backend of this project and its ratio to a peer."""
    ratios = {name: ratio(results, name, peer) for name in harness.BACKENDS}
    ratios = {name: value for name, value in ratios.items() if value is not None}
    return max(ratios.items(), key=lambda item: item[1]) if ratios else None


def report(models: dict[str, dict], contestants: list[str]) -> str:
    """Return the table and what it says about the goals."""
    peers = [name for name in contestants if name not in harness.BACKENDS]
    header = ["model", "parameters", *(CONTESTANTS[name] for name in contestants)]
    rows, ratios = [], {peer: [] for peer in peers}
    for model, results in models.items():
        count = next((f"{result['parameters']:,}" for result in results.values() if "parameters" in result), "-")
        row = [model, count]
        row += [
            f"{results[name]['frames_per_second']:,.0f}" if "frames_per_second" in results[name] else "failed"
            for name in contestants
        ]
        for peer in peers:
            best = best_of_ours(results, peer)
            row.append(f"{best[1]:.2f} ({best[0]})" if best else "-")
            ratios[peer] += [best[1]] if best else []
        rows.append(row)
    header += [f"faster of ours / {CONTESTANTS[peer]}" for peer in peers]
    mean = [f"{harness.geometric_mean(ratios[peer]):.2f}" if ratios[peer] else "-" for peer in peers]
    rows.append(["geometric mean", "", *[""] * len(contestants), *mean])
    lines = [harness.table(header, rows), "", *goals(ratios)]
    diverged = [f"{model} ({name})" for model, r in models.items() for name in r if r[name].get("finite") is False]
    if diverged:
        lines.append(
            f"- The loss was no finite number at the end of: {', '.join(diverged)}; the times count all the same."
        )
    return "\n".join(lines)


def goals(ratios: dict[str, list[float]]) -> list[str]:
    """Return the lines that say which goals are met."""
    lines = []
    for peer, mean_goal, least_goal in (("pytorch", 1.15, 0.95), ("stock", 8.0, 5.0)):
        values = ratios.get(peer)
        if values:
            mean, least, name = harness.geometric_mean(values), min(values), CONTESTANTS[peer]
            lines.append(harness.goal(f"geometric mean against {name} at least {mean_goal}", mean, mean >= mean_goal))
            lines.append(harness.goal(f"no model against {name} under {least_goal}", least, least >= least_goal))
    return lines


def main() -> None:
    """Measure every model and write the table after each, so that a run that is stopped leaves what it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="MODEL", help=", ".join(MODELS)
    )
    parser.add_argument(
        "--contestants",
        nargs="+",
        default=list(DEFAULT),
        choices=CONTESTANTS,
        metavar="NAME",
        help=", ".join(CONTESTANTS),
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="per contestant and round")
    parser.add_argument("--batch", type=int, default=20, help="utterances")
    parser.add_argument("--frames", type=int, default=700, help="of the padded batch")
    quick = {"models": ["model_1", "model_2"], "rounds": 1, "steps": 1, "batch": 2, "frames": 40}
    options = harness.parse(parser, quick)
    sizes = {key: getattr(options, key) for key in ("rounds", "steps", "batch", "frames")}
    environment, models, problems, path = harness.environment(), {}, [], None
    for model in options.models:
        try:
            results = measure(model, options)
        except ValueError as error:
            problems.append(str(error))
            say(f"{model} is left out: {error}")
            continue
        if results is None:
            continue
        models[model] = results
        text = harness.header("Training speed", environment, NOTES)
        text += (
            f"{', '.join(f'{key} {value}' for key, value in sizes.items())}.\n\n{report(models, options.contestants)}\n"
        )
        path = harness.save(options, "training", {**environment, "sizes": sizes, "models": models}, text)
    if path is None:
        raise SystemExit("None of the models is there, so nothing was measured.")
    say(f"\n{path.read_text()}\nWritten: {path} and {path.with_suffix('.json').name}")
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
