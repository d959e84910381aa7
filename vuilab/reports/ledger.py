"""Keeping the pages true: their blocks are generated from the committed run records, and checked against them.

A block stands between `<!-- KIND: SOURCE -->` and `<!-- end KIND -->`; `BLOCKS` has the kinds, the source is a folder of
pickles and records or one record. `python vui.py compare --update` writes the blocks of README, `docs/` and the model card;
`python vui.py compare --check` (part of `make lint`) fails when one differs, or when a committed record comes from
uncommitted code.
"""

import dataclasses
import functools
import re
import subprocess
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from vuilab.files import repository
from vuilab.reports.ablation import final_block
from vuilab.reports.cards import card_block, keyword_card_block, summary_block
from vuilab.reports.keyword_tables import keyword_block
from vuilab.reports.references import loss_table
from vuilab.runs.record import read_records
from vuilab.scoring.comparison import COLUMNS, FUSED, RunResult, findings, load_runs, percent, table
from vuilab.study.claims import conclusions
from vuilab.study.questions import QUESTIONS
from vuilab.study.runs import best_losses
from vuilab.text import markdown_rows

# parts of records with a commit of their own
MEASURED = {
    "evaluation": "evaluate",
    "character_evaluation": "evaluate",
    "spotting": "measure",
    "export": "export",
}
DOCUMENTS = ("README.md", "docs/*.md", "results/released/README.md")
WIDTH = 120  # characters of a line, tables excepted


def rates_table(runs: Sequence[RunResult]) -> str:
    """Return the results table without what a language model makes of the runs, which `decoding_block` tells."""
    head, *rows = [row[:FUSED] + row[FUSED + 1 :] if len(row) == len(COLUMNS) else row for row in table(runs)]
    return markdown_rows(head, rows)


def result_block(folder: str | Path, shown: Callable[[Sequence[RunResult]], str] = rates_table) -> str:
    """Return the Markdown for the runs in a folder: corpus and conditions, the table, and what it shows.

    Args:
        folder: of the runs; rows bear the names of their files.
        shown: what makes the table of them.

    Raises:
        FileNotFoundError: when there are no histories, or no record beside them.
    """
    runs = [dataclasses.replace(run, name=(run.record or {}).get("name", run.name)) for run in load_runs(None, folder)]
    record = next((run.record for run in runs if run.record), None)
    if record is None:
        raise FileNotFoundError(f"The histories in {folder} have no run records (NAME.json) beside them. Train again.")
    train, valid, used = record["corpus"]["train"], record["corpus"]["validation"], record["configuration"]
    versions, backend, cores = record["versions"], record["backend"], record["machine"]["cores"]
    conditions = (
        f"Trained on {train['num_utterances']} utterances ({train['hours']:.2f} h, {train['num_speakers']} speakers), validated "
        f"on {valid['num_utterances']} ({valid['hours']:.2f} h, {valid['num_speakers']} other speakers), utterances up to "
        f"{used['max_duration']:g} s.\nSeed {used['seed']}, greedy decoding, Keras {versions['keras']} on {backend} "
        f"{versions.get(backend, '')}, {cores} core{'' if cores == 1 else 's'}.\nCER and WER are at the epoch with the lowest "
        f"validation loss, with 95 % intervals ({record['scores']['interval']})."
    )
    stopped = [
        f"{run.name} was stopped after {run.record['epochs']} of {run.record['configuration']['epochs']} epochs."
        for run in runs
        if (run.record or {}).get("status") == "interrupted"
    ]
    sentences = "\n".join([*findings(runs, speed=shown is rates_table), *stopped])
    return f"{conditions}\n\n{shown(runs)}\n\n{sentences}\n"


def study_block(folder: str | Path) -> str:
    """Return the Markdown for the questions of the study that were run with several seeds: what holds here, and what does not."""
    parts = []
    for question in QUESTIONS.values():
        losses = best_losses(question.evidence, folder)
        if len(losses) > 1:
            order, *verdicts = conclusions(question, losses)
            told = "\n".join(f"- {verdict}" for verdict in verdicts if "Here: not run" not in verdict)
            parts.append(f"**{question.title}** {order}\n\n{told}")
    if not parts:
        raise FileNotFoundError(
            f"{folder} holds no runs of the study's evidence. Train them: python vui.py study --help"
        )
    return "\n\n".join(parts) + "\n"


