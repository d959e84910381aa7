"""What `vui.py spot` does: finding words in files or in live sound, and measuring how well they are found.

Imports stand inside, so that `--help` loads no deep-learning backend.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path

from vuilab.cli.decode import live_chunks
from vuilab.cli.keywords import released_or

JSON_VERSION = 1  # of what --json prints


def spot(options: argparse.Namespace) -> int:
    """Find words in files, in live sound, or in what is measured with."""
    if options.record and options.measure is None:
        raise ValueError("--record keeps what --measure MANIFEST found; there is nothing else to record.")
    ways = [bool(options.files), options.live, options.measure is not None]
    if sum(ways) != 1:
        raise ValueError("Name what to search: FILE ..., or --live, or --measure MANIFEST; one of them.")
    if options.source is not None and not options.live:
        raise ValueError(
            "--from FILE stands in for the microphone: it goes with --live. To search files, name them: spot FILE ..."
        )
    settings = _settings(options)
    return (_files, _live, _measure)[ways.index(True)](options, settings)


def _settings(options: argparse.Namespace):
    from vuilab.keywords.spotting import SpotSettings

    names = (field.name for field in dataclasses.fields(SpotSettings))
    given = {name: getattr(options, name) for name in names}
    return SpotSettings(**{name: value for name, value in given.items() if value is not None})


def _classifier(options: argparse.Namespace):
    """Load the classifier, and warn about what it does not know."""
    path = released_or(options.model)
    from vuilab.keywords.scores import load_classifier
    from vuilab.keywords.spotting import label_warning, spotted_words

    classifier = load_classifier(path)
    spotted_words(classifier.labels)
    if label_warning(classifier.labels):
        print(f"Warning: {label_warning(classifier.labels)}", file=sys.stderr)
    return classifier


def _line(event) -> str:
    return f"{event.time:9.2f} s  {event.word:<10} {event.score:.2f}"


# --------------------------------------------------------------------------------------------------- files


def _files(options: argparse.Namespace, settings) -> int:
    from vuilab.keywords.spotting import label_warning, spot_file

    classifier, results, skipped = _classifier(options), [], []
    for path in options.files:
        try:
            events = spot_file(classifier, path, settings)
        except (ValueError, OSError) as error:
            skipped.append({"file": str(path), "reason": str(error)})
            continue
        results.append({"file": str(path), "events": [dataclasses.asdict(event) for event in events]})
        if not options.json:
            print(f"{path}: {len(events)} word{'s' * (len(events) != 1)} found")
            print("".join(f"{_line(event)}\n" for event in events), end="", flush=True)
    if options.json:
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


def _live(options: argparse.Namespace, settings) -> int:
    chunks = live_chunks(options)
    from vuilab.keywords.spotting import Spotter

    spotter, number = Spotter(_classifier(options), settings), 0
    if options.source is None:
        print("Listening. Ctrl-C ends.", file=sys.stderr)

    def show(events) -> int:
        for event in events:
            print(json.dumps(dataclasses.asdict(event)) if options.json else _line(event), flush=True)
        return len(events)

    with contextlib.suppress(KeyboardInterrupt):
        for samples in chunks:
            number += show(spotter.add(samples))
    number += show(spotter.finish())
    if not number:
        print("No word was found.", file=sys.stderr)
    return 0


# ------------------------------------------------------------------------------------------------- measure


def _measure(options: argparse.Namespace, settings) -> int:
    from vuilab.corpus.manifest import read_manifest

    utterances = read_manifest(options.measure)  # what is wrong with the data is said before a backend is loaded
    from vuilab.keywords.corpus import index_folder
    from vuilab.keywords.spotting import label_warning, spotted_words
    from vuilab.keywords.spotting_scores import THRESHOLDS, choose_threshold, curve, speech_tracks

    index = None if options.clips is None else index_folder(options.clips)
    classifier = _classifier(options)
    words = spotted_words(classifier.labels)
    placed, clips = ([], {}) if index is None else _placed(options, classifier, index, settings)
    speech, skipped = speech_tracks(classifier, utterances, settings.hop, progress=not options.json)
    thresholds = THRESHOLDS if options.threshold is None else (options.threshold,)
    points = list(curve(speech, placed, words, settings, thresholds))
    chosen = choose_threshold(points, options.per_hour) if options.threshold is None else points[0]
    skipped = [*skipped, *clips.pop("skipped", ())]
    result = {
        "version": JSON_VERSION,
        "manifest": str(options.measure),
        "warning": label_warning(classifier.labels) or None,
        "settings": dataclasses.asdict(settings),
        "clips": clips or None,
        "points": [point.as_dict() for point in points],
        "chosen": None if chosen is None else chosen.threshold,
        "alarms": [] if chosen is None else [dataclasses.asdict(alarm) for alarm in chosen.false_alarms.alarms],
        "skipped": skipped,
    }
    if options.record:
        from vuilab.runs.record import add_to_record

        add_to_record(released_or(options.model), "spotting", result)
    if options.json:
        print(json.dumps(result, indent=1))
        return 0
    _print_measure(points, chosen, sum(one.duration for one in speech) / 3600, options.per_hour)
    for text in skipped:
        print(f"  skipped {text}")
    return 0


def _placed(options: argparse.Namespace, classifier, index, settings) -> tuple[list, dict]:
    """Return the recordings with placed clips, and plain data that say what they are made of."""
    from vuilab.keywords.clips import background_noise, load_part
    from vuilab.keywords.corpus import choose_clips
    from vuilab.keywords.scores import refuse_known_speakers
    from vuilab.keywords.spotting_scores import word_tracks

    dataset = choose_clips(index, classifier.labels)
    if options.part != "development" and not options.allow_training_speakers:  # that part is there to choose with
        refuse_known_speakers(classifier, dataset, options.part)
    audio = load_part(dataset, options.part, progress=not options.json)
    backgrounds = background_noise(dataset, options.part)
    placed = word_tracks(classifier, audio, backgrounds, settings, options.snr, options.seed, not options.json)
    about = {"folder": str(options.clips), "part": options.part, "snr_db": options.snr, "seed": options.seed}
    about |= {"num_clips": sum(len(clips) for _, clips in placed), "num_backgrounds": len(backgrounds)}
    return placed, {**about, "skipped": [*dataset.skipped, *audio.skipped]}


def _print_measure(points: list, chosen, hours: float, per_hour: float) -> None:
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
