"""Mangled files of every format that is read give what is left of them or an error that names them, soon, and leave no rubbish.

MANGLED_FILES is how many (2,000); a failure names the kind and the number, from which the file can be made again.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from tiny_training import tiny_model

from vuilab.alphabet import ENGLISH
from vuilab.audio import blocks, check, read_audio
from vuilab.cli.main import main
from vuilab.corpus.index import index_tree, load_speaker_table
from vuilab.corpus.manifest import read_manifest, read_transcript
from vuilab.decoding.language_model import load_language_model
from vuilab.inference.transcribe import load_recogniser
from vuilab.runs.checkpoint import peek, save_checkpoint
from vuilab.runs.history import load_history, save_history
from vuilab.runs.record import read_record
from vuilab.runs.weights import architecture, save_weights
from vuilab.runs.weights_file import METADATA_KEY

FILES = int(os.environ.get("MANGLED_FILES", "2000"))
SECONDS = 20  # of processor time for one file, at most
SAID = ["mister fox's twenty one cats", "he said no and left", "well it's more", "the sea was calm"]


class TooLong(BaseException):
    """Nothing catches it on its way."""


@contextlib.contextmanager
def limited():
    """Raise TooLong when what is inside takes over `SECONDS` of processor time."""

    def stop(signum, frame):
        raise TooLong

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


# -------------------------------------------------------------------------------------------------- what is mangled


def speech(path: Path, **options) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.1 * rng.standard_normal((8000, options.pop("channels", 1))), 16_000, **options)


def arpa(path: Path) -> None:
    path.with_name("text.txt").write_text("\n".join(SAID))
    assert main(["lm", "train", str(path.with_name("text.txt")), "--order", "2", "--out", str(path)]) == 0


FEATURES = {"alphabet": ENGLISH, "features": {"kind": "mfcc", "mfcc_dim": 13}, "mean": [0.0] * 13, "std": [1.0] * 13}
HISTORY = {"loss": [2.0, 1.0], "val_loss": [1.0, 2.0]}
RATE = {"rate": 0.1, "low": 0.05, "high": 0.2}
RECORD = {"name": "a-run", "parameters": 9, "scores": {"cer": RATE}, "evaluation": {"language_model": {"wer": RATE}}}


def weights(path: Path) -> None:
    save_weights(tiny_model(), path, FEATURES)


def metadata(path: Path) -> None:
    path.write_text(json.dumps({**FEATURES, "architecture": architecture(tiny_model())}))


def load_with_metadata(path: Path) -> None:
    """Load weights that say of themselves what stands in a file."""
    weights(path.with_suffix(".h5"))
    with h5py.File(path.with_suffix(".h5"), "a") as file:
        del file[METADATA_KEY]
        file.create_dataset(METADATA_KEY, data=path.read_bytes().replace(b"\0", b" ") or b" ")
    recogniser = load_recogniser(path.with_suffix(".h5"))
    recogniser.decode(recogniser.probabilities(np.zeros(8000, np.float32)))


def compare(path: Path) -> None:
    """Compare runs of which one file is given."""
    history, record = path.with_suffix(".pickle"), path.with_suffix(".json")
    if not history.is_file():
        save_history(history, HISTORY)
    if not record.is_file():
        record.write_text(json.dumps(RECORD))
    main(["compare", "--results", str(path.parent)])


def checkpoint(path: Path) -> None:
    model = tiny_model()
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    save_checkpoint(path, model, {"epoch": 1, "history": {"loss": [1.0]}})


def lines(*rows: str):
    return lambda path: path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def numbered(pattern: str):
    return lines(*(pattern.format(name=f"c{number}", text=text) for number, text in enumerate(SAID)))


# kind -> what makes a good file, and its name
AUDIO = {
    "wav": (speech, "a.wav"),
    "stereo": (lambda path: speech(path, channels=2, subtype="FLOAT"), "a.wav"),
    "u-law": (lambda path: speech(path, subtype="ULAW"), "a.wav"),
    "flac": (speech, "a.flac"),
    "vorbis": (speech, "a.ogg"),
    "opus": (lambda path: speech(path, format="OGG", subtype="OPUS"), "a.opus"),
    "mp3": (speech, "a.mp3"),
    "aiff": (speech, "a.aiff"),
}
MANIFEST = numbered('{{"key": "{name}.wav", "duration": 0.5, "text": "{text}", "speaker": "{name}"}}')
TEXTS = {
    "manifest": (MANIFEST, "m.json", read_manifest),
    "arpa": (arpa, "m.arpa", load_language_model),
    "arpa.gz": (arpa, "m.arpa.gz", load_language_model),
    "language model": (arpa, "m.npz", load_language_model),
    "transcript": (lines(*SAID, "Mr. O’Neil & 5 %"), "t.txt", read_transcript),
    "utf-16": (lambda path: path.write_text("\n".join(SAID), encoding="utf-16"), "t.txt", read_transcript),
    "speakers": (lines("; a", "14 | F | dev | 25.0 | Anna", "16 | M | dev | 9 | Bert"), "SPEAKERS.TXT", None),
    "history": (lambda path: save_history(path, HISTORY), "h.pickle", load_history),
    "record": (lines('{"name": "a", "scores": {"val_cer": 0.1}, "epochs": 2}'), "r.json", read_record),
    "compared record": (lines(json.dumps(RECORD)), "a-run.json", compare),
    "compared history": (
        lambda path: save_history(path, {"loss": [2.0, 1.0], "val_loss": [1.0, 2.0]}),
        "a-run.pickle",
        compare,
    ),
    "metadata": (
        lambda path: path.write_text(json.dumps({**FEATURES, "architecture": architecture(tiny_model())})),
        "a.json",
        load_with_metadata,
    ),
    "checkpoint": (checkpoint, "h.checkpoint.npz", peek),
    "h5": (weights, "w.h5", load_recogniser),
    "weights.h5": (weights, "w.weights.h5", load_recogniser),
    "keras": (weights, "w.keras", load_recogniser),
}
# layout -> the file that is mangled, what makes it, and where the audio goes; the others stay whole
LAYOUTS = {
    "librispeech": ("c/1/c-1.trans.txt", numbered("c-1-{name} {text}"), "c/1/c-1-{}.wav"),
    "ljspeech": ("metadata.csv", numbered("{name}|{text}|{text}"), "wavs/{}.wav"),
    "common-voice": (
        "train.tsv",
        lines("client_id\tpath\tsentence", *(f"s\tc{n}.wav\t{text}" for n, text in enumerate(SAID))),
        "clips/{}.wav",
    ),
    "kaldi": ("text", numbered("{name} {text}"), "{}.wav"),
    "wav.scp": ("wav.scp", numbered("{name} {name}.wav"), "{}.wav"),
    "csv": ("t.csv", lines("path,text", *(f'c{n}.wav,"{text}"' for n, text in enumerate(SAID))), "{}.wav"),
    "tsv": ("t.tsv", lines("path\ttext", *(f"c{n}.wav\t{text}" for n, text in enumerate(SAID))), "{}.wav"),
    "text": ("c0.txt", lines(SAID[0]), "{}.wav"),
}
KINDS = [*AUDIO, *TEXTS, *LAYOUTS, "book"]


def mangled(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with one of the things done to it that happen to files, or that somebody who wants to harm thinks of."""
    here, there = sorted(rng.integers(0, len(data), 2).tolist())
    near, header = min(len(data), here + int(rng.integers(1, 40))), int(rng.integers(0, min(len(data), 80)))
    huge = [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"][
        int(rng.integers(5))
    ]
    rows, bit, long = data.split(b"\n"), data[here] ^ (1 << int(rng.integers(8))), b"9" * int(rng.integers(1, 30))
    ways = [
        lambda: data[:here],  # cut off
        lambda: data[:here] + data[there:],  # a hole
        lambda: data[:there] + data[here:],  # a part twice
        lambda: data[:here] + rng.bytes(near - here) + data[near:],  # noise
        lambda: data[:here] + b"\0" * (near - here) + data[near:],  # never written
        lambda: data[:here] + bytes([bit]) + data[here + 1 :],
        lambda: data[:header] + huge + data[header + 4 :],  # lengths that lie
        lambda: re.sub(rb"\d+", lambda m: m[0] if rng.random() < 0.7 else long, data),
        lambda: re.sub(rb"[,|:\t\"]", lambda m: m[0] if rng.random() < 0.8 else b"", data),
        lambda: b"\n".join(rows[k] for k in rng.permutation(len(rows))),
        lambda: data.replace(b"\n", b"\r"),
        lambda: b"\xef\xbb\xbf" + data,
        lambda: data[:here] + "日½\u202e\u0308".encode() + data[here:],
        lambda: data[:here] + b"<!DOCTYPE html>" + data[here:],
    ]
    return ways[int(rng.integers(len(ways)))]()


