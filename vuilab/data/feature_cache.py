"""Features of a whole manifest, computed once and then memory-mapped.

A cache is a folder `<manifest>-<kind>-<settings hash>-<manifest hash>` holding `features.npy` (all frames of all
utterances, float16), `offsets.npy` (where each utterance starts) and `meta.json`. It is built beside and renamed
into place under a lock, so that a crash half-way, a full disk or a second process never leaves a broken one.
When the manifest or a setting that matters changes, its hash does, and the features are computed again; so they are when
recordings were replaced in place (`contents.py`).
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import filelock
import numpy as np

from vuilab.audio import read_audio
from vuilab.augment import speed_perturb
from vuilab.contents import hash_of_all, hashes_of, last_change
from vuilab.corpus.manifest import Utterance
from vuilab.features import FeatureSettings
from vuilab.files import atomic_folder, progress_bar

CACHE_VERSION = 1
CACHE_DTYPE = np.float16
NUM_THREADS = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """The features of all utterances of a manifest, in the manifest's order."""

    frames: np.ndarray  # float16 memory map (total_frames, num_features)
    offsets: np.ndarray  # int64 (num_utterances + 1,); utterance i is `frames[offsets[i]:offsets[i + 1]]`

    def __getitem__(self, index: int) -> np.ndarray:
        return self.frames[self.offsets[index] : self.offsets[index + 1]]

    @property
    def num_frames(self) -> np.ndarray:
        """Frames of each utterance, (num_utterances,)."""
        return np.diff(self.offsets)


def cache_folder(manifest: Path, settings: FeatureSettings, speeds: Sequence[float] = (1.0,)) -> Path:
    """Return the folder for this manifest, these settings and these playing speeds (existing or not).

    It stands in `.features` beside the manifest, or in a folder for this corpus under the one that VUI_CACHE names.
    """
    folder = manifest.resolve().parent
    perturbed = {} if tuple(speeds) == (1.0,) else {"speeds": list(speeds)}
    text = json.dumps({"version": CACHE_VERSION, **settings.relevant(), **perturbed}, sort_keys=True)
    settings_hash = hashlib.sha256(text.encode()).hexdigest()[:8]
    manifest_hash = hashlib.sha256(str(folder).encode() + manifest.read_bytes()).hexdigest()[:12]
    return _root(manifest) / f"{manifest.stem}-{settings.kind}-{settings_hash}-{manifest_hash}"


def _root(manifest: Path) -> Path:
    folder = manifest.resolve().parent
    if os.environ.get("VUI_CACHE"):  # shared by several corpora, whose manifests have the same names
        return Path(os.environ["VUI_CACHE"]) / f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    return manifest.parent / ".features"


def recording_hashes(manifest: Path, utterances: list[Utterance], progress: bool = True) -> dict[Path, str | None]:
    """Return recording -> hash of what it holds; None where it is gone and was never read."""
    return hashes_of((item.path for item in utterances), _root(manifest) / f".{manifest.stem}.contents", progress)


def load_features(
    manifest: str | Path, utterances: list[Utterance], settings: FeatureSettings, progress: bool = True
) -> FeatureCache:
    """Return the cached features of a manifest, computing them first when there are none.

    Args:
        manifest: the manifest file that `utterances` was read from.
        utterances: all its utterances, in its order; once for each speed where they are to be played at several.

    Raises:
        ValueError: when audio files cannot be used; all of them are named, nothing is written.
        OSError: when the cache cannot be written (no permission, disk full); nothing half-written stays.
    """
    manifest = Path(manifest)
    folder = cache_folder(manifest, settings, list(dict.fromkeys(item.speed for item in utterances)))
    contents = hash_of_all(recording_hashes(manifest, utterances, progress).values())
    if not _up_to_date(folder, utterances, contents):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(folder.parent / ".lock"):
                if not _up_to_date(folder, utterances, contents):
                    _build(folder, utterances, settings, contents, progress)
        except PermissionError as error:
            raise PermissionError(
                f"Cannot write the feature cache under {folder.parent}: {error.strerror}. Make the folder writable, or "
                "name another one in the environment variable VUI_CACHE."
            ) from error
    return FeatureCache(np.load(folder / "features.npy", mmap_mode="r"), np.load(folder / "offsets.npy"))


def _complete(folder: Path) -> bool:
    return (folder / "meta.json").is_file()


