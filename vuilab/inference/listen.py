"""Listening: sound arrives in chunks, from a microphone or a file, and becomes text while somebody speaks.

Speech is found and cut at pauses as in long recordings, so that silence and noise give no words. While a piece grows its
beginning is decoded again about twice a second, which any model can do. At the pause the finished piece is decoded once more
as a whole, which gives the text that `transcribe` would give.
"""

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO

import numpy as np

from vuilab.audio import SAMPLE_RATE
from vuilab.inference.pieces import Piece, PieceCutter
from vuilab.inference.transcribe import Recogniser

PARTIAL = 0.5  # seconds: a growing piece is decoded at multiples of this, as backends compile each new length


@dataclasses.dataclass(frozen=True)
class Heard:
    """What somebody says."""

    text: str  # not final: all of the piece so far, empty when it was no speech after all
    start: float  # seconds from the beginning
    final: bool  # False while it can still change


class Listener:
    """Turns chunks of sound into text."""

    def __init__(self, recogniser: Recogniser):
        self.recogniser, self.cutter, self.shown = recogniser, PieceCutter(), ""
        self.start, self.num_done = -1.0, 0  # seconds; samples of the growing piece that have been decoded

    def add(self, samples: np.ndarray) -> Iterator[Heard]:
        """Take samples (num_samples,) at 16 kHz and yield what is new: texts so far, and final ones at pauses."""
        for piece in self.cutter.add(samples):
            yield from self._end(piece)
        growing = self.cutter.growing()
        text = "" if growing is None else self._so_far(growing)
        if text != self.shown:
            self.shown = text
            yield Heard(text, self.start, final=False)

    def finish(self) -> Iterator[Heard]:
        """Yield what is left when the sound ends."""
        for piece in self.cutter.finish():
            yield from self._end(piece)
        if self.shown:
            self.shown = ""
            yield Heard("", self.start, final=False)

    def _end(self, piece: Piece) -> Iterator[Heard]:
        samples = piece.samples
        text = self.recogniser.decode(*self.recogniser.posteriors(samples)) if self._is_enough(samples) else ""
        if text:
            self.shown = ""
            yield Heard(text, piece.start, final=True)

    def _so_far(self, growing: Piece) -> str:
        """Return the text of a piece that has not ended."""
        if growing.start != self.start:
            self.start, self.num_done = growing.start, 0
        step = round(PARTIAL * SAMPLE_RATE)
        samples = growing.samples[: len(growing.samples) // step * step]
        if len(samples) == self.num_done or not self._is_enough(samples):
            return self.shown
        self.num_done = len(samples)
        return dataclasses.replace(self.recogniser, decoder=None).decode(self.recogniser.probabilities(samples))

    def _is_enough(self, samples: np.ndarray) -> bool:
        """Whether the model puts out a frame for so few samples."""
        return self.recogniser.output_length(len(self.recogniser.settings.extract(samples))) >= 1


class LiveLine:
    """A line of a terminal that is written over until it is final. Into a file or pipe go final lines only."""

    def __init__(self, out: TextIO):
        self.out, self.width, self.begun = out, 0, False

    def show(self, heard: Heard) -> None:
        """Write a text; the end of one that is too long for the line."""
        if heard.final:
            self.out.write("\r" * self.begun + heard.text.ljust(self.width) + "\n")
            self.width, self.begun = 0, False
        elif self.out.isatty():
            text = heard.text[-(shutil.get_terminal_size().columns - 1) :]
            self.out.write("\r" + text.ljust(self.width))
            self.width, self.begun = len(text), True
        self.out.flush()


def listen(recogniser: Recogniser, chunks: Iterable[np.ndarray], out: TextIO | None = None) -> list[str]:
    """Write what is said, line by line, until the sound ends or Ctrl-C is pressed; return the final texts.

    Args:
        recogniser: any.
        chunks: samples at 16 kHz, as `microphone_chunks` and `file_chunks` give them.
        out: a terminal, file or pipe; None: the standard output.
    """
    listener, line, texts = Listener(recogniser), LiveLine(out or sys.stdout), []

    def show(found: Iterable[Heard]) -> None:
        for heard in found:
            line.show(heard)
            texts.extend([heard.text] * heard.final)

    with contextlib.suppress(KeyboardInterrupt):
        for samples in chunks:
            show(listener.add(samples))
    show(listener.finish())
    return texts
