"""Keeping the pages true: their blocks are generated from the committed run records, and checked against them.

A block stands between `<!-- KIND: SOURCE -->` and `<!-- end KIND -->`; `BLOCKS` has the kinds, the source is a folder of
pickles and records or one record. `python vui.py compare --update` writes the blocks of README, `docs/` and the model card;
`python vui.py compare --check` (part of `make lint`) fails when one differs, or when a committed record comes from
uncommitted code.
"""

import dataclasses
import re
import subprocess
import textwrap
from pathlib import Path

from vuilab.files import repository
from vuilab.reports.ablation import final_block
from vuilab.reports.cards import card_block, keyword_card_block, summary_block
from vuilab.reports.keyword_tables import keyword_block
from vuilab.runs.record import read_records
from vuilab.scoring.comparison import COLUMNS, FUSED, RunResult, findings, load_runs, percent, table
from vuilab.study.claims import conclusions
from vuilab.study.questions import QUESTIONS
from vuilab.study.runs import best_losses
from vuilab.text import markdown_rows

BLOCK = re.compile(
    r"(<!-- (?P<kind>summary|results|study|decoding|keywords|final|recogniser|spotter): (?P<folder>\S+) -->\n)"
    r"(?P<body>.*?)(<!-- end (?P=kind) -->)",
    re.DOTALL,
)

# parts of records with a commit of their own
MEASURED = {
    "evaluation": "evaluate",
    "character_evaluation": "evaluate",
    "spotting": "measure",
    "export": "export",
}
DOCUMENTS = ("README.md", "docs/*.md", "results/released/README.md")
WIDTH = 120  # characters of a line, tables excepted


def result_block(folder: str | Path) -> str:
    """Return the Markdown for the runs in a folder: corpus and conditions, the table, and what it shows.

    Rows bear the names of the runs' files; what a language model makes of them is told by `decoding_block`.

    Raises:
        FileNotFoundError: when there are no histories, or no record beside them.
    """
    runs = [_by_file_name(run) for run in load_runs(None, folder)]
    record = next((run.record for run in runs if run.record), None)
    if record is None:
        raise FileNotFoundError(f"The histories in {folder} have no run records (NAME.json) beside them. Train again.")
    train, valid = record["corpus"]["train"], record["corpus"]["validation"]
    versions = record["versions"]
    machine = record["machine"]
    conditions = (
        f"Trained on {train['num_utterances']} utterances ({train['hours']:.2f} h, {train['num_speakers']} speakers), validated "
        f"on {valid['num_utterances']} ({valid['hours']:.2f} h, {valid['num_speakers']} other speakers), utterances up to "
        f"{record['configuration']['max_duration']:g} s.\nSeed {record['configuration']['seed']}, greedy decoding, Keras "
        f"{versions['keras']} on {record['backend']} {versions.get(record['backend'], '')}, {machine['cores']} "
        f"core{'' if machine['cores'] == 1 else 's'}.\nCER and "
        f"WER are at the epoch with the lowest validation loss, with 95 % intervals ({record['scores']['interval']})."
    )
    stopped = [
        f"{run.name} was stopped after {run.record['epochs']} of {run.record['configuration']['epochs']} epochs."
        for run in runs
        if (run.record or {}).get("status") == "interrupted"
    ]
    head, *rows = [row[:FUSED] + row[FUSED + 1 :] if len(row) == len(COLUMNS) else row for row in table(runs)]
    sentences = "\n".join([*findings(runs), *stopped])
    return f"{conditions}\n\n{markdown_rows(head, rows)}\n\n{sentences}\n"


def _by_file_name(run: RunResult) -> RunResult:
    """Return a run under the name of its files, where its full name describes a whole network."""
    return dataclasses.replace(run, name=run.record["name"]) if run.record else run


