"""Keeping README and model card true: their blocks are generated from the committed run records, and checked against them.

A block stands between `<!-- results: FOLDER -->` and `<!-- end results -->`, where FOLDER holds the pickles and records. One
called study says what the runs of the model study show, one called decoding what a language model changes, one called
keywords how well words are classified, and one called final how the final model came about. The model card of the released
recogniser, in `results/released/README.md`, is a block called recogniser with the path of a record.
`python vui.py compare --update` writes the blocks, `python vui.py compare --check` (part of `make lint`) fails when one
differs, or when a committed record comes from uncommitted code.
"""

import re
import subprocess
from pathlib import Path

from vuilab.files import repository
from vuilab.reports.ablation import final_block
from vuilab.reports.cards import card_block
from vuilab.reports.keyword_card import keyword_card_block
from vuilab.reports.keyword_tables import keyword_block
from vuilab.runs.record import read_records
from vuilab.scoring.comparison import RunResult, findings, load_runs, markdown_table, percent
from vuilab.study.claims import conclusions
from vuilab.study.questions import QUESTIONS
from vuilab.study.runs import best_losses

BLOCK = re.compile(
    r"(<!-- (?P<kind>results|study|decoding|keywords|final|recogniser|spotter): (?P<folder>\S+) -->\n)"
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
DOCUMENTS = ("README.md", "results/released/README.md")


def result_block(folder: str | Path) -> str:
    """Return the Markdown for the runs in a folder: corpus and conditions, the table, and what it shows.

    Raises:
        FileNotFoundError: when there are no histories, or no record beside them.
    """
    runs = load_runs(None, folder)
    record = next((run.record for run in runs if run.record), None)
    if record is None:
        raise FileNotFoundError(f"The histories in {folder} have no run records (NAME.json) beside them. Train again.")
    train, valid = record["corpus"]["train"], record["corpus"]["validation"]
    versions = record["versions"]
    machine = record["machine"]
    conditions = (
        f"Trained on {train['num_utterances']} utterances ({train['hours']:.2f} h, {train['num_speakers']} speakers), validated "
        f"on {valid['num_utterances']} ({valid['hours']:.2f} h, {valid['num_speakers']} other speakers), utterances up to "
        f"{record['configuration']['max_duration']:g} s, seed {record['configuration']['seed']}, greedy decoding, Keras "
        f"{versions['keras']} on {record['backend']} {versions.get(record['backend'], '')}, {machine['cores']} "
        f"core{'' if machine['cores'] == 1 else 's'}. CER and "
        f"WER are at the epoch with the lowest validation loss, with 95 % intervals ({record['scores']['interval']})."
    )
    stopped = [
        f"{run.name} was stopped after {run.record['epochs']} of {run.record['configuration']['epochs']} epochs."
        for run in runs
        if (run.record or {}).get("status") == "interrupted"
    ]
    sentences = " ".join([*findings(runs), *stopped])
    conditions = " ".join([conditions, *_decoding_conditions(runs)])
    return f"{conditions}\n\n{markdown_table(runs)}\n\n{sentences}\n"


def _decoding_conditions(runs: list[RunResult]) -> list[str]:
    """Return a sentence on the language models that runs were evaluated with, or nothing."""
    used = [run.record["evaluation"]["language_model"] for run in runs if _evaluated_with_model(run)]
    kinds = sorted({f"{model['file']} (order {model['order']}, beam {model['beam_width']})" for model in used})
    choices = sorted({model["chosen"] for model in used})
    if not used:
        return []
    return [f"With LM: beam search with {' and '.join(kinds)}, weights chosen {' and '.join(choices)}."]


def _evaluated_with_model(run: RunResult) -> bool:
    return "language_model" in (run.record or {}).get("evaluation", {})


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
        lines.append(f"- **{question.title}** {' '.join([order, *told])}")
    if not lines:
        raise FileNotFoundError(
            f"{folder} holds no runs of the study's evidence. Train them: python vui.py study --help"
        )
    return "\n".join(lines) + "\n"


def decoding_block(folder: str | Path) -> str:
    """Return a Markdown table of the runs in a folder that were evaluated with a language model, best first."""
    found = [record for record in read_records(folder) if "language_model" in record.get("evaluation", {})]
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no run that was evaluated with a language model: python vui.py evaluate ... --lm FILE --record"
        )
    head = (
        "network",
        "utterances",
        "CER % greedy",
        "CER % with LM",
        "WER % greedy",
        "WER % with LM",
        "confidence, AUC",
    )
    lines = [head, ("---",) + ("---:",) * (len(head) - 1)]
    sentences = []
    for record in sorted(found, key=lambda record: record["evaluation"]["language_model"]["wer"]["rate"]):
        greedy = record["evaluation"]
        fused = greedy["language_model"]
        rates = [percent(part[kind]) for kind in ("cer", "wer") for part in (greedy, fused)]
        auc = fused["word_confidence"]["auc"]
        name = record.get("full_name", record["name"])
        lines.append((name, str(greedy["num_utterances"]), *rates, "" if auc is None else f"{auc:.2f}"))
        change = fused["wer_difference"]
        sentences.append(
            f"{name}: {fused['file']} (order {fused['order']}, beam {fused['beam_width']}, weights chosen "
            f"{fused['chosen']}) changes the WER by {100 * change['difference']:+.1f} points "
            f"[{100 * change['low']:+.1f}, {100 * change['high']:+.1f}], "
            f"{100 * change['difference'] / greedy['wer']['rate']:+.0f} % of itself."
        )
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{rows}\n\n{' '.join(sentences)} Intervals: {found[0]['evaluation']['interval']}.\n"


def update_readme(root: Path | None = None) -> bool:
    """Write the result blocks of the README and of the model card anew; return whether anything changed."""
    root, changed = root or repository(), False
    for document in _documents(root):
        before = document.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda m: m[1] + _body(m, root) + m[5], before)
        if after != before:
            document.write_text(after, encoding="utf-8")
            changed = True
    return changed


def _documents(root: Path) -> list[Path]:
    return [path for path in (root / name for name in DOCUMENTS) if path.is_file()]


def check_project(root: Path | None = None) -> list[str]:
    """Return what is wrong: blocks that differ from their records, records without a clean commit."""
    root = root or repository()
    problems = []
    for document in _documents(root):
        name = document.relative_to(root).as_posix()
        for match in BLOCK.finditer(document.read_text(encoding="utf-8")):
            source = root / match["folder"]
            if not (source.is_file() or list(source.glob("*.pickle"))):
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
    return BLOCKS[match["kind"]](root / match["folder"])


BLOCKS = {
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
