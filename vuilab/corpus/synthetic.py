"""Synthetic speech of any text, as much as wanted: to train on beside, or before, a small corpus of real speech.

Sentences of books are spoken by every voice that espeak-ng brings, in several accents, as recordings with room and noise
(`demo.record`). What it is worth on real speech is for measurements to say: the voices sound like nobody.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vuilab.corpus import manifest
from vuilab.corpus.books import read_sentences
from vuilab.corpus.demo import render_all
from vuilab.corpus.voices import ACCENTS, VARIANTS, Voice, draw_voice
from vuilab.files import atomic_folder, progress_bar
from vuilab.text import invalid_characters

VERSION = 1  # raise it when the same settings would give other audio
MARKER = "SYNTHETIC.json"  # tells a folder made here from others
FIRST_SPEAKER = 95_001  # above those of LibriSpeech and of the demo
NUM_WORDS = (3, 25)  # of a sentence, fewest and most
SPREAD = ((145, 206), (35, 66), (35, 71), (0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075))  # see `voices.SPREAD`
PIECE = 200  # sentences between two looks at how much there is


@dataclasses.dataclass(frozen=True)
class SyntheticReport:
    """What was made."""

    folder: Path
    hours: float  # of synthetic speech
    num_utterances: int
    num_speakers: int
    num_words: int  # distinct
    num_beside: int  # training utterances of the other corpus

    def __str__(self) -> str:
        """Return two lines for the reader."""
        beside = f", beside {self.num_beside:,} of the other corpus" if self.num_beside else ""
        return (
            f"Synthetic speech in {self.folder}: {self.hours:.2f} h, {self.num_utterances:,} utterances of {self.num_speakers} "
            f"voices, {self.num_words:,} distinct words{beside}.\nTrain on it with --corpus {self.folder}"
        )


def make_synthetic(
    texts: Sequence[str | Path],
    out: str | Path,
    hours: float = 1.0,
    beside: str | Path | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
) -> SyntheticReport:
    """Speak sentences drawn from texts, and write a training manifest of them.

    The corpus is made in a folder beside `out` and renamed when it is complete.

    Args:
        texts: files of plain text, gzipped or not.
        out: the folder; one that this function made before is replaced.
        hours: of speech, at least.
        beside: folder of another corpus: its training utterances are added to the manifest, and its validation and test
            manifests are taken over. Sentences that stand in those are not spoken.
        seed: of sentences, voices and recordings.
        workers, progress: processes that speak, 0 speaks in this one; show a progress bar.

    Raises:
        FileNotFoundError: for a text or corpus that is not there.
        FileExistsError: when `out` holds something else; it is left as it is.
        ValueError: for a number of hours that is not positive, or texts with too few sentences.
    """
    if hours <= 0 or workers < 0:
        raise ValueError(f"hours must be positive and workers >= 0. Received: hours={hours}, workers={workers}")
    folder = Path(out).resolve()
    if folder.exists() and not (folder / MARKER).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already and was not made by this command. Choose another --out.")
    others = _other_manifests(beside)
    held_back = {item.text for split, items in others.items() if split != "train" for item in items}
    sentences = _sentences(texts, seed, held_back)
    with atomic_folder(folder) as making:
        spoken = _speak(sentences, making, hours, seed, workers, progress)
        for split in manifest.MANIFESTS:
            items = [*(spoken if split == "train" else ()), *others.get(split, ())]
            if items:
                manifest.write_manifest(making / manifest.MANIFESTS[split], items)
        digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] for path in texts]
        settings = {"version": VERSION, "seed": seed, "hours": hours, "texts": digests}
        (making / MARKER).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return SyntheticReport(
        folder,
        sum(item.duration for item in spoken) / 3600,
        len(spoken),
        len({item.speaker for item in spoken}),
        len({word for item in spoken for word in item.text.split()}),
        len(others.get("train", ())),
    )


def make_voices(seed: int) -> list[Voice]:
    """Return a speaker for every voice variant, two of each, in accents that take turns.

    Example:
        >>> len(make_voices(0)), len({voice.variant for voice in make_voices(0)})
        (128, 64)
    """
    rng = np.random.default_rng([seed, 11])
    variants = sorted(itertools.chain.from_iterable(VARIANTS.values()))
    order = [variants[i] for _ in range(2) for i in rng.permutation(len(variants))]
    return [
        draw_voice(rng, str(FIRST_SPEAKER + number), "train", variant, ACCENTS[number % len(ACCENTS)], SPREAD)
        for number, variant in enumerate(order)
    ]


def _other_manifests(beside: str | Path | None) -> dict[str, list[manifest.Utterance]]:
    if beside is None:
        return {}
    found = {split: Path(beside) / name for split, name in manifest.MANIFESTS.items()}
    there = {split: manifest.read_manifest(path) for split, path in found.items() if path.is_file()}
    if "train" not in there:
        raise FileNotFoundError(
            f"No {manifest.MANIFESTS['train']} in {beside}. Make it: python vui.py data index --help"
        )
    return there


def _sentences(texts: Sequence[str | Path], seed: int, held_back: set[str]) -> list[str]:
    """Return the different sentences of the texts that can be spoken, in random order."""
    fewest, most = NUM_WORDS
    found = dict.fromkeys(
        sentence
        for path in texts
        for sentence in read_sentences(path)
        if fewest <= len(sentence.split()) <= most and sentence not in held_back and not invalid_characters(sentence)
    )
    sentences = list(found)
    return [sentences[index] for index in np.random.default_rng([seed, 10]).permutation(len(sentences))]


def _speak(
    sentences: Sequence[str], folder: Path, hours: float, seed: int, workers: int, progress: bool
) -> list[manifest.Utterance]:
    """Speak sentences until there are so many hours."""
    voices, spoken, seconds = make_voices(seed), [], 0.0
    starts = iter(range(0, len(sentences), PIECE))  # it is not known how many it takes
    for start in progress_bar(starts, "Synthetic speech", None, " x 200 sentences", progress):
        jobs = []
        for number, text in enumerate(sentences[start : start + PIECE], start):
            voice = voices[number % len(voices)]
            path = folder / "synthetic" / voice.speaker / f"{voice.speaker}-{number:06d}.flac"
            seeds = [seed, 12, number]
            jobs.append({"path": str(path), "text": text, "voice": dataclasses.asdict(voice), "seed": seeds})
        for job, result in zip(jobs, render_all(jobs, workers), strict=True):
            spoken.append(
                manifest.Utterance(Path(job["path"]), result["duration"], job["text"], job["voice"]["speaker"])
            )
            seconds += result["duration"]
        if seconds >= 3600 * hours:
            return spoken
    raise ValueError(
        f"The texts have {len(sentences):,} different sentences of {NUM_WORDS[0]} to {NUM_WORDS[1]} words, which are "
        f"{seconds / 3600:.2f} h of speech; expected at least {hours:g} h. Give more texts, or fewer hours."
    )