def study_block(folder: str | Path) -> str:
    """Return the Markdown for the questions of the study that were run with several seeds: what holds here, and what does not."""
    lines = []
    for question in QUESTIONS:
        settings = question.at_scale("evidence")
        losses = best_losses(settings, folder) if settings else {}
        if len(losses) < 2:
            continue
        order, *verdicts = conclusions(question, losses)
        told = [verdict for verdict in verdicts if "Here: not run" not in verdict]
        lines.append("\n\n".join([f"**{question.title}** {order}", "\n".join(f"- {verdict}" for verdict in told)]))
    if not lines:
        raise FileNotFoundError(
            f"{folder} holds no runs of the study's evidence. Train them: python vui.py study --help"
        )
    return "\n\n".join(lines) + "\n"


def decoding_block(folder: str | Path) -> str:
    """Return a Markdown table of the runs in a folder that were evaluated with a language model, best first."""
    found = [record for record in read_records(folder) if "language_model" in record.get("evaluation", {})]
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no run that was evaluated with a language model: python vui.py evaluate ... --lm FILE --record"
        )
    head = ("network", "utterances", "CER % greedy", "CER % with LM", "WER % greedy", "WER % with LM", "change in WER")
    lines = []
    for record in sorted(found, key=lambda record: record["evaluation"]["language_model"]["wer"]["rate"]):
        greedy, fused = record["evaluation"], record["evaluation"]["language_model"]
        rates = [percent(part[kind]) for kind in ("cer", "wer") for part in (greedy, fused)]
        change = (f"{100 * fused['wer_difference'][name]:+.1f}" for name in ("difference", "low", "high"))
        difference = "{} [{}, {}]".format(*change)
        lines.append([record["name"], str(greedy["num_utterances"]), *rates, difference])
    models = {
        record["evaluation"]["language_model"]["file"]: record["evaluation"]["language_model"] for record in found
    }
    used = [
        f"Beam search with {name} (order {model['order']}, beam {model['beam_width']}); weights chosen {model['chosen']}."
        for name, model in models.items()
    ]
    told = "\n".join([*used, f"Intervals: {found[0]['evaluation']['interval']}."])
    return f"{markdown_rows(head, lines)}\n\n{told}\n"


def update_readme(root: Path | None = None) -> bool:
    """Write the blocks of README, docs and model card anew; return whether anything changed."""
    root, changed = root or repository(), False
    for document in _documents(root):
        before = document.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda m: m[1] + _body(m, root) + m[5], before)
        if after != before:
            document.write_text(after, encoding="utf-8")
            changed = True
    return changed


def _documents(root: Path) -> list[Path]:
    return [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]


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
            for part, again in [(record, "train"), *((record.get(name), again) for name, again in MEASURED.items())]:
                if part and (not part.get("clean") or part.get("commit") in (None, "unknown")):
                    problems.append(
                        f"{folder.name}/{record['name']}.json comes from uncommitted code; {again} it again."
                    )
                if part and any(word.startswith("/") for word in part.get("command", "").split()):
                    problems.append(
                        f"{folder.name}/{record['name']}.json names a folder of one machine in its command; {again} "
                        "it again with relative paths."
                    )
    return problems


def _body(match: re.Match, root: Path) -> str:
    return _wrapped(BLOCKS[match["kind"]](root / match["folder"]))


def _wrapped(text: str) -> str:
    """Return Markdown whose lines are no longer than `WIDTH`, tables excepted."""
    lines = []
    for line in text.splitlines():
        indent = "  " if line.startswith("- ") else ""
        long = len(line) > WIDTH and not line.startswith("|")
        options = {"subsequent_indent": indent, "break_long_words": False, "break_on_hyphens": False}
        lines += textwrap.wrap(line, WIDTH, **options) if long else [line]
    return "\n".join(lines) + "\n"


BLOCKS = {
    "summary": summary_block,
    "results": result_block,
    "study": study_block,
    "decoding": decoding_block,
    "keywords": keyword_block,
    "final": final_block,
    "recogniser": card_block,
    "spotter": keyword_card_block,
}


def _tracked_records(root: Path) -> list[Path]:
    """Return the JSON files under `results/` that git tracks; outside a checkout all of them."""
    try:
        result = subprocess.run(
            ["git", "ls-files", "results/*.json"], cwd=root, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return list((root / "results").rglob("*.json"))
    return [root / line for line in result.stdout.splitlines()]
