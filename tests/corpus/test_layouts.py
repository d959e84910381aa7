"""Corpora in the layouts that people have: the same recordings, texts and speakers come out of each."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vuilab.cli import main
from vuilab.corpus import index as indexing
from vuilab.corpus.index import index_tree
from vuilab.corpus.layouts import find_layout
from vuilab.corpus.manifest import MANIFESTS, read_manifest

# name, as it is written, as it is said, speaker
SPOKEN = [
    ("a1", "Mr. Fox’s 21 cats!", "mister fox's twenty one cats", "anna"),
    ("a2", 'He said "no" & left.', "he said no and left", "anna"),
    ("b1", "Well, it's 5% more", "well it's five per cent more", "bert"),
]
HEADER = "client_id\tpath\tsentence_id\tsentence\tup_votes\n"


def add_audio(path: Path, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.05 * np.random.default_rng(0).standard_normal(round(16_000 * seconds))
    with path.open("wb") as file:  # a name may hold bytes that soundfile does not take
        soundfile.write(file, samples, 16_000, format=path.suffix[1:].upper())


def add_text(path: Path, lines, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding, errors="surrogateescape")


def librispeech(root):
    for number, (_, written, _, speaker) in enumerate(SPOKEN):
        add_audio(root / speaker / "7" / f"{speaker}-7-{number}.flac")
        with (root / speaker / "7" / f"{speaker}-7.trans.txt").open("a", encoding="utf-8") as file:
            file.write(f"{speaker}-7-{number} {written}\n")


def ljspeech(root):
    add_text(root / "metadata.csv", [f"{name}|{written}|{said}" for name, written, said, _ in SPOKEN])
    for name, *_ in SPOKEN:
        add_audio(root / "wavs" / f"{name}.wav")


def ljspeech_of_two_columns(root):
    ljspeech(root)
    add_text(root / "metadata.csv", [f"{name}|{written}|" for name, written, *_ in SPOKEN[:2]] + ["b1|" + SPOKEN[2][1]])


def common_voice(root, tables=("validated.tsv", "train.tsv", "other.tsv")):
    rows = [f"{speaker}\tcommon_{name}.mp3\t0\t{written}\t2" for name, written, _, speaker in SPOKEN]
    for table in tables:
        add_text(root / "en" / table, [HEADER.strip(), *(rows if table != "other.tsv" else ["x\ty.mp3\t0\tno\t0"])])
    for name, *_ in SPOKEN:
        add_audio(root / "en" / "clips" / f"common_{name}.mp3")


def common_voice_delta(root):
    common_voice(root, ["validated.tsv"])
    (root / "en" / "clips").rename(root / "en" / "validated_clips")


def common_voice_split(root):
    common_voice(root, ())
    for table, (name, written, _, speaker) in zip(("train", "dev", "test"), SPOKEN, strict=True):
        add_text(root / "en" / f"{table}.tsv", [HEADER.strip(), f"{speaker}\tcommon_{name}.mp3\t0\t{written}\t2"])


def common_voice_1(root):
    rows = [f'cv-valid-dev/{name}.mp3,"{written.replace(chr(34), chr(34) * 2)}",1,0,,' for name, written, *_ in SPOKEN]
    add_text(root / "cv-valid-dev.csv", ["filename,text,up_votes,down_votes,age,duration", *rows])
    add_text(root / "cv-invalid.csv", ["filename,text", "cv-invalid/x.mp3,no"])
    for name, *_ in SPOKEN:
        add_audio(root / "cv-valid-dev" / f"{name}.mp3")


def kaldi(root):
    for name, *_ in SPOKEN:
        add_audio(root / "wav" / f"{name}.wav")
    folder = root / "data" / "train"
    places = [root / "wav" / "a1.wav", "wav/a2.wav", "../../wav/b1.wav"]
    add_text(folder / "wav.scp", [f"{name} {place}" for (name, *_), place in zip(SPOKEN, places, strict=True)])
    add_text(folder / "text", [f"{name} {written}" for name, written, *_ in SPOKEN])
    add_text(folder / "utt2spk", [f"{name} {speaker}" for name, *_, speaker in SPOKEN])


def table(root, separator=",", names="audio_filepath,Duration,Speaker ID,Transcription"):
    lines = [names.replace(",", separator)]
    for name, written, _, speaker in SPOKEN:
        quoted = written if separator == "\t" else '"' + written.replace('"', '""') + '"'
        lines.append(separator.join([f"sub/{name}.ogg", "1", speaker, quoted]))
        add_audio(root / "sub" / f"{name}.ogg", 0.5)
    add_text(root / ("mine.tsv" if separator == "\t" else "mine.csv"), lines)


def text(root):
    for name, written, *_ in SPOKEN:
        add_audio(root / "deep" / f"{name}.wav")
        add_text(root / "deep" / f"{name}.txt", [written])


@pytest.mark.parametrize(
    ("make", "layout", "speakers"),
    [
        (librispeech, "librispeech", True),
        (ljspeech, "ljspeech", False),
        (ljspeech_of_two_columns, "ljspeech", False),
        (common_voice, "common-voice", True),
        (common_voice_split, "common-voice", True),
        (common_voice_delta, "common-voice", True),
        (common_voice_1, "common-voice", False),
        (kaldi, "kaldi", True),
        (table, "table", True),
        (lambda root: table(root, "\t"), "table", True),
        (lambda root: table(root, ";", "path,seconds,client_id,sentence"), "table", True),
        (text, "text", False),
    ],
)
def test_each_layout_gives_texts_and_speakers(make, layout, speakers, tmp_path):
    make(tmp_path / "corpus")
    assert find_layout(tmp_path / "corpus") == layout
    report = index_tree(tmp_path / "corpus", tmp_path / "out", test=True)
    assert report.left_out == [] and f"Layout: {layout}" in str(report)
    found = {(u.text, u.speaker) for u in read_manifest(tmp_path / "out" / MANIFESTS["test"])}
    assert found == {(said, speaker if speakers else None) for _, _, said, speaker in SPOKEN}
    again = index_tree(tmp_path / "corpus", tmp_path / "again", test=True, layout=layout)
    assert again.splits == report.splits


def test_a_table_can_be_named_itself(tmp_path):
    common_voice(tmp_path)
    table(tmp_path / "mine")
    ljspeech(tmp_path / "lj")
    for path in ("en/train.tsv", "mine/mine.csv", "lj/metadata.csv"):
        report = index_tree(tmp_path / path, tmp_path / "out", test=True)
        assert report.splits["test"]["num_utterances"] == 3 and report.left_out == []


def test_known_speakers_are_kept_apart_and_otherwise_sentences(tmp_path):
    rows = [(f"{number}.wav", f"sentence {'abcdefghij'[number % 10]}") for number in range(40)]
    add_text(tmp_path / "known.csv", ["path,text,speaker", *(f"{path},{said},s{path[0]}" for path, said in rows)])
    add_text(tmp_path / "unknown.csv", ["path,text", *(f"{path},{said}" for path, said in rows)])
    for path, _ in rows:
        add_audio(tmp_path / path, 0.03)
    report = index_tree(tmp_path / "known.csv", tmp_path / "out")
    train, valid = (read_manifest(tmp_path / "out" / MANIFESTS[split]) for split in ("train", "validation"))
    assert not {u.speaker for u in train} & {u.speaker for u in valid} and {u.text for u in train} & {
        u.text for u in valid
    }
    assert "unknown" not in str(report)
    report = index_tree(tmp_path / "unknown.csv", tmp_path / "out")
    train, valid = (read_manifest(tmp_path / "out" / MANIFESTS[split]) for split in ("train", "validation"))
    assert not {u.text for u in train} & {u.text for u in valid} and (len(train), len(valid)) == (36, 4)
    assert "speakers of 40 utterances are unknown" in str(report) and "unknown speakers" in str(report)
    with pytest.raises(ValueError, match="of the speakers"):
        index_tree(tmp_path / "unknown.csv", tmp_path / "out", valid_speakers=["s1"])


def test_what_a_layout_cannot_use_is_listed_with_its_reason(tmp_path):
    kaldi(tmp_path / "k")
    folder = tmp_path / "k" / "data" / "train"
    with (folder / "wav.scp").open("a") as file:
        file.write(f"c1 touch {tmp_path}/ran; cat x.wav |\nc2 gone.wav\nc3 wav/a1.wav\n")
    with (folder / "text").open("a") as file:
        file.write("c1 one\nc2 two\nc4 four\n")
    reasons = [reason for _, reason in index_tree(tmp_path / "k", tmp_path / "out", test=True).left_out]
    for expected in (
        "c1 is a command, which is not run",
        "c2: no audio file at gone.wav",
        "no transcript of c3",
        "the transcript of c4 has no audio file",
    ):
        assert any(expected in reason for reason in reasons)
    assert len(reasons) == 4 and not (tmp_path / "ran").exists()
    common_voice(tmp_path / "cv")
    add_audio(tmp_path / "cv/en/clips/more.mp3")
    with (tmp_path / "cv/en/validated.tsv").open("a", encoding="utf-8") as file:
        file.write("s\tgone.mp3\t0\ta\t0\ns\tshort\ns\tcommon_a1.mp3\t0\ttwice\t0\n")
    reasons = [reason for _, reason in index_tree(tmp_path / "cv", tmp_path / "out", test=True).left_out]
    for expected in (
        "line 5: no audio file at gone.mp3",
        "line 6 has only 2 columns",
        "stands twice",
        "no table names this",
    ):
        assert any(expected in reason for reason in reasons)
    assert len(reasons) == 4
    text(tmp_path / "t")
    add_audio(tmp_path / "t" / "lonely.wav")
    add_text(tmp_path / "t/deep/a1.txt", ["東京"])
    (tmp_path / "t/deep/a2.txt").write_bytes(b"a\x00\x01\x02")
    found = {path.name: reason for path, reason in index_tree(tmp_path / "t", tmp_path / "out", test=True).left_out}
    assert "into lonely.txt beside it" in found["lonely.wav"] and "without a spelling" in found["a1.wav"]
    assert "a2.txt, line 1: no text" in found["a2.wav"] and len(found) == 3


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("make", [librispeech, ljspeech, common_voice, common_voice_1, kaldi, table, text])
def test_tables_and_transcripts_are_read_in_any_usual_encoding(make, encoding, tmp_path):
    make(tmp_path / "corpus")
    for path in (tmp_path / "corpus").rglob("*"):
        if path.is_file() and path.suffix in (".txt", ".csv", ".tsv", ".scp", ""):
            path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    report = index_tree(tmp_path / "corpus", tmp_path / "out", test=True)
    assert report.left_out == [] and report.splits["test"]["num_utterances"] == 3


@pytest.mark.parametrize("make", [librispeech, ljspeech, kaldi, table, text])
def test_folders_and_files_named_in_latin_1_stop_nothing(make, tmp_path, capsys):
    root = tmp_path / os.fsdecode(b"caf\xe9")
    make(root)
    add_audio(root / os.fsdecode(b"\xe9.wav"))
    status = main.main(["data", "index", str(root), "--out", str(tmp_path / "out"), "--test"])
    assert status == (0 if make is kaldi else 3)  # the file that nothing names is left out
    assert "caf\\udce9" in capsys.readouterr().out or make is kaldi
    found = read_manifest(tmp_path / "out" / MANIFESTS["test"])
    assert len(found) == 3 and all(utterance.path.is_file() for utterance in found)


def test_names_in_a_table_are_found_under_other_slashes_accents_and_bytes(tmp_path):
    for name in ("sub/a.wav", "cafe\u0301.wav", os.fsdecode(b"na\xefve.wav"), "plain.flac"):
        add_audio(tmp_path / name)
    rows = ["sub\\a.wav,one", "caf\u00e9.wav,two", "na\u00efve.wav,three", "plain,four"]
    add_text(tmp_path / "t.csv", ["path,text", *rows])
    report = index_tree(tmp_path, tmp_path / "out", test=True)
    assert report.left_out == [] and report.splits["test"]["num_utterances"] == 4


def test_the_exit_code_tells_whether_all_some_or_no_files_were_used(tmp_path, capsys):
    text(tmp_path / "t")
    command = ["data", "index", str(tmp_path / "t"), "--out", str(tmp_path / "out"), "--test"]
    assert main.main(command) == 0
    (tmp_path / "t/deep/a1.txt").unlink()
    assert main.main(command) == 3
    for path in (tmp_path / "t/deep").glob("*.txt"):
        path.unlink()
    assert main.main([*command, "--layout", "text"]) == 1
    assert "No usable utterance" in capsys.readouterr().err


def test_many_files_are_checked_by_processes_with_the_same_outcome(tmp_path, monkeypatch):
    text(tmp_path / "t")
    (tmp_path / "t/deep/a1.wav").write_bytes(b"")
    alone = index_tree(tmp_path / "t", tmp_path / "out", test=True)
    monkeypatch.setattr(indexing, "MANY_FILES", 1)
    assert index_tree(tmp_path / "t", tmp_path / "out", test=True) == alone and len(alone.left_out) == 1


def test_what_has_no_layout_names_those_that_are_known(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"(?s)No usable utterance below .*LJSpeech.*Common Voice.*Kaldi.*--layout"):
        index_tree(tmp_path / "empty", tmp_path / "out")
