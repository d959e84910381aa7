"""Audio in, features out, text to integers and back: pure functions on arrays and paths.

Frame arithmetic lives here once. At 16 kHz a 20 ms window is 320 samples and a 10 ms step 160 samples, so a
spectrogram has 100 frames per second and 161 frequency bins (0 to 8,000 Hz in steps of 50 Hz).
"""

import contextlib
import dataclasses
import functools
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
from tqdm import tqdm

from char_map import char_map, index_map

SAMPLE_RATE = 16_000  # Hz; every file is brought to this rate when it is read
LOG_FLOOR = 1e-14  # added to the power density before the logarithm, so that digital silence stays finite
UNKNOWN_LENGTH = 2**48  # libsndfile gives the largest integer as the length of a file that does not know its own
MFCC_WINDOW = 0.025  # seconds, the default of python_speech_features
PREEMPHASIS = 0.97  # likewise
FEATURE_KINDS = ("spectrogram", "mfcc", "logmel", "raw")


def project_root() -> Path:
    """Return the folder that holds the modules, where the released files and notebooks stand."""
    return Path(__file__).resolve().parent


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it on success and vanishes on any error.

    The temporary name keeps the suffix of `path`, since several writers choose their format by it.

    Args:
        path: the file to write. Its folder is created when it is missing.

    Raises:
        OSError: when the folder cannot be created or written; nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=".partial-", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner may read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def progress_bar(
    iterable: Iterable | None,
    description: str,
    total: int | None = None,
    unit: str = "it",
    enabled: bool = True,
    delay: float = 0,
) -> tqdm:
    """Return a progress bar in plain ASCII: lively in a terminal, a line every few seconds in a log file.

    Args:
        iterable: what to go through; None to call `update` by hand.
        description: what is going on.
        total: number of steps, or None while it is unknown.
        unit: what a step is; "B" counts bytes and shows them as kB, MB, GB.
        enabled: False shows nothing.
        delay: seconds before the bar appears, for work that is usually done by then.
    """
    return tqdm(
        iterable,
        description,
        total,
        unit=unit,
        unit_scale=unit == "B",
        disable=not enabled,
        delay=delay,
        ascii=True,
        mininterval=0.5 if sys.stderr.isatty() else 5,
    )


