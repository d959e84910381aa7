"""Audio files: any format, rate and number of channels becomes mono at 16 kHz."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16_000  # Hz; every file is brought to this rate when it is read
UNKNOWN_LENGTH = 2**48  # libsndfile gives the largest integer as the length of a file that does not know its own


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open an audio file; what libsndfile says of a bad one becomes a ValueError, also while the block reads."""
    if not path.is_file():
        raise FileNotFoundError(f"No audio file at {path}. Check the path, or index the corpus again.")
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except soundfile.SoundFileError as error:
        raise ValueError(
            f"Cannot read {path} as audio ({str(error).strip()}). Expected a complete FLAC, WAV, MP3 or OGG file;"
            " fetch it again, or convert it with: ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.flac"
        ) from error


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read an audio file (FLAC, WAV, MP3, OGG: whatever libsndfile reads) as mono at one rate.

    Args:
        path: the file.
        sample_rate: the rate in Hz to resample to (soxr, high quality) when the file has another one.

    Returns:
        float32 array (num_samples,) in -1..1, channels averaged.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no audio, is damaged, or holds no samples.
    """
    path = Path(path)
    with _opened(path) as file:
        expected, rate = file.frames, file.samplerate
        if expected > UNKNOWN_LENGTH:
            raise ValueError(
                f"The header of {path} does not say how long it is, as in files written into a pipe. Write it again: "
                "ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.flac"
            )
        samples = file.read(dtype="float32", always_2d=True)
    if len(samples) == 0:
        raise ValueError(f"{path} holds no samples. Remove it from the corpus, or record it again.")
    if path.suffix.lower() == ".flac" and len(samples) < expected:
        raise ValueError(
            f"{path} is cut off: its header promises {expected} samples and {len(samples)} can be decoded. Fetch it again."
        )
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise ValueError(f"{path} holds samples that are not finite numbers. Export it again as 16-bit audio.")
    if rate != sample_rate:
        mono = resample(mono, rate, sample_rate)
    return np.ascontiguousarray(mono, dtype=np.float32)


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Bring a waveform to another rate in Hz (soxr, high quality): (num_samples,) -> (ceil(num_samples * new_rate / rate),)."""
    import soxr

    length = math.ceil(len(samples) * (new_rate / rate))
    found = soxr.resample(samples, rate, new_rate)[:length]
    return np.pad(found, (0, length - len(found)))


def blocks(path: str | Path, seconds: float) -> Iterator[np.ndarray]:
    """Yield a recording as mono float32 at 16 kHz, block by block.

    Args:
        path: an audio file that libsndfile reads.
        seconds: length of a block.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no audio.
    """
    import soxr

    with _opened(Path(path)) as file:
        rate = file.samplerate
        stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") if rate != SAMPLE_RATE else None
        for block in file.blocks(max(1, int(seconds * rate)), dtype="float32", always_2d=True):
            mono = np.nan_to_num(block.mean(axis=1, dtype=np.float32))
            yield mono if stream is None else stream.resample_chunk(mono)
        if stream is not None:
            yield stream.resample_chunk(np.empty(0, np.float32), last=True)