def decoding_block(folder: str | Path) -> str:
    """Return a Markdown table of the runs in a folder that were evaluated with a language model, best first."""
    found = [record for record in read_records(folder) if "language_model" in record.get("evaluation", {})]
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no run that was evaluated with a language model: python vui.py evaluate ... --lm FILE --record"
        )
    head = ("network", "utterances", "CER % greedy", "CER % with LM", "WER % greedy", "WER % with LM", "change in WER")
    lines, used = [], {}
    for record in sorted(found, key=lambda record: record["evaluation"]["language_model"]["wer"]["rate"]):
        greedy, fused = record["evaluation"], record["evaluation"]["language_model"]
        rates = [percent(part[kind]) for kind in ("cer", "wer") for part in (greedy, fused)]
        change = (f"{100 * fused['wer_difference'][name]:+.1f}" for name in ("difference", "low", "high"))
        lines.append([record["name"], str(greedy["num_utterances"]), *rates, "{} [{}, {}]".format(*change)])
    for model in (record["evaluation"]["language_model"] for record in found):
        searched = f"Beam search with {model['file']} (order {model['order']}, beam {model['beam_width']})"
        used[model["file"]] = f"{searched}; weights chosen {model['chosen']}."
    told = "\n".join([*used.values(), f"Intervals: {found[0]['evaluation']['interval']}."])
    return f"{markdown_rows(head, lines)}\n\n{told}\n"


BLOCKS = {
    "summary": summary_block,
    "results": result_block,
    "references": functools.partial(result_block, shown=loss_table),
    "study": study_block,
    "decoding": decoding_block,
    "keywords": keyword_block,
    "final": final_block,
    "recogniser": card_block,
    "spotter": keyword_card_block,
}
BLOCK = re.compile(
    rf"(<!-- (?P<kind>{'|'.join(BLOCKS)}): (?P<folder>\S+) -->\n)(?P<body>.*?)(<!-- end (?P=kind) -->)", re.DOTALL
)


def update_pages(root: Path | None = None) -> bool:
    """Write the blocks of README, docs and model card anew; return whether anything changed."""
    root, changed = root or repository(), False
    for document in _documents(root):
        before = document.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda m: m[1] + _body(m, root) + m[5], before)
        if after != before:
            document.write_text(after, encoding="utf-8")
            changed = True
    return changed


def check_project(root: Path | None = None) -> list[str]:
    """Return what is wrong: blocks that differ from their records, records without a clean commit."""
    root = root or repository()
    problems = []
    for document in _documents(root):
        name = document.relative_to(root).as_posix()
        for match in BLOCK.finditer(document.read_text(encoding="utf-8")):
            source = root / match["folder"]
            if not (source.is_file() or list(source.glob("*.json"))):
                problems.append(f"{name} shows results of {match['folder']}, which holds no runs.")
            elif match["body"] != _body(match, root):
                problems.append(
                    f"{name} differs from the records in {match['folder']}. Run: python vui.py compare --update"
                )
    for folder in sorted({path.parent for path in _tracked_records(root)}):
        for record in read_records(folder):
            name = f"{folder.name}/{record['name']}.json"
            measured = [(record[part], again) for part, again in MEASURED.items() if record.get(part)]
            for part, again in [(record, "train"), *measured]:
                if not part.get("clean") or part.get("commit") in (None, "unknown"):
                    problems.append(f"{name} comes from uncommitted code; {again} it again.")
                if any(word.startswith("/") for word in part.get("command", "").split()):
                    told = f"{name} names a folder of one machine in its command"
                    problems.append(f"{told}; {again} it again with relative paths.")
    return problems


def _documents(root: Path) -> list[Path]:
    return [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]


def _body(match: re.Match, root: Path) -> str:
    """Return the text of a block, whose lines are no longer than `WIDTH`, tables excepted."""
    lines = []
    for line in BLOCKS[match["kind"]](root / match["folder"]).splitlines():
        indent = "  " if line.startswith("- ") else ""
        options = {"subsequent_indent": indent, "break_long_words": False, "break_on_hyphens": False}
        lines += [line] if line.startswith("|") else textwrap.wrap(line, WIDTH, **options) or [""]
    return "\n".join(lines) + "\n"


def _tracked_records(root: Path) -> list[Path]:
    """Return the JSON files under `results/` that git tracks; outside a checkout all of them."""
    command = ["git", "ls-files", "results/*.json"]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return list((root / "results").rglob("*.json"))
    return [root / line for line in result.stdout.splitlines()]
