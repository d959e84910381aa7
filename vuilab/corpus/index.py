"""Indexing corpora: which recordings can be used, split by speaker into manifests.

`index_tree` makes the manifests of a corpus from a tree in one of the layouts of `corpus/layouts.py`. Where speakers are not
known sentences take their place: none stands in two splits.
"""

import contextlib
import os
import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from joblib.externals.loky import ProcessPoolExecutor

from vuilab.audio import check
from vuilab.corpus.layouts import LAYOUTS, find_layout, walk
from vuilab.corpus.manifest import MANIFESTS, Utterance, summarize, transcript, write_lines
from vuilab.features import MFCC_WINDOW
from vuilab.files import atomic_path, progress_bar

MANY_FILES = 20_000  # from which on processes are worth their start
SPLIT_SEED = 0  # chooses the validation speakers when none are named


@dataclass(frozen=True)
class IndexReport:
    """What indexing wrote and what it left out; `str()` gives a summary to print."""

    out_dir: Path
    splits: dict[str, dict]  # 'train', 'validation', 'test' -> summarize() of the split, only those written
    left_out: list[tuple[Path, str]]  # file and reason
    notes: tuple[str, ...] = ()  # decisions the reader should know of

    def __str__(self) -> str:
        lines = [f"Corpus {self.out_dir}"]
        for split, summary in self.splits.items():
            lines.append(
                f"  {MANIFESTS[split]:18s} {summary['num_utterances']:7,d} utterances"
                f"  {summary['hours']:8.2f} h  {summary['num_speakers'] or 'unknown':>5} speakers"
            )
        lines += [f"  {note}" for note in self.notes]
        lines.append(_list_left_out(self.left_out))
        return "\n".join(lines)


def index_tree(
    root: str | Path,
    out_dir: str | Path,
    valid_speakers: Iterable[str] = (),
    test_speakers: Iterable[str] = (),
    test: bool = False,
    layout: str | None = None,
) -> IndexReport:
    """Index a tree of recordings and write its manifests, split by speaker.

    Args:
        root: folder of a corpus, or one of its tables.
        out_dir: folder for the manifests. Manifests there that this call does not write stay as they are.
        valid_speakers: speakers for validation. Without them (and without `test`) a tenth of the speakers, at
            least one, is drawn with a fixed seed, and the report names them; or of the sentences, where speakers are unknown.
        test_speakers: speakers for the test manifest.
        test: put everything into the test manifest.
        layout: a name of `LAYOUTS`; None: see which one it is.

    Returns:
        Counts by split and every file left out, with its reason.

    Raises:
        FileNotFoundError: when `root` is missing.
        ValueError: when the layout is unknown, no utterance can be used, speakers are unknown or named twice, there is only one
            speaker to split, or `out_dir` cannot be written. No manifest has been touched then.
    """
    valid, held_out = _speaker_set(valid_speakers), _speaker_set(test_speakers)
    if test and (valid or held_out):
        raise ValueError("With test=True (--test) everything is test data; name no validation or test speakers then.")
    if valid & held_out:
        raise ValueError(f"Speakers are for validation or for testing, not both: {sorted(valid & held_out)}")
    _require_writable(Path(out_dir))
    root = Path(root).absolute()
    if not root.exists():
        raise FileNotFoundError(
            f"No folder at {root}. Expected a corpus in one of these layouts: {', '.join(LAYOUTS)}."
        )
    layout = layout or find_layout(root)
    utterances, left_out = scan_tree(root, layout)
    notes = [f"Layout: {layout}"]
    unknown = sum(utterance.speaker is None for utterance in utterances)
    if not test and not valid:
        valid = _draw({_apart(utterance) for utterance in utterances} - held_out)
        drawn = sorted(valid & {utterance.speaker for utterance in utterances if utterance.speaker})
        shown = " ".join(drawn[:10]) + (f" and {len(drawn) - 10} more" if len(drawn) > 10 else "")
        if drawn:
            notes.append(f"No validation speakers were named; drawn (seed {SPLIT_SEED}): {shown}")
    if unknown and not test:
        notes.append(
            f"The speakers of {unknown:,d} utterances are unknown: none of their sentences stands in two splits, but voices may, "
            "so that error rates are lower than those of new voices."
        )
    splits = {"test": utterances} if test else _split(utterances, valid, held_out)
    return write_splits(out_dir, splits, left_out, notes)