# ------------------------------------------------------------------------------------------------------ the tests


def read_mangled(kind: str, data: bytes, folder: Path) -> None:
    """Read a file of a kind in an empty folder, as the command does that takes it."""
    if kind in AUDIO:
        path = folder / AUDIO[kind][1]
        path.write_bytes(data)
        samples = read_audio(path)
        assert np.isfinite(samples).all()
        assert all(np.isfinite(block).all() for block in blocks(path, 0.1))
        with contextlib.suppress(ValueError):
            check(path)
        return
    if kind in TEXTS:
        _, name, read = TEXTS[kind]
        (folder / name).write_bytes(data)
        load_speaker_table(folder) if read is None else read(folder / name)
        return
    out = folder / "out"
    if kind == "book":
        (folder / "b.txt").write_bytes(data)
        main(["lm", "train", str(folder / "b.txt"), "--order", "2", "--out", str(out / "m.npz")])
        load_language_model(out / "m.npz")
        return
    name, _, audio = LAYOUTS[kind]
    for number in range(len(SAID)):
        path = folder / audio.format(f"c{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder.parent / "clip.wav", path)
    if kind in ("kaldi", "wav.scp"):
        for other in ("kaldi", "wav.scp"):
            LAYOUTS[other][1](folder / LAYOUTS[other][0])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    index_tree(folder / name if kind in ("csv", "tsv") else folder, out, test=True)
    for manifest in out.glob("*.json"):
        assert read_manifest(manifest)


def original(kind: str, folder: Path) -> bytes:
    """Return a good file of a kind."""
    if kind == "book":
        return "\n\n".join(f"{text.capitalize()}." for text in SAID).encode()
    make, name = (
        AUDIO[kind] if kind in AUDIO else TEXTS[kind][:2] if kind in TEXTS else (LAYOUTS[kind][1], LAYOUTS[kind][0])
    )
    path = folder / Path(name).name
    make(path)
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mangled_file_gives_what_is_left_or_an_error_that_names_it(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("VUI_DEBUG", "1")
    speech(tmp_path / "clip.wav")
    (tmp_path / "good").mkdir()
    good, wrong = original(kind, tmp_path / "good"), []
    for number in range(-(-FILES // len(KINDS))):
        folder = tmp_path / str(number)
        folder.mkdir()
        rng, data = np.random.default_rng([zlib.crc32(kind.encode()), number]), good
        for _ in range(rng.integers(1, 4) if number else 0):
            data = mangled(data, rng) if data else data
        try:
            with limited():
                read_mangled(kind, data, folder)
        except (ValueError, FileNotFoundError) as error:
            if number == 0 or not re.search(f"{folder}|a-run", str(error)):
                wrong.append((number, repr(error)))
        except (Exception, TooLong) as error:
            wrong.append((number, repr(error)))
        left = [path.name for path in folder.rglob(".*")]
        if left:
            wrong.append((number, f"left behind: {left}"))
        shutil.rmtree(folder)
    assert not wrong, f"{kind}: {len(wrong)} of {number + 1}\n" + "\n".join(map(str, wrong[:20]))
