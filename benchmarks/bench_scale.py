"""How cost grows with the corpus: indexing, feature caching and planning at two sizes, and what follows for larger ones.

    python -m benchmarks.bench_scale                          # 1 h and 10 h of audio, 300,000 files; `make bench` runs it too
    python -m benchmarks.bench_scale --hours 0.02 0.05 --utterances 500 --work FOLDER

The audio is noise with the rhythm of speech in FLAC files of 8 to 16 s, laid out as LibriSpeech is. At most one hour of it is
distinct; the rest are hard links under other names. The operating system has all of it in memory, so the speed of the disk is not
measured. Seconds, memory and disk of the larger corpora are extrapolated on the line through the smallest and the largest
measured size. Indexing is also measured on a tree with as many files as LibriSpeech has, each a hard link to one short clip.
Each stage runs in a process of its own; its peak memory includes the libraries and the mapped part of the cache.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import harness
from benchmarks.harness import say
from vuilab.audio import SAMPLE_RATE
from vuilab.corpus.index import index_tree
from vuilab.corpus.manifest import MANIFESTS, read_manifest, summarize
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions

DISTINCT_SECONDS = 3600  # of audio; more of it is hard links
SHORTEST, LONGEST = 8.0, 16.0  # seconds of a clip
PER_SPEAKER, PER_SPEAKER_MANY = 25, 250  # files; NTFS allows 1,023 links to a file, ext4 65,000
TARGET_HOURS = (100, 960)
TEXT = "THE PROJECT GROWS AND THE COST OF EVERY STAGE GROWS WITH IT"
STAGES = {
    "index": "indexing",
    "cache": "feature cache",
    "plan": "loading and one epoch's plan",
    "batch": "one batch from the cache",
}


def clip(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Return noise whose loudness follows a rhythm of about four syllables a second: (num_samples,) in -1..1."""
    num_samples = round(seconds * SAMPLE_RATE)
    beats = rng.uniform(0.05, 1.0, round(4 * seconds) + 2)
    loudness = np.interp(np.linspace(0, len(beats) - 1, num_samples), np.arange(len(beats)), beats)
    return (0.2 * loudness * rng.uniform(-1, 1, num_samples)).astype(np.float32)


