"""What the commands of `cli/main.py` about keywords do, one function each; `cli/main.py` has their options.

Imports stand inside, so that `--help` and fetching data load no deep-learning backend.
"""

import argparse
import json
from pathlib import Path

JSON_VERSION = 1  # of what --json prints


def data_speech_commands(options: argparse.Namespace) -> int:
    """Fetch Speech Commands, or let the demo voices speak a small corpus."""
    from vuilab.keywords.fetch import DEMO_WORDS, fetch_speech_commands, make_word_demo

    if options.demo:
        out = None if options.root is None else options.root / "speech_commands_demo"
        print(make_word_demo(out, tuple(options.words or DEMO_WORDS), scale=options.scale))
        return 0
    root = {} if options.root is None else {"root": options.root}
    print(fetch_speech_commands(options.version, base_url=options.base_url, **root))
    return 0


def train(options: argparse.Namespace) -> int:
    """Train a keyword classifier."""
    from vuilab.keywords.corpus import choose_clips, index_folder

    index = index_folder(options.folder)
    dataset = choose_clips(index, _words(options.words), options.data_seed, unknown_factor=options.unknown_factor)
    if options.speech is not None:
        from vuilab.keywords.corpus import with_speech

        dataset = with_speech(dataset, options.speech, options.speech_clips, options.data_seed)
    if options.clips is not None:
        from vuilab.keywords.batches import fewer_clips

        dataset = fewer_clips(dataset, options.clips, options.data_seed)
    print(f"{index}\n{dataset}")  # what is wrong with the data is said before a backend is loaded
    import keras

    from vuilab.keywords.clips import KeywordFeatures
    from vuilab.keywords.corpus import write_manifest
    from vuilab.keywords.models import FEATURES, ZOO
    from vuilab.keywords.options import ClipAugmentation
    from vuilab.keywords.training import train_keywords
    from vuilab.training.devices import configure_gpu

    if options.model not in ZOO:
        raise ValueError(f"Unknown model {options.model!r}. Expected one of: {', '.join(ZOO)}")
    print(configure_gpu())
    keras.utils.set_random_seed(options.seed)
    settings = KeywordFeatures(options.features or FEATURES[options.model])
    model = ZOO[options.model](settings.shape, len(dataset.labels))
    name = options.name or options.model
    history = options.results / f"{name}.pickle"
    train_keywords(
        model,
        dataset,
        history,
        options.results / f"{name}.h5",
        features=settings,
        minibatch_size=options.batch_size,
        optimizer=_optimizer(options),
        epochs=options.epochs,
        schedule=options.schedule,
        warmup_epochs=options.warmup_epochs,
        label_smoothing=options.label_smoothing,
        augmentation=None if options.no_augment else ClipAugmentation(),
        ema=options.ema,
        monitor=options.monitor,
        patience=options.patience,
        seed=options.seed,
        force=options.force,
        resume=options.resume,
    )
    write_manifest(history.with_suffix(".clips"), dataset)
    print(
        f"Weights: {options.results / name}.h5   record: {options.results / name}.json   clips: {options.results / name}.clips"
    )
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Print how well a classifier recognises the clips of one part of a corpus."""
    from vuilab.keywords.corpus import choose_clips, index_folder

    index = index_folder(options.folder)
    from vuilab.keywords.scores import load_classifier, refuse_known_speakers

    weights = released_or(options.model)
    classifier = load_classifier(weights)
    dataset = choose_clips(index, classifier.labels, options.data_seed)
    if not options.allow_training_speakers:
        refuse_known_speakers(classifier, dataset, options.part)
    result = _measure(classifier, dataset, options)
    if options.record:
        from vuilab.runs.record import add_to_record

        add_to_record(weights, "evaluation", {key: value for key, value in result.items() if key != "figures"})
    if options.json:
        print(json.dumps({"version": JSON_VERSION, "corpus": str(options.folder), **result}, indent=1))
        return 0
    _print_result(result)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a classifier as LiteRT files with float32 numbers and with 8-bit integers, and measure both."""
    from vuilab.keywords.corpus import choose_clips, index_folder

    index = index_folder(options.folder)
    from vuilab.inference import formats

    formats.require("litert")  # what is missing is said before anything is loaded
    from vuilab.inference.export import default_path
    from vuilab.keywords.export import describe, export_keywords
    from vuilab.keywords.scores import load_classifier, refuse_known_speakers

    weights = released_or(options.model)
    classifier = load_classifier(weights)
    dataset = choose_clips(index, classifier.labels, options.data_seed)
    refuse_known_speakers(classifier, dataset, options.part)
    exported = export_keywords(classifier, dataset, options.out or default_path(weights, "litert"), options.part)
    if options.record:
        from vuilab.runs.record import add_to_record

        add_to_record(weights, "export", {numbers: file.as_dict() for numbers, file in exported.items()})
    print(describe(exported))
    return 0


