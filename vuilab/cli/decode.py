"""`vui transcribe`, `vui listen` and `vui align`: speech to text, from files and live, and when each word was said."""

import argparse
import collections
import dataclasses
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vuilab.alphabet import using
from vuilab.cli.flags import JSON_VERSION, argument, exit_status, fields, from_arguments, weights
from vuilab.decoding.settings import Decoding
from vuilab.files import atomic_path, require_writable
from vuilab.options import option

if TYPE_CHECKING:
    import numpy as np

    from vuilab.decoding.alignment import Alignment
    from vuilab.inference.transcribe import Recogniser

# of the median word; with the released weights texts of other recordings stay under it, true ones over 18 %
DOUBTFUL = 0.07
FORMATS = ("text", "json", "srt", "vtt", "textgrid")
SUFFIXES = {"text": "txt", "textgrid": "TextGrid"}  # of files; the others are called as their formats


def each_file(
    files: Sequence[Path],
    read: Callable[[Path], dict[str, Any]],
    show: Callable[[Path, dict[str, Any]], str] | None,
    **about: Any,
) -> int:
    """Read files one by one, pass over those that fail with a ValueError or OSError, and return the exit status.

    What `show` returns is printed at once; without it comes JSON of all of them, and of `about`, at the end.
    """
    results: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for path in files:
        try:
            results.append({"file": str(path), **read(path)})
        except (ValueError, OSError, MemoryError) as error:
            skipped.append({"file": str(path), "reason": str(error)})
            continue
        if show is not None:
            print(show(path, results[-1]), flush=True)
    if show is None:
        print(_json(results, skipped, **about))
    for item in skipped:
        print(f"Skipped {item['file']}: {item['reason']}", file=sys.stderr)
    return exit_status(len(results), len(skipped))


def _json(results: list[dict[str, Any]], skipped: list[dict[str, str]], **about: Any) -> str:
    return json.dumps({"version": JSON_VERSION, **about, "results": results, "skipped": skipped}, indent=1)


@argument("files", nargs="+", type=Path, metavar="FILE", help="audio of any length")
@weights
@argument(
    "--format",
    choices=FORMATS,
    default="text",
    help="of what is printed; with several files, of a file beside each one (text: printed with the names)",
)
@argument("--out", type=Path, metavar="DIR", help="write a file for each recording into this folder, in every format")
@argument("--force", action="store_true", help="write over files that are there")
@fields(Decoding, "decoding")
def transcribe(arguments: argparse.Namespace) -> int:
    """Print the text of audio files, or write it into files of their own."""
    decoding, form, files = from_arguments(Decoding, arguments), arguments.format, arguments.files
    written = arguments.out is not None or (form != "text" and len(files) > 1)
    targets = _targets(files, arguments.out, SUFFIXES.get(form, form)) if written else {}
    from vuilab.inference.transcribe import load_recogniser

    recogniser = load_recogniser(arguments.model, decoding, plain=True)

    def read(path: Path) -> dict[str, Any]:
        if not written:
            return _transcript(recogniser, path, form)
        target = targets[path]
        require_writable(target.parent)  # before the work
        if target.exists() and not arguments.force:
            raise ValueError(f"{target} exists. Pass --force to write over it, or --out DIR for another folder.")
        result = _transcript(recogniser, path, form)
        text = _json([{"file": str(path), **result}], []) if form == "json" else result["text"]
        with atomic_path(target) as partial:
            partial.write_text(text.rstrip("\n") + "\n", encoding="utf-8", errors="backslashreplace")
        return result

    def show(path: Path, result: dict[str, Any]) -> str:
        text = targets.get(path, result["text"].rstrip("\n"))
        return f"{path}: {text}" if written or len(files) > 1 else text

    return each_file(list(targets) or files, read, show if written or form != "json" else None)


def _targets(files: Sequence[Path], folder: Path | None, suffix: str) -> dict[Path, Path]:
    """Return the file that each recording's text goes into: NAME.suffix beside it, or in a folder.

    Where several would be called the same they keep their own suffix (talk.wav.srt), and after that the folders that tell them
    apart (monday/talk.wav.srt).
    """
    whole = {Path(os.path.normpath(Path.cwd() / path)): path for path in files}
    common = os.path.commonpath([path.parent for path in whole])
    names = {path: [path.stem, path.name, os.path.relpath(path, common)] for path in whole}
    while True:
        targets = {path: (folder or path.parent) / f"{names[path][0]}.{suffix}" for path in whole}
        number = collections.Counter(targets.values())
        twice = [path for path, target in targets.items() if number[target] > 1]
        if not twice:
            return {
                whole[path]: target if folder else whole[path].with_name(target.name)
                for path, target in targets.items()
            }
        for path in twice:
            names[path] = names[path][1:] or names[path]


