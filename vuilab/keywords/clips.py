"""Labelled clips of one second: their waveforms, read once and then memory-mapped, and the features of a classifier.

The clips of a word are kept as 16-bit samples in `.features/clips-<word>-<hash>.npy` beside them (or below the folder that
VUI_CACHE names); the hash covers names and sizes, so that the file is made anew when clips come or go, and so it is when one
was replaced in place (`contents.py`). It is written aside and renamed under a lock. Clips that cannot be read are left out
and listed.

What a classifier sees of a clip, computed for whole batches at once:

| kind | shape | for |
|---|---|---|
| mfcc_image | (20, 11, 1) | perceptron, convolutions, LSTM: 20 coefficients of 11 long windows |
| spectrogram | (99, 81, 1) | light CNN: log spectrogram at 8 kHz, 20 ms window, 10 ms step |
| raw, raw8k | (16000, 1), (8000, 1) | WavCeption: the samples themselves |
| mfcc | (98, 64) | MatchboxNet: 64 coefficients, 25 ms window, 10 ms step |
| logmel | (40, 98, 1) | BC-ResNet: 40 mel bands, 30 ms window, 10 ms step |
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import filelock
import numpy as np

from vuilab.audio import SAMPLE_RATE, read_audio
from vuilab.augment import NOISES
from vuilab.contents import hash_of_all, hashes_of, last_change
from vuilab.features import LOG_FLOOR, hann_window, mel_filters
from vuilab.files import atomic_path, progress_bar
from vuilab.keywords.corpus import CLIP_SAMPLES, SHARES, ZERO, Clip, Dataset, index_folder

CACHE_VERSION = 1
FULL_SCALE = 32767
NUM_THREADS = os.cpu_count() or 1
KINDS = ("mfcc_image", "spectrogram", "raw", "raw8k", "mfcc", "logmel")
ENERGY_FLOOR = 1e-8  # added to mel energies before the logarithm: about what the last of 16 bits holds
HALF_RATE = SAMPLE_RATE // 2


@dataclasses.dataclass(frozen=True)
class LabelledAudio:
    """The readable clips of one part of a dataset with their waveforms."""

    clips: tuple[Clip, ...]
    targets: np.ndarray  # (num_clips,) class of each clip
    skipped: tuple[str, ...]  # clips that could not be read, and why
    arrays: dict[str, np.ndarray]  # word -> int16 (num_clips_of_word, CLIP_SAMPLES)
    rows: tuple[tuple[str, int], ...]  # of each clip: which array, which row
    contents: str | None = None  # hash of what the files of all clips hold; None where one is gone

    def __len__(self) -> int:
        return len(self.clips)

    def samples(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return waveforms in -1..1: float32 (len(indices), CLIP_SAMPLES)."""
        waveforms = np.empty((len(indices), CLIP_SAMPLES), np.float32)
        for position, index in enumerate(indices):
            name, row = self.rows[index]
            np.multiply(self.arrays[name][row], 1 / FULL_SCALE, out=waveforms[position], dtype=np.float32)
        return waveforms


