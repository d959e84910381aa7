"""Google Speech Commands: clips of single words, split by speaker; labels; silence and unknown words.

A corpus is a folder with one folder of clips for each word and `_background_noise_` with long recordings (Warden,
arXiv:1804.03209). A file name begins with the speaker's hash: `0a7c2a8d_nohash_0.wav`. Every part of the data is a
set of speakers: training, development (a tenth of the training speakers, to choose checkpoints), validation and testing.

`index_folder` reads names only; `choose_clips` turns an index and a choice of labels into a `Dataset`; `with_speech` adds
stretches of running speech to the unknown words.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vuilab.audio import SAMPLE_RATE, check
from vuilab.augment import NOISES
from vuilab.corpus.manifest import read_manifest
from vuilab.files import atomic_path

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SILENCE, UNKNOWN = "silence", "unknown"
BACKGROUND = "_background_noise_"
PARTS = ("train", "development", "validation", "testing")
CLIP_SAMPLES = SAMPLE_RATE  # every clip lasts one second
MAX_NUM_WAVS_PER_CLASS = 2**27 - 1  # of the corpus's split rule
VALIDATION_PERCENT, TESTING_PERCENT = 10.0, 10.0
DEVELOPMENT_PERCENT = 10.0  # of the training speakers
AUDIO_SUFFIXES = (".wav", ".flac")
SPEAKER_LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
SHARES = {"train": (0.0, 0.7), "development": (0.7, 0.8), "validation": (0.8, 0.9), "testing": (0.9, 1.0)}
# of each background recording: no two parts hear the same stretch
ZERO, SPEECH = "zero", "(speech)"  # the sources of digital silence and of clips cut from running speech
SHORTEST = 1.1  # seconds of an utterance that stretches are cut from
SILENCE_CYCLE = (
    "recorded", "reversed", "recorded", "reversed", "coloured", "recorded", "reversed", "coloured", ZERO, "coloured",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Clip:
    """One second of a word, of running speech, or of silence."""

    label: str
    word: str  # folder it comes from; of silence the kind: 'recorded', 'reversed', 'zero' or a colour of noise
    part: str  # 'train', 'development', 'validation' or 'testing'
    speaker: str  # hash of the speaker; of silence ''
    key: str  # path below the corpus; '' where nothing is read
    start: int = 0  # of silence and running speech: first sample of the recording at 16 kHz
    gain: float = 1.0  # of silence
    seed: int = 0  # of coloured noise

    @property
    def is_cut(self) -> bool:
        """Whether the clip is made of a stretch or of nothing, rather than being a file of its own."""
        return self.label == SILENCE or self.word == SPEECH


@dataclasses.dataclass(frozen=True)
class CorpusIndex:
    """What a folder holds, by name; no clip has been opened."""

    folder: Path
    files: dict[str, tuple[str, ...]]  # word -> keys of its clips, sorted
    backgrounds: tuple[str, ...]  # keys of the background recordings
    skipped: tuple[str, ...]  # what was passed over, and why
    speaker_parts: dict[str, str]  # of the corpus's own lists: speaker -> 'validation' or 'testing'
    has_lists: bool

    @property
    def words(self) -> tuple[str, ...]:
        """Return the words there are, sorted."""
        return tuple(self.files)

    @property
    def missing_commands(self) -> tuple[str, ...]:
        """Return which of the ten commands of the challenge have no clips here."""
        return tuple(word for word in COMMANDS if word not in self.files)

    def part(self, key: str) -> str:
        """Return the part that a clip belongs to, which its speaker alone decides."""
        speaker = speaker_of(key)
        part = self.speaker_parts.get(speaker, "train") if self.has_lists else which_set(key)
        return "development" if part == "train" and is_development(speaker) else part

    def __str__(self) -> str:
        counts = ", ".join(f"{word} {len(keys)}" for word, keys in self.files.items())
        lines = [f"{self.folder}: {sum(map(len, self.files.values()))} clips of {len(self.files)} words ({counts})"]
        if self.missing_commands:
            lines.append(f"  of the ten commands it lacks: {' '.join(self.missing_commands)}")
        return "\n".join(lines + [f"  skipped {text}" for text in self.skipped])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Labelled clips of a corpus."""

    folder: Path
    labels: tuple[str, ...]  # class k is labels[k]
    clips: tuple[Clip, ...]
    seed: int  # of the choice of unknown words and silence
    missing: tuple[str, ...]  # commands of the challenge that the corpus lacks; () for another choice of labels
    skipped: tuple[str, ...]
    backgrounds: tuple[str, ...]

    def part(self, name: str) -> list[Clip]:
        """Return the clips of one part."""
        return [clip for clip in self.clips if clip.part == name]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return part -> label -> number of clips."""
        found = {name: Counter(clip.label for clip in self.part(name)) for name in PARTS}
        return {name: {label: found[name][label] for label in self.labels} for name in PARTS}

    def speakers(self, part: str) -> list[str]:
        """Return the sorted speakers of one part."""
        return sorted({clip.speaker for clip in self.part(part) if clip.speaker})

    def fingerprint(self) -> str:
        """Return a hash of the labels and the choice of clips."""
        return hashlib.sha256(json.dumps(_plain(self), sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        lines = [f"{len(self.labels)} labels: {' '.join(self.labels)}"]
        if self.missing:
            lines.append(f"  the corpus has no clips of: {' '.join(self.missing)}")
        for name in PARTS:
            clips = self.part(name)
            lines.append(f"  {name:<11} {len(clips):6d} clips  {len(self.speakers(name)):5d} speakers")
        return "\n".join(lines)


def speaker_of(key: str | Path) -> str:
    """Return the speaker of a clip: what its file name says before `_nohash_`."""
    return re.sub(r"_nohash_.*$", "", Path(key).name)


def which_set(key: str | Path, validation: float = VALIDATION_PERCENT, testing: float = TESTING_PERCENT) -> str:
    """Return the part of a clip by the rule in the corpus's README (Warden, arXiv:1804.03209, section 5).

    The SHA-1 of the speaker's name, modulo 2^27, as a percentage: below `validation`, below `validation + testing` or above,
    which is 'train'. So a speaker's clips stay together, and in their part when the corpus grows.

    Example:
        >>> which_set("right/a69b9b3e_nohash_0.wav"), which_set("right/bb05582b_nohash_3.wav")
        ('validation', 'testing')
    """
    number = int(hashlib.sha1(speaker_of(key).encode(), usedforsecurity=False).hexdigest(), 16)
    percent = (number % (MAX_NUM_WAVS_PER_CLASS + 1)) * (100.0 / MAX_NUM_WAVS_PER_CLASS)
    if percent < validation:
        return "validation"
    return "testing" if percent < validation + testing else "train"


def is_development(speaker: str) -> bool:
    """Whether a training speaker is one of those that choose the checkpoints: the same rule on another hash."""
    return which_set(f"development:{speaker}", DEVELOPMENT_PERCENT, 0) == "validation"


def index_folder(folder: str | Path) -> CorpusIndex:
    """List the clips in a folder by their names: a folder for each word, perhaps `_background_noise_` and the corpus's two lists.

    Raises:
        FileNotFoundError: when there is no such folder.
        ValueError: when no folder in it holds clips, or a speaker stands in both lists.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"No folder {folder}. Fetch the corpus with `python vui.py data speech_commands`, or make a small one offline "
            "with `python vui.py data speech_commands --demo`."
        )
    places = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")
    found = {place.name: _audio_keys(place) for place in places}
    files = {word: keys for word, keys in found.items() if keys}
    skipped = tuple(f"{word}/: no {' or '.join(AUDIO_SUFFIXES)} files in it" for word in found if not found[word])
    if not files:
        raise ValueError(
            f"{folder} holds no folders with clips. Expected one folder for each word, such as {folder}/yes/*.wav."
        )
    backgrounds = _audio_keys(folder / BACKGROUND) if (folder / BACKGROUND).is_dir() else ()
    lists = {part: folder / name for part, name in SPEAKER_LISTS.items() if (folder / name).is_file()}
    return CorpusIndex(folder, files, backgrounds, skipped, _read_lists(lists), bool(lists))


