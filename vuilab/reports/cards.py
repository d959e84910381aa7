"""What is released, and the cards of both weights, a recogniser and a spotter, from the records beside them."""

from pathlib import Path

import numpy as np

from vuilab.keywords.spotting import SpotSettings
from vuilab.reports.ablation import FUSED, GREEDY, SOUNDS, errors_of
from vuilab.reports.keyword_tables import recorded_noise_table
from vuilab.runs.record import read_record
from vuilab.scoring.comparison import percent
from vuilab.text import join, markdown_rows, percent_with_interval

SEXES = {"F": "women", "M": "men"}
THRESHOLDS = (0.5, 0.8, 0.95, 0.97)  # of the spotter that its card shows
MEASURED_BY = {  # part of a keyword record -> command that measures it
    "evaluation": "vui.py keywords evaluate DIR --noise --record",
    "export": "vui.py keywords export DIR --record",
    "spotting": "vui.py spot --measure MANIFEST --clips DIR --part validation --record",
}


def summary_block(folder: str | Path) -> str:
    """Return a short Markdown table of what the released weights, whose folder is given, reach on speakers new to them."""
    folder = Path(folder)
    recogniser, keywords = (read_record(folder / f"{name}.json") for name in ("recogniser", "keywords_commands"))
    num_speakers = len(recogniser["evaluation"]["sex"])
    rows = []
    for kind, name in ((GREEDY, "greedy"), (FUSED, "word 3-gram"), (SOUNDS, "word 3-gram, letters and phonemes")):
        errors = errors_of(recogniser, kind)
        if errors is not None:
            tested = f"{len(errors.speakers)} utterances, {num_speakers} speakers"
            rows.append([f"recogniser, {name}", tested, f"WER {percent_with_interval(*errors.rate('word'))} %"])
    found = keywords["evaluation"]
    right = percent_with_interval(*(found["accuracy"][name] for name in ("rate", "low", "high")))
    tested = f"{found['num_clips']} clips, {found['num_speakers']} speakers"
    rows.append([f"keyword classifier, {len(found['recall'])} labels", tested, f"accuracy {right} %"])
    return markdown_rows(["released model", "tested on", "result [95 % interval]"], rows, left=3) + "\n"


def _facts(facts: dict[str, str]) -> str:
    return markdown_rows(["", ""], list(facts.items()), left=2)


def _origin(record: dict, speech: str) -> dict[str, str]:
    """Return what stands on either card: the command, what ran it, and the speech."""
    return {
        "parameters": f"{record['parameters']:,}",
        "trained with": f"`{record['command']}` (commit {record['commit'][:7]}, seed {record['configuration']['seed']})",
        "software": f"Keras {record['versions']['keras']} on {record['backend']} {record['versions'][record['backend']]}",
        "training data": speech,
    }


# ---------------------------------------------------------------------------------------- the recogniser


def card_block(path: str | Path) -> str:
    """Return the Markdown of a recogniser's card: where it comes from, and its error rates by speaker and sex.

    Args:
        path: the run record beside the released weights, evaluated with `vui.py evaluate ... --record`.

    Raises:
        FileNotFoundError: when there is no such record.
        ValueError: when it was not evaluated utterance by utterance.
    """
    record = read_record(path)
    if errors_of(record) is None:
        raise ValueError(f"{path} holds no evaluation. Add one: python vui.py evaluate MANIFEST --lm FILE --record")
    return f"{_facts(_recogniser_facts(record))}\n\n{_rates(record)}\n"


def _recogniser_facts(record: dict) -> dict[str, str]:
    train, configuration, evaluation = record["corpus"]["train"], record["configuration"], record["evaluation"]
    speeds = join([f"{speed:g}" for speed in configuration.get("speeds", (1.0,))])
    speech = (
        f"{train['num_utterances']:,} utterances, {train['hours']:.2f} h (every speed counted: {speeds}), "
        f"{train['num_speakers']} speakers ({join(train['speakers'])})"
    )
    cores, minutes = record["machine"]["cores"], record["seconds_per_epoch"] * record["epochs"] / 60
    counts, seconds = errors_of(record), np.array(evaluation["utterances"]["seconds"].split(), float)
    num_tested = len(np.unique(counts.speakers))
    return _origin(record, speech) | {
        "begun from": "earlier weights (`--start-from`)" if "start_from" in configuration else "random weights",
        "features": configuration["features"]["kind"],
        "training time": f"{minutes:.0f} min on {cores} core{'' if cores == 1 else 's'}",
        "weights": f"of epoch {record['best_epoch']} of {record['epochs']}, chosen by {record['chosen_by']}",
        "tested on": f"{len(counts.speakers)} utterances, {seconds.sum() / 3600:.2f} h, of {num_tested} other speakers",
        "tested with": f"`{evaluation['command']}` (commit {evaluation['commit'][:7]})",
        "95 % intervals": evaluation["interval"],
        "utterances without a wrong word, greedy": f"{100 * np.mean(counts.words[:, 0] == 0):.0f} %",
        "written words that are right": f"{100 * evaluation['word_confidence']['share_right']:.0f} %",
    }