def load_part(dataset: Dataset, part: str, progress: bool = True) -> LabelledAudio:
    """Return the clips of one part of a dataset, from the cache where they were read before.

    Raises:
        ValueError: when no clip of the part can be read.
        OSError: when the cache cannot be written; nothing half-written stays.
    """
    clips = dataset.part(part)
    cut = [clip for clip in clips if clip.is_cut]
    arrays, problems = {"": _to_int16(_cut(dataset.folder, cut))}, {}
    hashes = hashes_of(
        (dataset.folder / clip.key for clip in cut if clip.key), _root(dataset.folder) / ".cut.contents", progress
    )
    where: dict[Clip | str, tuple[str, int]] = {clip: ("", row) for row, clip in enumerate(cut)}
    for word in dict.fromkeys(clip.word for clip in clips if not clip.is_cut):
        paths = [path for path in sorted((dataset.folder / word).iterdir()) if path.is_file()]
        held = hashes_of(paths, _root(dataset.folder) / f".clips-{word}.contents", progress)
        arrays[word], names, wrong = _word_waveforms(dataset.folder, word, held, progress)
        where |= {name: (word, row) for row, name in enumerate(names)}
        problems |= wrong
        hashes |= held
    rows = [where.get(clip if clip.is_cut else clip.key) for clip in clips]
    kept = [clip for clip, row in zip(clips, rows, strict=True) if row]
    skipped = tuple(f"{clip.key}: {problems[clip.key]}" for clip in clips if clip.key in problems)
    if not kept:
        raise ValueError(
            f"The {part} part of {dataset.folder} has no clips that can be read"
            + (f":\n  {skipped[0]}" if skipped else ", since the names of its speakers put none there")
            + ". Every part needs clips of some speakers; about one speaker in ten is for validation."
        )

    targets = np.array([dataset.labels.index(clip.label) for clip in kept], np.int64)
    contents = hash_of_all(hashes.get(dataset.folder / clip.key) for clip in clips if clip.key)
    return LabelledAudio(tuple(kept), targets, skipped, arrays, tuple(filter(None, rows)), contents)


def fit_length(samples: np.ndarray, num_samples: int = CLIP_SAMPLES) -> np.ndarray:
    """Bring a waveform to a length: a shorter one gets zeros on both sides, of a longer one the stretch with most energy stays.

    Example:
        >>> fit_length(np.array([3, 4]), 5).tolist(), fit_length(np.array([0, 1, 5, 1, 0, 2]), 3).tolist()
        ([0, 3, 4, 0, 0], [1, 5, 1])
    """
    if len(samples) <= num_samples:
        before = (num_samples - len(samples)) // 2
        return np.pad(samples, (before, num_samples - len(samples) - before))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    start = int(np.argmax(energy[num_samples:] - energy[:-num_samples]))
    return samples[start : start + num_samples]


def background_noise(dataset: Dataset, part: str = "train") -> list[np.ndarray]:
    """Return the stretch of each background recording that belongs to a part, float32; recordings that fail are left out."""
    found = []
    for key in dataset.backgrounds:
        try:
            samples = read_audio(dataset.folder / key)
        except (ValueError, OSError):
            continue
        low, high = (int(share * len(samples)) for share in SHARES[part])
        if high - low > CLIP_SAMPLES and np.any(samples[low:high]):
            found.append(samples[low:high])
    return found


def _root(folder: Path) -> Path:
    return Path(os.environ.get("VUI_CACHE") or folder / ".features")


def _word_waveforms(
    folder: Path, word: str, hashes: dict[Path, str | None], progress: bool
) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """Return (waveforms int16, key of each row, problem of each key that has no row) of a word, whose files have these hashes."""
    sizes = [(path.name, path.stat().st_size) for path in sorted((folder / word).iterdir())]
    text = json.dumps([CACHE_VERSION, CLIP_SAMPLES, str(folder.resolve()), word, sizes])
    name = f"clips-{word}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    root, contents = _root(folder), hash_of_all(hashes.values())
    array_path, text_path = root / f"{name}.npy", root / f"{name}.json"

    def up_to_date() -> bool:
        if not array_path.is_file():
            return False
        held = json.loads(text_path.read_text(encoding="utf-8"))
        if contents is None or "contents" in held:
            return contents in (None, held.get("contents"))
        return last_change(hashes) <= array_path.stat().st_mtime  # of version 0.2

    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f".clips-{word}.lock"):
            if not up_to_date():
                keys = index_folder(folder).files[word]
                array_path.unlink(missing_ok=True)  # it says that both are there
                _read_word(folder, word, keys, contents, array_path, text_path, progress)
                for old in root.glob(f"clips-{word}-????????????.*"):  # the same word before clips came or went
                    if old.stem != name and not os.environ.get("VUI_CACHE"):
                        old.unlink()
    except PermissionError as error:
        raise PermissionError(
            f"Cannot write the clips' cache under {root}: {error.strerror}. Make the folder writable, or name another one in "
            "the environment variable VUI_CACHE."
        ) from error
    content = json.loads(text_path.read_text(encoding="utf-8"))
    return np.load(array_path, mmap_mode="r"), content["keys"], content["problems"]


