"""The card of released keyword weights: what they recognise, what they find in running speech, from their run record."""

from pathlib import Path

from vuilab.keywords.spotting import SpotSettings
from vuilab.keywords.tables import noise_table
from vuilab.runs.record import read_record
from vuilab.scoring.comparison import percent
from vuilab.text import join, markdown_rows

SHOWN = (0.5, 0.8, 0.95, 0.97)  # thresholds
PARTS = {  # of the record -> command that measures it
    "evaluation": "vui.py keywords evaluate DIR --noise --record",
    "export": "vui.py keywords export DIR --record",
    "spotting": "vui.py spot --measure MANIFEST --clips DIR --part validation --record",
}


def keyword_card_block(path: str | Path) -> str:
    """Return the Markdown of a card: training, accuracy, 8-bit integers, noise, and false alarms against recall.

    Args:
        path: run record beside the weights, with what the commands in `PARTS` wrote into it.

    Raises:
        ValueError: when something was not measured; the message names the command.
    """
    record = read_record(path)
    for part, command in PARTS.items():
        if part not in record:
            raise ValueError(f"{path} has no {part!r}. Measure it: python {command} --model WEIGHTS")
    return "\n\n".join([_origin(record), _accuracy(record), _noise(record), _spotting(record)]) + "\n"


def _origin(record: dict) -> str:
    train, version = record["corpus"]["train"], record["versions"]
    return (
        f"{record['parameters']:,} parameters, trained with `{record['command']}` (commit {record['commit'][:7]}, seed "
        f"{record['configuration']['seed']}, Keras {version['keras']} on {record['backend']} {version[record['backend']]}) on "
        f"{train['num_clips']:,} clips of {train['num_speakers']:,} speakers."
    )


def _accuracy(record: dict) -> str:
    found, files = record["evaluation"], record["export"]
    sizes = " and ".join(f"{files[numbers]['num_bytes'] / 1e3:.0f} kB in {numbers}" for numbers in ("int8", "float32"))
    least = min(found["recall"], key=lambda word: found["recall"][word])
    integers = percent(files["int8"]["accuracy"])
    return (
        f"Of {found['num_clips']:,} {found['part']} clips of {found['num_speakers']:,} speakers that training has not heard, "
        f"{percent(found['accuracy'])} % are recognised (95 %, Wilson), {least} least often "
        f"({100 * found['recall'][least]:.0f} %); by the LiteRT file with 8-bit integers {integers} % "
        f"({sizes}). One clip takes {found['latency']['total_ms']:.1f} ms, {found['latency']['network_ms']:.1f} ms of them in "
        f"the network ({record['evaluation']['backend']}, {record['evaluation']['machine']['processor']}, batch of one)."
    )


def _noise(record: dict) -> str:
    return f"Recognised in noise, in percent:\n\n{noise_table(record['evaluation']['noise'])}"


def _spotting(record: dict) -> str:
    found, rows = record["spotting"], []
    clips, usual = found["clips"], SpotSettings().threshold
    for point in found["points"]:
        if round(point["threshold"], 3) in SHOWN:
            alarms = point["false_alarms"]
            low, high = (f"{alarms[limit]:.1f}" for limit in ("low", "high"))
            title = f"{point['threshold']:g}{' (default)' if point['threshold'] == usual else ''}"
            rows.append([title, f"{alarms['per_hour']:.1f} [{low}, {high}]", percent(point["recall"])])
    table = markdown_rows(["threshold", "false alarms per hour [95 %]", "recall % [95 %]"], rows)
    words = found["points"][0]["false_alarms"]["words"]
    hours = max(word["hours"] for word in words.values())
    return (
        f"Of {clips['num_clips']:,} {clips['part']} clips of {join(list(words))}, placed among background noise at "
        f"{clips['snr_db']:g} dB, so many are found; and so many false alarms come in {hours:.2f} hours of speech:\n\n{table}"
    )
