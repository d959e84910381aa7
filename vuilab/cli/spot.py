"""`vui spot`: finding words in files or in live sound, and measuring how well they are found."""

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vuilab.cli import flags
from vuilab.cli.decode import LiveSound, each_file, live_chunks
from vuilab.cli.flags import argument, fields, from_arguments
from vuilab.cli.keywords import released_or
from vuilab.keywords.corpus import PARTS
from vuilab.keywords.spotting import SpotSettings

if TYPE_CHECKING:
    from vuilab.keywords.corpus import CorpusIndex
    from vuilab.keywords.scores import Classifier
    from vuilab.keywords.spotting import Event


GOOD = "how good it is"


@argument("files", nargs="*", type=Path, metavar="FILE", help="recordings of any length")
@flags.weights
@flags.json_flag
@argument(
    "--threshold",
    type=float,
    dest="at",
    group="what is found",
    help=f"0..1: score from which a word is found (default: {SpotSettings.threshold}; --measure tries many)",
)
@fields(SpotSettings, "what is found", skip=("threshold",))
@argument("--live", action="store_true", group="live", help="listen to the microphone instead of files")
@fields(LiveSound, "live")
@argument(
    "--measure", type=Path, metavar="MANIFEST", group=GOOD, help="count false alarms in this speech, by threshold"
)
@argument("--clips", type=Path, metavar="DIR", group=GOOD, help="Speech Commands, to measure recall too")
@argument("--part", choices=PARTS, default="development", group=GOOD, help="of the clips")
@argument("--snr", type=float, default=20.0, metavar="DB", group=GOOD, help="of the clips over the background, in dB")
@argument("--seed", type=int, default=0, group=GOOD, help="of the order, the places and the backgrounds of the clips")
@argument("--per-hour", type=float, default=1.0, metavar="N", group=GOOD, help="false alarms that may be, to choose")
@flags.training_speakers
@flags.record_flag
def spot(arguments: argparse.Namespace) -> int:
    """Find spoken commands in recordings, or while they are said."""
    given = {} if arguments.at is None else {"threshold": arguments.at}
    settings = from_arguments(SpotSettings, arguments, **given)
    if arguments.record and arguments.measure is None:
        raise ValueError("--record keeps what --measure MANIFEST found; there is nothing else to record.")
    if [bool(arguments.files), arguments.live, arguments.measure is not None].count(True) != 1:
        raise ValueError("Name what to search: FILE ..., or --live, or --measure MANIFEST; one of them.")
    sound = from_arguments(LiveSound, arguments)
    if sound.file is not None and not arguments.live:
        raise ValueError(
            "--from FILE stands in for the microphone: it goes with --live. To search files, name them: spot FILE ..."
        )
    if arguments.live:
        return _spot_live(arguments, sound, settings)
    return _spot_files(arguments, settings) if arguments.measure is None else _spot_measured(arguments, settings)


def _classifier(model: Path | None) -> "Classifier":
    """Load the classifier, and warn about what it does not know."""
    path = released_or(model)
    from vuilab.keywords.scores import load_classifier
    from vuilab.keywords.spotting import label_warning, spotted_words

    classifier = load_classifier(path, plain=True)
    spotted_words(classifier.labels)
    if label_warning(classifier.labels):
        print(f"Warning: {label_warning(classifier.labels)}", file=sys.stderr)
    return classifier


def _line(event: dict[str, Any]) -> str:
    return f"{event['time']:9.2f} s  {event['word']:<10} {event['score']:.2f}"


def _spot_files(arguments: argparse.Namespace, settings: SpotSettings) -> int:
    from vuilab.keywords.spotting import label_warning, spot_file

    classifier = _classifier(arguments.model)

    def read(path: Path) -> dict[str, Any]:
        return {"events": [vars(event) for event in spot_file(classifier, path, settings)]}

    def show(path: Path, result: dict[str, Any]) -> str:
        count = len(result["events"])
        return "\n".join([f"{path}: {count} word{'s' * (count != 1)} found", *map(_line, result["events"])])

    about = {"labels": classifier.labels, "warning": label_warning(classifier.labels) or None}
    return each_file(arguments.files, read, None if arguments.json else show, **about, settings=vars(settings))