def _read_word(
    folder: Path,
    word: str,
    keys: Sequence[str],
    contents: str | None,
    array_path: Path,
    text_path: Path,
    progress: bool,
) -> None:
    def read(key: str) -> np.ndarray | str:
        try:
            return _to_int16(fit_length(read_audio(folder / key)))
        except (ValueError, OSError) as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        found = list(progress_bar(pool.map(read, keys), f"Clips of {word}", len(keys), " clips", progress, delay=2))
    problems = {key: value for key, value in zip(keys, found, strict=True) if isinstance(value, str)}
    rows = [value for value in found if not isinstance(value, str)]
    text = json.dumps(
        {"keys": [key for key in keys if key not in problems], "problems": problems, "contents": contents}
    )
    with atomic_path(text_path) as partial:
        partial.write_text(text, encoding="utf-8")
    with atomic_path(array_path) as partial, partial.open("wb") as file:  # last: it says that both are there
        np.save(file, np.stack(rows) if rows else np.zeros((0, CLIP_SAMPLES), np.int16))


def _cut(folder: Path, clips: Sequence[Clip]) -> np.ndarray:
    """Return the waveforms of clips of silence and of running speech, float32 (num_clips, CLIP_SAMPLES)."""
    waveforms = np.zeros((len(clips), CLIP_SAMPLES), np.float32)
    recording, read = np.zeros(0, np.float32), ""
    for number in sorted(range(len(clips)), key=lambda number: clips[number].key):  # each recording is read once
        clip = clips[number]
        if clip.key:
            if clip.key != read:
                recording, read = read_audio(folder / clip.key), clip.key
            stretch = recording[clip.start : clip.start + CLIP_SAMPLES]
            waveforms[number, : len(stretch)] = clip.gain * (stretch[::-1] if clip.word == "reversed" else stretch)
        elif clip.word != ZERO:
            waveforms[number] = clip.gain * NOISES[clip.word](CLIP_SAMPLES, np.random.default_rng(clip.seed))
    return waveforms


def _to_int16(samples: np.ndarray) -> np.ndarray:
    return np.round(np.clip(samples, -1, 1) * FULL_SCALE).astype(np.int16)


