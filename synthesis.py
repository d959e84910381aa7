"""The demo corpus: synthetic speakers in LibriSpeech layout, made offline in seconds, with true word times.

The voices are those of espeak-ng (GPL-3, https://github.com/espeak-ng/espeak-ng), used as an unmodified shared
library that is loaded at run time from its own package, `espeakng-loader`; no part of it is copied here. The audio
that it produces is not covered by its licence. The sentences are our own (`sentences.py`).

`speak` gives the clean speech of one voice with the time of every word; `make_demo` makes the corpus. Everything
follows from the seed: the same seed gives the same bytes, whatever the number of worker processes.
"""

import _ctypes
import contextlib
import ctypes
import dataclasses
import hashlib
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import filelock
import numpy as np
import scipy.signal
import soundfile
from tqdm import tqdm

import corpora
from sentences import split_sentences
from utils import SAMPLE_RATE, invalid_characters, project_root

DEMO_VERSION = 1  # raise it when the same plan (sentences, voices, seeds) would give other audio
MARKER = "DEMO.json"  # tells a demo folder from a user's own corpus
SUBSETS = {"train": "demo-train", "validation": "demo-valid", "test": "demo-test"}
SCALES = {"full": (820, 84, 124), "tiny": (44, 6, 10)}  # utterances for training, validation, test

# Left out of every split: whispers, robots and effects, and near-copies of a variant that is used (Gene2, steph2,
# steph3, Mr serious, iven, klatt4, klatt6, michel, benjamin), so that no voice crosses over under another name; and
# Reed, whose breath comes from the C library's own random numbers, which cannot be seeded portably.
_TRAIN_VARIANTS = """
    Alicia Andrea Andy Annie Diogo Henrique Hugo Jacky Lee Mario Mike Nguyen Storm Tweaky adam anika belinda
    boris david ed edward f2 f3 f4 f5 grandma grandpa gustave iven2 iven4 john klatt3 klatt5 linda m1 m2 m4 m5 m7
    marcelo miguel mike2 norbert pablo paul pedro quincy rob robert shelby travis victor
    """
VARIANTS = {
    "train": tuple(_TRAIN_VARIANTS.split()),
    "validation": ("Alex", "Gene", "aunty", "m6", "max"),
    "test": ("Denis", "Michael", "antonio", "f1", "m3", "m8", "steph"),
}
_FEMALE = "Alicia Andrea Annie anika aunty belinda f1 f2 f3 f4 f5 grandma linda shelby steph"
FEMALE = frozenset(_FEMALE.split())
ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-us-nyc", "en-gb-scotland", "en-us", "en-gb-x-gbclan", "en-029")
SPEAKERS_PER_VARIANT = 2
FIRST_SPEAKER = 90_001  # above every LibriSpeech speaker, so that the two can be mixed

_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_SYNCHRONOUS, _PHONEME_EVENTS_NO_EXIT = 2, 0x8001
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_PARAMETER
_SILENCE = 1e-3  # of the peak: quieter than this before the first or after the last word is no speech

WordTimes = list[tuple[str, float, float]]  # (word, start, end) in seconds


@dataclasses.dataclass(frozen=True)
class Voice:
    """One synthetic speaker."""

    speaker: str  # number used as LibriSpeech uses reader numbers
    split: str  # train, validation or test
    variant: str  # espeak-ng voice variant: vocal tract, timbre, intonation
    accent: str  # espeak-ng language name
    rate: int  # words per minute
    pitch: int  # 0..99, 50 is the variant's own
    pitch_range: int  # 0..99, 50 is the variant's own
    formant_shift: float  # all frequencies times this, as a shorter (> 1) vocal tract has them

    @property
    def name(self) -> str:
        """The name by which espeak-ng knows accent and variant."""
        return f"{self.accent}+{self.variant}"

    @property
    def sex(self) -> str:
        """M or F, as the table SPEAKERS.TXT has it."""
        return "F" if self.variant in FEMALE else "M"


