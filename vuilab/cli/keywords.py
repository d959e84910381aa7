"""`vui keywords`: classifiers of single words trained, measured and exported."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vuilab.cli import flags
from vuilab.cli.flags import argument, fields, from_arguments
from vuilab.keywords.corpus import PARTS
from vuilab.keywords.options import ClipAugmentation, ClipOptions, KeywordOptimizer, KeywordOptions

if TYPE_CHECKING:
    from vuilab.keywords.corpus import Dataset
    from vuilab.keywords.scores import Classifier, KeywordScore

data_seed = argument("--data-seed", type=int, default=0, help="of the unknown words and the silence")
corpus = argument("folder", type=Path, metavar="DIR", help="corpus in the layout of Speech Commands")


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


@corpus
@argument("--model", default="matchboxnet", help="perceptron, one_conv, ..., matchboxnet or bc_resnet", metavar="MODEL")
@argument("--name", group="files", help="of the files (default: the model's name)")
@argument(
    "--results", type=Path, default=Path("results/keywords"), metavar="DIR", group="files", help="folder for them"
)
@argument(
    "--words",
    nargs="+",
    metavar="WORD",
    group="data",
    help="labels, silence and unknown among them if wanted, or challenge (default: every word there is)",
)
@argument(
    "--unknown-factor", type=float, default=1.0, metavar="N", group="data", help="unknown words per clip of a label"
)
@argument("--speech", type=Path, metavar="MANIFEST", group="data", help="running speech, cut into unknown clips")
@argument("--speech-clips", type=int, default=5000, metavar="N", group="data", help="so many of them")
@argument("--clips", type=int, metavar="N", group="data", help="so many training clips of each label at most")
@data_seed
@argument(
    "--features", group="data", help="mfcc_image, spectrogram, raw, raw8k, mfcc or logmel (default: the model's own)"
)
@argument("--no-augment", action="store_true", group="data", help="clips as they are: no shift, noise, speed, masks")
@fields(ClipOptions, "data", skip=("augmentation",))
@fields(KeywordOptimizer, "training")
@fields(KeywordOptions, "training", skip=("start_from", "plan", "verbose"))
def train(arguments: argparse.Namespace) -> None:
    """Train a classifier."""
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


def _dataset(arguments: argparse.Namespace) -> "Dataset":
    """Return the clips that are asked for; what is wrong with them is said before a backend is loaded."""
    from vuilab.keywords.batches import fewer_clips
    from vuilab.keywords.corpus import choose_clips, index_folder, with_speech

    index, seed = index_folder(arguments.folder), arguments.data_seed
    words = "challenge" if arguments.words == ["challenge"] else arguments.words
    dataset = choose_clips(index, words, seed, unknown_factor=arguments.unknown_factor)
    if arguments.speech is not None:
        dataset = with_speech(dataset, arguments.speech, arguments.speech_clips, seed)
    if arguments.clips is not None:
        dataset = fewer_clips(dataset, arguments.clips, seed)
    print(f"{index}\n{dataset}")
    return dataset


@corpus
@flags.weights
@argument("--part", choices=PARTS, default="validation", help="of the corpus")
@data_seed
@flags.training_speakers
@argument("--noise", action="store_true", help="accuracy against the SNR for each colour of noise")
@argument("--figures", type=Path, metavar="FOLDER", help="also draw what was found")
@flags.json_flag
@flags.record_flag
def evaluate(arguments: argparse.Namespace) -> None:
    """Measure accuracy, confusions, errors and robustness of a classifier."""
    path, classifier, dataset = _classifier_and_clips(arguments, arguments.allow_training_speakers)
    result = _measure(classifier, dataset, arguments)
    if arguments.record:
        from vuilab.runs.record import add_to_record

        add_to_record(path, "evaluation", {key: value for key, value in result.items() if key != "figures"})
    if arguments.json:
        print(json.dumps({"version": flags.JSON_VERSION, "corpus": str(arguments.folder), **result}, indent=1))
    else:
        _print_result(result)


def _classifier_and_clips(arguments: argparse.Namespace, known_too: bool) -> "tuple[Path, Classifier, Dataset]":
    """Return the weights, the classifier and clips for it, of speakers that it was not trained on unless they may be."""
    from vuilab.keywords.corpus import choose_clips, index_folder

    index = index_folder(arguments.folder)  # what is wrong with it is said before a backend is loaded
    from vuilab.keywords.scores import load_classifier

    path = released_or(arguments.model)
    classifier = load_classifier(path)
    dataset = choose_clips(index, classifier.labels, arguments.data_seed)
    if not known_too:
        flags.refuse_known_speakers(classifier.metadata, dataset.speakers(arguments.part))
    return path, classifier, dataset


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
    curve = noise_curve(classifier, audio) if arguments.noise else None
    if curve is not None:
        colours = {colour: [value.as_dict() for value in values] for colour, values in curve.items()}
        result["noise"] = {"snr_db": list(SNRS), "accuracy": colours}
    if arguments.figures is not None:
        result["figures"] = _save_figures(score, curve, arguments.figures)
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


def _print_result(result: dict[str, Any]) -> None:
    from vuilab.keywords.scores import score_of

    score, latency = score_of(result), result["latency"]
    print(
        f"{score.num_clips} clips of {result['num_speakers']} speakers, the {result['part']} part: accuracy {score.accuracy} "
        f"(Wilson, 95 %), {score.num_errors} errors\n{result['parameters']:,} parameters; one clip takes "
        f"{latency['total_ms']:.1f} ms, the network alone {latency['network_ms']:.1f} ms"
    )
    width = max(map(len, score.labels))
    for label in score.labels:
        precision, recall = score.precision[label], score.recall[label]
        print(f"  {label:<{width}}  {recall.num_cases:5d} clips  precision {precision}  recall {recall}")
    for error in score.errors:
        print(f"  {error.key}: {error.label} taken for {error.predicted} ({100 * error.probability:.0f} %)")
    for text in result["skipped"]:
        print(f"  skipped {text}")
    if "noise" in result:
        print("  accuracy at SNR (dB)  " + "  ".join(f"{snr:5.0f}" for snr in result["noise"]["snr_db"]))
        for colour, values in result["noise"]["accuracy"].items():
            print(f"  {colour:<20}  " + "  ".join(f"{100 * value['rate']:5.1f}" for value in values))
    for path in result.get("figures", ()):
        print(f"Figure: {path}")


@argument("folder", type=Path, metavar="DIR", help="corpus whose training clips give the integers' ranges")
@flags.weights
@argument("--out", type=Path, metavar="FILE.tflite", help="(default: beside the weights)")
@argument("--part", choices=PARTS[1:], default="validation", help="of the corpus, that is measured on")
@data_seed
@flags.record_flag
def export(arguments: argparse.Namespace) -> None:
    """Write LiteRT files, as they are and with 8-bit integers, and say what both recognise."""
    from vuilab.inference import formats
    from vuilab.inference.export import default_path

    formats.require("litert")  # what is missing is said before anything is loaded
    path, classifier, dataset = _classifier_and_clips(arguments, known_too=False)
    from vuilab.keywords.export import export_keywords

    exported = export_keywords(classifier, dataset, arguments.out or default_path(path, "litert"), arguments.part)
    if arguments.record:
        from vuilab.runs.record import add_to_record

        add_to_record(path, "export", {numbers: file.as_dict() for numbers, file in exported.items()})
    print(*exported.values(), sep="\n")


keywords = (train, evaluate, export)