def _transcript(recogniser: "Recogniser", path: Path, form: str) -> dict[str, Any]:
    """Return {"text": ...} in a format; for JSON with the words' times."""
    if form == "text":
        return {"text": recogniser.transcribe(path)}
    alignment = recogniser.transcribe_words(path)
    if form == "json":
        words = [vars(span) for span in alignment.words]
        return {"text": " ".join(span.text for span in alignment.words), "words": words}
    return {"text": _in_format(alignment, path, form)}


def _in_format(alignment: "Alignment", path: Path, form: str) -> str:
    from vuilab.audio import duration
    from vuilab.decoding.subtitles import to_json, to_srt, to_textgrid, to_vtt

    if form == "textgrid":
        return to_textgrid(alignment, duration(path))
    if form == "text":
        return "\n".join(
            f"{s.start:8.2f} {s.end:8.2f}  {s.text}  ({100 * s.confidence:.0f} %)" for s in alignment.words
        )
    return to_json(alignment) if form == "json" else {"srt": to_srt, "vtt": to_vtt}[form](alignment.words)


@dataclasses.dataclass(frozen=True)
class LiveSound:
    """Where live sound comes from.

    Raises:
        ValueError: at construction, when a microphone should hear faster than people speak.
    """

    device: str | None = option(None, "number or name, as `python -m sounddevice` lists them", metavar="N")
    seconds: float | None = option(None, "stop after so much sound (default: at Ctrl-C)", metavar="S")
    file: Path | None = option(None, "hear an audio file, not the microphone", flag="from", metavar="FILE")
    fast: bool = option(False, "with --from: as fast as possible, not in real time")

    def __post_init__(self) -> None:
        if self.fast and self.file is None:
            raise ValueError("--fast goes with --from FILE: a microphone gives its sound in real time.")


def live_chunks(sound: LiveSound) -> "Iterator[np.ndarray]":
    """Return what is heard, in chunks (num_samples,) that begin when they are asked for.

    Raises:
        FileNotFoundError: now, before a backend is loaded, when there is no such file.
        RuntimeError: when there is no microphone.
    """
    if sound.file is not None and not sound.file.is_file():
        raise FileNotFoundError(f"No audio file at {sound.file}. Check the path.")
    from vuilab.inference.sources import check_microphone, file_chunks, first_seconds, microphone_chunks

    if sound.file is not None:
        return first_seconds(file_chunks(sound.file, real_time=not sound.fast), sound.seconds)
    device = int(sound.device) if sound.device and sound.device.isdecimal() else sound.device
    check_microphone(device)
    return first_seconds(microphone_chunks(device), sound.seconds)


@weights
@fields(LiveSound, "sound")
@fields(Decoding, "decoding")
def listen(arguments: argparse.Namespace) -> None:
    """Print the text of what is said into the microphone, while it is said."""
    sound, decoding = from_arguments(LiveSound, arguments), from_arguments(Decoding, arguments)
    chunks = live_chunks(sound)
    from vuilab.inference import listen as live
    from vuilab.inference.transcribe import load_recogniser

    recogniser = load_recogniser(arguments.model, decoding, plain=True)
    if sound.file is None:
        print("Listening. Ctrl-C ends.", file=sys.stderr)
    if live.listen(recogniser, chunks):
        return
    print("No speech was heard.", file=sys.stderr)
    if sound.file is not None and sound.seconds is None and (text := recogniser.transcribe(sound.file)):
        print(text)


@argument("audio", type=Path, help="a recording")
@argument("text", type=Path, metavar="TEXT_FILE", help="what is said in it")
@weights
@argument("--format", choices=FORMATS, default="text", help="of what is printed")
def align(arguments: argparse.Namespace) -> None:
    """Print when each word of a text was spoken."""
    from vuilab.corpus.manifest import read_transcript
    from vuilab.inference.transcribe import load_recogniser

    recogniser = load_recogniser(arguments.model, plain=True)
    with using(recogniser.alphabet):
        text = read_transcript(arguments.text)
    alignment = recogniser.align(arguments.audio, text)
    if statistics.median(word.confidence for word in alignment.words) < DOUBTFUL:
        print(
            f"Warning: {arguments.text} hardly fits {arguments.audio}: half of its words have a confidence under {DOUBTFUL:.0%}. "
            "Check that they belong together.",
            file=sys.stderr,
        )
    print(_in_format(alignment, arguments.audio, arguments.format).rstrip("\n"))