@dataclasses.dataclass(frozen=True)
class DemoReport:
    """What a demo corpus holds, as printed by `make_demo`."""

    folder: Path
    made: bool  # False when it was already there
    seconds: float  # wall time
    splits: dict[str, dict]  # split -> speakers, utterances, minutes
    num_words: int  # distinct words
    mean_duration: float  # seconds
    unseen_share: float  # of the test utterances, holding a word that training never had
    num_interpolated: int  # words whose start is estimated inside a pair that espeak-ng speaks as one
    num_spoken: int  # words in all

    def __str__(self) -> str:
        """Return a few lines for the reader."""
        took = (
            f"made in {self.seconds:.0f} s"
            if self.made
            else "already there with these settings, nothing made"
        )
        lines = [f"Demo corpus in {self.folder} ({took})"]
        for split, numbers in self.splits.items():
            lines.append(
                f"  {split:<10} {numbers['utterances']:5d} utterances  {numbers['speakers']:3d} speakers "
                f"{numbers['minutes']:5.1f} min"
            )
        lines.append(
            f"  {self.num_words} distinct words, {self.mean_duration:.2f} s on average, "
            f"{self.unseen_share:.0%} of the test sentences hold a word that training never had"
        )
        return "\n".join(lines)


# ------------------------------------------------------------------------------------------------ one voice


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_LOCK = threading.Lock()  # the library keeps its state in global variables


