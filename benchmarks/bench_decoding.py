"""Beam search: speed on one core, what pruning costs, and the scores of TensorFlow's own search on the same utterances.

    python -m benchmarks.bench_decoding --model results/model_2.h5 --manifest DIR/valid_corpus.json --lm lm.npz

- Pruned and unpruned search with the language model, after compilation, on one core: times real time (seconds of speech in a
  second of work), and word error rates over all utterances. `vui.py evaluate ... --tune` finds alpha and beta.
- Letters and phonemes read together, where the model learnt both (`decoding/sounds.py`; it has its own weights).
- Without a language model, against `tf.nn.ctc_beam_search_decoder` with the same beam width: in how many utterances our best text
  has at least the score that TensorFlow's search gives its own.
"""

import argparse
import dataclasses
import math
import os
import time
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.harness import say

SPEED_GOAL = 50.0  # times real time
WER_GOAL = 0.1  # points between the pruned and the unpruned search
SCORE_GOAL = 0.99  # of the utterances
ROUNDING = 1e-3  # nats between two searches in single precision


def probabilities_of(weights: Path, manifest: Path, limit: int | None) -> dict:
    """Return probabilities of letters and (or None) of phonemes, texts and the duration of the utterances of a manifest."""
    from vuilab.inference.transcribe import load_recogniser
    from vuilab.models.ctc import needs_phonemes
    from vuilab.scoring.predictions import generator_for, predict_posteriors

    recogniser = load_recogniser(weights)
    generator = generator_for(recogniser.metadata, recogniser.settings.num_features, manifest, "test", None)
    utterances = generator.partitions["test"].utterances
    chosen = slice(None, None, max(1, len(utterances) // limit)) if limit else slice(None)
    posteriors = predict_posteriors(recogniser.model, generator, "test")[chosen]
    return {
        "probabilities": [found.letters for found in posteriors],
        "phonemes": [found.phonemes for found in posteriors] if needs_phonemes(recogniser.model) else None,
        "texts": [utterance.text for utterance in utterances][chosen],
        "seconds": sum(utterance.duration for utterance in utterances[chosen]),
    }


def measure_search(data: dict, model_path: Path, alpha: float, beta: float, beam_width: int) -> dict[str, dict]:
    """Return speed and error rates of the pruned, of the unpruned and of the joint search, on one core."""
    _use_one_core()
    from vuilab.decoding.beam import BeamDecoder
    from vuilab.decoding.language_model import load_language_model
    from vuilab.decoding.settings import BeamSettings
    from vuilab.decoding.sounds import SoundDecoder
    from vuilab.scoring.error_rates import score

    model = load_language_model(model_path)
    settings = BeamSettings(beam_width=beam_width, alpha=alpha, beta=beta)
    everything = dataclasses.replace(settings, token_margin=math.inf, score_margin=math.inf, blank_skip=1.0)
    contestants = [
        ("pruned", BeamDecoder(model, settings), [(rows,) for rows in data["probabilities"]]),
        ("unpruned", BeamDecoder(model, everything), [(rows,) for rows in data["probabilities"]]),
    ]
    if data["phonemes"]:
        both = list(zip(data["probabilities"], data["phonemes"], strict=True))
        contestants.append(("letters and phonemes", SoundDecoder(model, None, settings), both))
    results = {}
    for name, decoder, inputs in contestants:
        decoder.decode(*inputs[0])  # compiles
        started = time.perf_counter()
        texts = [decoder.decode(*rows)[0].text for rows in inputs]
        seconds = time.perf_counter() - started
        rates = score(data["texts"], texts)
        results[name] = {
            "seconds": seconds,
            "times_real_time": data["seconds"] / seconds,
            "wer": rates.wer.rate,
            "cer": rates.cer.rate,
        }
        say(f"{name}: {data['seconds'] / seconds:.1f} times real time, WER {100 * rates.wer.rate:.2f} %")
    return results


def compare_with_tensorflow(data: dict, beam_width: int) -> dict:
    """Return in how many utterances our text is at least as probable as that of TensorFlow's search, and the times of both."""
    _use_one_core()
    import tensorflow as tf

    from vuilab.decoding.beam import BeamDecoder
    from vuilab.decoding.settings import BeamSettings

    decoder = BeamDecoder(settings=BeamSettings(beam_width=beam_width))
    decoder.decode(data["probabilities"][0])
    seconds, differences = {"ours": 0.0, "tensorflow": 0.0}, []
    for rows in data["probabilities"]:
        started = time.perf_counter()
        ours = decoder.decode(rows)[0].acoustic
        between = time.perf_counter()
        logits = np.log(np.maximum(rows, 1e-37))[:, None].astype(np.float32)
        _, scores = tf.nn.ctc_beam_search_decoder(logits, [len(rows)], beam_width=beam_width, top_paths=1)
        theirs = float(scores[0, 0])
        seconds["ours"] += between - started
        seconds["tensorflow"] += time.perf_counter() - between
        differences.append(ours - theirs)
    share = float(np.mean(np.array(differences) >= -ROUNDING))
    say(f"at least TensorFlow's score in {100 * share:.1f} % of {len(differences)} utterances")
    return {
        "share_at_least": share,
        "lowest_difference": float(np.min(differences)),
        "num_utterances": len(differences),
        **{f"{name}_times_real_time": data["seconds"] / value for name, value in seconds.items()},
    }


def _use_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def report(search: dict[str, dict], peer: dict, options: argparse.Namespace, data: dict) -> str:
    """Return the tables and goals."""
    rows = [
        [name, f"{r['times_real_time']:.1f}", f"{100 * r['wer']:.2f}", f"{100 * r['cer']:.2f}"]
        for name, r in search.items()
    ]
    cost = 100 * abs(search["pruned"]["wer"] - search["unpruned"]["wer"])
    speed = search["pruned"]["times_real_time"]
    share = peer["share_at_least"]
    return "\n\n".join(
        [
            f"{options.model.name} on {options.manifest.name}: {len(data['texts'])} utterances, "
            f"{data['seconds'] / 60:.1f} minutes; {options.lm.name}, alpha {options.alpha:g}, beta {options.beta:g}, "
            f"beam width {options.beam_width}, one core.",
            harness.table(["search with the language model", "times real time", "WER %", "CER %"], rows),
            harness.table(
                ["search without a model, same beam width", "times real time"],
                [
                    ["ours", f"{peer['ours_times_real_time']:.1f}"],
                    ["tf.nn.ctc_beam_search_decoder", f"{peer['tensorflow_times_real_time']:.1f}"],
                ],
            ),
            "\n".join(
                [
                    harness.goal(f"at least {SPEED_GOAL:g} times real time", speed, speed >= SPEED_GOAL),
                    harness.goal(
                        f"WER within {WER_GOAL} points of the unpruned search", cost, cost <= WER_GOAL, " points"
                    ),
                    harness.goal(
                        "score at least TensorFlow's in 99 % of the utterances",
                        100 * share,
                        share >= SCORE_GOAL,
                        " %",
                    ),
                ]
            ),
        ]
    )


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="WEIGHTS")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--lm", type=Path, required=True)
    parser.add_argument("--alpha", type=float, default=0.9)
    parser.add_argument("--beta", type=float, default=2.0)
    parser.add_argument("--beam-width", type=int, default=100)
    parser.add_argument("--limit", type=int, default=None, help="utterances, evenly spaced; default: all")
    options = harness.parse(parser, {"limit": 3, "beam_width": 10})
    environment = harness.environment()
    data = harness.in_own_process(probabilities_of, options.model, options.manifest, options.limit)
    search = harness.in_own_process(measure_search, data, options.lm, options.alpha, options.beta, options.beam_width)
    peer = harness.in_own_process(compare_with_tensorflow, data, options.beam_width)
    text = harness.header("Beam search", environment) + "\n" + report(search, peer, options, data)
    path = harness.save(options, "decoding", {**environment, "search": search, "tensorflow": peer}, text)
    say(f"\n{path.read_text()}\nWritten: {path} and {path.with_suffix('.json').name}")


if __name__ == "__main__":
    main()
