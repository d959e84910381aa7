"""Long recordings in bounded memory: speech is found, cut at pauses, and handed on piece by piece.

A recording of any length is read in blocks, brought to 16 kHz as a stream, and looked at by the voice-activity detector of WebRTC
in frames of 30 ms; it hears neither offset nor mains hum, and quiet recordings louder. What is no speech is left out, so that
noise gives no words. A piece ends at a pause; where nobody pauses for too long, it ends at the quietest moment of its last third.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from vuilab.audio import SAMPLE_RATE, VoiceBand, blocks
from vuilab.audio_file import AudioFile, note

FRAME = 480  # samples, 30 ms: what the detector takes
PAUSE = 0.4  # seconds without speech that end a piece
MARGIN = 0.25  # seconds kept before and after speech: consonants begin quietly
BLOCK = 5.0  # seconds that are read at a time
LONGEST = 16.0  # seconds of a piece
LEAST_SPEECH = 0.15  # seconds; less is a click
LEAST_RANGE = 6.0  # decibels between loud and quiet frames of a piece; steady noise has less
LOUD, FAINTEST = (
    0.1,
    0.001,
)  # the detector hears a recording whose highest peak lies between as if it were at the former
AGGRESSIVENESS = 2  # of the detector: 0 takes much for speech, 3 little


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of speech."""

    start: float  # seconds from the beginning of the recording
    samples: np.ndarray  # float32 at 16 kHz


def is_long(path: str | Path, seconds: float = LONGEST) -> bool:
    """Whether an audio file is longer than a piece."""
    try:
        with AudioFile(path) as file:
            return file.frames / file.samplerate > seconds
    except (ValueError, OSError):
        return False  # whoever reads it says what is wrong


def pieces(path: str | Path, block_seconds: float = BLOCK) -> Iterator[Piece]:
    """Yield the speech of a recording, piece by piece; memory does not grow with its length. Errors are those of `blocks`."""
    yield from speech_pieces(blocks(path, block_seconds))


def speech_pieces(chunks: Iterable[np.ndarray], gate: bool = True) -> Iterator[Piece]:
    """Yield the speech in chunks of a 16 kHz waveform, piece by piece; see `pieces`. Without gate: all of it."""
    cutter = PieceCutter(gate)
    for samples in chunks:
        yield from cutter.add(samples)
    yield from cutter.finish()


def speech_or_all(read: Callable[[], Iterable[np.ndarray]], name: str | Path) -> Iterator[Piece]:
    """Yield the speech of a recording; where there seems to be none although it can be heard, all of it, and a note says so.

    Args:
        read: gives chunks of the 16 kHz waveform, each time from the beginning.
        name: of the recording, for the note.
    """
    found, heard = False, VoiceBand()
    for piece in speech_pieces(read()):
        found = True
        yield piece
    audible = 0 if found else sum(int((np.abs(heard(samples)) > FAINTEST).sum()) for samples in read())
    if audible > LEAST_SPEECH * SAMPLE_RATE:
        note(f"{name}: nobody seems to speak; it is decoded all the same.")
        yield from speech_pieces(read(), gate=False)


