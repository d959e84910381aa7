"""Audio files: any format, rate and number of channels becomes mono at 16 kHz.

Files are read in blocks, never by the length that a header claims. What is cut off or damaged is read as far as it goes, and a
note on standard error names the time.
"""

import contextlib
import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from vuilab.audio_file import AudioFile, NotAudioError, note
from vuilab.files import compiled

SAMPLE_RATE = 16_000  # Hz; every file is brought to this rate when it is read
UNKNOWN_LENGTH = 2**48  # libsndfile gives the largest integer as the length of a file that does not know its own
MOST_AT_ONCE = 2**22  # values that are read at a time
LARGEST = 1e6  # a sample above is no sound, and its square no number
LOSS = 6.0  # dB by which the mean of the channels may be quieter than the loudest of them

# ------------------------------------------------------------------------------------------ what is missing


def check(path: str | Path) -> tuple[int, int]:
    """Return samples and sample rate of an audio file that is whole.

    Its end is decoded. Of a FLAC file the checksum of all blocks is looked at, and where that is wrong everything is decoded.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no audio, cut off or damaged.
    """
    with AudioFile(path) as file:
        num_samples = file.frames
        if num_samples > UNKNOWN_LENGTH:  # written into a pipe
            return sum(len(block) for _, block in _decode(Path(path), MOST_AT_ONCE)), file.samplerate
        done = max(0, num_samples - 256 - _slack(file))
        if file.format == "FLAC" and not _flac_blocks_are_whole(path):
            done = 0
        try:
            file.seek(done)
            while done < num_samples:
                block = file.read(min(num_samples - done, MOST_AT_ONCE // file.channels), dtype="int16", always_2d=True)
                done = num_samples if len(block) and file.format == "MP3" else done + len(block)
                if len(block) == 0:
                    raise ValueError("the audio is cut off: its end cannot be decoded")
        except soundfile.SoundFileError as error:
            raise ValueError(f"the audio is damaged or cut off ({str(error).split(': ')[-1].strip()})") from error
        reason = _missing(path, file, done)
        if reason:
            raise ValueError(f"the audio is cut off: {reason}")
        return num_samples, file.samplerate


def duration(path: str | Path) -> float:
    """Return how many seconds of a recording can be decoded, whatever its header says.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no audio.
    """
    try:
        num_samples, rate = check(path)
    except NotAudioError:
        raise
    except ValueError:
        return sum(len(block) / rate for rate, block in _decode(Path(path), MOST_AT_ONCE))
    return num_samples / rate


def _slack(file: AudioFile) -> int:
    """Return how many samples may be missing at the end: what MP3 encoders add at both ends is not always told."""
    return file.samplerate // 20 if file.format == "MP3" else 0


def _flac_blocks_are_whole(path: str | Path, at_once: int = 2**22) -> bool:
    """Whether the bytes of all blocks of a FLAC file, as one polynomial over GF(2), are a multiple of that of its CRC-16.

    Each block is one (RFC 9639, section 9.3: x^16 + x^15 + x^2 + 1, starting from 0), so all in a row are; that is three times as
    fast as decoding. The polynomial is (x + 1) (x^15 + x + 1): the number of ones is even, and x^15 may be replaced by x + 1, so
    also x^(15 * 2^k) by x^(2^k) + 1. Bytes behind the last block, such as a tag, make it False too.

    Args:
        path: the file.
        at_once: bytes.
    """
    with Path(path).open("rb") as file:
        last = file.read(4) != b"fLaC"
        while not last:  # the blocks of metadata
            head = file.read(4)
            last = len(head) < 4 or bool(head[0] & 128)
            file.seek(int.from_bytes(head[1:], "big"), os.SEEK_CUR)
        rest = ones = 0
        while data := file.read(at_once):
            ones -= rest.bit_count()
            rest = int.from_bytes(rest.to_bytes(2, "big") + data, "big")
            ones += rest.bit_count()
            for k in range(rest.bit_length().bit_length(), -1, -1):
                while high := rest >> (15 << k):
                    rest = rest & ((1 << (15 << k)) - 1) ^ high ^ high << (1 << k)
    return rest == 0 and ones % 2 == 0


def _missing(path: str | Path, file: AudioFile, num_read: int) -> str:
    """Return what shows that a file from which so many samples could be read had more; '' where nothing does."""
    if file.format == "WAV":  # libsndfile silently shortens a cut one; streams carry a huge dummy length instead
        sizes = re.search(r"data\s*:\s*(\d+) \(should be (\d+)\)", file.extra_info)
        if sizes and int(sizes[2]) < int(sizes[1]) < 2**31 - 2**16:
            return f"its header promises {num_read / file.samplerate * int(sizes[1]) / max(int(sizes[2]), 1):.1f} s"
    if file.format == "OGG" and not _ogg_has_end(path):
        return "its last page is missing"
    if num_read + _slack(file) < file.frames < UNKNOWN_LENGTH:
        return f"its header promises {file.frames / file.samplerate:.1f} s"
    return ""


def _ogg_has_end(path: str | Path) -> bool:
    """Whether the last page of an Ogg file is whole and marked as the last (RFC 3533, section 6)."""
    with Path(path).open("rb") as file:
        file.seek(max(0, Path(path).stat().st_size - 2**17))  # a page has at most 65,307 bytes
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if not page.startswith(b"OggS") or len(page) < 27:
        return False
    flags, num_segments = page[5], page[26]
    return bool(flags & 4) and len(page) >= 27 + num_segments + sum(page[27 : 27 + num_segments])


# ------------------------------------------------------------------------------------------------- reading


def _decode(path: Path, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (sample rate, samples (num_samples, num_channels)) block by block, zeros for damage; note what is missing."""
    with contextlib.ExitStack() as stack:
        file, done, gaps = stack.enter_context(AudioFile(path)), 0, []
        while True:
            block, whole = _next_block(file, min(size, MOST_AT_ONCE // file.channels, max(1, file.frames - done)))
            if len(block):
                if not np.abs(block).max() < LARGEST:
                    raise ValueError(
                        f"{path} holds samples that are not finite numbers. Export it again as 16-bit audio."
                    )
                done += len(block)
                yield file.samplerate, block
            elif whole:
                break
            if not whole:
                behind = None if file.frames > UNKNOWN_LENGTH else _behind(path, done, file.frames)
                if behind is None:
                    break
                file, skipped = stack.enter_context(behind[0]), behind[1]
                gaps.append(f"{done / file.samplerate:.1f}..{(done + skipped) / file.samplerate:.1f} s")
                done += skipped
                yield file.samplerate, np.zeros((skipped, file.channels), np.float32)
        if gaps:
            note(f"{path} is damaged at {', '.join(gaps[:5])}; the rest is used.")
        missing = _missing(path, file, done) if done else ""
        if missing:
            note(f"{path} is cut off at {done / file.samplerate:.1f} s ({missing}); what is there is used.")


def _next_block(file: AudioFile, size: int) -> tuple[np.ndarray, bool]:
    """Return the next samples (num_samples, num_channels), and whether they could be read without an error."""
    buffer = np.full((size, file.channels), np.nan, np.float32)
    try:
        return file.read(out=buffer), True
    except soundfile.SoundFileError:  # what was decoded before it stands in the buffer
        return buffer[: np.isfinite(buffer[:, 0]).argmin() if np.isnan(buffer[-1, 0]) else size], False


def _behind(path: Path, done: int, num_samples: int) -> tuple[AudioFile, int] | None:
    """Return the file, opened behind damage, and how many samples were passed over; None where no more can be read."""
    skipped = 4096  # the usual block of FLAC
    while done + skipped < num_samples:
        file = AudioFile(path)
        with contextlib.suppress(soundfile.SoundFileError):
            file.seek(done + skipped)
            if len(file.read(1)):
                file.seek(done + skipped)
                return file, skipped
        file.close()
        skipped *= 2
    return None


def _mono(path: Path, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (sample rate, float32 samples (num_samples,)) block by block."""
    channel = _channel(path, size)
    for rate, block in _decode(path, size):
        yield rate, block.mean(axis=1, dtype=np.float32) if channel is None else block[:, channel]


def _channel(path: Path, size: int) -> int | None:
    """Return the channel to take where the mean loses too much: one of opposite phase, or the only one alive; else None."""
    with AudioFile(path) as file:
        number = file.channels
    if number == 1:
        return None
    count, sums, squares = 0, np.zeros(number + 1), np.zeros(number + 1)
    for _, block in _decode(path, size):
        every = np.column_stack([block, block.mean(axis=1)]).astype(np.float64)
        count, sums, squares = count + len(every), sums + every.sum(axis=0), squares + np.square(every).sum(axis=0)
    power = squares / max(count, 1) - np.square(sums / max(count, 1))  # without the offset
    loudest = int(np.argmax(power[:-1] > 0.999 * power[:-1].max()))  # the first of equally loud ones
    if power[-1] >= power[loudest] * 10 ** (-LOSS / 10) or power[loudest] < 1e-12:
        return None
    note(
        f"{path}: only channel {loudest + 1} of {number} is used; the mean of all would be more than {LOSS:.0f} dB quieter "
        "(opposite phase, or silent channels)."
    )
    return loudest


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read an audio file (FLAC, WAV, MP3, OGG: whatever libsndfile reads) as mono at one rate.

    Args:
        path: the file. What is cut off or damaged is read as far as it goes, with a note on standard error.
        sample_rate: the rate in Hz to resample to (soxr, high quality) when the file has another one.

    Returns:
        float32 array (num_samples,) in -1..1: the mean of the channels, or the loudest where the mean is more than 6 dB quieter.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no audio, or holds no samples or infinite ones.
    """
    found = list(_mono(Path(path), MOST_AT_ONCE))
    if not found:
        raise ValueError(f"{path} holds no samples. Remove it from the corpus, or record it again.")
    rate, mono = found[0][0], np.concatenate([block for _, block in found])
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
        path: as for `read_audio`.
        seconds: length of a block.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no audio, or holds infinite samples.
    """
    import soxr

    with AudioFile(path) as file:
        rate = file.samplerate
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32") if rate != SAMPLE_RATE else None
    for _, mono in _mono(Path(path), max(1, int(seconds * rate))):
        yield mono if stream is None else stream.resample_chunk(np.ascontiguousarray(mono))
    if stream is not None:
        yield stream.resample_chunk(np.empty(0, np.float32), last=True)


# ------------------------------------------------------------------------------------------------- for gates


# sections of second order (b0, b1, b2, 1, a1, a2) of the filter of `VoiceBand`, as `scipy.signal.ellip` gives them
HIGH_PASS = np.array(
    [
        (0.9348155826220368, -0.9348155826220368, 0.0, 1.0, -0.9166754754705804, 0.0),
        (1.0, -1.9998348084377917, 1.0000000000000002, 1.0, -1.960367919001816, 0.9625519204257718),
        (1.0, -1.9995716779520565, 0.9999999999999998, 1.0, -1.9903554164968567, 0.9914296864749601),
        (1.0, -1.9994333632306618, 0.9999999999999997, 1.0, -1.9973350687674492, 0.9981922695390699),
    ]
)


class VoiceBand:
    """Takes offset, rumble and mains hum out of sound in chunks, before somebody asks whether anybody speaks.

    What is recognised is the sound as it is. Elliptic high-pass, 60 dB below 60 Hz and 0.5 dB from 75 Hz on.
    """

    def __init__(self) -> None:
        self.state: np.ndarray | None = None

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return the next samples (num_samples,) at 16 kHz, filtered; those before are remembered."""
        if len(samples) == 0:
            return samples
        if self.state is None:  # as if the offset had always been there: no step at the beginning
            self.state = _settled(samples.mean(dtype=np.float64))
        return _filter()(HIGH_PASS, samples.astype(np.float64), self.state).astype(np.float32)


def _settled(level: float) -> np.ndarray:
    """Return the state (num_sections, 2) in which the filter is after a long time at one level."""
    state = np.empty((len(HIGH_PASS), 2))
    for kept, (b0, b1, b2, _, a1, a2) in zip(state, HIGH_PASS, strict=True):
        out = level * (b0 + b1 + b2) / (1 + a1 + a2)
        kept[1] = b2 * level - a2 * out
        kept[0] = b1 * level - a1 * out + kept[1]
        level = out
    return state


@functools.cache
def _filter() -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Return what filters samples in place, section by section (direct form II transposed), and keeps the state."""

    @compiled()
    def run(sections, samples, state):
        for number in range(len(sections)):
            b0, b1, b2, _, a1, a2 = sections[number]
            first, second = state[number]
            for index in range(len(samples)):
                sample = samples[index]
                out = b0 * sample + first
                first = b1 * sample - a1 * out + second
                second = b2 * sample - a2 * out
                samples[index] = out
            state[number, 0], state[number, 1] = first, second
        return samples

    return run