def _audio_keys(place: Path) -> tuple[str, ...]:
    paths = (path for path in place.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES and path.name[0] != ".")
    return tuple(sorted(f"{place.name}/{path.name}" for path in paths))


def _read_lists(lists: dict[str, Path]) -> dict[str, str]:
    """Return the part of each speaker in the corpus's lists; a speaker is in one part with all clips."""
    parts: dict[str, str] = {}
    for part, path in lists.items():
        for line in path.read_text(encoding="utf-8").split():
            other = parts.setdefault(speaker_of(line), part)
            if other != part:
                raise ValueError(
                    f"The speaker {speaker_of(line)} stands in {SPEAKER_LISTS[other]} and in {path.name}, so the parts would "
                    "share a voice. Remove the speaker's lines from one of them, or both lists: the names decide then."
                )
    return parts


def choose_clips(
    index: CorpusIndex, words: Sequence[str] | str | None = None, seed: int = 0, unknown_factor: float = 1.0
) -> Dataset:
    """Choose labels and the clips that go with them.

    Args:
        index: of a corpus.
        words: labels in the order of the classes; 'silence' and 'unknown' among them are made as told below. 'challenge':
            the ten commands, as far as the corpus has them, then silence and unknown. None: every word of the corpus.
        seed: of what is chosen at random.
        unknown_factor: so many times as many unknown words in the parts 'train' and 'development', as far as there are:
            whoever listens to running speech hears mostly those.

    Returns:
        The clips. Unknown words and silence have in each part as many as a word has on average, which in the challenge are
        its 10 %. Unknown words are drawn from all clips of the other words. Silence is cut from the background recordings, of
        which each part has its own stretch, and played forwards or backwards; three in ten are coloured noise, one digital zero.

    Raises:
        ValueError: for a label that the corpus has no clips of, a label twice, fewer than two labels, or no other words
            to take 'unknown' from.
    """
    if unknown_factor <= 0:
        raise ValueError(f"unknown_factor must be positive. Received: unknown_factor={unknown_factor}")
    missing = index.missing_commands if words == "challenge" else ()
    if words == "challenge":
        words = [*(word for word in COMMANDS if word in index.files), SILENCE, UNKNOWN]
    labels = tuple(index.words if words is None else words)
    wanted = [label for label in labels if label not in (SILENCE, UNKNOWN)]
    unheard = [label for label in wanted if label not in index.files]
    if unheard:
        raise ValueError(
            f"{index.folder} has no clips of: {' '.join(unheard)}. Choose from: {' '.join(index.words)}, silence, unknown."
        )
    if len(set(labels)) < len(labels) or len(labels) < 2 or not wanted:
        raise ValueError(
            f"A classifier needs at least two different labels, one of them a word. Received: {' '.join(labels)}."
        )
    rng = np.random.default_rng(seed)
    clips = [_word_clip(index, key, word, word) for word in wanted for key in index.files[word]]
    numbers = {part: round(sum(clip.part == part for clip in clips) / len(wanted)) for part in PARTS}
    if UNKNOWN in labels:
        others = [word for word in index.words if word not in wanted]
        if not others:
            raise ValueError(
                "The label 'unknown' is for words that are no labels, and all words of the corpus are. Leave it out, or choose "
                f"fewer of: {' '.join(index.words)}."
            )
        more = {part: unknown_factor if part in ("train", "development") else 1 for part in PARTS}
        clips += _unknown_clips(index, others, {part: round(more[part] * numbers[part]) for part in PARTS}, rng)
    if SILENCE in labels:
        clips += _silence_clips(index, numbers, rng)
    return Dataset(index.folder, labels, tuple(clips), seed, missing, index.skipped, index.backgrounds)