def require_writable(folder: str | Path) -> None:
    """Make a folder and prove that a file can be written there, before hours of work depend on it.

    Raises:
        OSError: when it cannot be made or written; the message names it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            error.errno, f"Cannot write into {folder} ({error.strerror}). Make it writable, or name another folder"
        ) from error


# ---------------------------------------------------------------------------------------------------- text


def invalid_characters(text: str) -> list[str]:
    """Return the sorted distinct characters of `text` that the alphabet does not hold.

    Example:
        >>> invalid_characters("take 2, please")
        [',', '2']
    """
    return sorted(set(text) - set(char_map))


def text_to_int_sequence(text: str) -> list[int]:
    """Turn a transcript into class indices.

    Args:
        text: lower-case letters, spaces and apostrophes.

    Returns:
        One integer in 0..27 per character.

    Raises:
        ValueError: when the text holds a character outside the alphabet.

    Example:
        >>> text_to_int_sequence("it's")
        [10, 21, 0, 20]
    """
    wrong = invalid_characters(text)
    if wrong:
        raise ValueError(
            f"The text holds characters outside the alphabet (a-z, space, apostrophe): {wrong}. Received: "
            f"{text[:80]!r}. Write it in lower case, spell numbers out and drop punctuation."
        )
    return [char_map[character] for character in text]


def int_sequence_to_text(ints: Iterable[int]) -> str:
    """Turn class indices into text; classes without a character (the blank) give nothing.

    Example:
        >>> int_sequence_to_text([10, 28, 21, 0, 20])
        "it's"
    """
    return "".join(index_map.get(int(index), "") for index in ints)


def escape_markdown(text: str) -> str:
    """Return a text that Markdown and HTML show as it is, whatever stands in it, such as the name of a file.

    Example:
        >>> escape_markdown("bed/0a_1.wav | <b>")
        'bed/0a_1.wav &#124; &#60;b&#62;'
    """
    text = text.encode("utf-8", "backslashreplace").decode()  # names of files may hold bytes that are no text
    return re.sub(r"[^\w .:/,;()%'+-]|:(?=\S)|(?<![^\W_])_|_(?![^\W_])", lambda match: f"&#{ord(match[0])};", text)


# --------------------------------------------------------------------------------------------------- audio


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
    if not path.is_file():
        raise FileNotFoundError(f"No audio file at {path}. Check the path, or index the corpus again.")
    try:
        expected = soundfile.info(path).frames
        if expected > UNKNOWN_LENGTH:
            raise ValueError(
                f"The header of {path} does not say how long it is, as in files written into a pipe. Write it again: "
                "ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.flac"
            )
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(
            f"Cannot read {path} as audio ({str(error).strip()}). Expected a complete FLAC, WAV, MP3 or OGG file;"
            " fetch it again, or convert it with: ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.flac"
        ) from error
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
        import librosa

        mono = librosa.resample(mono, orig_sr=rate, target_sr=sample_rate, res_type="soxr_hq")
    return np.ascontiguousarray(mono, dtype=np.float32)


# ------------------------------------------------------------------------------------------------ features


def spectrogram(
    samples: np.ndarray,
    step: float = 10,
    window: float = 20,
    max_freq: float = 8000,
    sample_rate: int = SAMPLE_RATE,
) -> np.ndarray:
    """Log power density of Hann-windowed frames.

    The natural logarithm of `scipy.signal.spectrogram(..., detrend=False, scaling="density")` plus 1e-14,
    with time first and the bins above `max_freq` dropped. No padding: the frames are those that fit.

    Args:
        samples: waveform (num_samples,).
        step: distance of two frames in milliseconds.
        window: length of a frame in milliseconds.
        max_freq: highest frequency kept, in Hz, at most half the sample rate.
        sample_rate: in Hz.

    Returns:
        float32 array (num_frames, num_features); 161 features for the defaults.

    Raises:
        ValueError: when the waveform is shorter than one window, or `max_freq` is out of range.
    """
    if not 0 < max_freq <= sample_rate / 2:
        raise ValueError(f"max_freq must be in 0..{sample_rate / 2:.0f} Hz. Received: max_freq={max_freq}")
    frame_length, frame_step = _samples(window, sample_rate), _samples(step, sample_rate)
    _require_length(samples, frame_length)
    frequencies, _, density = scipy.signal.spectrogram(
        samples,
        fs=sample_rate,
        window=scipy.signal.get_window("hann", frame_length),
        noverlap=frame_length - frame_step,
        detrend=False,
        scaling="density",
    )
    kept = density[frequencies <= max_freq + 1e-6]
    return np.log(kept.T.astype(np.float64) + LOG_FLOOR).astype(np.float32)


def mfcc(
    samples: np.ndarray,
    step: float = 10,
    mfcc_dim: int = 13,
    sample_rate: int = SAMPLE_RATE,
    preemphasis: float = PREEMPHASIS,
) -> np.ndarray:
    """Mel-frequency cepstral coefficients as python_speech_features computes them (25 ms window).

    Args:
        samples: waveform (num_samples,) in -1..1.
        step: distance of two frames in milliseconds.
        mfcc_dim: number of coefficients, 1..26.
        sample_rate: in Hz.
        preemphasis: share of the previous sample that is taken off each one; 0 for samples that have been through this.

    Returns:
        float32 array (num_frames, mfcc_dim). Its frame count can differ by one from the spectrogram's.

    Raises:
        ValueError: when `mfcc_dim` is out of range or the waveform is shorter than one window.
    """
    import python_speech_features

    if not 1 <= mfcc_dim <= 26:
        raise ValueError(f"mfcc_dim must be in 1..26 (there are 26 mel filters). Received: mfcc_dim={mfcc_dim}")
    _require_length(samples, round(MFCC_WINDOW * sample_rate))
    coefficients = python_speech_features.mfcc(
        samples, sample_rate, winlen=MFCC_WINDOW, winstep=step / 1000, numcep=mfcc_dim, preemph=preemphasis
    )
    return coefficients.astype(np.float32)


def logmel(
    samples: np.ndarray,
    step: float = 10,
    window: float = 20,
    max_freq: float = 8000,
    num_mels: int = 80,
    sample_rate: int = SAMPLE_RATE,
) -> np.ndarray:
    """Log energies in mel bands: the power density of `spectrogram`, summed by librosa's mel filters.

    Returns:
        float32 array (num_frames, num_mels).

    Raises:
        ValueError: as `spectrogram` does.
    """
    density = np.exp(spectrogram(samples, step, window, max_freq, sample_rate).astype(np.float64))
    filters = _mel_filters(num_mels, _samples(window, sample_rate), max_freq, sample_rate)
    return np.log(density @ filters[:, : density.shape[1]].T + LOG_FLOOR).astype(np.float32)


def spectrogram_from_file(path: str | Path, step: float = 10, window: float = 20, max_freq: float = 8000) -> np.ndarray:
    """Read an audio file and return its log spectrogram (num_frames, 161); see `spectrogram`."""
    return spectrogram(read_audio(path), step, window, max_freq)


@dataclasses.dataclass(frozen=True)
class FeatureSettings:
    """What is computed from a waveform; equal settings give equal features.

    Raises:
        ValueError: at construction, for an unknown kind or times that are not positive.
    """

    kind: str = "spectrogram"  # 'spectrogram', 'mfcc', 'logmel' or 'raw': the samples themselves, one feature wide
    step: float = 10  # milliseconds between frames
    window: float = 20  # milliseconds per frame (MFCCs always use 25)
    max_freq: float = 8000  # Hz
    mfcc_dim: int = 13  # coefficients, for 'mfcc'
    num_mels: int = 80  # bands, for 'logmel'

    def __post_init__(self) -> None:
        if self.kind not in FEATURE_KINDS:
            raise ValueError(f"kind must be one of {FEATURE_KINDS}. Received: kind={self.kind!r}")
        if self.step <= 0 or self.window <= 0:
            raise ValueError(f"step and window are positive milliseconds. Received: {self.step}, {self.window}")

    @property
    def num_features(self) -> int:
        """Width of a feature frame."""
        bins = int(self.max_freq * _samples(self.window, SAMPLE_RATE) / SAMPLE_RATE + 1e-6) + 1
        return {"spectrogram": bins, "mfcc": self.mfcc_dim, "logmel": self.num_mels, "raw": 1}[self.kind]

    @property
    def frames_per_second(self) -> float:
        """Frames of a second of speech; of raw audio the samples."""
        return SAMPLE_RATE if self.kind == "raw" else 1000 / self.step

    @property
    def framing(self) -> tuple[int, int]:
        """Length and distance of the frames, in samples."""
        if self.kind == "raw":
            return 1, 1
        window = 1000 * MFCC_WINDOW if self.kind == "mfcc" else self.window
        return _samples(window, SAMPLE_RATE), _samples(self.step, SAMPLE_RATE)

    def extract(self, samples: np.ndarray) -> np.ndarray:
        """Compute the features of a 16 kHz waveform: float32 (num_frames, num_features)."""
        if self.kind == "raw":
            return np.asarray(samples, np.float32)[:, None]
        if self.kind == "mfcc":
            return mfcc(samples, self.step, self.mfcc_dim)
        if self.kind == "logmel":
            return logmel(samples, self.step, self.window, self.max_freq, self.num_mels)
        return spectrogram(samples, self.step, self.window, self.max_freq)

    def relevant(self) -> dict:
        """Return only the settings that this kind depends on (the others do not make a new cache)."""
        fields = {
            "spectrogram": ("kind", "step", "window", "max_freq"),
            "mfcc": ("kind", "step", "mfcc_dim"),
            "logmel": ("kind", "step", "window", "max_freq", "num_mels"),
            "raw": ("kind",),
        }[self.kind]
        return {field: getattr(self, field) for field in fields}


def _samples(milliseconds: float, sample_rate: int) -> int:
    return round(milliseconds * sample_rate / 1000)


def _require_length(samples: np.ndarray, frame_length: int) -> None:
    if np.ndim(samples) != 1 or len(samples) < frame_length:
        raise ValueError(
            f"A waveform of at least {frame_length} samples (one window) is needed, shape (num_samples,)."
            f" Received: shape {np.shape(samples)}. Leave such a short clip out of the corpus."
        )


@functools.cache
def _mel_filters(num_mels: int, frame_length: int, max_freq: float, sample_rate: int) -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=sample_rate, n_fft=frame_length, n_mels=num_mels, fmax=max_freq)
