"""Where live sound comes from: the microphone, or a file that stands in for it.

A source is an iterator of chunks, float32 arrays (num_samples,) at 16 kHz.
"""

import contextlib
import math
import queue
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soxr

from vuilab.audio import SAMPLE_RATE, blocks

CHUNK = 0.1  # seconds of sound that are handed on at a time
MUTED = 3.0  # seconds of zeros from a microphone after which the user is told
TRANSCRIBE_INSTEAD = "Or record a file with any program and run: python vui.py transcribe FILE"


def file_chunks(path: str | Path, real_time: bool = True) -> Iterator[np.ndarray]:
    """Yield an audio file as a microphone would, 0.1 s at a time; `real_time` waits until the sound would have been spoken.

    Errors are those of `blocks`.
    """
    begun, num_samples = time.monotonic(), 0
    for samples in blocks(path, CHUNK):
        num_samples += len(samples)
        if real_time:
            time.sleep(max(0.0, begun + num_samples / SAMPLE_RATE - time.monotonic()))
        yield samples


def microphone_chunks(device: int | str | None = None) -> Iterator[np.ndarray]:
    """Yield what a microphone hears, mono at 16 kHz, until the caller stops.

    A device that does not offer 16 kHz is recorded at its own rate and resampled. Sound waits in memory while the caller is busy.

    Args:
        device: number or part of the name, as `python -m sounddevice` lists them; None: the system's choice.

    Raises:
        RuntimeError: when there is no microphone, no such device, or no PortAudio library; it says what to do.
    """
    waiting: queue.Queue[np.ndarray] = queue.Queue()
    rate, sounddevice = check_microphone(device), _sounddevice()
    with _explained(device, sounddevice.PortAudioError):
        stream = sounddevice.InputStream(
            samplerate=rate,
            blocksize=round(CHUNK * rate),
            device=device,
            channels=1,
            dtype="float32",
            callback=lambda block, *_: waiting.put(block[:, 0].copy()),
        )
        stream.start()
    resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    until_told = MUTED * rate  # samples of nothing but zeros; then, or after any sound, there is nothing to tell
    with contextlib.closing(stream):
        while True:
            samples = _next(waiting, stream)
            until_told = math.inf if samples.any() else until_told - len(samples)
            if until_told < 0:
                until_told = math.inf
                warning = (
                    "So far there was digital silence only. Is the microphone muted, or must this program not use it?"
                )
                print(warning, file=sys.stderr)
            yield samples if resampler is None else resampler.resample_chunk(samples)


def check_microphone(device: int | str | None = None) -> int:
    """Return the sample rate in Hz at which a microphone can be recorded: 16 kHz where it offers that, else its own.

    Raises:
        RuntimeError: as `microphone_chunks` does.
    """
    sounddevice = _sounddevice()
    with _explained(device, sounddevice.PortAudioError):
        found = sounddevice.query_devices(device, "input")
        try:
            sounddevice.check_input_settings(device=device, channels=1, dtype="float32", samplerate=SAMPLE_RATE)
        except sounddevice.PortAudioError:
            return round(found["default_samplerate"])
    return SAMPLE_RATE


@contextlib.contextmanager
def _explained(device: int | str | None, kind: type[Exception]) -> Iterator[None]:
    """Say what to do about a microphone that cannot be opened."""
    try:
        yield
    except (ValueError, kind) as error:
        wanted = "a microphone" if device is None else f"the microphone {device!r}"
        raise RuntimeError(
            f"Could not open {wanted} ({error}). Plug one in, or choose a device that `python -m sounddevice` lists with "
            f"inputs: --device N. {TRANSCRIBE_INSTEAD}"
        ) from error


def _next(waiting: "queue.Queue[np.ndarray]", stream) -> np.ndarray:
    """Return everything that waits, at least one block."""
    while True:
        with contextlib.suppress(queue.Empty):
            block = waiting.get(timeout=0.5)  # without a timeout Ctrl-C would not get through on Windows
            return np.concatenate([block, *(waiting.get() for _ in range(waiting.qsize()))])
        if not stream.active:
            raise RuntimeError("The microphone has stopped. Was it unplugged? Plug it in and start again.")


def _sounddevice():
    """Return the package sounddevice, or say how to get it and its library."""
    try:
        import sounddevice
    except ImportError as error:
        raise RuntimeError(
            f"The microphone needs the package sounddevice: python -m pip install sounddevice. {TRANSCRIBE_INSTEAD}"
        ) from error
    except OSError as error:  # its Linux package has no PortAudio library inside
        raise RuntimeError(
            "The microphone needs the PortAudio library, which is not there. Debian and Ubuntu: sudo apt-get install "
            f"libportaudio2; Fedora: sudo dnf install portaudio; Arch: sudo pacman -S portaudio. {TRANSCRIBE_INSTEAD}"
        ) from error
    return sounddevice


def first_seconds(chunks: Iterable[np.ndarray], seconds: float | None) -> Iterator[np.ndarray]:
    """Yield chunks of sound until so many seconds have come; None: all of them.

    Raises:
        ValueError: for seconds that are not positive.
    """
    if seconds is not None and seconds <= 0:
        raise ValueError(f"seconds must be positive. Received: seconds={seconds}")
    left = math.inf if seconds is None else round(seconds * SAMPLE_RATE)
    for samples in chunks:
        yield samples[: min(left, len(samples))]
        left -= len(samples)
        if left <= 0:
            return