class PieceCutter:
    """Collects samples at 16 kHz and gives out pieces as soon as they are complete. Without gate: of everything."""

    def __init__(self, gate: bool = True):
        import webrtcvad

        self.gate = gate
        self.detector, self.heard = webrtcvad.Vad(AGGRESSIVENESS), VoiceBand()
        self.loudest = FAINTEST  # of the recording so far
        self.waiting = np.empty(0, np.float32)  # not a whole frame yet
        # of the piece at work, or the margin before the next one: (2, FRAME), as it is and in the voice's band
        self.frames: list[np.ndarray] = []
        self.speech: list[bool] = []
        self.first = 0  # number of the first of them, from the beginning of the recording
        self.most = max(4, int(LONGEST * SAMPLE_RATE / FRAME))
        self.pause = round(PAUSE * SAMPLE_RATE / FRAME)
        self.margin = round(MARGIN * SAMPLE_RATE / FRAME)

    def add(self, samples: np.ndarray) -> Iterator[Piece]:
        """Take samples and yield the pieces that they complete."""
        samples = np.concatenate([self.waiting, samples])
        whole = len(samples) // FRAME * FRAME
        self.waiting = samples[whole:]
        for frame in samples[:whole].reshape(-1, FRAME):
            yield from self._take(frame)

    def finish(self) -> Iterator[Piece]:
        """Yield what is left at the end of the recording."""
        if len(self.waiting):
            yield from self._take(np.pad(self.waiting, (0, FRAME - len(self.waiting))))
        yield from self._give(len(self.frames))

    def growing(self) -> Piece | None:
        """Return what has been said of the piece at work, with the margin before it; None while nobody speaks.

        It begins where the piece will begin, grows by whole frames of 30 ms, and can still turn out to be no speech.
        """
        spoken = np.flatnonzero(self.speech)
        if len(spoken) * FRAME / SAMPLE_RATE < LEAST_SPEECH:
            return None
        begin = max(0, spoken[0] - self.margin)
        samples, heard = np.concatenate(self.frames[begin:], axis=1)
        return Piece((self.first + begin) * FRAME / SAMPLE_RATE, samples) if _is_modulated(heard) else None

    def _take(self, frame: np.ndarray) -> Iterator[Piece]:
        heard = self.heard(frame)
        self.frames.append(np.stack([frame, heard]))
        self.loudest = max(self.loudest, float(np.abs(heard).max()))
        gain = max(1.0, LOUD / self.loudest)  # the detector takes quiet speech for noise
        pcm = (np.clip(gain * heard, -1, 1) * 32767).astype("<i2").tobytes()
        self.speech.append(not self.gate or self.detector.is_speech(pcm, SAMPLE_RATE))
        if not any(self.speech):
            while len(self.frames) > self.margin:  # silence so far: keep the margin before what may come
                self._drop(1)
        elif not any(self.speech[-self.pause :]) and len(self.speech) > self.pause:
            yield from self._give(len(self.frames))
        elif len(self.frames) >= self.most:
            yield from self._give(self._quietest())

    def _quietest(self) -> int:
        """Return the frame in the last third of the piece before which the 90 ms around are quietest."""
        energy = np.array([float(np.square(frame[1]).sum()) for frame in self.frames])
        smooth = np.convolve(energy, np.ones(3), mode="same")
        begin = 2 * len(smooth) // 3
        return begin + int(np.argmin(smooth[begin:-1])) + 1

    def _give(self, end: int) -> Iterator[Piece]:
        """Yield the frames up to `end` as a piece, without long margins, and keep the rest."""
        spoken = np.flatnonzero(self.speech[:end])
        kept = min(self.margin, end)
        if len(spoken) * FRAME / SAMPLE_RATE >= LEAST_SPEECH:
            begin, stop = max(0, spoken[0] - self.margin), min(end, spoken[-1] + 1 + self.margin)
            samples, heard = np.concatenate(self.frames[begin:stop], axis=1)
            if not self.gate or _is_modulated(heard):
                yield Piece((self.first + begin) * FRAME / SAMPLE_RATE, samples)
                kept = min(self.margin, end - stop)
        if end < len(self.frames):  # cut within speech: the next piece begins here
            self._drop(end)
        else:
            self._drop(end - kept)
            self.speech = [False] * len(self.speech)

    def _drop(self, number: int) -> None:
        del self.frames[:number], self.speech[:number]
        self.first += number


def _is_modulated(samples: np.ndarray) -> bool:
    """Whether loudness rises and falls, as in speech: a loud fan passes for speech with the detector."""
    energy = np.square(samples.reshape(-1, FRAME)).mean(axis=1)
    quiet, loud = np.quantile(10 * np.log10(energy + 1e-12), [0.1, 0.9])
    return loud - quiet > LEAST_RANGE