def scan_tree(root: str | Path, layout: str = "librispeech") -> tuple[list[Utterance], list[tuple[Path, str]]]:
    """Find the utterances of a tree in a layout and check that each can be used.

    Returns:
        Utterances in the order in which they stand, and (file, reason) for everything left out.

    Raises:
        ValueError: when nothing below it can be used.
    """
    root = Path(root).absolute()
    left_out: list[tuple[Path, str]] = []
    candidates: dict[str, tuple[str, str | None]] = {}
    for path, written, speaker in LAYOUTS[layout](walk(root, left_out), left_out):
        text, reason = transcript(written)
        if path in candidates:
            reason = "it stands twice in the tables; the first line is used"
        if reason:
            left_out.append((Path(path), reason))
        else:
            candidates[path] = text, speaker
    utterances = []
    for (path, (text, speaker)), duration in zip(candidates.items(), _audio_seconds([*candidates]), strict=True):
        if isinstance(duration, str):
            left_out.append((Path(path), duration))
        else:
            utterances.append(Utterance(Path(path), duration, text, speaker))
    if not utterances:
        raise ValueError(f"No usable utterance below {root} in the layout {layout}.\n{_list_left_out(left_out)}")
    return utterances, left_out


def write_splits(
    out_dir: str | Path,
    splits: dict[str, list[Utterance]],
    left_out: Iterable[tuple[Path, str]] = (),
    notes: Iterable[str] = (),
) -> IndexReport:
    """Write one manifest per split that is not empty, all of them or none, and report on them.

    Args:
        out_dir: folder of the corpus, made when it is missing.
        splits: utterances by 'train', 'validation' and 'test'.
        left_out: what the report should list as left out.
        notes: sentences for the report.
    """
    out_dir, notes = Path(out_dir), list(notes)
    splits = {split: splits[split] for split in MANIFESTS if splits.get(split)}
    with contextlib.ExitStack() as stack:  # the temporary files replace the manifests when all are written
        for split, utterances in splits.items():
            temporary = stack.enter_context(atomic_path(out_dir / MANIFESTS[split]))
            write_lines(temporary, out_dir.absolute(), utterances)
    if "train" not in splits:
        notes.append("No training utterances in this call.")
    kept = [name for split, name in MANIFESTS.items() if split not in splits and (out_dir / name).exists()]
    if kept:
        notes.append(f"Kept from earlier, not changed: {' '.join(kept)} (check that it shares no speaker with these).")
    summaries = {split: summarize(utterances) for split, utterances in splits.items()}
    return IndexReport(out_dir, summaries, list(left_out), tuple(notes))