def _spot_live(arguments: argparse.Namespace, sound: LiveSound, settings: SpotSettings) -> int:
    chunks = live_chunks(sound)
    from vuilab.keywords.spotting import Spotter

    spotter, number = Spotter(_classifier(arguments.model), settings), 0
    if sound.file is None:
        print("Listening. Ctrl-C ends.", file=sys.stderr)

    def show(events: "list[Event]") -> int:
        for event in events:
            print(json.dumps(vars(event)) if arguments.json else _line(vars(event)), flush=True)
        return len(events)

    with contextlib.suppress(KeyboardInterrupt):
        for samples in chunks:
            number += show(spotter.add(samples))
    number += show(spotter.finish())
    if not number:
        print("No word was found.", file=sys.stderr)
    return 0


def _spot_measured(arguments: argparse.Namespace, settings: SpotSettings) -> int:
    from vuilab.corpus.manifest import read_manifest

    utterances = read_manifest(arguments.measure)  # what is wrong with the data is said before a backend is loaded
    from vuilab.keywords.corpus import index_folder
    from vuilab.keywords.spotting import label_warning, spotted_words
    from vuilab.keywords.spotting_scores import THRESHOLDS, choose_threshold, operating_point, speech_tracks

    index = None if arguments.clips is None else index_folder(arguments.clips)
    classifier = _classifier(arguments.model)
    placed, clips = ([], {}) if index is None else _placed(classifier, index, arguments, settings)
    speech, skipped = speech_tracks(classifier, utterances, settings.hop, progress=not arguments.json)
    thresholds = THRESHOLDS if arguments.at is None else (arguments.at,)
    each = [dataclasses.replace(settings, threshold=value) for value in thresholds]
    points = [operating_point(speech, placed, spotted_words(classifier.labels), one) for one in each]
    chosen = choose_threshold(points, arguments.per_hour) if arguments.at is None else points[0]
    skipped = [*skipped, *clips.pop("skipped", ())]
    result = {
        "version": flags.JSON_VERSION,
        "manifest": str(arguments.measure),
        "warning": label_warning(classifier.labels) or None,
        "settings": vars(settings),
        "clips": clips or None,
        "points": [point.as_dict() for point in points],
        "chosen": None if chosen is None else chosen.threshold,
        "alarms": [] if chosen is None else [dataclasses.asdict(alarm) for alarm in chosen.false_alarms.alarms],
        "skipped": skipped,
    }
    if arguments.record:
        from vuilab.runs.record import add_to_record

        add_to_record(released_or(arguments.model), "spotting", result)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return 0
    _print_measure(points, chosen, sum(one.duration for one in speech) / 3600, arguments.per_hour)
    for text in skipped:
        print(f"  skipped {text}")
    return 0


def _placed(
    classifier: "Classifier", index: "CorpusIndex", arguments: argparse.Namespace, settings: SpotSettings
) -> tuple[list, dict[str, Any]]:
    """Return the recordings with placed clips, and plain data that say what they are made of."""
    from vuilab.keywords.clips import background_noise, load_part
    from vuilab.keywords.corpus import choose_clips
    from vuilab.keywords.spotting_scores import word_tracks

    dataset, part, progress = choose_clips(index, classifier.labels), arguments.part, not arguments.json
    if part != "development" and not arguments.allow_training_speakers:  # that part is there to choose with
        flags.refuse_known_speakers(classifier.metadata, dataset.speakers(part))
    audio, backgrounds = load_part(dataset, part, progress=progress), background_noise(dataset, part)
    placed = word_tracks(classifier, audio, backgrounds, settings, arguments.snr, arguments.seed, progress)
    about = {"folder": str(arguments.clips), "part": part, "snr_db": arguments.snr, "seed": arguments.seed}
    about |= {"num_clips": sum(len(clips) for _, clips in placed), "num_backgrounds": len(backgrounds)}
    return placed, {**about, "skipped": [*dataset.skipped, *audio.skipped]}


def _print_measure(points: list, chosen: Any, hours: float, per_hour: float) -> None:
    print(f"{hours:.2f} hours of speech; rates with 95 % intervals (Fay and Feuer; Wilson)")
    for point in points:
        recall = "" if point.recall is None else f"   recall {point.recall}   {point.num_wrong} other events"
        print(f"  threshold {point.threshold:.3f}   {point.false_alarms}{recall}")
    if chosen is None:
        print(f"No threshold has at most {per_hour:g} false alarms per hour.")
        return
    print(f"At threshold {chosen.threshold:g}:")
    for word, count in chosen.false_alarms.counts.items():
        recall = f"   recall {chosen.recall_of[word]}" if word in chosen.recall_of else ""
        print(f"  {word:<10} {count:4d} false alarms in {chosen.false_alarms.hours[word]:.2f} h{recall}")
    for alarm in chosen.false_alarms.alarms[:10]:
        print(f"  {_line(vars(alarm.event))}  {Path(alarm.name).name}: {alarm.text}")
