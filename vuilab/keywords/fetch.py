"""Speech Commands fetched and verified, and a small corpus in its layout that the demo voices speak offline.

The archives come from the addresses in the corpus's paper (Warden, arXiv:1804.03209); their MD5 sums are those that
torchaudio's loader checks. While one is fetched, `<root>/.downloads/` holds it; a later run continues there.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import filelock
import numpy as np
import soundfile

from vuilab.audio import SAMPLE_RATE
from vuilab.augment import NOISES
from vuilab.corpus import download
from vuilab.corpus.demo import MARKER, read_marker, record
from vuilab.corpus.voices import Voice, make_speakers, speak
from vuilab.files import atomic_folder, progress_bar
from vuilab.keywords.corpus import (
    BACKGROUND,
    CLIP_SAMPLES,
    COMMANDS,
    CorpusIndex,
    index_folder,
    is_development,
    which_set,
)

ROOT = Path("data")
BASE_URL = "http://download.tensorflow.org/data"


@dataclasses.dataclass(frozen=True)
class Version:
    """One release of the corpus."""

    name: str  # of the archive, without suffix, and of the folder
    md5: str
    archive_bytes: int
    num_words: int


VERSIONS = {
    1: Version("speech_commands_v0.01", "3cd23799cb2bbdec517f1cc028f8d43c", 1_489_096_277, 30),
    2: Version("speech_commands_v0.02", "6b74f3901214cb2c2934e98196829835", 2_428_923_189, 35),
}
UNPACKED = 1.6  # size of the extracted clips over that of the archive, small files rounded up


def fetch_speech_commands(
    version: int = 2,
    root: str | Path = ROOT,
    base_url: str | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    retries: int = 5,
) -> CorpusIndex:
    """Download, verify and extract Google Speech Commands.

    A corpus that stands there verified is not fetched again; a download that was interrupted goes on.

    Args:
        version: 1 (30 words) or 2 (35 words).
        root: folder that gets `speech_commands_v0.01/` or `speech_commands_v0.02/`.
        base_url: address of the folder with the archives (a mirror).
        timeout: seconds without a byte after which a connection counts as dead.
        retries: attempts in a row without progress before giving up.

    Raises:
        ValueError: for another version, a disk too small, or a folder that is in the way or not writable.
        DownloadError: when the server cannot be reached, or sends something else than the corpus.
    """
    if version not in VERSIONS:
        raise ValueError(f"version must be one of {list(VERSIONS)}. Received: version={version}")
    release, root = VERSIONS[version], Path(root)
    folder = root / release.name
    with download.downloads_folder(root) as downloads:
        if download.is_installed(folder, f"python vui.py keywords train {folder}"):
            return index_folder(folder)
        download.require_space(downloads, [release.name], [release.archive_bytes], UNPACKED)
        url = f"{(base_url or BASE_URL).rstrip('/')}/{release.name}.tar.gz"
        path, patience = downloads / f"{release.name}.tar.gz", {"timeout": timeout, "retries": retries}
        archive = download.download(url, path, release.md5, progress=progress, **patience)
        _install(archive, folder, release, url, progress)
    return index_folder(folder)


def _install(archive: Path, folder: Path, release: Version, url: str, progress: bool) -> None:
    """Extract a verified archive aside, look at what it holds, and move it into place."""
    with download.extracted(archive, release.name, progress) as aside:
        try:
            words = index_folder(aside).words
        except ValueError:
            words = ()
        if len(words) != release.num_words:
            raise download.DownloadError(
                f"{archive.name} holds {len(words)} words; {release.num_words} were expected, so it is not that corpus."
            )
        download.mark_verified(aside, url, release.md5)
        aside.replace(folder)  # one step: the corpus is there with its mark, or not at all


DEMO_VERSION = 1  # raise it when the same settings would give other audio
DEMO_WORDS = (*COMMANDS, "bed", "happy", "cat", "seven", "marvin", "tree")
SCALES = {"full": (92, 10, 14, 1), "tiny": (12, 4, 2, 1)}  # speakers for training, validation, testing; takes of a word
DEMO_PARTS = {"train": "train", "validation": "validation", "test": "testing"}  # split of the voices -> part
BACKGROUND_SECONDS = 15
DEVELOPMENT_EVERY = 8  # each such training variant of a voice chooses checkpoints


def make_word_demo(
    out: str | Path | None = None,
    words: tuple[str, ...] = DEMO_WORDS,
    seed: int = 1,
    scale: str = "full",
    progress: bool = True,
) -> CorpusIndex:
    """Make a small corpus of words in the layout of Speech Commands, unless the same one is already there.

    Every speaker is a synthetic voice (see `voices`), and gets a name that the corpus's rule puts into the part that the
    voice belongs to, so that no two parts share a voice. The background recordings are coloured noise. It is made beside
    `out` and renamed when it is complete.

    Args:
        out: the folder; None means `data/speech_commands_demo`. A demo with other settings is replaced.
        words: what each speaker says.
        seed: the same seed and settings give the same clips.
        scale: 'full' (116 speakers) or 'tiny' (18 speakers, for tests).

    Raises:
        FileExistsError: when `out` holds something that is not a demo corpus; it is left as it is.
        ValueError: for an unknown scale or no words.
    """
    if scale not in SCALES or not words:
        raise ValueError(f"scale must be one of {list(SCALES)}, and words not empty. Received: {scale!r}, {words}")
    folder = (ROOT / "speech_commands_demo" if out is None else Path(out)).resolve()
    settings = {"version": DEMO_VERSION, "words": list(words), "seed": seed, "speakers": list(SCALES[scale])}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        marker = read_marker(folder)
        if marker is None or marker["settings"] != settings:
            _make_demo(folder, settings, progress)
    return index_folder(folder)


def _make_demo(folder: Path, settings: dict, progress: bool) -> None:
    seed, words = settings["seed"], settings["words"]
    *numbers, takes = settings["speakers"]
    with atomic_folder(folder) as making:
        speakers = make_speakers(seed, {split: 4 * n for split, n in zip(DEMO_PARTS, numbers, strict=True)})
        jobs = [(voice, word, take) for voice in speakers for word in words for take in range(takes)]
        names = _speaker_names(speakers)
        for number, (voice, word, take) in enumerate(progress_bar(jobs, "Spoken words", len(jobs), " clips", progress)):
            samples = _speak_word(word, voice, np.random.default_rng([seed, 2, number]))
            _write(making / word / f"{names[voice.speaker]}_nohash_{take}.wav", samples)
        for number, (colour, make) in enumerate(NOISES.items()):
            noise = make(BACKGROUND_SECONDS * SAMPLE_RATE, np.random.default_rng([seed, 3, number]))
            _write(making / BACKGROUND / f"{colour}_noise.wav", 0.1 * noise / np.abs(noise).max())
        summary = {"clips": len(jobs), "speakers": len(speakers)}
        (making / MARKER).write_text(json.dumps({"settings": settings, "summary": summary}) + "\n", encoding="utf-8")


def _speaker_names(speakers: list[Voice]) -> dict[str, str]:
    """Return speaker -> eight hexadecimal digits that the corpus's rule puts into the part of the voice.

    Whole voice variants go to the development part, so that it shares no voice with training.
    """
    trained = sorted({voice.variant for voice in speakers if voice.split == "train"})
    development = set(trained[::DEVELOPMENT_EVERY])
    names: dict[str, str] = {}
    for voice in speakers:
        for attempt in range(10_000):
            name = hashlib.sha1(f"{voice.speaker} {attempt}".encode(), usedforsecurity=False).hexdigest()[:8]
            if which_set(name) == DEMO_PARTS[voice.split] and is_development(name) == (voice.variant in development):
                names[voice.speaker] = name
                break
    return names


def _speak_word(word: str, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Return about one second in which a voice says a word somewhere, as a recording: room, noise, random level."""
    rate = round(voice.rate * rng.uniform(0.85, 1.1))
    pitch = int(np.clip(voice.pitch + rng.integers(-6, 7), 0, 99))
    audio, times, _ = speak(word, voice.name, rate, pitch, voice.pitch_range, voice.formant_shift)
    audio = audio[int(times[0][1] * SAMPLE_RATE) : int(times[-1][2] * SAMPLE_RATE) + 1][: CLIP_SAMPLES * 3 // 4]
    room = CLIP_SAMPLES - len(audio)
    lead = int(rng.uniform(0.15, 0.75) * room)
    return record(np.pad(audio, (0, room - lead)), lead, rng)[:CLIP_SAMPLES]


def _write(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.round(samples * 32767).astype(np.int16), SAMPLE_RATE, subtype="PCM_16")