def load_speaker_table(root: str | Path) -> dict[str, dict]:
    """Read the table SPEAKERS.TXT of LibriSpeech in `root` or in one of the two folders above it.

    Returns:
        speaker -> {"sex": 'M' or 'F', "subset": str, "minutes": float, "name": str}; empty without a table.

    Raises:
        ValueError: naming the line that does not have the table's five columns.
    """
    root = Path(root).absolute()
    table = next((path for folder in (root, *root.parents[:2]) if (path := folder / "SPEAKERS.TXT").is_file()), None)
    speakers: dict[str, dict] = {}
    if table is None:
        return speakers
    for number, line in enumerate(table.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        columns = [column.strip() for column in line.split("|", 4)]  # names may hold a bar
        try:
            speaker, sex, subset, minutes, name = columns
            speakers[speaker] = {"sex": sex, "subset": subset, "minutes": float(minutes), "name": name}
        except ValueError as error:
            raise ValueError(
                f"{table}, line {number} is not ID | SEX | SUBSET | MINUTES | NAME. Received: {line[:80]!r}"
            ) from error
    return speakers


# ---------------------------------------------------------------------------------------------- splitting


def _speaker_set(speakers: Iterable[str]) -> set[str]:
    return {speakers} if isinstance(speakers, str) else {str(speaker) for speaker in speakers}


def _apart(utterance: Utterance) -> str:
    """Return what keeps an utterance apart from others: its speaker, or its sentence where that is unknown."""
    return utterance.speaker or f" {utterance.text}"  # no speaker begins with a space


def _draw(groups: set[str]) -> set[str]:
    if len(groups) < 2:
        raise ValueError(
            f"Validation needs another speaker than training, or another sentence where speakers are unknown, and there is only "
            f"{[group.strip() for group in groups]}. Name a speaker with --valid-speakers (all its recordings then go to "
            "validation), or use --test to index everything for testing."
        )
    return set(random.Random(SPLIT_SEED).sample(sorted(groups), max(1, round(len(groups) / 10))))


def _split(utterances: list[Utterance], valid: set[str], held_out: set[str]) -> dict[str, list[Utterance]]:
    present = {_apart(utterance) for utterance in utterances}
    unknown = sorted((valid | held_out) - present)
    if unknown:
        shown = sorted(speaker for speaker in present if speaker[0] != " ")
        more = f" and {len(shown) - 50} more" if len(shown) > 50 else ""
        raise ValueError(
            f"No usable utterance of the speakers {unknown}. Speakers present: {' '.join(shown[:50])}{more}"
        )
    splits: dict[str, list[Utterance]] = {split: [] for split in MANIFESTS}
    for utterance in utterances:
        group = _apart(utterance)
        splits["validation" if group in valid else "test" if group in held_out else "train"].append(utterance)
    return splits


def _require_writable(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"Cannot write into the folder {folder}. Choose another one.")


def _list_left_out(left_out: list[tuple[Path, str]], num_shown: int = 10) -> str:
    if not left_out:
        return "  Nothing left out."
    lines = [f"  Left out: {len(left_out):,d}"] + [f"    {path}: {reason}" for path, reason in left_out[:num_shown]]
    if len(left_out) > num_shown:
        lines.append(f"    ... and {len(left_out) - num_shown:,d} more")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------- audio


def _audio_seconds(paths: list[str], batch_size: int = 250) -> list[float | str]:
    """Return for each file its duration in seconds, or the reason why it cannot be used.

    Of many files most of the time goes into Python itself, so that processes share them. They get batches because a task of
    its own for each of 300,000 files would cost more than the work.
    """
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    results: list[float | str] = []
    many = len(paths) >= MANY_FILES
    pool = ProcessPoolExecutor(min(8, os.cpu_count() or 1)) if many else ThreadPoolExecutor(2)
    with pool, progress_bar(None, "Checking audio", len(paths), " files", delay=2) as progress:
        for batch in pool.map(_check_all, batches):
            results += batch
            progress.update(len(batch))
    return results


def _check_all(paths: list[str]) -> list[float | str]:
    return [_seconds_or_reason(path) for path in paths]


def _seconds_or_reason(path: str) -> float | str:
    """Return the duration of an audio file that is whole, or the reason why it cannot be used."""
    try:
        num_samples, rate = check(path)
    except FileNotFoundError:
        return "the link leads nowhere"
    except (ValueError, OSError) as error:
        return getattr(error, "reason", None) or str(error)
    if num_samples == 0:
        return "the audio has no samples"
    if num_samples < MFCC_WINDOW * rate:
        return f"only {num_samples} samples, less than one {MFCC_WINDOW * 1000:.0f} ms analysis window"
    return num_samples / rate
