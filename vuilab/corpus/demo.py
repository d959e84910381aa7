"""The demo corpus: synthetic speakers in LibriSpeech layout, made offline in seconds, with true word times.

`make_demo` makes the corpus from the sentences of `sentences.py` and the speakers of `voices.py`. Everything follows from the
seed: the same seed gives the same bytes, whatever the number of worker processes.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import filelock
import numpy as np
import scipy.signal
import soundfile
from joblib.externals.loky import ProcessPoolExecutor

from vuilab.audio import SAMPLE_RATE
from vuilab.corpus import manifest
from vuilab.corpus.sentences import split_sentences
from vuilab.corpus.voices import Voice, make_speakers, speak
from vuilab.files import atomic_folder, progress_bar, repository

DEMO_VERSION = 1  # raise it when the same plan (sentences, voices, seeds) would give other audio
MARKER = "DEMO.json"  # tells a demo folder from a user's own corpus
SUBSETS = {"train": "demo-train", "validation": "demo-valid", "test": "demo-test"}
SCALES = {"full": (900, 84, 120), "tiny": (44, 6, 10)}  # utterances for training, validation, test


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
        took = f"made in {self.seconds:.0f} s" if self.made else "already there with these settings, nothing made"
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


def record(audio: np.ndarray, lead: int, rng: np.random.Generator) -> np.ndarray:
    """Return clean speech as a recording: silence around it, sometimes a room, noise, and a random level."""
    audio = np.concatenate([np.zeros(lead), audio, np.zeros(int(rng.uniform(0.05, 0.2) * SAMPLE_RATE))])
    if rng.random() < 0.4:
        audio = _room(audio, rng)
    power = np.mean(audio**2)
    audio = audio + _noise(len(audio), rng) * np.sqrt(power) * 10 ** (-rng.uniform(20, 40) / 20)
    return audio / np.abs(audio).max() * 10 ** (rng.uniform(-18, -3) / 20)


def _render(job: dict) -> dict:
    """Make the utterance of a job of `_plan`: write its FLAC and return its duration and word times."""
    rng = np.random.default_rng(job["seed"])
    voice = Voice(**job["voice"])
    rate = round(voice.rate * rng.uniform(0.95, 1.05))
    audio, words, num_missing = speak(
        job["text"], voice.name, rate, voice.pitch, voice.pitch_range, voice.formant_shift
    )
    start, end = int(words[0][1] * SAMPLE_RATE), int(words[-1][2] * SAMPLE_RATE) + 1  # without espeak's own silence
    lead = int(rng.uniform(0.08, 0.25) * SAMPLE_RATE)
    samples = record(audio[start:end], lead, rng)
    shift = (lead - start) / SAMPLE_RATE
    path = Path(job["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.round(samples * 32767).astype(np.int16), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    duration = len(samples) / SAMPLE_RATE
    return {
        "duration": duration,
        "words": [[w, round(s + shift, 5), round(min(e + shift, duration), 5)] for w, s, e in words],
        "num_missing": num_missing,
    }


def render_all(jobs: list[dict], workers: int) -> Iterator[dict]:
    """Yield the result of each job in order, from `workers` new processes (0: in this one).

    Raises:
        RuntimeError: when a process ends before its work is done.
    """
    if workers == 0:
        yield from map(_render, jobs)
        return
    # loky starts fresh processes, which need no main guard and inherit neither threads nor a deep-learning backend
    pool = ProcessPoolExecutor(workers)
    try:
        yield from pool.map(_render, jobs)
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"A process that speaks the corpus ended ({str(error).strip().splitlines()[0]}). Try make_demo(..., workers=0), "
            "which uses no other process."
        ) from error
    finally:
        pool.shutdown(wait=True)


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
            job = {"split": split, "path": path, "text": text, "voice": dataclasses.asdict(voice)}
            jobs.append(job | {"seed": [seed, 2, len(jobs)]})
    return jobs


def _write_tables(folder: Path, jobs: list[dict], results: list[dict]) -> None:
    """Write the manifests, the transcripts beside the audio and SPEAKERS.TXT."""
    trained = {word for job in jobs if job["split"] == "train" for word in job["text"].split()}
    utterances: dict[str, list[manifest.Utterance]] = {split: [] for split in manifest.MANIFESTS}
    transcripts: dict[Path, list[str]] = collections.defaultdict(list)
    minutes: dict[Voice, float] = collections.defaultdict(float)
    for job, result in zip(jobs, results, strict=True):
        path, text, voice = Path(job["path"]), job["text"], Voice(**job["voice"])
        extra = {"words": result["words"]}
        if job["split"] == "test" and not trained.issuperset(text.split()):
            extra["unseen_words"] = True
        utterance = manifest.Utterance(path, result["duration"], text, voice.speaker, extra=extra)
        utterances[job["split"]].append(utterance)
        table = path.parent / f"{path.stem.rpartition('-')[0]}.trans.txt"
        transcripts[table].append(f"{path.stem} {text.upper()}\n")
        minutes[voice] += result["duration"] / 60
    for split, name in manifest.MANIFESTS.items():
        manifest.write_manifest(folder / name, utterances[split])
    for table, lines in transcripts.items():
        table.write_text("".join(sorted(lines)), encoding="utf-8")
    rows = [";ID   |SEX|SUBSET          |MINUTES|NAME\n"]
    for voice in sorted(minutes, key=lambda voice: voice.speaker):
        name = f"{voice.name} rate {voice.rate} pitch {voice.pitch} formants x{voice.formant_shift}"
        subset = f"{SUBSETS[voice.split]:<16}"
        rows.append(f"{voice.speaker:<6}| {voice.sex} |{subset}|{minutes[voice]:6.2f} |{name}\n")
    (folder / "SPEAKERS.TXT").write_text("".join(rows), encoding="utf-8")


def _summary(jobs: list[dict], results: list[dict]) -> dict:
    """Return the numbers of `DemoReport` that describe the corpus."""
    splits = {}
    for split in manifest.MANIFESTS:
        rows = [(j, r) for j, r in zip(jobs, results, strict=True) if j["split"] == split]
        splits[split] = {
            "speakers": len({job["voice"]["speaker"] for job, _ in rows}),
            "utterances": len(rows),
            "minutes": round(sum(result["duration"] for _, result in rows) / 60, 2),
        }
    train, test = ([set(j["text"].split()) for j in jobs if j["split"] == split] for split in ("train", "test"))
    trained = set().union(*train)
    return {
        "splits": splits,
        "num_words": len({word for job in jobs for word in job["text"].split()}),
        "mean_duration": round(float(np.mean([result["duration"] for result in results])), 3),
        "unseen_share": sum(not words <= trained for words in test) / max(1, len(test)),
        "num_interpolated": sum(result["num_missing"] for result in results),
        "num_spoken": sum(len(result["words"]) for result in results),
    }


def read_marker(folder: Path) -> dict | None:
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
    tables = [folder / name for name in (*manifest.MANIFESTS.values(), "SPEAKERS.TXT")]
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
        num_train, num_valid, num_test: utterances; None means the number of `scale`.
        scale: 'full' (1,104 utterances) or 'tiny' (60, for tests).
        workers, progress: processes that speak, 0 speaks in this one; print a progress bar and the report.

    Raises:
        FileExistsError: when `out` holds something that is not a demo corpus; it is left as it is.
        ValueError: on an unknown scale or numbers that the grammar cannot serve.
    """
    if scale not in SCALES:
        raise ValueError(f"Expected scale to be one of {', '.join(SCALES)}. Received: scale={scale!r}")
    given = (num_train, num_valid, num_test)
    counts = tuple(default if n is None else n for n, default in zip(given, SCALES[scale], strict=True))
    if min(counts) < 1 or workers < 0:
        raise ValueError(f"Expected at least 1 utterance in each split and workers >= 0. Received: {counts}, {workers}")
    folder = (repository() / "LibriSpeech" / "demo" if out is None else Path(out)).resolve()
    jobs = _plan(seed, counts)
    plan = hashlib.sha256(json.dumps(jobs, sort_keys=True).encode()).hexdigest()[:16]
    settings = {"version": DEMO_VERSION, "seed": seed, "counts": list(counts), "plan": plan}
    folder.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        marker = read_marker(folder)
        made = marker is None or marker["settings"] != settings or not _is_complete(folder, sum(counts))
        if made:
            marker = _make(folder, settings, jobs, workers, progress)
    report = DemoReport(folder, made, time.perf_counter() - started, **marker["summary"])
    if progress:
        print(report)
    return report


def _make(folder: Path, settings: dict, plan: list[dict], workers: int, progress: bool) -> dict:
    """Make the corpus and return its marker."""
    with atomic_folder(folder, f".{folder.name}-making-") as making:
        jobs = [job | {"path": str(making / job["path"])} for job in plan]
        results = list(progress_bar(render_all(jobs, workers), "Demo corpus", len(jobs), " clips", progress))
        _write_tables(making, jobs, results)
        marker = {"settings": settings, "summary": _summary(jobs, results)}
        (making / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    return marker