@contextlib.contextmanager
def _fresh_library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """Yield a newly loaded espeak-ng and its sample rate.

    Loading costs 1 ms and is half of what makes speech repeatable: the phases of the random flutter live in static
    variables, which neither `espeak_Terminate` nor a new `espeak_Initialize` resets. The other half is the seed of
    the breath noise, which `espeak_Initialize` takes from the clock.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise ModuleNotFoundError(
            "The demo voices need the package espeakng-loader, which is not installed. "
            "Install it with: pip install -c constraints.txt espeakng-loader"
        ) from error
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        data = espeakng_loader.get_data_path()
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _PHONEME_EVENTS_NO_EXIT)
        if rate <= 0:
            raise RuntimeError(
                f"espeak-ng cannot read its data in {data} (it answered {rate}). Reinstall espeakng-loader; if the "
                f"path is long (here {len(data)} characters), move the environment to a shorter one."
            )
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        try:
            yield library, rate
        finally:
            library.espeak_Terminate()
    finally:
        close = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary
        close(library._handle)


def _run_espeak(text: str, name: str, parameters: dict[int, int]) -> tuple[np.ndarray, int, list[tuple]]:
    """Return (samples int16, their rate, [(event type, text position, sample)]) of one text."""
    chunks: list[np.ndarray] = []
    events: list[tuple[int, int, int]] = []

    def receive(samples, num_samples, event):
        if samples and num_samples > 0:
            chunks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        index = 0
        while event[index].type != _EVENT_END_OF_LIST:
            events.append((event[index].type, event[index].text_position, event[index].sample))
            index += 1
        return 0

    callback = _Callback(receive)
    with _LOCK, _fresh_library() as (library, rate):
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(name.encode()) != 0:
            raise ValueError(
                f"espeak-ng has no voice {name!r}. Expected accent+variant, for example 'en-us+m3'; the accents are "
                f"{', '.join(sorted(set(ACCENTS)))}, the variants those in synthesis.VARIANTS."
            )
        for parameter, value in parameters.items():
            library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, 1, None, None)
        library.espeak_Synchronize()
    return (np.concatenate(chunks) if chunks else np.zeros(0, np.int16)), rate, events


def _word_starts(text: str, events: list[tuple[int, int, int]], end: int) -> tuple[list[int], int]:
    """Return the first sample of every word, and for how many words it is an estimate.

    Some pairs ("in the", "for a") are one entry of espeak-ng's dictionary and give one event. The words inside such
    a pair share its phonemes in proportion to their letters.
    """
    words = text.split()
    positions = np.cumsum([0] + [len(word) + 1 for word in words])[:-1]
    heard = {position - 1: sample for kind, position, sample in reversed(events) if kind == _EVENT_WORD}
    phonemes = sorted({sample for kind, _, sample in events if kind == _EVENT_PHONEME})
    starts = [heard.get(int(position)) for position in positions]
    starts[0] = starts[0] or 0
    num_missing = starts.count(None)
    index = 0
    while index < len(words):
        stop = index + 1
        while stop < len(words) and starts[stop] is None:
            stop += 1
        if stop > index + 1:
            last = starts[stop] if stop < len(words) else end
            inside = [sample for sample in phonemes if starts[index] <= sample < last]
            letters = np.cumsum([len(word) for word in words[index:stop]])
            for offset, share in enumerate(letters[:-1] / letters[-1], start=index + 1):
                place = round(share * len(inside))
                exact = starts[index] + share * (last - starts[index])
                starts[offset] = inside[place] if 0 < place < len(inside) else int(exact)
        index = stop
    return [int(sample) for sample in np.maximum.accumulate(starts)], num_missing


def _speak(
    text: str, name: str, rate: int, pitch: int, pitch_range: int, formant_shift: float
) -> tuple[np.ndarray, WordTimes, int]:
    """Return what `speak` returns, and the number of word starts that are estimates."""
    if not text.split() or invalid_characters(text):
        raise ValueError(
            f"Cannot speak {text!r}. Expected words of the letters a-z and the apostrophe, separated by spaces. "
            "Write numbers as words and drop the punctuation."
        )
    text = " ".join(text.split())
    # Shifting the formants plays the speech faster, so that it has to be spoken slower to last as long.
    parameters = {_RATE: round(rate / formant_shift), _VOLUME: 100, _PITCH: pitch, _RANGE: pitch_range}
    samples, espeak_rate, events = _run_espeak(text, name, parameters)
    ratio = Fraction(SAMPLE_RATE / (espeak_rate * formant_shift)).limit_denominator(500)
    audio = scipy.signal.resample_poly(samples / 32768.0, ratio.numerator, ratio.denominator).astype(
        np.float32
    )
    loud = np.flatnonzero(np.abs(audio) > _SILENCE * np.abs(audio).max(initial=1e-9))
    if not len(loud):
        raise ValueError(
            f"espeak-ng made no sound for {text!r} with the voice {name!r}; choose another voice."
        )
    starts, num_missing = _word_starts(text, events, len(samples))
    first, last = loud[0], loud[-1] + 1
    edges = np.clip(np.append(np.array(starts) * float(ratio), last), first, last) / SAMPLE_RATE
    edges[0] = first / SAMPLE_RATE
    times = [
        (word, round(float(start), 5), round(float(end), 5))
        for word, start, end in zip(text.split(), edges[:-1], edges[1:], strict=True)
    ]
    return audio, times, num_missing


def speak(
    text: str,
    voice: str | Voice = "en-us+m3",
    rate: int = 170,
    pitch: int = 50,
    pitch_range: int = 50,
    formant_shift: float = 1.0,
) -> tuple[np.ndarray, WordTimes]:
    """Speak one sentence with a synthetic voice, without noise or room.

    Args:
        text: lower-case words of a-z and apostrophe.
        voice: `accent+variant` as espeak-ng names it, or a `Voice`, whose own settings then replace the others.
        rate: words per minute, 80 to 450.
        pitch: 0 to 99; 50 is the variant's own.
        pitch_range: 0 (monotone) to 99; 50 is the variant's own.
        formant_shift: all frequencies times this, about 0.9 to 1.1; the duration stays.

    Returns:
        (audio, words): float32 (num_samples,) at 16 kHz, and for each word (word, start, end) in seconds.

    Raises:
        ValueError: on other characters, an unknown voice, or a voice that stays silent.
    """
    if isinstance(voice, Voice):
        settings = (voice.name, voice.rate, voice.pitch, voice.pitch_range, voice.formant_shift)
    else:
        settings = (voice, rate, pitch, pitch_range, formant_shift)
    audio, words, _ = _speak(text, *settings)
    return audio, words


def make_speakers(seed: int, num_utterances: dict[str, int]) -> list[Voice]:
    """Return the speakers of a demo corpus; no two splits share a voice variant.

    Args:
        seed: the same seed gives the same speakers.
        num_utterances: split -> utterances; a split has at most one speaker for every four.
    """
    rng = np.random.default_rng([seed, 1])
    speakers: list[Voice] = []
    for split, variants in VARIANTS.items():
        pool = [variants[i] for _ in range(SPEAKERS_PER_VARIANT) for i in rng.permutation(len(variants))]
        for position, variant in enumerate(pool[: max(1, num_utterances[split] // 4)]):
            voice = Voice(
                speaker=str(FIRST_SPEAKER + len(speakers)),
                split=split,
                variant=variant,
                accent=ACCENTS[position % len(ACCENTS)],
                rate=int(rng.integers(155, 196)),
                pitch=int(rng.integers(38, 63)),
                pitch_range=int(rng.integers(40, 66)),
                formant_shift=float(rng.choice([0.95, 0.975, 1.0, 1.025, 1.05])),
            )
            speakers.append(voice)
    return speakers


# ------------------------------------------------------------------------------------------ one utterance


def _room(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the audio as a small room gives it back: the direct sound and a short decaying tail."""
    reverberation = rng.uniform(0.08, 0.25)  # seconds to fall by 60 dB
    length = int(reverberation * SAMPLE_RATE)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail[: SAMPLE_RATE // 500] = 0  # the first reflection comes after 2 ms
    tail *= 10 ** (-rng.uniform(8, 16) / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return scipy.signal.fftconvolve(audio, tail)[: len(audio)]


def _noise(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return white or pink noise of unit power."""
    noise = rng.standard_normal(num_samples)
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1.0), num_samples)
    return noise / np.sqrt(np.mean(noise**2))


def _record(audio: np.ndarray, lead: int, rng: np.random.Generator) -> np.ndarray:
    """Return clean speech as a recording: silence around it, sometimes a room, noise, and a random level."""
    audio = np.concatenate([np.zeros(lead), audio, np.zeros(int(rng.uniform(0.05, 0.2) * SAMPLE_RATE))])
    if rng.random() < 0.4:
        audio = _room(audio, rng)
    power = np.mean(audio**2)
    audio = audio + _noise(len(audio), rng) * np.sqrt(power) * 10 ** (-rng.uniform(20, 40) / 20)
    return audio / np.abs(audio).max() * 10 ** (rng.uniform(-18, -3) / 20)


def _render(job: dict) -> dict:
    """Make one utterance: write its FLAC and return its duration and word times.

    Args:
        job: `path` of the FLAC, `text`, `voice` (fields of `Voice`), `seed` (list of integers).
    """
    rng = np.random.default_rng(job["seed"])
    voice = Voice(**job["voice"])
    rate = round(voice.rate * rng.uniform(0.95, 1.05))
    audio, words, num_missing = _speak(
        job["text"], voice.name, rate, voice.pitch, voice.pitch_range, voice.formant_shift
    )
    start, end = (
        int(words[0][1] * SAMPLE_RATE),
        int(words[-1][2] * SAMPLE_RATE) + 1,
    )  # without espeak's own silence
    lead = int(rng.uniform(0.08, 0.25) * SAMPLE_RATE)
    samples = _record(audio[start:end], lead, rng)
    shift = (lead - start) / SAMPLE_RATE
    path = Path(job["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        path, np.round(samples * 32767).astype(np.int16), SAMPLE_RATE, format="FLAC", subtype="PCM_16"
    )
    duration = len(samples) / SAMPLE_RATE
    return {
        "duration": duration,
        "words": [[w, round(s + shift, 5), round(min(e + shift, duration), 5)] for w, s, e in words],
        "num_missing": num_missing,
    }


# ------------------------------------------------------------------------------------------ many utterances


class _Worker:
    """Another Python process that makes utterances; started from this file, so it needs no main guard anywhere."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        self._process = subprocess.Popen(command, text=True, encoding="utf-8", **pipes)

    def render(self, job: dict) -> dict:
        """Return what `_render(job)` returns over there."""
        answer = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            self._process.wait(timeout=10)
            self._errors.seek(0)
            message = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(
                f"A synthesis process ended (exit code {self._process.returncode}) at {job['text']!r}: "
                f"{''.join(message) or 'no message'}. Try make_demo(..., workers=0), which uses no other process."
            )
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):  # what an ended process has not read is of no use
                stream.close()


def _worker_main() -> None:
    """Answer one line of JSON for each line of JSON, until the input ends."""
    for line in sys.stdin:
        print(json.dumps(_render(json.loads(line))), flush=True)


def _render_all(jobs: list[dict], workers: int) -> Iterator[dict]:
    """Yield the result of each job in order, from `workers` processes (0: in this one)."""
    if workers == 0:
        yield from map(_render, jobs)
        return
    with contextlib.ExitStack() as stack:
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            worker = _Worker()
            stack.callback(worker.close)
            idle.put(worker)

        def render(job: dict) -> dict:
            worker = idle.get()
            try:
                return worker.render(job)
            finally:
                idle.put(worker)

        pool = stack.enter_context(ThreadPoolExecutor(workers))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        yield from pool.map(render, jobs)


# ---------------------------------------------------------------------------------------------- the corpus


def _plan(seed: int, counts: tuple[int, ...]) -> list[dict]:
    """Return one job for each utterance of the corpus, with its split; paths are relative to the corpus."""
    texts = split_sentences(seed, *counts)
    speakers = make_speakers(seed, {split: len(texts[split]) for split in texts})
    jobs = []
    for split, sentences in texts.items():
        voices = [voice for voice in speakers if voice.split == split]
        for index, text in enumerate(sentences):
            voice = voices[index % len(voices)]
            chapter = str(int(voice.speaker) + 100_000)
            name = f"{voice.speaker}-{chapter}-{index // len(voices):04d}.flac"
            path = f"{SUBSETS[split]}/{voice.speaker}/{chapter}/{name}"
            jobs.append(
                {
                    "split": split,
                    "path": path,
                    "text": text,
                    "voice": dataclasses.asdict(voice),
                    "seed": [seed, 2, len(jobs)],
                }
            )
    return jobs


def _write_tables(folder: Path, jobs: list[dict], results: list[dict]) -> None:
    """Write the manifests, the transcripts beside the audio and SPEAKERS.TXT."""
    trained = {word for job in jobs if job["split"] == "train" for word in job["text"].split()}
    utterances: dict[str, list[corpora.Utterance]] = {split: [] for split in corpora.MANIFESTS}
    transcripts: dict[Path, list[str]] = {}
    minutes: dict[str, float] = {}
    voices: dict[str, Voice] = {}
    for job, result in zip(jobs, results, strict=True):
        path, voice = Path(job["path"]), Voice(**job["voice"])
        extra = {"words": result["words"]}
        if job["split"] == "test" and not trained.issuperset(job["text"].split()):
            extra["unseen_words"] = True
        utterances[job["split"]].append(
            corpora.Utterance(path, result["duration"], job["text"], voice.speaker, extra=extra)
        )
        table = path.parent / f"{path.stem.rpartition('-')[0]}.trans.txt"
        transcripts.setdefault(table, []).append(f"{path.stem} {job['text'].upper()}\n")
        minutes[voice.speaker] = minutes.get(voice.speaker, 0.0) + result["duration"] / 60
        voices[voice.speaker] = voice
    for split, name in corpora.MANIFESTS.items():
        corpora.write_manifest(folder / name, utterances[split])
    for table, lines in transcripts.items():
        table.write_text("".join(sorted(lines)), encoding="utf-8")
    rows = [";ID   |SEX|SUBSET          |MINUTES|NAME\n"]
    for speaker, voice in sorted(voices.items()):
        name = f"{voice.name} rate {voice.rate} pitch {voice.pitch} formants x{voice.formant_shift}"
        rows.append(
            f"{speaker:<6}| {voice.sex} |{SUBSETS[voice.split]:<16}|{minutes[speaker]:6.2f} |{name}\n"
        )
    (folder / "SPEAKERS.TXT").write_text("".join(rows), encoding="utf-8")


def _summary(jobs: list[dict], results: list[dict]) -> dict:
    """Return the numbers of `DemoReport` that describe the corpus."""
    splits = {}
    for split in corpora.MANIFESTS:
        rows = [(j, r) for j, r in zip(jobs, results, strict=True) if j["split"] == split]
        splits[split] = {
            "speakers": len({job["voice"]["speaker"] for job, _ in rows}),
            "utterances": len(rows),
            "minutes": round(sum(result["duration"] for _, result in rows) / 60, 2),
        }
    words = {split: [set(j["text"].split()) for j in jobs if j["split"] == split] for split in splits}
    trained = set().union(*words["train"])
    return {
        "splits": splits,
        "num_words": len(set().union(*(set().union(*sets) for sets in words.values()))),
        "mean_duration": round(float(np.mean([result["duration"] for result in results])), 3),
        "unseen_share": sum(not text <= trained for text in words["test"]) / max(1, len(words["test"])),
        "num_interpolated": sum(result["num_missing"] for result in results),
        "num_spoken": sum(len(result["words"]) for result in results),
    }


def _read_marker(folder: Path) -> dict | None:
    """Return what a finished demo says of itself, or None where there is none.

    Raises:
        FileExistsError: when the folder holds something else.
    """
    marker = folder / MARKER
    if marker.is_file():
        with contextlib.suppress(ValueError):
            content = json.loads(marker.read_text(encoding="utf-8"))
            if isinstance(content, dict) and {"settings", "summary"} <= content.keys():
                return content
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"{folder} is there already and is not a demo corpus (no valid {MARKER} in it), so it is left as it is. "
            "Choose another folder with `out`, or move it away."
        )
    return None


def _is_complete(folder: Path, num_utterances: int) -> bool:
    """Return whether every file of a demo corpus is still there."""
    tables = [folder / name for name in (*corpora.MANIFESTS.values(), "SPEAKERS.TXT")]
    return all(table.is_file() for table in tables) and len(list(folder.rglob("*.flac"))) == num_utterances


def make_demo(
    out: str | Path | None = None,
    seed: int = 1,
    num_train: int | None = None,
    num_valid: int | None = None,
    num_test: int | None = None,
    scale: str = "full",
    workers: int = 2,
    progress: bool = True,
) -> DemoReport:
    """Make the demo corpus, unless the same one is already there.

    It is made in a folder beside `out` and renamed when it is complete; what an interrupted run left is removed.

    Args:
        out: the folder; None means LibriSpeech/demo of this project. A demo with other settings is replaced,
            with everything in its folder.
        seed: the same seed and numbers give the same bytes.
        num_train: training utterances; None means the number of `scale`; likewise `num_valid` and `num_test`.
        num_valid: see `num_train`.
        num_test: see `num_train`.
        scale: 'full' (1,028 utterances) or 'tiny' (60, for tests).
        workers: processes that speak; 0 speaks in this one.
        progress: print a progress bar and the report.

    Raises:
        FileExistsError: when `out` holds something that is not a demo corpus; it is left as it is.
        ValueError: on an unknown scale or numbers that the grammar cannot serve.
    """
    if scale not in SCALES:
        raise ValueError(f"Expected scale to be one of {', '.join(SCALES)}. Received: scale={scale!r}")
    given = (num_train, num_valid, num_test)
    counts = tuple(default if n is None else n for n, default in zip(given, SCALES[scale], strict=True))
    if min(counts) < 1 or workers < 0:
        raise ValueError(
            f"Expected at least 1 utterance in each split and workers >= 0. Received: {counts}, {workers}"
        )
    folder = Path(out) if out is not None else project_root() / "LibriSpeech" / "demo"
    folder = folder.resolve()
    jobs = _plan(seed, counts)
    plan = hashlib.sha256(json.dumps(jobs, sort_keys=True).encode()).hexdigest()[:16]
    settings = {"version": DEMO_VERSION, "seed": seed, "counts": list(counts), "plan": plan}
    folder.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        marker = _read_marker(folder)
        made = marker is None or marker["settings"] != settings or not _is_complete(folder, sum(counts))
        if made:
            marker = _make(folder, settings, jobs, workers, progress)
    report = DemoReport(folder, made, time.perf_counter() - started, **marker["summary"])
    if progress:
        print(report)
    return report


def _make(folder: Path, settings: dict, plan: list[dict], workers: int, progress: bool) -> dict:
    """Make the corpus beside `folder`, put it in its place, and return its marker."""
    prefix = f".{folder.name}-making-"
    for leftover in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover)
    making = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    making.chmod(0o755)  # mkdtemp lets only its owner read
    try:
        jobs = [job | {"path": str(making / job["path"])} for job in plan]
        bar = tqdm(
            total=len(jobs), desc="Demo corpus", unit="utt", ascii=True, mininterval=1, disable=not progress
        )
        results = []
        with bar:
            for result in _render_all(jobs, workers):
                results.append(result)
                bar.update()
        _write_tables(making, jobs, results)
        marker = {"settings": settings, "summary": _summary(jobs, results)}
        (making / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent)) / "old")
        making.rename(folder)
    finally:
        for leftover in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)
    return marker


if __name__ == "__main__":
    if "--worker" in sys.argv[1:]:
        _worker_main()
    else:
        make_demo()
