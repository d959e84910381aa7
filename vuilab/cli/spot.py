"""`vui spot`: finding words in files or in live sound, and measuring how well they are found."""

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vuilab.cli.decode import LiveSound, live_chunks
from vuilab.cli.flags import JSON_VERSION, RECORD_HELP, add_fields, add_weights, from_arguments
from vuilab.cli.keywords import released_or
from vuilab.keywords.corpus import PARTS
from vuilab.keywords.spotting import SpotSettings
from vuilab.options import option

if TYPE_CHECKING:
    from vuilab.keywords.corpus import CorpusIndex
    from vuilab.keywords.scores import Classifier
    from vuilab.keywords.spotting import Event


@dataclasses.dataclass(frozen=True)
class Measuring:
    """What spotting is measured with."""

    measure: Path | None = option(None, "count false alarms in this speech, for each threshold", metavar="MANIFEST")
    clips: Path | None = option(None, "Speech Commands, to measure recall too", metavar="DIR")
    part: str = option("development", "of the clips", choices=PARTS)
    snr: float = option(20.0, "of the clips over the background recordings, in dB", metavar="DB")
    seed: int = option(0, "of the order, the places and the backgrounds of the clips")
    per_hour: float = option(1.0, "false alarms that may be, to choose the threshold", metavar="N")
    allow_training_speakers: bool = option(False, "measure also who was trained on")
    record: bool = option(False, RECORD_HELP)