def _word_clip(index: CorpusIndex, key: str, word: str, label: str) -> Clip:
    return Clip(label, word, index.part(key), speaker_of(key), key)


def _unknown_clips(
    index: CorpusIndex, others: list[str], numbers: dict[str, int], rng: np.random.Generator
) -> list[Clip]:
    pool = [_word_clip(index, key, word, UNKNOWN) for word in others for key in index.files[word]]
    chosen = []
    for part in PARTS:
        candidates = [clip for clip in pool if clip.part == part]
        chosen += [candidates[n] for n in sorted(rng.permutation(len(candidates))[: numbers[part]])]
    return chosen


def _silence_clips(index: CorpusIndex, numbers: dict[str, int], rng: np.random.Generator) -> list[Clip]:
    """Plan silence: half of the clips or more from recordings, the rest coloured noise and digital zero."""
    lengths = {key: _num_samples(index.folder / key) for key in index.backgrounds}
    # a part must have more than a second of a recording to cut from
    recordings = {key: length for key, length in lengths.items() if length / 10 > CLIP_SAMPLES}
    cycle = [kind for kind in SILENCE_CYCLE if recordings or kind not in ("recorded", "reversed")]
    clips, colours = [], list(NOISES)
    for part in PARTS:
        for number in range(numbers[part]):
            kind = cycle[number % len(cycle)]
            gain, seed = float(np.round(10 ** rng.uniform(-2, 0), 4)), int(rng.integers(2**31))
            if kind == ZERO:
                clips.append(Clip(SILENCE, ZERO, part, "", ""))
            elif kind == "coloured":  # up to a tenth of full scale
                clips.append(Clip(SILENCE, colours[seed % len(colours)], part, "", "", 0, gain / 10, seed))
            else:
                key = list(recordings)[seed % len(recordings)]
                low, high = (int(share * recordings[key]) for share in SHARES[part])
                start = int(rng.integers(low, high - CLIP_SAMPLES + 1))
                clips.append(Clip(SILENCE, kind, part, "", key, start, gain))
    return clips