def _rates(record: dict) -> str:
    evaluation = record["evaluation"]
    seconds = np.array(evaluation["utterances"]["seconds"].split(), float)
    longest = record["configuration"]["max_duration"]
    kinds = [errors_of(record, kind) for kind in (GREEDY, FUSED, SOUNDS)]
    speakers = kinds[0].speakers
    groups = [("all", np.full(len(speakers), True)), (f"up to {longest:g} s", seconds <= longest)]
    for sex, name in SEXES.items():
        members = [speaker for speaker, own in evaluation["sex"].items() if own == sex]
        groups.append((f"{name} ({len(members)})", np.isin(speakers, members)))
    groups += [(f"speaker {name}", speakers == name) for name in np.unique(speakers)]
    head = ["utterances of", "number", "CER % greedy", "WER % greedy", "WER % with LM", "WER % with phonemes too"]
    head = [name for name, kind in zip(head, [True, True, True, *kinds], strict=True) if kind]
    rows = []
    for name, chosen in groups:
        if chosen.any():
            greedy, *others = (kind.of(chosen) for kind in kinds if kind is not None)
            rates = [greedy.rate("char"), *(kind.rate("word") for kind in (greedy, *others))]
            rows.append([name, f"{chosen.sum()}", *(percent_with_interval(*rate) for rate in rates)])
    return markdown_rows(head, rows)


# -------------------------------------------------------------------------------------------- the spotter


def keyword_card_block(path: str | Path) -> str:
    """Return the Markdown of a spotter's card: training, accuracy, 8-bit integers, noise, and false alarms against recall.

    Args:
        path: run record beside the weights, with what the commands in `MEASURED_BY` wrote into it.

    Raises:
        ValueError: when something was not measured; the message names the command.
    """
    record = read_record(path)
    for part, command in MEASURED_BY.items():
        if part not in record:
            raise ValueError(f"{path} has no {part!r}. Measure it: python {command} --model WEIGHTS")
    noise = f"Recognised in noise, in percent:\n\n{recorded_noise_table(record['evaluation']['noise'])}"
    return "\n\n".join([_facts(_spotter_facts(record)), noise, _spotting_table(record["spotting"])]) + "\n"


def _spotter_facts(record: dict) -> dict[str, str]:
    train, found, files = record["corpus"]["train"], record["evaluation"], record["export"]
    least = min(found["recall"], key=lambda word: found["recall"][word])
    speech, spotting = f"{train['num_clips']:,} clips of {train['num_speakers']:,} speakers", record["spotting"]
    words = spotting["points"][0]["false_alarms"]["words"]
    machine = f"{found['backend']}, {found['machine']['processor']}, batch of one"
    return _origin(record, speech) | {
        "tested on": f"{found['num_clips']:,} {found['part']} clips of {found['num_speakers']:,} other speakers",
        "accuracy % [95 %, Wilson]": percent(found["accuracy"]),
        "the same with 8-bit integers (LiteRT)": percent(files["int8"]["accuracy"]),
        "size": join([f"{files[kind]['num_bytes'] / 1e3:.0f} kB in {kind}" for kind in ("int8", "float32")]),
        "least recognised": f"{least}, {100 * found['recall'][least]:.0f} %",
        "one clip": f"{found['latency']['total_ms']:.1f} ms, network alone {found['latency']['network_ms']:.1f} ms ({machine})",
        "false alarms counted in": f"{max(word['hours'] for word in words.values()):.2f} h of speech",
        "recall counted on": f"{spotting['clips']['num_clips']:,} {spotting['clips']['part']} clips of {join(list(words))}, "
        f"placed among background noise at {spotting['clips']['snr_db']:g} dB",
    }


def _spotting_table(spotting: dict) -> str:
    rows = []
    for point in spotting["points"]:
        if round(point["threshold"], 3) in THRESHOLDS:
            alarms = point["false_alarms"]
            usual = " (default)" if point["threshold"] == SpotSettings().threshold else ""
            rate = f"{alarms['per_hour']:.1f} [{alarms['low']:.1f}, {alarms['high']:.1f}]"
            rows.append([f"{point['threshold']:g}{usual}", rate, percent(point["recall"])])
    return markdown_rows(["threshold", "false alarms per hour [95 %]", "recall % [95 %]"], rows)
