"""`vui keywords`: classifiers of single words trained, measured and exported."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vuilab.cli.flags import JSON_VERSION, RECORD_HELP, add_command, add_fields, add_weights, from_arguments
from vuilab.keywords.corpus import PARTS
from vuilab.keywords.options import ClipAugmentation, ClipOptions, KeywordOptimizer, KeywordOptions

if TYPE_CHECKING:
    from vuilab.keywords.corpus import Dataset
    from vuilab.keywords.scores import Classifier, KeywordScore

DATA_SEED_HELP = "of the unknown words and the silence"


def add_keywords(parser: argparse.ArgumentParser) -> None:
    """Add `train`, `evaluate` and `export` with their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    _add_train(kinds)
    _add_evaluate(kinds)
    _add_export(kinds)


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


# ------------------------------------------------------------------------------------------------------ train


def _add_train(kinds: Any) -> None:
    parser = add_command(kinds, "train", "train a classifier", _train)
    parser.add_argument("folder", type=Path, metavar="DIR", help="corpus in the layout of Speech Commands")
    parser.add_argument(
        "--model", default="matchboxnet", help="perceptron, one_conv, ..., matchboxnet or bc_resnet", metavar="MODEL"
    )
    files = parser.add_argument_group("files")
    files.add_argument("--name", help="of the files (default: the model's name)")
    files.add_argument("--results", type=Path, default=Path("results/keywords"), metavar="DIR", help="folder for them")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--words",
        nargs="+",
        metavar="WORD",
        help="labels, silence and unknown among them if wanted, or challenge (default: every word there is)",
    )
    data.add_argument(
        "--unknown-factor",
        type=float,
        default=1.0,
        metavar="N",
        help="so many times as many unknown words as a label has clips",
    )
    data.add_argument("--speech", type=Path, metavar="MANIFEST", help="running speech, cut into unknown clips")
    data.add_argument("--speech-clips", type=int, default=5000, metavar="N", help="so many of them")
    data.add_argument("--clips", type=int, metavar="N", help="so many training clips of each label at most")
    data.add_argument("--data-seed", type=int, default=0, help=DATA_SEED_HELP)
    data.add_argument(
        "--features", help="mfcc_image, spectrogram, raw, raw8k, mfcc or logmel (default: the model's own)"
    )
    data.add_argument("--no-augment", action="store_true", help="clips as they are: no shift, noise, resampling, masks")
    add_fields(data, ClipOptions, skip=("augmentation",))
    training = parser.add_argument_group("training")
    add_fields(training, KeywordOptimizer)
    add_fields(training, KeywordOptions, skip=("start_from", "plan", "verbose"))


def _dataset(arguments: argparse.Namespace) -> "Dataset":
    """Return the clips that are asked for; what is wrong with them is said before a backend is loaded."""
    from vuilab.keywords.corpus import choose_clips, index_folder, with_speech

    index, seed = index_folder(arguments.folder), arguments.data_seed
    words = "challenge" if arguments.words == ["challenge"] else arguments.words
    dataset = choose_clips(index, words, seed, unknown_factor=arguments.unknown_factor)
    if arguments.speech is not None:
        dataset = with_speech(dataset, arguments.speech, arguments.speech_clips, seed)
    if arguments.clips is not None:
        from vuilab.keywords.batches import fewer_clips

        dataset = fewer_clips(dataset, arguments.clips, seed)
    print(f"{index}\n{dataset}")
    return dataset


def _train(arguments: argparse.Namespace) -> int:
    augmentation = None if arguments.no_augment else ClipAugmentation()
    clips = from_arguments(ClipOptions, arguments, augmentation=augmentation)
    optimizer, options = from_arguments(KeywordOptimizer, arguments), from_arguments(KeywordOptions, arguments)
    dataset = _dataset(arguments)
    import keras

    from vuilab.keywords.clips import KeywordFeatures
    from vuilab.keywords.corpus import write_dataset
    from vuilab.keywords.models import FEATURES, ZOO
    from vuilab.keywords.training import train_keywords
    from vuilab.training.devices import configure_gpu

    if arguments.model not in ZOO:
        raise ValueError(f"Unknown model {arguments.model!r}. Expected one of: {', '.join(ZOO)}")
    print(configure_gpu())
    keras.utils.set_random_seed(clips.seed)
    features = KeywordFeatures(arguments.features or FEATURES[arguments.model])
    model = ZOO[arguments.model](features.shape, len(dataset.labels))
    history, weights, record, manifest = (
        arguments.results / f"{arguments.name or arguments.model}{end}" for end in (".pickle", ".h5", ".json", ".clips")
    )
    more = {"features": features, "clips": clips, "options": options, "optimizer": optimizer.build()}
    train_keywords(model, dataset, history, weights, **more)
    write_dataset(manifest, dataset)
    print(f"Weights: {weights}   record: {record}   clips: {manifest}")
    return 0


# --------------------------------------------------------------------------------------------------- evaluate


