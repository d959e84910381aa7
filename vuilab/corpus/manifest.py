"""Corpora on disk: manifests and the active corpus.

A corpus is a folder with the manifests `train_corpus.json`, `valid_corpus.json` and `test_corpus.json`: files
of JSON lines `{"key": path, "duration": seconds, "text": transcript, "speaker": id}`. `corpus/index.py` makes them from
recordings, `corpus/demo.py` for the demo.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vuilab.files import atomic_path
from vuilab.text import normalize, read_text, unspelt

MANIFESTS = {"train": "train_corpus.json", "validation": "valid_corpus.json", "test": "test_corpus.json"}
DEFAULT_CORPUS = "LibriSpeech/demo"  # relative to the current folder

_active_corpus: Path | None = None


@dataclass(frozen=True)
class Utterance:
    """One recording with its transcript."""

    path: Path  # absolute
    duration: float  # seconds
    text: str  # in the alphabet, words one space apart
    speaker: str | None = None  # None when unknown
    extra: dict = field(default_factory=dict, compare=False)  # further keys of the manifest line
    speed: float = 1.0  # as it is to be played; `duration` is that of the result


# ------------------------------------------------------------------------------------------- active corpus


def set_active_corpus(path: str | Path | None) -> None:
    """Make `path` the corpus that bare manifest names mean; None goes back to VUI_CORPUS or the demo."""
    global _active_corpus
    _active_corpus = None if path is None else Path(path)


def active_corpus() -> Path:
    """Return the folder set last, else that of the environment variable VUI_CORPUS, else LibriSpeech/demo."""
    return _active_corpus or Path(os.environ.get("VUI_CORPUS") or DEFAULT_CORPUS)


def resolve_manifest(name: str | Path) -> Path:
    """Turn the name of a manifest into its path, whether the file exists or not.

    Args:
        name: a path; or a bare file name, or a split ('train', 'validation', 'test'), which mean the active corpus.
            A bare name that is none of the three manifests means the current folder when the file is there.

    Example:
        >>> resolve_manifest("LibriSpeech/mini/valid_corpus.json").as_posix()
        'LibriSpeech/mini/valid_corpus.json'
    """
    path = Path(MANIFESTS.get(str(name), name))
    here = path.name not in MANIFESTS.values() and path.is_file()
    if path.name != str(path) or here:
        return path
    return active_corpus() / path


# ----------------------------------------------------------------------------------------------- manifests


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a manifest without opening the audio files it names.

    Args:
        path: file of JSON lines with "key", "duration" (seconds), "text" and, if known, "speaker". Relative
            keys start at the manifest's folder.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is empty, or naming the line that is broken, incomplete or a duplicate, or whose text has no spelling.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No manifest at {path}. Make the demo corpus with `python vui.py data demo`, or index your own"
            " recordings with `python vui.py data index FOLDER --out CORPUS`."
        )
    folder = path.absolute().parent
    utterances: list[Utterance] = []
    first_line: dict[Path, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        utterance = _parse_line(line, folder, f"{path}, line {number}")
        earlier = first_line.setdefault(utterance.path, number)
        if earlier != number:
            raise ValueError(
                f"{path}, lines {earlier} and {number} have the same key {str(utterance.path)!r}."
                " Every audio file may stand in a manifest once; remove one of the lines."
            )
        utterances.append(utterance)
    if not utterances:
        raise ValueError(f"The manifest {path} is empty. Make it again with `python vui.py data demo` or `data index`.")
    return utterances


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest; the file is complete or not there at all. Keys are relative where the audio is inside its folder.

    Raises:
        ValueError: when there are no utterances.
    """
    with atomic_path(path) as temporary:
        write_lines(temporary, Path(path).absolute().parent, utterances)


def write_lines(path: Path, folder: Path, utterances: Iterable[Utterance]) -> None:
    """Write the lines of a manifest that stands, or will stand, in `folder`, to `path`; see `write_manifest`."""
    utterances, inside = list(utterances), folder.as_posix() + "/"
    if not utterances:
        raise ValueError(f"No utterances to write into {folder}. A manifest needs at least one.")
    # a byte of a name that is no UTF-8 is a lone surrogate, which JSON writes as this error handler does
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        for item in utterances:
            key = item.path.absolute().as_posix().removeprefix(inside)
            speaker = {} if item.speaker is None else {"speaker": item.speaker}
            entry = {"key": key, "duration": item.duration, "text": item.text, **speaker, **item.extra}
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def summarize(utterances: Iterable[Utterance]) -> dict:
    """Return num_utterances, hours, num_speakers and the sorted known speakers."""
    utterances = list(utterances)
    speakers = sorted({utterance.speaker for utterance in utterances if utterance.speaker is not None})
    return {
        "num_utterances": len(utterances),
        "hours": math.fsum(utterance.duration for utterance in utterances) / 3600,
        "num_speakers": len(speakers),
        "speakers": speakers,
    }


def speaker_from_path(path: str | Path) -> str | None:
    """Read the speaker off a LibriSpeech path; None where the path is not of that form.

    Example:
        >>> speaker_from_path("dev-clean/1272/128104/1272-128104-0000.flac")
        '1272'
    """
    *_, speaker, chapter, name = ("", "", *Path(path).parts)
    return speaker if speaker and name.startswith(f"{speaker}-{chapter}-") else None


def transcript(written: str) -> tuple[str, str | None]:
    """Return a transcript in the alphabet, and why it cannot be used; None when it can."""
    text, wrong = normalize(written), unspelt(written)
    if wrong:
        return (
            text,
            f"the transcript has characters without a spelling in the alphabet: {' '.join(wrong)} (replace them by words)",
        )
    return text, None if text else "the transcript is empty"


def read_transcript(path: str | Path) -> str:
    """Return the transcript that a file of text holds, normalised.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no text or empty, or naming the line that has no spelling in the alphabet.
    """
    written = read_text(path)
    for number, line in enumerate(written.split("\n"), start=1):
        if unspelt(line):
            raise ValueError(f"{path}, line {number}: {transcript(line)[1]}. Received: {line[:60]!r}")
    text, reason = transcript(written)
    if reason:
        raise ValueError(f"{path}: {reason}. Expected what is said in a recording.")
    return text


def _parse_line(line: str, folder: Path, where: str) -> Utterance:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}). Received: {line[:60]!r}") from error
    missing = [name for name in ("key", "duration", "text") if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}. Received: {line[:60]!r}")
    key, duration, written, speaker = (entry.pop(name, None) for name in ("key", "duration", "text", "speaker"))
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration < math.inf:
        raise ValueError(f"{where}: duration must be a positive number of seconds. Received: {duration!r}")
    if not isinstance(key, str) or not key or not isinstance(written, str):
        raise ValueError(f"{where}: key and text must be strings. Received: key={key!r}, text={written!r}")
    text, reason = transcript(written)
    if reason:
        raise ValueError(f"{where}: {reason}. Received: text={written[:60]!r}")
    path = Path(os.path.normpath(f"{folder}/{key}" if not Path(key).is_absolute() else key))
    speaker = speaker_from_path(path) if speaker is None else str(speaker)
    return Utterance(path, float(duration), text, speaker, entry)