def _up_to_date(folder: Path, utterances: list[Utterance], contents: str | None) -> bool:
    """Say whether a cache is there and holds these recordings; what version 0.2 left is judged by its age."""
    if not _complete(folder):
        return False
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    if contents is None or "contents" in meta:
        return contents in (None, meta.get("contents"))
    return last_change(item.path for item in utterances) <= path.stat().st_mtime


def _build(
    folder: Path, utterances: list[Utterance], settings: FeatureSettings, contents: str | None, progress: bool
) -> None:
    """Compute into a folder beside `folder`, then rename. The caller holds the lock."""
    with atomic_folder(folder, ".building-") as building:
        _require_disk(folder.parent, utterances, settings)
        try:
            _write(building, utterances, settings, progress)
            meta = {"version": CACHE_VERSION, "settings": settings.relevant(), "num_utterances": len(utterances)}
            (building / "meta.json").write_text(json.dumps({**meta, "contents": contents}, indent=1))
        except OSError as error:
            raise type(error)(
                error.errno,
                f"Cannot finish the feature cache {folder}: {error.strerror}. Nothing was kept; free some space (or "
                "name another folder in the environment variable VUI_CACHE) and run again",
            ) from error
    prefix = folder.name.rsplit("-", 1)[0]
    for old in folder.parent.glob(f"{prefix}-*"):  # the same manifest before it was changed
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)


def _write(building: Path, utterances: list[Utterance], settings: FeatureSettings, progress: bool) -> None:
    lengths, problems = [], []
    with (building / "features.npy").open("wb") as out:
        _write_header(out, 0, settings.num_features)
        results = _extract_all(utterances, settings)
        kind = f"{settings.kind} features"
        for features, problem in progress_bar(results, kind, len(utterances), " clips", progress):
            if problem:
                problems.append(problem)
                continue
            out.write(features.tobytes())
            lengths.append(len(features))
        out.seek(0)
        _write_header(out, sum(lengths), settings.num_features)
    if problems:
        shown = problems[:10] + ([f"... and {len(problems) - 10} more"] if len(problems) > 10 else [])
        raise ValueError(
            "\n  ".join([f"{len(problems)} of {len(utterances)} audio files cannot be used:", *shown])
            + "\nRun `python vui.py data index` again: it leaves such files out and lists them."
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(building / "offsets.npy", offsets)


def _extract_all(
    utterances: list[Utterance], settings: FeatureSettings
) -> Iterator[tuple[np.ndarray | None, str | None]]:
    """Yield (features, problem) in order; reading and the Fourier transforms release the interpreter lock."""

    def extract(utterance: Utterance) -> tuple[np.ndarray | None, str | None]:
        try:
            samples = read_audio(utterance.path)
            samples = samples if utterance.speed == 1 else speed_perturb(samples, utterance.speed)
            return settings.extract(samples).astype(CACHE_DTYPE), None
        except (ValueError, FileNotFoundError) as error:
            text = str(error)
            return None, text if str(utterance.path) in text else f"{utterance.path}: {text}"

    size = 16 * NUM_THREADS  # bounds the memory held by features not yet written
    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        for start in range(0, len(utterances), size):
            yield from pool.map(extract, utterances[start : start + size])


def _write_header(out: BinaryIO, num_rows: int, num_features: int) -> None:
    """Write a .npy header; NumPy pads it so that a larger number of rows fits in the same room later."""
    descr = np.lib.format.dtype_to_descr(np.dtype(CACHE_DTYPE))
    header = {"descr": descr, "fortran_order": False, "shape": (num_rows, num_features)}
    np.lib.format.write_array_header_1_0(out, header)


def cache_bytes(seconds: float, settings: FeatureSettings) -> float:
    """Return how many bytes the cached features of so much audio take on disk."""
    return seconds * settings.frames_per_second * settings.num_features * np.dtype(CACHE_DTYPE).itemsize


def is_cached(manifest: str | Path, settings: FeatureSettings, speeds: Sequence[float] = (1.0,)) -> bool:
    """Whether the features of a manifest are on disk already."""
    return _complete(cache_folder(Path(manifest), settings, speeds))


def _require_disk(folder: Path, utterances: list[Utterance], settings: FeatureSettings) -> None:
    needed = cache_bytes(sum(utterance.duration for utterance in utterances), settings)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            28,
            f"The feature cache in {folder} needs {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free. Free some "
            "space, or name another folder in the environment variable VUI_CACHE",
        )