def add_spot(parser: argparse.ArgumentParser) -> None:
    """Add the options of `spot`."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="recordings of any length")
    add_weights(parser)
    parser.add_argument("--json", action="store_true", help="print plain data")
    found = parser.add_argument_group("what is found")
    found.add_argument(
        "--threshold",
        type=float,
        dest="at",
        help=f"0..1: score from which a word is found (default: {SpotSettings.threshold}; --measure tries many)",
    )
    add_fields(found, SpotSettings, skip=("threshold",))
    live = parser.add_argument_group("live")
    live.add_argument("--live", action="store_true", help="listen to the microphone instead of files")
    add_fields(live, LiveSound)
    add_fields(parser.add_argument_group("how good it is"), Measuring)
    parser.set_defaults(run=_spot)


def _spot(arguments: argparse.Namespace) -> int:
    measuring, at = from_arguments(Measuring, arguments), arguments.at
    settings = from_arguments(SpotSettings, arguments, **({} if at is None else {"threshold": at}))
    if measuring.record and measuring.measure is None:
        raise ValueError("--record keeps what --measure MANIFEST found; there is nothing else to record.")
    if [bool(arguments.files), arguments.live, measuring.measure is not None].count(True) != 1:
        raise ValueError("Name what to search: FILE ..., or --live, or --measure MANIFEST; one of them.")
    sound = from_arguments(LiveSound, arguments)
    if sound.file is not None and not arguments.live:
        raise ValueError(
            "--from FILE stands in for the microphone: it goes with --live. To search files, name them: spot FILE ..."
        )
    if arguments.live:
        return _spot_live(arguments.model, sound, settings, arguments.json)
    if measuring.measure is None:
        return _spot_files(arguments.model, arguments.files, settings, arguments.json)
    return _spot_measured(arguments.model, measuring, settings, at, arguments.json)


def _classifier(model: Path | None) -> "Classifier":
    """Load the classifier, and warn about what it does not know."""
    path = released_or(model)
    from vuilab.keywords.scores import load_classifier
    from vuilab.keywords.spotting import label_warning, spotted_words

    classifier = load_classifier(path)
    spotted_words(classifier.labels)
    if label_warning(classifier.labels):
        print(f"Warning: {label_warning(classifier.labels)}", file=sys.stderr)
    return classifier


def _line(event: "Event") -> str:
    return f"{event.time:9.2f} s  {event.word:<10} {event.score:.2f}"


# --------------------------------------------------------------------------------------------------- files


def _spot_files(model: Path | None, files: list[Path], settings: SpotSettings, as_json: bool) -> int:
    from vuilab.keywords.spotting import label_warning, spot_file

    classifier, results, skipped = _classifier(model), [], []
    for path in files:
        try:
            events = spot_file(classifier, path, settings)
        except (ValueError, OSError) as error:
            skipped.append({"file": str(path), "reason": str(error)})
            continue
        results.append({"file": str(path), "events": [dataclasses.asdict(event) for event in events]})
        if not as_json:
            print(f"{path}: {len(events)} word{'s' * (len(events) != 1)} found")
            print("".join(f"{_line(event)}\n" for event in events), end="", flush=True)
    if as_json:
        plain = {
            "version": JSON_VERSION,
            "labels": classifier.labels,
            "warning": label_warning(classifier.labels) or None,
            "settings": dataclasses.asdict(settings),
            "results": results,
            "skipped": skipped,
        }
        print(json.dumps(plain, indent=1))
    for item in skipped:
        print(f"Skipped {item['file']}: {item['reason']}", file=sys.stderr)
    return 0 if results else 1


# ---------------------------------------------------------------------------------------------------- live


def _spot_live(model: Path | None, sound: LiveSound, settings: SpotSettings, as_json: bool) -> int:
    chunks = live_chunks(sound)
    from vuilab.keywords.spotting import Spotter

    spotter, number = Spotter(_classifier(model), settings), 0
    if sound.file is None:
        print("Listening. Ctrl-C ends.", file=sys.stderr)

    def show(events: "list[Event]") -> int:
        for event in events:
            print(json.dumps(dataclasses.asdict(event)) if as_json else _line(event), flush=True)
        return len(events)

    with contextlib.suppress(KeyboardInterrupt):
        for samples in chunks:
            number += show(spotter.add(samples))
    number += show(spotter.finish())
    if not number:
        print("No word was found.", file=sys.stderr)
    return 0


# ------------------------------------------------------------------------------------------------- measure


def _spot_measured(
    model: Path | None, measuring: Measuring, settings: SpotSettings, at: float | None, as_json: bool
) -> int:
    from vuilab.corpus.manifest import read_manifest

    # what is wrong with the data is said before a backend is loaded
    utterances = read_manifest(cast(Path, measuring.measure))
    from vuilab.keywords.corpus import index_folder
    from vuilab.keywords.spotting import label_warning, spotted_words
    from vuilab.keywords.spotting_scores import THRESHOLDS, choose_threshold, curve, speech_tracks

    index = None if measuring.clips is None else index_folder(measuring.clips)
    classifier = _classifier(model)
    placed, clips = ([], {}) if index is None else _placed(classifier, index, measuring, settings, not as_json)
    speech, skipped = speech_tracks(classifier, utterances, settings.hop, progress=not as_json)
    words = spotted_words(classifier.labels)
    points = list(curve(speech, placed, words, settings, THRESHOLDS if at is None else (at,)))
    chosen = choose_threshold(points, measuring.per_hour) if at is None else points[0]
    skipped = [*skipped, *clips.pop("skipped", ())]
    result = {
        "version": JSON_VERSION,
        "manifest": str(measuring.measure),
        "warning": label_warning(classifier.labels) or None,
        "settings": dataclasses.asdict(settings),
        "clips": clips or None,
        "points": [point.as_dict() for point in points],
        "chosen": None if chosen is None else chosen.threshold,
        "alarms": [] if chosen is None else [dataclasses.asdict(alarm) for alarm in chosen.false_alarms.alarms],
        "skipped": skipped,
    }
    if measuring.record:
        from vuilab.runs.record import add_to_record

        add_to_record(released_or(model), "spotting", result)
    if as_json:
        print(json.dumps(result, indent=1))
        return 0
    _print_measure(points, chosen, sum(one.duration for one in speech) / 3600, measuring.per_hour)
    for text in skipped:
        print(f"  skipped {text}")
    return 0


def _placed(
    classifier: "Classifier", index: "CorpusIndex", measuring: Measuring, settings: SpotSettings, progress: bool
) -> tuple[list, dict[str, Any]]:
    """Return the recordings with placed clips, and plain data that say what they are made of."""
    from vuilab.keywords.clips import background_noise, load_part
    from vuilab.keywords.corpus import choose_clips
    from vuilab.keywords.scores import refuse_known_speakers
    from vuilab.keywords.spotting_scores import word_tracks

    dataset, part = choose_clips(index, classifier.labels), measuring.part
    if part != "development" and not measuring.allow_training_speakers:  # that part is there to choose with
        refuse_known_speakers(classifier, dataset, part)
    audio = load_part(dataset, part, progress=progress)
    backgrounds = background_noise(dataset, part)
    placed = word_tracks(classifier, audio, backgrounds, settings, measuring.snr, measuring.seed, progress)
    about = {"folder": str(measuring.clips), "part": part, "snr_db": measuring.snr, "seed": measuring.seed}
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
    counts = chosen.false_alarms.counts
    for word, count in counts.items():
        recall = f"   recall {chosen.recall_of[word]}" if word in chosen.recall_of else ""
        print(f"  {word:<10} {count:4d} false alarms in {chosen.false_alarms.hours[word]:.2f} h{recall}")
    for alarm in chosen.false_alarms.alarms[:10]:
        print(f"  {_line(alarm.event)}  {Path(alarm.name).name}: {alarm.text}")
