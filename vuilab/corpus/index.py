"""Indexing of LibriSpeech-layout trees: which recordings can be used, split by speaker into manifests.

`index_tree` makes the manifests of a corpus from any tree laid out as LibriSpeech is:

    <anything>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac      one utterance a file
    <anything>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt          lines "<utterance ID> words"
"""

import contextlib
import os
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vuilab.audio import check
from vuilab.corpus.manifest import MANIFESTS, Utterance, speaker_from_path, summarize, transcript, write_lines
from vuilab.features import MFCC_WINDOW
from vuilab.files import atomic_path, progress_bar
from vuilab.text import read_text

AUDIO_SUFFIXES = ("flac", "wav", "mp3", "ogg")
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
                f"  {summary['hours']:8.2f} h  {summary['num_speakers']:5,d} speakers"
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
) -> IndexReport:
    """Index a LibriSpeech-layout tree and write its manifests, split by speaker.

    Args:
        root: folder with `<speaker>/<chapter>/` folders at any depth below it.
        out_dir: folder for the manifests. Manifests there that this call does not write stay as they are.
        valid_speakers: speakers for validation. Without them (and without `test`) a tenth of the speakers, at
            least one, is drawn with a fixed seed, and the report names them.
        test_speakers: speakers for the test manifest.
        test: put everything into the test manifest.

    Returns:
        Counts by split and every file left out, with its reason.

    Raises:
        FileNotFoundError: when `root` is missing.
        ValueError: when no utterance can be used, speakers are unknown or named twice, there is only one
            speaker to split, or `out_dir` cannot be written. No manifest has been touched then.
    """
    valid, held_out = _speaker_set(valid_speakers), _speaker_set(test_speakers)
    if test and (valid or held_out):
        raise ValueError("With test=True (--test) everything is test data; name no validation or test speakers then.")
    if valid & held_out:
        raise ValueError(f"Speakers are for validation or for testing, not both: {sorted(valid & held_out)}")
    _require_writable(Path(out_dir))
    utterances, left_out = scan_tree(root)
    notes: tuple[str, ...] = ()
    if not test and not valid:
        valid = _draw_speakers({utterance.speaker for utterance in utterances} - held_out)
        notes = (f"No validation speakers were named; drawn (seed {SPLIT_SEED}): {' '.join(sorted(valid))}",)
    splits = {"test": utterances} if test else _split_by_speaker(utterances, valid, held_out)
    return write_splits(out_dir, splits, left_out, notes)


def scan_tree(root: str | Path) -> tuple[list[Utterance], list[tuple[Path, str]]]:
    """Find the utterances of a LibriSpeech-layout tree and check that each can be used.

    Returns:
        Utterances in the order of their paths, and (file, reason) for everything left out.

    Raises:
        FileNotFoundError: when `root` is no folder.
        ValueError: when nothing below it can be used.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise FileNotFoundError(
            f"No folder at {root}. Expected a tree <speaker>/<chapter>/<utterance>.flac; check the path."
        )
    left_out: list[tuple[Path, str]] = []
    candidates = _pair_files(root, left_out)
    utterances = []
    for (path, text, speaker), duration in zip(candidates, _audio_seconds([c[0] for c in candidates]), strict=True):
        if isinstance(duration, str):
            left_out.append((Path(path), duration))
        else:
            utterances.append(Utterance(Path(path), duration, text, speaker))
    if not utterances:
        raise ValueError(
            f"No usable utterance below {root}. Expected"
            " <speaker>/<chapter>/<speaker>-<chapter>-<number>.flac with a transcript file"
            f" <speaker>-<chapter>.trans.txt beside it.\n{_list_left_out(left_out)}"
        )
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


def _draw_speakers(speakers: set[str]) -> set[str]:
    if len(speakers) < 2:
        raise ValueError(
            f"Validation needs another speaker than training, and there is only {sorted(speakers)}. Name it"
            " with --valid-speakers (all its recordings then go to validation), or use --test to index"
            " everything for testing."
        )
    return set(random.Random(SPLIT_SEED).sample(sorted(speakers), max(1, round(len(speakers) / 10))))


def _split_by_speaker(utterances: list[Utterance], valid: set[str], held_out: set[str]) -> dict[str, list[Utterance]]:
    present = {utterance.speaker for utterance in utterances}
    unknown = sorted((valid | held_out) - present)
    if unknown:
        shown = sorted(present)
        more = f" and {len(shown) - 50} more" if len(shown) > 50 else ""
        raise ValueError(
            f"No usable utterance of the speakers {unknown}. Speakers present: {' '.join(shown[:50])}{more}"
        )
    splits: dict[str, list[Utterance]] = {split: [] for split in MANIFESTS}
    for utterance in utterances:
        split = "validation" if utterance.speaker in valid else "test" if utterance.speaker in held_out else "train"
        splits[split].append(utterance)
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


# ---------------------------------------------------------------------------------------- files and audio


def _walk(root: Path, left_out: list[tuple[Path, str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, sorted file names), following links once, skipping hidden entries."""

    def unreadable(error: OSError) -> None:
        left_out.append((Path(error.filename), f"the folder cannot be read ({error.strerror})"))

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=unreadable):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            yield folder, sorted(name for name in names if not name.startswith("."))