def _add_evaluate(kinds: Any) -> None:
    parser = add_command(kinds, "evaluate", "accuracy, confusions, errors and robustness of a classifier", _evaluate)
    parser.add_argument("folder", type=Path, metavar="DIR", help="corpus in the layout of Speech Commands")
    add_weights(parser)
    parser.add_argument("--part", choices=PARTS, default="validation", help="of the corpus")
    parser.add_argument("--data-seed", type=int, default=0, help=DATA_SEED_HELP)
    parser.add_argument("--allow-training-speakers", action="store_true", help="measure also who was trained on")
    parser.add_argument("--noise", action="store_true", help="accuracy against the SNR for each colour of noise")
    output = parser.add_argument_group("output")
    output.add_argument("--figures", type=Path, metavar="FOLDER", help="also draw what was found")
    output.add_argument("--json", action="store_true", help="print plain data")
    output.add_argument("--record", action="store_true", help=RECORD_HELP)


def _evaluate(arguments: argparse.Namespace) -> int:
    from vuilab.keywords.corpus import choose_clips, index_folder

    index = index_folder(arguments.folder)
    from vuilab.keywords.scores import load_classifier, refuse_known_speakers

    weights = released_or(arguments.model)
    classifier = load_classifier(weights)
    dataset = choose_clips(index, classifier.labels, arguments.data_seed)
    if not arguments.allow_training_speakers:
        refuse_known_speakers(classifier, dataset, arguments.part)
    result = _measure(classifier, dataset, arguments)
    if arguments.record:
        from vuilab.runs.record import add_to_record

        add_to_record(weights, "evaluation", {key: value for key, value in result.items() if key != "figures"})
    if arguments.json:
        print(json.dumps({"version": JSON_VERSION, "corpus": str(arguments.folder), **result}, indent=1))
        return 0
    _print_result(result)
    return 0


def _measure(classifier: "Classifier", dataset: "Dataset", arguments: argparse.Namespace) -> dict[str, Any]:
    """Return plain data: the scores, and what was asked for beside."""
    from vuilab.keywords.clips import load_part
    from vuilab.keywords.scores import SNRS, latency, noise_curve, predict, score_predictions

    audio = load_part(dataset, arguments.part, progress=not arguments.json)
    score = score_predictions(classifier.labels, audio.targets, predict(classifier, audio), audio.clips)
    result = {
        "part": arguments.part,
        "num_speakers": len(dataset.speakers(arguments.part)),
        **score.as_dict(),
        "skipped": [*dataset.skipped, *audio.skipped],
        "parameters": classifier.model.count_params(),
        "latency": latency(classifier),
    }
    if arguments.noise:
        curve = noise_curve(classifier, audio)
        colours = {colour: [value.as_dict() for value in values] for colour, values in curve.items()}
        result["noise"] = {"snr_db": list(SNRS), "accuracy": colours}
    if arguments.figures is not None:
        result["figures"] = _save_figures(score, curve if arguments.noise else None, arguments.figures)
    return result


def _save_figures(score: "KeywordScore", curve: dict | None, folder: Path) -> list[str]:
    from vuilab.keywords.figures import plot_confusion, plot_noise_curve, plot_word_scores
    from vuilab.keywords.scores import SNRS

    figures = {"confusion": plot_confusion(score)[0], "words": plot_word_scores(score)[0]}
    if curve is not None:
        figures["noise"] = plot_noise_curve(curve, SNRS, score.accuracy)[0]
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    return [str(folder / f"{name}.png") for name in figures]


def _percent(rate: float | None) -> str:
    return "      -" if rate is None else f"{100 * rate:5.1f} %"


def _print_result(result: dict[str, Any]) -> None:
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


# ----------------------------------------------------------------------------------------------------- export


def _add_export(kinds: Any) -> None:
    text = "LiteRT files, as they are and with 8-bit integers, and what both recognise"
    parser = add_command(kinds, "export", text, _export)
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="corpus whose training clips give the integers' ranges"
    )
    add_weights(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.tflite", help="(default: beside the weights)")
    parser.add_argument("--part", choices=PARTS[1:], default="validation", help="of the corpus, that is measured on")
    parser.add_argument("--data-seed", type=int, default=0, help=DATA_SEED_HELP)
    parser.add_argument("--record", action="store_true", help=RECORD_HELP)


def _export(arguments: argparse.Namespace) -> int:
    from vuilab.keywords.corpus import choose_clips, index_folder

    index = index_folder(arguments.folder)
    from vuilab.inference import formats

    formats.require("litert")  # what is missing is said before anything is loaded
    from vuilab.inference.export import default_path
    from vuilab.keywords.export import export_keywords
    from vuilab.keywords.scores import load_classifier, refuse_known_speakers

    weights = released_or(arguments.model)
    classifier = load_classifier(weights)
    dataset = choose_clips(index, classifier.labels, arguments.data_seed)
    refuse_known_speakers(classifier, dataset, arguments.part)
    exported = export_keywords(classifier, dataset, arguments.out or default_path(weights, "litert"), arguments.part)
    if arguments.record:
        from vuilab.runs.record import add_to_record

        add_to_record(weights, "export", {numbers: file.as_dict() for numbers, file in exported.items()})
    print(*exported.values(), sep="\n")
    return 0
