"""The waveforms of labelled clips: one second each, read once and then memory-mapped.

The clips of a word are kept as 16-bit samples in `.features/clips-<word>-<hash>.npy` beside them (or below the folder that
VUI_CACHE names); the hash covers names and sizes, so that the file is made anew when clips come or go. It is written aside
and renamed under a lock. Clips that cannot be read are left out and listed.
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

from vuilab.audio import read_audio
from vuilab.augment import NOISES
from vuilab.files import atomic_path, progress_bar
from vuilab.keywords.corpus import CLIP_SAMPLES, SHARES, ZERO, Clip, Dataset, index_folder

CACHE_VERSION = 1
FULL_SCALE = 32767
NUM_THREADS = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class LabelledAudio:
    """The readable clips of one part of a dataset with their waveforms."""

    clips: tuple[Clip, ...]
    targets: np.ndarray  # (num_clips,) class of each clip
    skipped: tuple[str, ...]  # clips that could not be read, and why
    arrays: dict[str, np.ndarray]  # word -> int16 (num_clips_of_word, CLIP_SAMPLES)
    rows: tuple[tuple[str, int], ...]  # of each clip: which array, which row

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

    Args:
        dataset: what `corpus.choose_clips` returned.
        part: 'train', 'development', 'validation' or 'testing'.
        progress: show a progress bar while reading.

    Raises:
        ValueError: when no clip of the part can be read.
        OSError: when the cache cannot be written; nothing half-written stays.
    """
    clips = dataset.part(part)
    words = dict.fromkeys(clip.word for clip in clips if not clip.is_cut)
    arrays, where, problems = {}, {}, {}
    for word in words:
        arrays[word], names, wrong = _word_waveforms(dataset.folder, word, progress)
        where |= {name: (word, row) for row, name in enumerate(names)}
        problems |= wrong
    cut = [clip for clip in clips if clip.is_cut]
    arrays[""] = _to_int16(_cut(dataset.folder, cut))
    where |= {clip: ("", row) for row, clip in enumerate(cut)}
    kept = [clip for clip in clips if (clip if clip.is_cut else clip.key) in where]
    skipped = tuple(f"{clip.key}: {problems[clip.key]}" for clip in clips if clip.key in problems)
    if not kept:
        raise ValueError(
            f"The {part} part of {dataset.folder} has no clips that can be read"
            + (f":\n  {skipped[0]}" if skipped else ", since the names of its speakers put none there")
            + ". Every part needs clips of some speakers; about one speaker in ten is for validation."
        )
    rows = tuple(where[clip if clip.is_cut else clip.key] for clip in kept)
    targets = np.array([dataset.labels.index(clip.label) for clip in kept], np.int64)
    return LabelledAudio(tuple(kept), targets, skipped, arrays, rows)


def fit_length(samples: np.ndarray, num_samples: int = CLIP_SAMPLES) -> np.ndarray:
    """Bring a waveform to a length: a shorter one gets zeros on both sides, of a longer one the loudest stretch stays.

    Args:
        samples: waveform.
        num_samples: length wanted.

    Returns:
        A waveform (num_samples,): of all stretches of that length the first with the highest energy.

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


# ---------------------------------------------------------------------------------------------- internals


def _word_waveforms(folder: Path, word: str, progress: bool) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """Return (waveforms int16, key of each row, problem of each key that has no row) of a word."""
    paths = sorted((folder / word).iterdir())
    sizes = [(path.name, path.stat().st_size) for path in paths]
    text = json.dumps([CACHE_VERSION, CLIP_SAMPLES, str(folder.resolve()), word, sizes])
    name = f"clips-{word}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    root = Path(os.environ.get("VUI_CACHE") or folder / ".features")
    array_path, text_path = root / f"{name}.npy", root / f"{name}.json"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f".clips-{word}.lock"):
            if not array_path.is_file():
                keys = index_folder(folder).files[word]
                _read_word(folder, word, keys, array_path, text_path, progress)
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


def _read_word(folder: Path, word: str, keys: Sequence[str], array_path: Path, text_path: Path, progress: bool) -> None:
    def read(key: str) -> np.ndarray | str:
        try:
            return _to_int16(fit_length(read_audio(folder / key)))
        except (ValueError, OSError) as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        found = list(progress_bar(pool.map(read, keys), f"Clips of {word}", len(keys), " clips", progress, delay=2))
    problems = {key: value for key, value in zip(keys, found, strict=True) if isinstance(value, str)}
    rows = [value for value in found if not isinstance(value, str)]
    text = json.dumps({"keys": [key for key in keys if key not in problems], "problems": problems})
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
