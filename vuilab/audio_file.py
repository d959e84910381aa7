"""Opening audio files: what is none is called by its name, libmpg123 is silent, the WAV of a killed recorder gets its size."""

import contextlib
import io
import os
import sys
import threading
from pathlib import Path

import soundfile

RATES = (1000, 1_000_000)  # Hz; a header that claims another rate is damaged
CONTAINERS = (b"fLaC", b"RIFF", b"OggS", b"RIFX", b"RF64", b"FORM")  # first bytes of what libmpg123 does not read


class NotAudioError(ValueError):
    """A file that cannot be opened as audio.

    Args:
        path: the file.
        reason: why, in brief.
    """

    def __init__(self, path: Path, reason: str):
        self.reason = f"not audio, or damaged or cut off ({reason})"
        super().__init__(
            f"Cannot read {path} as audio ({reason}). Expected a complete FLAC, WAV, MP3 or OGG file; fetch it again, or convert "
            "it with: ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.flac"
        )


class AudioFile(soundfile.SoundFile):
    """An audio file that is open for reading; libmpg123's own notes about it reach nobody.

    Raises:
        FileNotFoundError: when there is no such file.
        NotAudioError: a ValueError, when it is no audio.
    """

    _source: io.FileIO | None = None

    def __init__(self, path: str | Path):
        path = Path(path)
        if not path.is_file():
            if path.exists() and not path.is_dir():
                raise ValueError(
                    f"{path} is a pipe or a device, and audio is read more than once. Write it into a file."
                )
            raise FileNotFoundError(f"No audio file at {path}. Check the path, or index the corpus again.")
        with path.open("rb") as start:
            head = start.read(4096)
        self._silent = contextlib.nullcontext() if head[:4] in CONTAINERS else _SILENT
        unclosed = _size_left_open(path, head)
        self._source = None if unclosed is None else _UnclosedWav(path, unclosed)
        try:
            with self._silent:
                super().__init__(self._source or os.fsencode(path))
            if not RATES[0] <= self.samplerate <= RATES[1]:
                raise soundfile.SoundFileRuntimeError(f"its header claims {self.samplerate} samples a second")
        except soundfile.SoundFileError as error:
            reason = _what_else(head) or str(error).split(": ")[-1].strip() or "damaged, or another format"
            raise NotAudioError(path, reason) from error

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self._source is not None:
            self._source.close()

    def read(self, *arguments, **options):
        """Read as `soundfile.SoundFile.read` does."""
        with self._silent:
            return super().read(*arguments, **options)

    def seek(self, *arguments, **options):
        """Seek as `soundfile.SoundFile.seek` does."""
        with self._silent:
            return super().seek(*arguments, **options)


class _SilentStderr:
    """While any thread is inside, what C code writes to standard error goes nowhere."""

    def __init__(self) -> None:
        self.lock, self.depth, self.kept = threading.RLock(), 0, -1

    def __enter__(self) -> None:
        with self.lock:
            if self.depth == 0:
                with contextlib.suppress(OSError):  # standard error may be closed
                    self.kept = os.dup(2)
                    _redirect(os.devnull)
            self.depth += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0 and self.kept >= 0:
                os.dup2(self.kept, 2)
                os.close(self.kept)
                self.kept = -1

    def say(self, text: str) -> None:
        """Write a line to standard error although C code is silenced."""
        with self.lock:
            if self.kept >= 0:
                os.dup2(self.kept, 2)
            print(text, file=sys.stderr, flush=True)
            if self.kept >= 0:
                _redirect(os.devnull)


def _redirect(path: str) -> None:
    sink = os.open(path, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)


_SILENT = _SilentStderr()
_said: set[str] = set()


def note(text: str) -> None:
    """Write a note about a recording to standard error, once."""
    if text not in _said:
        _said.add(text)
        _SILENT.say(f"Note: {text}")


def _what_else(head: bytes) -> str:
    """Return what a file is that is no audio, as far as its first bytes tell."""
    start = head.lstrip().lower()
    if not head:
        return "the file is empty (0 bytes)"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page: the address led to a page and not to the recording"
    if not any(byte < 9 for byte in head):
        return "it is a text"
    return ""


class _UnclosedWav(io.FileIO):
    """A WAV file whose recorder was killed before it wrote how much there is: its sound goes on to the end of the file."""

    def __init__(self, path: Path, place: int):
        super().__init__(path)
        self.place, self.size = place, (path.stat().st_size - place - 4).to_bytes(8, "little")[:4]

    def readinto(self, buffer) -> int:
        start = self.tell()
        count = super().readinto(buffer) or 0
        for position in range(max(start, self.place), min(start + count, self.place + 4)):
            memoryview(buffer)[position - start : position - start + 1] = self.size[position - self.place :][:1]
        return count


def _size_left_open(path: Path, head: bytes) -> int | None:
    """Return where the size of the samples stands in a WAV file that claims to have none and has some."""
    place = 12
    while head[:4] == b"RIFF" and head[8:12] == b"WAVE" and place + 8 < len(head):
        size = int.from_bytes(head[place + 4 : place + 8], "little")
        if head[place : place + 4] == b"data":
            return None if size or head[place + 8 : place + 12] in (b"LIST", b"id3 ") else place + 4
        place += 8 + size + size % 2
    return None
