"""The options of the commands around single words: keywords and spot."""

import argparse
from pathlib import Path

from vuilab.cli import keywords, spot

RECORD_HELP = "write the result into the record beside the weights"


def add_keywords(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of `vui.py keywords` and their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    train = kinds.add_parser("train", help="train a classifier")
    train.add_argument("folder", type=Path, metavar="DIR", help="corpus in the layout of Speech Commands")
    train.add_argument("--model", default="matchboxnet", help="perceptron, one_conv, ..., matchboxnet, bc_resnet")
    train.add_argument(
        "--words",
        nargs="+",
        default=None,
        metavar="WORD",
        help="labels, silence and unknown among them if wanted, or challenge (default: every word there is)",
    )
    train.add_argument(
        "--unknown-factor", type=float, default=1.0, help="so many times as many unknown words as a label has clips"
    )
    train.add_argument(
        "--speech", type=Path, default=None, metavar="MANIFEST", help="running speech, cut into unknown clips"
    )
    train.add_argument("--speech-clips", type=int, default=5000, help="so many of them")
    train.add_argument(
        "--clips", type=int, default=None, metavar="N", help="so many training clips of each label at most"
    )
    train.add_argument("--features", default=None, help="mfcc_image, spectrogram, raw, raw8k, mfcc, logmel")
    train.add_argument("--name", default=None, help="of the files (default: the model's name)")
    train.add_argument("--results", type=Path, default=Path("results/keywords"), help="folder for the files")
    train.add_argument("--epochs", type=int, default=30)
    train.add_argument("--batch-size", type=int, default=64)
    train.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    train.add_argument("--learning-rate", type=float, default=2e-3)
    train.add_argument("--weight-decay", type=float, default=1e-3)
    train.add_argument("--schedule", choices=("constant", "cosine"), default="cosine")
    train.add_argument("--warmup-epochs", type=float, default=1.0)
    train.add_argument("--label-smoothing", type=float, default=0.0)
    train.add_argument(
        "--no-augment", action="store_true", help="clips as they are: no shift, noise, resampling, masks"
    )
    train.add_argument("--ema", type=float, default=None, metavar="MOMENTUM", help="average the weights, e.g. 0.999")
    train.add_argument("--monitor", choices=("val_loss", "val_accuracy"), default="val_loss")
    train.add_argument("--patience", type=int, default=None, help="stop after so many epochs without a better value")
    train.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    train.add_argument("--data-seed", type=int, default=0, help="of the unknown words and the silence")
    train.add_argument("--force", action="store_true", help="train even when the same run is finished")
    train.add_argument("--resume", action="store_true", help="go on with a run that was killed or stopped")
    train.set_defaults(run=keywords.train)
    evaluate = kinds.add_parser("evaluate", help="accuracy, confusions, errors and robustness of a classifier")
    evaluate.add_argument("folder", type=Path, metavar="DIR", help="corpus in the layout of Speech Commands")
    evaluate.add_argument("--model", type=Path, default=None, metavar="WEIGHTS", help="default: the released weights")
    evaluate.add_argument("--part", choices=("train", "development", "validation", "testing"), default="validation")
    evaluate.add_argument("--data-seed", type=int, default=0, help="of the unknown words and the silence")
    evaluate.add_argument("--allow-training-speakers", action="store_true")
    evaluate.add_argument("--noise", action="store_true", help="accuracy against the SNR for each colour of noise")
    evaluate.add_argument("--figures", type=Path, default=None, metavar="FOLDER", help="also draw what was found")
    evaluate.add_argument("--json", action="store_true")
    evaluate.add_argument("--record", action="store_true", help=RECORD_HELP)
    evaluate.set_defaults(run=keywords.evaluate)
    export = kinds.add_parser(
        "export", help="LiteRT files, as they are and with 8-bit integers, and what both recognise"
    )
    export.add_argument(
        "folder", type=Path, metavar="DIR", help="corpus whose training clips give the integers' ranges"
    )
    export.add_argument("--model", type=Path, default=None, metavar="WEIGHTS", help="default: the released weights")
    export.add_argument("--out", type=Path, default=None, metavar="FILE.tflite", help="default: beside the weights")
    export.add_argument("--part", choices=("development", "validation", "testing"), default="validation")
    export.add_argument("--data-seed", type=int, default=0, help="of the unknown words and the silence")
    export.add_argument("--record", action="store_true", help=RECORD_HELP)
    export.set_defaults(run=keywords.export)


def add_spot(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vui.py spot`."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--model", type=Path, default=None, metavar="WEIGHTS", help="default: the released weights")
    parser.add_argument("--threshold", type=float, default=None, help="0..1: score from which a word is found")
    parser.add_argument("--hop", type=float, default=None, help="seconds from one window to the next")
    parser.add_argument("--smoothing", type=int, default=None, help="windows that are averaged, an odd number")
    parser.add_argument("--refractory", type=float, default=None, help="seconds in which a word is not found again")
    parser.add_argument("--json", action="store_true")
    live = parser.add_argument_group("live")
    live.add_argument("--live", action="store_true", help="listen to the microphone instead of files")
    add_sound_source(live)
    measure = parser.add_argument_group("how good it is")
    measure.add_argument(
        "--measure",
        type=Path,
        default=None,
        metavar="MANIFEST",
        help="count false alarms in speech; for each threshold",
    )
    measure.add_argument(
        "--clips", type=Path, default=None, metavar="DIR", help="Speech Commands, to measure recall too"
    )
    measure.add_argument("--part", choices=("train", "development", "validation", "testing"), default="development")
    measure.add_argument("--snr", type=float, default=20.0, help="of the clips over the background recordings, in dB")
    measure.add_argument(
        "--seed", type=int, default=0, help="of the order, the places and the backgrounds of the clips"
    )
    measure.add_argument(
        "--per-hour", type=float, default=1.0, help="false alarms that may be, to choose the threshold"
    )
    measure.add_argument("--allow-training-speakers", action="store_true")
    measure.add_argument("--record", action="store_true", help=RECORD_HELP)
    parser.set_defaults(run=spot.spot)


def add_sound_source(parser) -> None:
    """Add the options that say where live sound comes from, to a parser or a group of one."""
    parser.add_argument(
        "--device", default=None, metavar="N", help="number or name, as `python -m sounddevice` lists them"
    )
    parser.add_argument("--seconds", type=float, default=None, help="stop after so much sound (default: at Ctrl-C)")
    parser.add_argument(
        "--from", type=Path, default=None, dest="source", metavar="FILE", help="hear an audio file, not the microphone"
    )
    parser.add_argument("--fast", action="store_true", help="with --from: as fast as possible, not in real time")