def write_tree(root: Path, sources: list[Path], count: int, per_speaker: int) -> None:
    """Lay out `count` utterances, each a hard link to one of the sources; a single source is copied for each speaker.

    Raises:
        OSError: when the folder cannot hold hard links.
    """
    for first in range(0, count, per_speaker):
        speaker = str(1000 + first // per_speaker)
        folder = root / speaker / "1"
        folder.mkdir(parents=True)
        lines = []
        for number in range(first, min(first + per_speaker, count)):
            name = f"{speaker}-1-{number - first:04d}"
            source, target = sources[number % len(sources)], folder / f"{name}.flac"
            if len(sources) > 1:
                os.link(source, target)
            elif number == first:
                copy = Path(shutil.copy(source, target))
            else:
                os.link(copy, target)
            lines.append(f"{name} {TEXT}")
        (folder / f"{speaker}-1.trans.txt").write_text("\n".join(lines) + "\n")


def write_sources(folder: Path, seconds: float) -> tuple[list[Path], float]:
    """Write distinct clips of this many seconds in all; return their paths and the mean length."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths, total = [], 0.0
    while total < seconds:
        length = rng.uniform(SHORTEST, LONGEST)
        paths.append(folder / f"{len(paths)}.flac")
        soundfile.write(paths[-1], clip(rng, length), SAMPLE_RATE)
        total += length
    return paths, total / len(paths)


# --------------------------------------------------------------------------------------------------- stages


def index_stage(root: Path, corpus: Path) -> None:
    """Index the tree: every file is opened, and its last samples are decoded."""
    index_tree(root, corpus)


def cache_stage(_: Path, corpus: Path) -> None:
    """Compute the features of both sets."""
    generator = _generator(corpus)
    generator.num_frames("train"), generator.num_frames("validation")


def plan_stage(_: Path, corpus: Path) -> None:
    """Read the manifests and plan one epoch, as every run does."""
    _generator(corpus).plan("train", 0)


def batch_stage(_: Path, corpus: Path) -> None:
    """Assemble one batch, manifests and plan included: the memory that a run needs for its data."""
    generator = _generator(corpus)
    generator.assemble("train", generator.plan("train", 0)[0])


def _generator(corpus: Path):
    generator = BatchGenerator(options=DataOptions(max_duration=None))
    generator.load("train", corpus / MANIFESTS["train"])
    generator.set_statistics(np.zeros(generator.settings.num_features), np.ones(generator.settings.num_features))
    generator.load_validation_data(corpus / MANIFESTS["validation"])
    return generator


def timed(stage: Callable, root: Path, corpus: Path) -> dict:
    """Run a stage and return its seconds and peak memory."""
    os.environ.pop("VUI_CACHE", None)  # caches belong beside the manifests here
    started = time.perf_counter()
    stage(root, corpus)
    return {"seconds": time.perf_counter() - started, "peak_mb": harness.peak_memory_mb()}


# ------------------------------------------------------------------------------------------------- measuring


def measure_hours(hours: float, sources: list[Path], mean_seconds: float, work: Path) -> dict:
    """Measure all stages on so many hours of audio."""
    root, corpus = work / "tree", work / "corpus"
    count = max(4, round(hours * 3600 / mean_seconds))
    write_tree(root, sources, count, min(PER_SPEAKER, count // 2))
    result = {"utterances": count}
    for name, stage in zip(STAGES, (index_stage, cache_stage, plan_stage, batch_stage), strict=True):
        result[name] = harness.in_own_process(timed, stage, root, corpus)
        say(f"{hours:g} h, {STAGES[name]}: {result[name]['seconds']:.1f} s, {result[name]['peak_mb']:.0f} MB")
    manifests = [corpus / MANIFESTS[split] for split in ("train", "validation")]
    result["hours"] = sum(summarize(read_manifest(manifest))["hours"] for manifest in manifests)
    result["cache_mb"] = sum(file.stat().st_size for file in corpus.rglob("*.npy")) / 1e6
    shutil.rmtree(root)
    shutil.rmtree(corpus)
    return result


def measure_many_files(count: int, source: Path, work: Path) -> dict:
    """Measure indexing and planning on very many short files."""
    root, corpus = work / "many", work / "many-corpus"
    write_tree(root, [source], count, PER_SPEAKER_MANY)
    result = {"utterances": count, "index": harness.in_own_process(timed, index_stage, root, corpus)}
    say(f"{count:,} files, indexing: {result['index']['seconds']:.1f} s, {result['index']['peak_mb']:.0f} MB")
    shutil.rmtree(root)
    return result


def extrapolate(small: tuple[float, float], large: tuple[float, float], hours: float) -> float:
    """Return the value at `hours` on the line through two measured (hours, value), at least the larger one of them.

    Example:
        >>> extrapolate((1.0, 10.0), (2.0, 12.0), 4.0)
        16.0
    """
    slope = (large[1] - small[1]) / (large[0] - small[0])
    return max(large[1] + slope * (hours - large[0]), large[1])


def report(sizes: list[dict], many: dict | None) -> str:
    """Return the table of measured and extrapolated cost."""
    small, large = sizes[0], sizes[-1]
    columns = [f"{size['hours']:.2f} h, measured" for size in sizes]
    columns += [f"{hours} h, extrapolated" for hours in TARGET_HOURS] if large is not small else []

    def row(label: str, value: Callable[[dict], float]) -> list[str]:
        values = [value(size) for size in sizes]
        if large is not small:
            ends = (small["hours"], values[0]), (large["hours"], values[-1])
            values += [extrapolate(*ends, hours) for hours in TARGET_HOURS]
        return [label, *(f"{number:,.1f}" if number < 100 and number % 1 else f"{number:,.0f}" for number in values)]

    rows = [row("utterances", lambda size: size["utterances"])]
    for name, label in STAGES.items():
        rows.append(row(f"{label}, s", lambda size, name=name: size[name]["seconds"]))
        rows.append(row(f"{label}, peak memory, MB", lambda size, name=name: size[name]["peak_mb"]))
    rows.append(row("feature cache on disk, MB", lambda size: size["cache_mb"]))
    lines = [harness.table(["audio", *columns], rows)]
    if many is not None:
        index = many["index"]
        lines.append(
            f"\nIndexing {many['utterances']:,} short files: {index['seconds']:.1f} s "
            f"({many['utterances'] / index['seconds']:,.0f} a second), peak memory {index['peak_mb']:,.0f} MB."
        )
    return "\n".join(lines)


def main() -> None:
    """Measure the sizes one after the other and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", nargs="+", type=float, default=[1.0, 10.0], help="of audio, ascending")
    parser.add_argument("--utterances", type=int, default=300_000, help="short files to index; 0: none")
    parser.add_argument(
        "--work", type=Path, default=None, help="folder for the audio (0.2 GB per hour); default: temporary"
    )
    options = harness.parse(parser, {"hours": [0.01, 0.02], "utterances": 400})
    if sorted(set(options.hours)) != options.hours or options.hours[0] <= 0:
        raise SystemExit(f"--hours are positive and ascending. Received: {options.hours}")
    environment = harness.environment()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        sources, mean_seconds = write_sources(work / "sources", min(options.hours[-1] * 3600, DISTINCT_SECONDS))
        sizes = [measure_hours(hours, sources, mean_seconds, work) for hours in options.hours]
        short = work / "short.flac"
        soundfile.write(short, clip(np.random.default_rng(1), 0.5), SAMPLE_RATE)
        many = measure_many_files(options.utterances, short, work) if options.utterances else None
    notes = ("", "Synthetic audio; columns marked so are extrapolated on the line through the measured sizes.", "")
    text = harness.header("Cost by size of the corpus", environment, notes) + report(sizes, many)
    path = harness.save(options, "scale", {**environment, "sizes": sizes, "many_files": many}, text)
    say(f"\n{path.read_text()}\nWritten: {path} and {path.with_suffix('.json').name}")


if __name__ == "__main__":
    main()
