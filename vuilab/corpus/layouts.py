"""Layouts of corpora: which recordings, transcripts and speakers a folder holds, as people have them.

- `librispeech`: `<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`, and beside them .trans.txt: lines "<utterance> words"
- `ljspeech`: `metadata.csv` with lines "name | text | text as it is said", audio in `wavs/`
- `common-voice`: `validated.tsv`, or else `train.tsv`, `dev.tsv`, `test.tsv`, audio in `clips/`; of version 1 `cv-valid-*.csv`
- `kaldi`: `wav.scp`, `text`, and perhaps `utt2spk`; commands in them are not run
- `table`: CSV or TSV files whose first line names the columns of path, text and perhaps speaker (`COLUMNS`)
- `text`: for each audio file one of the same name that ends in .txt

A layout is one function: it takes the folders of a tree, yields what it finds and lists what it leaves out. Texts are as they
are written, and audio is not opened; `corpus/index.py` does both.
"""

import csv
import io
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vuilab.corpus.manifest import speaker_from_path
from vuilab.text import read_text

AUDIO_SUFFIXES = ("flac", "wav", "mp3", "ogg")
PATHS = "path file filename file_name audio audio_path audio_file audio_filepath wav wav_path wav_filename clip"
COLUMNS = {  # names of columns, the better first
    "path": tuple(PATHS.split()),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text", "words"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk", "spk_id", "user_id", "reader"),
}
MOST_FOLDERS = 20  # beside a table, in which the audio that it names is looked for
LeftOut = list[tuple[Path, str]]  # files, and why they are not used
Folders = Iterable[tuple[str, list[str]]]  # (folder, sorted names of its files)


class Found(NamedTuple):
    """One recording of a layout."""

    path: str
    text: str  # as it is written
    speaker: str | None  # None when unknown