def released_or(model: Path | None) -> Path:
    """Return the weights that were asked for, else the released ones.

    Raises:
        FileNotFoundError: when none were asked for and none are released.
    """
    from vuilab.files import released_folder

    if model is not None:
        return model
    found = sorted(released_folder().glob("keywords*.h5"))
    if not found:
        raise FileNotFoundError(
            f"There are no released weights keywords*.h5 in {released_folder()}. Train a classifier with "
            "`python vui.py keywords train DIR` and name it with --model."
        )
    return found[-1]


def _words(words: list[str] | None) -> list[str] | str | None:
    return "challenge" if words == ["challenge"] else words


def _optimizer(options: argparse.Namespace):
    import keras

    if options.learning_rate <= 0 or options.weight_decay < 0:
        raise ValueError(
            f"--learning-rate must be positive and --weight-decay no less than 0. Received: {options.learning_rate}, "
            f"{options.weight_decay}"
        )
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(
            options.learning_rate, momentum=0.9, nesterov=True, weight_decay=options.weight_decay
        )
    return keras.optimizers.AdamW(options.learning_rate, weight_decay=options.weight_decay)


def _measure(classifier, dataset, options: argparse.Namespace) -> dict:
    """Return plain data: the scores, and what was asked for beside."""
    from vuilab.keywords.clips import load_part
    from vuilab.keywords.scores import SNRS, latency, noise_curve, predict, score_predictions

    audio = load_part(dataset, options.part, progress=not options.json)
    score = score_predictions(classifier.labels, audio.targets, predict(classifier, audio), audio.clips)
    result = {
        "part": options.part,
        "num_speakers": len(dataset.speakers(options.part)),
        **score.as_dict(),
        "skipped": [*dataset.skipped, *audio.skipped],
        "parameters": classifier.model.count_params(),
        "latency": latency(classifier),
    }
    if options.noise:
        curve = noise_curve(classifier, audio)
        colours = {colour: [value.as_dict() for value in values] for colour, values in curve.items()}
        result["noise"] = {"snr_db": list(SNRS), "accuracy": colours}
    if options.figures is not None:
        result["figures"] = _save_figures(score, curve if options.noise else None, options.figures)
    return result


def _save_figures(score, curve: dict | None, folder: Path) -> list[str]:
    from vuilab.keywords.figures import plot_confusion, plot_noise_curve, plot_words
    from vuilab.keywords.scores import SNRS

    figures = {"confusion": plot_confusion(score)[0], "words": plot_words(score)[0]}
    if curve is not None:
        figures["noise"] = plot_noise_curve(curve, SNRS, score.accuracy)[0]
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    return [str(folder / f"{name}.png") for name in figures]


def _percent(rate: float | None) -> str:
    return "      -" if rate is None else f"{100 * rate:5.1f} %"


def _print_result(result: dict) -> None:
    accuracy, latency = result["accuracy"], result["latency"]
    print(
        f"{result['num_clips']} clips of {result['num_speakers']} speakers, the {result['part']} part: accuracy "
        f"{100 * accuracy['rate']:.1f} % [{100 * accuracy['low']:.1f}, {100 * accuracy['high']:.1f}] (Wilson, 95 %), "
        f"{result['num_errors']} errors"
    )
    print(
        f"{result['parameters']:,} parameters; one clip takes {latency['total_ms']:.1f} ms, the network alone "
        f"{latency['network_ms']:.1f} ms"
    )
    width = max(map(len, result["labels"]))
    for number, label in enumerate(result["labels"]):
        count = sum(result["confusion"][number])
        precision, recall = (_percent(result[key][label]) for key in ("precision", "recall"))
        print(f"  {label:<{width}}  {count:5d} clips  precision {precision}  recall {recall}")
    for error in result["errors"]:
        print(f"  {error['key']}: {error['label']} taken for {error['predicted']} ({100 * error['probability']:.0f} %)")
    for text in result["skipped"]:
        print(f"  skipped {text}")
    if "noise" in result:
        print("  accuracy at SNR (dB)  " + "  ".join(f"{snr:5.0f}" for snr in result["noise"]["snr_db"]))
        for colour, values in result["noise"]["accuracy"].items():
            print(f"  {colour:<20}  " + "  ".join(f"{100 * value['rate']:5.1f}" for value in values))
    for path in result.get("figures", ()):
        print(f"Figure: {path}")