def _num_samples(path: Path) -> int:
    """Return the length of a recording at 16 kHz; 0 where it cannot be read."""
    try:
        num_samples, rate = check(path)
    except (ValueError, OSError):
        return 0
    return int(num_samples * SAMPLE_RATE / rate)


def with_speech(dataset: Dataset, manifest: str | Path, num_clips: int, seed: int = 0) -> Dataset:
    """Return the dataset with stretches of running speech among the unknown clips of 'train' and 'development'.

    Clips of single words do not teach a network what words sound like inside sentences, cut anywhere. A speaker belongs to
    one of the two parts; validation and testing stay as they are, so that accuracies compare.

    Args:
        dataset: with the label 'unknown'.
        manifest: of transcribed speech; utterances that hold a label, or whose speaker is not known, take no part.
        num_clips: so many stretches of one second in all, drawn uniformly over the time.
        seed: of the choice.

    Raises:
        ValueError: without the label 'unknown', without usable utterances, or for fewer than 1 clips.
        FileNotFoundError: when there is no such manifest.
    """
    if UNKNOWN not in dataset.labels or num_clips < 1:
        raise ValueError(
            "Running speech is for the label 'unknown', at least 1 clip of it. Received: labels "
            f"{' '.join(dataset.labels)}, num_clips={num_clips}. Put unknown among the words, or take the challenge's."
        )
    words = set(dataset.labels)
    known = [item for item in read_manifest(manifest) if item.speaker is not None and item.duration >= SHORTEST]
    usable = [item for item in known if not words & set(item.text.split())]
    if not usable:
        raise ValueError(
            f"No utterance in {manifest} has a known speaker, {SHORTEST} s, and none of the labels. Name another manifest."
        )
    rng = np.random.default_rng([seed, 21])
    durations = np.array([item.duration - 1 for item in usable])
    clips = []
    for index in rng.choice(len(usable), num_clips, p=durations / durations.sum()):
        item = usable[index]
        start = int(rng.integers(0, int(item.duration * SAMPLE_RATE) - CLIP_SAMPLES))
        part = "development" if is_development(item.speaker) else "train"
        # both resolved: '..' leads out of a linked folder to where the link points
        key = Path(os.path.relpath(item.path.resolve(), dataset.folder.resolve())).as_posix()
        clips.append(Clip(UNKNOWN, SPEECH, part, item.speaker, key, start))
    return dataclasses.replace(dataset, clips=(*dataset.clips, *clips))


def write_dataset(path: str | Path, dataset: Dataset) -> None:
    """Write what was chosen as JSON: labels, seed, missing commands, what was skipped, and every clip with its part."""
    text = json.dumps(_plain(dataset) | {"skipped": list(dataset.skipped)}, indent=0)
    with atomic_path(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _plain(dataset: Dataset) -> dict:
    return {
        "version": 1,
        "labels": list(dataset.labels),
        "seed": dataset.seed,
        "missing": list(dataset.missing),
        "clips": [dataclasses.asdict(clip) for clip in dataset.clips],
    }