def walk(root: Path, left_out: LeftOut) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, sorted file names) from the top, following links once, without hidden ones; or a file and its folder."""

    def unreadable(error: OSError) -> None:
        left_out.append((Path(error.filename), f"the folder cannot be read ({error.strerror})"))

    if root.is_file():
        yield str(root.parent), [root.name]
        return
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=unreadable):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            seen.add(real)
            yield folder, sorted(name for name in names if not name.startswith("."))


def find_layout(root: Path) -> str:
    """Return the name of the layout of a tree, or of a table: that of the first folder, from the top, which looks like one.

    Raises:
        ValueError: when nothing does.
    """
    any_audio = False
    for folder, names in walk(root, []):
        stems = {_stem(name) for name in names if _is_audio(name)}
        any_audio = any_audio or bool(stems)
        if any(name.endswith(".trans.txt") for name in names):
            return "librispeech"
        if {"wav.scp", "text"} <= set(names):
            return "kaldi"
        if any(_columns(Path(folder, name)) for name in _common_voice_tables(names)):
            return "common-voice"
        tables = [Path(folder, name) for name in names if name.lower().endswith((".csv", ".tsv"))]
        if any(map(_columns, tables)):
            return "table"
        if "metadata.csv" in names or (root.is_file() and tables):
            return "ljspeech"
        if any(name.lower().endswith(".txt") and _stem(name) in stems for name in names):
            return "text"
    if any_audio:
        return "text"
    raise ValueError(
        f"No usable utterance below {root}: it has no known layout. Expected one of LibriSpeech (.trans.txt beside the audio), "
        "LJSpeech (metadata.csv), Common Voice (validated.tsv), Kaldi (wav.scp, text), a CSV or TSV file with the columns path "
        "and text, or a .txt file beside each audio file; --layout chooses one."
    )


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _is_audio(name: str) -> bool:
    return name.rpartition(".")[2].lower() in AUDIO_SUFFIXES


# ------------------------------------------------------------------------------------------- text beside the audio


def librispeech(folders: Folders, left_out: LeftOut) -> Iterator[Found]:
    """Pair audio files with the lines of the transcript files in their folder; an utterance stands once in a tree."""
    first_path: dict[str, str] = {}  # utterance -> where it was met first
    for folder, names in folders:
        texts: dict[str, tuple[str, Path]] = {}
        for name in names:
            if name.endswith(".trans.txt"):
                path = Path(folder, name)
                for stem, words in _pairs(path, left_out):
                    if texts.setdefault(stem, (words, path)) != (words, path):
                        left_out.append((path, f"second transcript of {stem}; the first one is used"))
        audio = [name for name in names if _is_audio(name)]
        for name in audio:
            stem, path = _stem(name), f"{folder}/{name}"
            speaker = speaker_from_path(path) or (stem.split("-")[0] if stem.count("-") == 2 else None)
            earlier = first_path.setdefault(stem, path)
            if earlier != path:
                left_out.append((Path(path), f"duplicate utterance ID, already at {earlier}"))
            elif stem not in texts:
                reason = f"no transcript: add a line '{stem} the words' to the .trans.txt file beside it"
                left_out.append((Path(path), reason))
            elif speaker is None:
                reason = "the name is not <speaker>-<chapter>-<number>, so the speaker is unknown"
                left_out.append((Path(path), reason))
            else:
                yield Found(path, texts[stem][0], speaker)
        for stem in texts.keys() - set(map(_stem, audio)):
            left_out.append((texts[stem][1], f"the transcript of {stem} has no audio file"))


def text_beside(folders: Folders, left_out: LeftOut) -> Iterator[Found]:
    """Pair each audio file with the .txt file of the same name."""
    for folder, names in folders:
        texts = {_stem(name): name for name in names if name.lower().endswith(".txt")}
        for name in filter(_is_audio, names):
            path, stem = f"{folder}/{name}", _stem(name)
            if stem not in texts:
                left_out.append((Path(path), f"no transcript: write what is said into {stem}.txt beside it"))
                continue
            try:
                yield Found(path, read_text(f"{folder}/{texts[stem]}"), speaker_from_path(path))
            except (ValueError, OSError) as error:
                left_out.append((Path(path), f"the transcript cannot be read ({error})"))


# ----------------------------------------------------------------------------------------------------------- Kaldi


def kaldi(folders: Folders, left_out: LeftOut) -> Iterator[Found]:
    """Read the folders of Kaldi's data; relative paths start there, above it, or in the current folder."""
    for folder, names in folders:
        if not {"wav.scp", "text"} <= set(names):
            continue
        here = Path(folder)
        if "segments" in names:
            left_out.append((here / "segments", "its utterances are parts of recordings: cut these into files first"))
            continue
        places = [folder, *map(str, here.parents[:3]), "."]
        audio, texts = (dict(_pairs(here / name, left_out)) for name in ("wav.scp", "text"))
        speakers = dict(_pairs(here / "utt2spk", left_out)) if "utt2spk" in names else {}
        for key, where in audio.items():
            path = None if where.endswith("|") else _locate(places, where)
            if key not in texts:
                left_out.append((here / "text", f"no transcript of {key}"))
            elif where.endswith("|"):
                left_out.append((here / "wav.scp", f"{key} is a command, which is not run: write its output to a file"))
            elif path is None:
                left_out.append((here / "wav.scp", f"{key}: no audio file at {where}"))
            else:
                yield Found(path, texts[key], speakers.get(key))
        left_out += [
            (here / "text", f"the transcript of {key} has no audio file") for key in texts.keys() - audio.keys()
        ]


def _pairs(path: Path, left_out: LeftOut) -> list[tuple[str, str]]:
    """Return the first word and the rest of each line of a file."""
    try:
        lines = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        left_out.append((path, f"the file cannot be read ({error})"))
        return []
    return [(words[0], words[1].strip() if len(words) > 1 else "") for line in lines if (words := line.split(None, 1))]


# ---------------------------------------------------------------------------------------------------------- tables


def table(folders: Folders, left_out: LeftOut) -> Iterator[Found]:
    """Read every CSV and TSV file that names its columns."""
    return _tables(folders, left_out, lambda names: [name for name in names if name.lower().endswith((".csv", ".tsv"))])


def common_voice(folders: Folders, left_out: LeftOut) -> Iterator[Found]:
    """Read the tables of Common Voice that hold what people have confirmed."""
    return _tables(folders, left_out, _common_voice_tables)


def ljspeech(folders: Folders, left_out: LeftOut) -> Iterator[Found]:
    """Read metadata.csv without a line of names: name | text | text as it is said."""
    return _tables(folders, left_out, lambda names: [name for name in names if name.lower().endswith(".csv")], True)


