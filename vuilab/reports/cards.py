"""What is released, and the model card of the recogniser: every number comes from the run records beside the weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vuilab.reports.ablation import FUSED, GREEDY, SOUNDS, errors_of
from vuilab.runs.record import read_record
from vuilab.scoring.error_rates import ErrorCounts
from vuilab.text import join, markdown_rows, percent_with_interval

SEXES = {"F": "women", "M": "men"}


def summary_block(folder: str | Path) -> str:
    """Return a short Markdown table of what the released weights reach on speakers that training has not heard.

    Args:
        folder: of the released weights, with the records `recogniser.json` and `keywords_commands.json`.
    """
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


def card_block(path: str | Path) -> str:
    """Return the Markdown of a model card.

    Args:
        path: the run record beside the released weights, evaluated with `vui.py evaluate ... --record`.

    Raises:
        FileNotFoundError: when there is no such record.
        ValueError: when it was not evaluated utterance by utterance.
    """
    record = read_record(path)
    if errors_of(record) is None:
        raise ValueError(f"{path} holds no evaluation. Add one: python vui.py evaluate MANIFEST --lm FILE --record")
    return f"{_origin(record)}\n\n{_rates(record)}\n\n{_limits(record)}\n"


def _origin(record: dict) -> str:
    train, configuration = record["corpus"]["train"], record["configuration"]
    minutes = record["seconds_per_epoch"] * record["epochs"] / 60
    versions, machine = record["versions"], record["machine"]
    begun = " further from earlier weights (`--start-from`)" if "start_from" in configuration else ""
    return (
        f"{record['parameters']:,} parameters, {configuration['features']['kind']} features, trained{begun} with "
        f"`{record['command']}` (commit {record['commit'][:7]}, seed {configuration['seed']}, Keras {versions['keras']} on "
        f"{record['backend']} {versions[record['backend']]}, {minutes:.0f} minutes on {machine['cores']} "
        f"core{'' if machine['cores'] == 1 else 's'}) on {train['num_utterances']:,} utterances, {train['hours']:.2f} hours "
        f"(every speed counted: {join([f'{speed:g}' for speed in configuration.get('speeds', (1.0,))])}) of "
        f"{train['num_speakers']} speakers ({join(train['speakers'])}); the weights are those of epoch {record['best_epoch']} of "
        f"{record['epochs']}, chosen by {record['chosen_by']}."
    )


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
    rows = [[name, f"{chosen.sum()}", *_cells(kinds, chosen)] for name, chosen in groups if chosen.any()]
    conditions = (
        f"Tested on {seconds.sum() / 3600:.2f} hours of speakers that training has not heard, with 95 % intervals "
        f"({evaluation['interval']}), by `{evaluation['command']}` (commit {evaluation['commit'][:7]})."
    )
    return f"{conditions}\n\n{markdown_rows(head, rows)}"


def _cells(kinds: Sequence[ErrorCounts | None], chosen: np.ndarray) -> list[str]:
    """Return CER and WER of greedy decoding, then the WER of each other kind."""
    greedy, *others = (kind.of(chosen) for kind in kinds if kind is not None)
    rates = [greedy.rate("char"), *(kind.rate("word") for kind in (greedy, *others))]
    return [percent_with_interval(*rate) for rate in rates]


def _limits(record: dict) -> str:
    """Return what the model cannot do, as far as its record has numbers for it."""
    counts, train = errors_of(record), record["corpus"]["train"]
    right = np.mean(counts.words[:, 0] == 0)
    quality = record["evaluation"]["word_confidence"]
    return (
        f"What it cannot do: of {len(counts.speakers)} utterances {100 * right:.0f} % come out without a wrong word, greedily, "
        f"and of the words that it writes {100 * quality['share_right']:.0f} % are right; it was tested on "
        f"{len(np.unique(counts.speakers))} speakers and trained on {train['num_speakers']}, who all read English books aloud. "
        "It writes lower-case letters, spaces and apostrophes, no digits and no punctuation. Noise, conversation, children and "
        "other languages were not tested."
    )