@dataclasses.dataclass(frozen=True)
class KeywordFeatures:
    """A kind of features; equal settings give equal features.

    Raises:
        ValueError: at construction, for an unknown kind.
    """

    kind: str = "mfcc"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}. Received: kind={self.kind!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features."""
        return self.extract(np.zeros((1, CLIP_SAMPLES), np.float32)).shape[1:]

    @property
    def time_axis(self) -> int | None:
        """Axis of a clip's features along which time runs; None for samples, which are no frames."""
        return {"mfcc_image": 1, "spectrogram": 0, "mfcc": 0, "logmel": 1}.get(self.kind)

    def extract(self, waveforms: np.ndarray) -> np.ndarray:
        """Return the features, float32 (num_clips, *shape), of waveforms (num_clips, CLIP_SAMPLES) in -1..1 at 16 kHz.

        Raises:
            ValueError: for another shape.
        """
        if np.ndim(waveforms) != 2 or waveforms.shape[1] != CLIP_SAMPLES:
            raise ValueError(
                f"Expected waveforms of shape (num_clips, {CLIP_SAMPLES}). Received: shape {np.shape(waveforms)}. "
                "clips.fit_length brings a waveform to that length."
            )
        return _EXTRACTORS[self.kind](np.asarray(waveforms, np.float32)).astype(np.float32, copy=False)

    def statistics(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation over clips and time, in a shape that broadcasts with a clip's features."""
        axes = (0, 1, 2) if self.time_axis is None else (0, self.time_axis + 1)
        mean = features.mean(axis=axes, keepdims=True, dtype=np.float64)[0]
        std = features.std(axis=axes, keepdims=True, dtype=np.float64)[0]
        return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)


def power_frames(waveforms: np.ndarray, window: int, step: int, fft_length: int) -> np.ndarray:
    """Return the power spectra of Hann-windowed frames that fit: (num_clips, num_frames, fft_length // 2 + 1)."""
    import scipy.fft

    frames = np.lib.stride_tricks.sliding_window_view(waveforms, window, axis=1)[:, ::step]
    spectra = scipy.fft.rfft(frames * hann_window(window).astype(np.float32), fft_length, axis=-1)
    return spectra.real**2 + spectra.imag**2


def log_mel(waveforms: np.ndarray, window: int, step: int, fft_length: int, num_mels: int) -> np.ndarray:
    """Return the natural logarithm of mel band energies: (num_clips, num_frames, num_mels)."""
    power = power_frames(waveforms, window, step, fft_length) / window
    rows = power.reshape(-1, power.shape[-1])  # one large product instead of one for each clip
    return np.log((rows @ mel_filters(num_mels, fft_length).T).reshape(*power.shape[:2], num_mels) + ENERGY_FLOOR)


def cepstra(log_energies: np.ndarray, num_coefficients: int) -> np.ndarray:
    """Return the first coefficients of the orthonormal cosine transform (DCT-II) of log mel energies, over the last axis."""
    import scipy.fft

    return scipy.fft.dct(log_energies, type=2, norm="ortho", axis=-1)[..., :num_coefficients]


def _mfcc(waveforms: np.ndarray) -> np.ndarray:
    return cepstra(log_mel(waveforms, 400, 160, 512, 64), 64)


def _mfcc_image(waveforms: np.ndarray) -> np.ndarray:
    step = CLIP_SAMPLES // 11 + 1  # 91 ms, so that 11 frames reach from end to end
    padded = np.pad(waveforms, ((0, 0), (1024, 1024)))
    image = cepstra(log_mel(padded, 2048, step, 2048, 40), 20)[:, :11]
    return image.transpose(0, 2, 1)[..., None]  # (num_clips, 20, 11, 1)


def _logmel(waveforms: np.ndarray) -> np.ndarray:
    return log_mel(waveforms, 480, 160, 512, 40).transpose(0, 2, 1)[..., None]  # (num_clips, 40, 98, 1)


def _spectrogram(waveforms: np.ndarray) -> np.ndarray:
    window, step = HALF_RATE // 50, HALF_RATE // 100  # 20 ms, 10 ms
    power = power_frames(half_rate(waveforms), window, step, window)
    power[..., 1:-1] *= 2  # one-sided
    density = power / (HALF_RATE * np.sum(hann_window(window) ** 2))
    return np.log(density + LOG_FLOOR)[..., None]  # (num_clips, 99, 81, 1)


def half_rate(waveforms: np.ndarray) -> np.ndarray:
    """Resample from 16 to 8 kHz: (num_clips, num_samples) -> (num_clips, num_samples / 2)."""
    import soxr

    return np.ascontiguousarray(soxr.resample(np.ascontiguousarray(waveforms.T), SAMPLE_RATE, HALF_RATE).T)


_EXTRACTORS = {
    "mfcc_image": _mfcc_image,
    "spectrogram": _spectrogram,
    "raw": lambda waveforms: waveforms[..., None],
    "raw8k": lambda waveforms: half_rate(waveforms)[..., None],
    "mfcc": _mfcc,
    "logmel": _logmel,
}