def _common_voice_tables(names: Iterable[str]) -> list[str]:
    """Return the tables of a corpus among names: version 1 has several, in later ones `validated.tsv` holds the others."""
    first = [name for name in names if name.startswith("cv-valid-") and name.endswith(".csv")]
    return (
        first
        or [n for n in names if n == "validated.tsv"]
        or [n for n in names if n in ("train.tsv", "dev.tsv", "test.tsv")]
    )


def _tables(
    folders: Folders, left_out: LeftOut, chosen: Callable[[list[str]], list[str]], unnamed: bool = False
) -> Iterator[Found]:
    """Yield the rows of tables; audio that no row names is counted."""
    audio: set[str] = set()
    used: set[str] = set()
    for folder, names in folders:
        audio.update(f"{folder}/{name}" for name in filter(_is_audio, names))
        for path in [Path(folder, name) for name in chosen(names)]:
            columns = {"path": 0, "text": -1, "": "|"} if unnamed else _columns(path)
            for found in _rows(path, columns, left_out) if columns else ():
                used.add(found.path)
                yield found
    if audio - used:
        left_out.append(
            (Path(min(audio - used)), f"no table names this audio file; there are {len(audio - used):,d} such")
        )


def _columns(path: Path) -> dict | None:
    """Return which columns are path, text and perhaps speaker, and under "" what separates them; None without such names."""
    try:
        first = read_text(path).lstrip("\n").partition("\n")[0]
    except (OSError, ValueError):
        return None
    for separator in "\t,;|":
        names = [name.strip().strip('"').lower().replace(" ", "_") for name in first.split(separator)]
        found = {
            part: names.index(known[0])
            for part, column in COLUMNS.items()
            if (known := [n for n in column if n in names])
        }
        if {"path", "text"} <= found.keys():
            return found | {"": separator}
    return None


def _rows(path: Path, columns: dict, left_out: LeftOut) -> Iterator[Found]:
    separator, widest = columns[""], max(1, *(columns[part] for part in COLUMNS if part in columns))
    quotes = csv.QUOTE_NONE if separator in "\t|" else csv.QUOTE_MINIMAL  # those of tab-separated files are of the text
    folders = sorted(entry.path for entry in os.scandir(path.parent) if entry.is_dir())
    places = [str(path.parent), *folders[:MOST_FOLDERS], str(path.parent.parent)]
    try:
        rows = csv.reader(io.StringIO(read_text(path).lstrip("\n")), delimiter=separator, quoting=quotes)
        if columns["text"] >= 0:
            next(rows)
        for row in rows:
            if not row:
                continue
            if len(row) <= widest:
                left_out.append((path, f"line {rows.line_num} has only {len(row)} columns"))
                continue
            where = _locate(places, row[columns["path"]].strip())
            if where is None:
                left_out.append((path, f"line {rows.line_num}: no audio file at {row[columns['path']][:80]}"))
                continue
            words = row[columns["text"]] or row[1]  # of LJSpeech the last column may be empty
            yield Found(where, words, row[columns["speaker"]] or None if "speaker" in columns else None)
    except (OSError, ValueError, csv.Error) as error:
        left_out.append((path, f"the table cannot be read ({error})"))


def _locate(places: Sequence[str], name: str) -> str | None:
    """Return where a file that a table names is; names may have other slashes, accents or encodings there, or lack the suffix."""
    for spelling in _spellings(name):
        for place in places:
            path = spelling if spelling.startswith("/") else f"{place}/{spelling}"
            if os.access(path, os.F_OK):
                return os.path.normpath(path)
    return None


def _spellings(name: str) -> Iterator[str]:
    yield name
    for other in (name, name.replace("\\", "/"), *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))):
        yield from (other, *(f"{other}.{suffix}" for suffix in AUDIO_SUFFIXES))
    try:
        yield os.fsdecode(name.encode("latin-1"))
    except UnicodeEncodeError:
        return


LAYOUTS: dict[str, Callable[[Folders, LeftOut], Iterator[Found]]] = {
    "librispeech": librispeech,
    "ljspeech": ljspeech,
    "common-voice": common_voice,
    "kaldi": kaldi,
    "table": table,
    "text": text_beside,
}