def _pair_files(root: Path, left_out: list[tuple[Path, str]]) -> list[tuple[str, str, str]]:
    """Pair audio files with transcripts, folder by folder: a list of (path, text, speaker)."""
    pairs: list[tuple[str, str, str]] = []
    first_path: dict[str, str] = {}  # utterance ID -> where it was met first
    for folder, names in _walk(root, left_out):
        texts: dict[str, tuple[str, Path]] = {}
        for name in names:
            if name.endswith(".trans.txt"):
                _read_transcripts(Path(folder, name), texts, left_out)
        for name in names:
            stem, _, suffix = name.rpartition(".")
            if suffix.lower() not in AUDIO_SUFFIXES:
                continue
            path = f"{folder}/{name}"
            text = texts.get(stem, (None,))[0]
            speaker = speaker_from_path(path) or (stem.split("-")[0] if stem.count("-") == 2 else None)
            earlier = first_path.setdefault(stem, path)
            if earlier != path:
                reason = f"duplicate utterance ID, already at {earlier}"
            elif text is None:
                reason = f"no transcript: add a line '{stem} the words' to the .trans.txt file beside it"
            elif speaker is None:
                reason = "the name is not <speaker>-<chapter>-<number>, so the speaker is unknown"
            else:
                text, reason = transcript(text)
            if reason:
                left_out.append((Path(path), reason))
            else:
                pairs.append((path, text, speaker))
        audio = {name.rpartition(".")[0] for name in names if name.lower().endswith(AUDIO_SUFFIXES)}
        left_out += [
            (source, f"the transcript of {stem} has no audio file")
            for stem, (_, source) in texts.items()
            if stem not in audio
        ]
    return pairs


def _read_transcripts(path: Path, texts: dict[str, tuple[str, Path]], left_out: list[tuple[Path, str]]) -> None:
    """Add the lines "<utterance> words" of a file to `texts`, lower-cased."""
    try:
        lines = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        left_out.append((path, f"the transcript file cannot be read ({error})"))
        return
    for line in lines:
        stem, *words = line.split() or [""]
        if stem in texts:
            left_out.append((path, f"second transcript of {stem}; the first one is used"))
        elif stem:
            texts[stem] = (" ".join(words), path)


def _audio_seconds(paths: list[str], batch_size: int = 64) -> list[float | str]:
    """Return for each file its duration in seconds, or the reason why it cannot be used.

    Reading waits on the disk and on libsndfile, both outside Python's lock, so a few threads keep busy;
    they get batches because a task of its own for each of 300,000 files would cost more than the work.
    """
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    results: list[float | str] = []
    with (
        ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool,
        progress_bar(None, "Checking audio", len(paths), " files", delay=2) as progress,
    ):
        for batch in pool.map(lambda batch: [_seconds_or_reason(path) for path in batch], batches):
            results += batch
            progress.update(len(batch))
    return results


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
