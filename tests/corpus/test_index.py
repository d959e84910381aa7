import math

import numpy as np
import pytest
import soundfile

from vuilab.corpus import index as indexing
from vuilab.corpus.index import index_tree, load_speaker_table
from vuilab.corpus.manifest import MANIFESTS, read_manifest

RATE = 16_000


def noise(seconds, seed=0):
    return 0.05 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def add_utterance(root, speaker, number=0, text="HELLO THERE", seconds=0.5, suffix="flac", chapter="7"):
    """Write one audio file with its transcript line and return the audio's path."""
    folder = root / speaker / chapter
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{speaker}-{chapter}-{number:04d}"
    path = folder / f"{stem}.{suffix}"
    soundfile.write(path, noise(seconds, number), RATE)
    if text is not None:
        with (folder / f"{speaker}-{chapter}.trans.txt").open("a", encoding="utf-8") as file:
            file.write(f"{stem} {text}\n")
    return path


@pytest.fixture
def tree(tmp_path):
    """Four speakers with three utterances of half a second each."""
    for speaker in ("11", "22", "33", "44"):
        for number in range(3):
            add_utterance(tmp_path / "tree", speaker, number)
    return tmp_path / "tree"


def reasons(report):
    return {path.name: reason for path, reason in report.left_out}


def test_named_speakers_are_split_off_whole(tree, tmp_path):
    report = index_tree(tree, tmp_path / "out", valid_speakers=["22"], test_speakers=["33"])
    train, valid, test = (read_manifest(tmp_path / "out" / name) for name in MANIFESTS.values())
    assert [{utterance.speaker for utterance in split} for split in (train, valid, test)] == [
        {"11", "44"},
        {"22"},
        {"33"},
    ]
    assert [len(split) for split in (train, valid, test)] == [6, 3, 3]
    assert train[0].path == tree / "11/7/11-7-0000.flac"
    assert (train[0].text, train[0].duration) == ("hello there", 0.5)
    assert report.splits["train"]["hours"] == pytest.approx(6 * 0.5 / 3600)
    assert report.splits["train"]["speakers"] == ["11", "44"]
    assert report.left_out == []
    assert "6 utterances" in str(report) and "Nothing left out" in str(report)


def test_without_names_a_tenth_of_the_speakers_is_drawn_and_reported(tmp_path):
    for speaker in range(100, 120):
        add_utterance(tmp_path / "tree", str(speaker), seconds=0.05)
    report = index_tree(tmp_path / "tree", tmp_path / "out")
    drawn = report.splits["validation"]["speakers"]
    assert len(drawn) == 2
    assert not set(drawn) & set(report.splits["train"]["speakers"])
    assert report.splits["train"]["num_speakers"] == 18
    assert f"No validation speakers were named; drawn (seed 0): {' '.join(drawn)}" in str(report)
    assert index_tree(tmp_path / "tree", tmp_path / "again").splits == report.splits
    assert "test" not in report.splits and not (tmp_path / "out" / "test_corpus.json").exists()


def test_everything_goes_to_the_test_manifest_and_others_stay(tree, tmp_path):
    index_tree(tree, tmp_path / "out", valid_speakers=["11"])
    before = (tmp_path / "out" / "train_corpus.json").read_bytes()
    report = index_tree(tree, tmp_path / "out", test=True)
    assert list(report.splits) == ["test"]
    assert len(read_manifest(tmp_path / "out" / "test_corpus.json")) == 12
    assert (tmp_path / "out" / "train_corpus.json").read_bytes() == before
    assert "Kept from earlier, not changed: train_corpus.json valid_corpus.json" in str(report)


def test_depth_suffix_and_rate_do_not_matter(tmp_path):
    deep = tmp_path / "tree" / "a" / "b"
    for number, suffix in enumerate(("flac", "wav", "mp3", "ogg")):
        add_utterance(deep, "me", number, seconds=1.0, suffix=suffix)
    folder = deep / "me" / "8"
    folder.mkdir()
    soundfile.write(folder / "me-8-1.WAV", np.zeros((8000, 2)), 8000)  # one second, stereo, another rate
    (folder / "me-8.trans.txt").write_text("me-8-1 \t SPACED   OUT \n")
    index_tree(tmp_path / "tree", tmp_path / "out", test=True)
    utterances = read_manifest(tmp_path / "out" / "test_corpus.json")
    assert {utterance.speaker for utterance in utterances} == {"me"}
    assert [utterance.duration for utterance in utterances] == pytest.approx([1.0] * 5, abs=0.1)
    assert utterances[-1].text == "spaced out"


def test_a_chapter_folder_alone_is_a_tree_too(tree, tmp_path):
    assert index_tree(tree / "11" / "7", tmp_path / "out", test=True).splits["test"]["speakers"] == ["11"]


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg", "mp3"])
@pytest.mark.parametrize(
    "share", [0.99, 0.5, 0.01]
)  # of an MP3 0.96, since what encoders add at its end may be missing
def test_cut_off_audio_is_left_out(tree, tmp_path, suffix, share, capfd):
    path = add_utterance(tree, "11", 9, seconds=4, suffix=suffix)
    content = path.read_bytes()
    path.write_bytes(content[: int((min(share, 0.96) if suffix == "mp3" else share) * len(content))])
    report = index_tree(tree, tmp_path / "out", test=True)
    assert set(reasons(report)) == {path.name}
    assert report.splits["test"]["num_utterances"] == 12
    assert "cut off" in reasons(report)[path.name] or "not audio" in reasons(report)[path.name]


@pytest.mark.parametrize("missing", [1, 2, 3, 20, 1000])
@pytest.mark.parametrize("num_samples", [4096, 4097, 64_000])  # whole blocks of 4096 samples, and not
def test_a_flac_that_lacks_its_last_bytes_is_left_out(tmp_path, missing, num_samples):
    path = add_utterance(tmp_path, "11", seconds=num_samples / RATE)
    assert indexing._seconds_or_reason(str(path)) == num_samples / RATE
    path.write_bytes(path.read_bytes()[:-missing])
    assert "cut off" in indexing._seconds_or_reason(str(path))


def test_a_flac_whose_last_block_was_changed_is_left_out(tmp_path):
    path = add_utterance(tmp_path, "11", seconds=4)
    content = bytearray(path.read_bytes())
    content[-200] ^= 1  # the checksum of the block tells
    path.write_bytes(bytes(content))
    assert "damaged" in indexing._seconds_or_reason(str(path))


def test_everything_unusable_is_listed_with_its_reason(tree, tmp_path):
    add_utterance(tree, "11", 10).write_text("this is text, not audio")
    add_utterance(tree, "11", 11).write_bytes(b"")
    add_utterance(tree, "11", 12, seconds=0, suffix="wav")
    add_utterance(tree, "11", 13, seconds=1 / RATE)
    add_utterance(tree, "11", 14, text=None)
    add_utterance(tree, "11", 15, text="")
    add_utterance(tree, "11", 16, text="ROUTE 日")
    add_utterance(tree, "11", 17, text="X < Y")
    add_utterance(tree, "11", 18).unlink()
    twin = add_utterance(tree, "11", 0, text=None, suffix="wav")
    copy = tree / "copy" / "22" / "7" / "22-7-0001.flac"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((tree / "22/7/22-7-0001.flac").read_bytes())
    report = index_tree(tree, tmp_path / "out", test=True)
    assert report.splits["test"]["num_utterances"] == 12
    expected = {
        "11-7-0010.flac": "not audio",
        "11-7-0011.flac": "empty (0 bytes)",
        "11-7-0012.wav": "no samples",
        "11-7-0013.flac": "only 1 samples, less than one 25 ms",
        "11-7-0014.flac": "no transcript: add a line '11-7-0014",
        "11-7-0015.flac": "transcript is empty",
        "11-7-0016.flac": "without a spelling in the alphabet: 日 (replace",
        "11-7-0017.flac": "without a spelling in the alphabet: < (replace",
        "11-7.trans.txt": "the transcript of 11-7-0018 has no audio file",
        twin.name: "duplicate utterance ID, already at",
        copy.name: "duplicate utterance ID, already at",
    }
    found = reasons(report)
    assert set(found) == set(expected)
    for name, reason in expected.items():
        assert reason in found[name]
    assert "Left out: 11" in str(report) and "... and 1 more" in str(report)


def test_a_second_transcript_of_an_utterance_is_listed(tree, tmp_path):
    with (tree / "11/7/11-7.trans.txt").open("a") as file:
        file.write("11-7-0000 SOMETHING ELSE\n")
    report = index_tree(tree, tmp_path / "out", test=True)
    assert "second transcript of 11-7-0000" in reasons(report)["11-7.trans.txt"]
    assert read_manifest(tmp_path / "out" / "test_corpus.json")[0].text == "hello there"


def test_links_in_a_circle_and_hidden_files_are_no_trap(tree, tmp_path):
    (tree / "11" / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "11/7/._11-7-0000.flac").write_bytes(b"resource fork")
    report = index_tree(tree, tmp_path / "out", test=True)
    assert report.splits["test"]["num_utterances"] == 12 and report.left_out == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"valid_speakers": ["99"]}, r"of the speakers \['99'\]. Speakers present: 11 22 33 44"),
        ({"test_speakers": ["99", "11"]}, r"of the speakers \['99'\]. Speakers present: 11 22 33 44"),
        ({"valid_speakers": ["11"], "test_speakers": ["11"]}, "not both"),
        ({"valid_speakers": ["11"], "test": True}, "everything is test data"),
    ],
)
def test_impossible_splits_leave_nothing_behind(tree, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        index_tree(tree, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_single_speaker_needs_a_decision(tmp_path):
    add_utterance(tmp_path / "tree", "me")
    with pytest.raises(ValueError, match=r"only \['me'\].*--valid-speakers.*--test"):
        index_tree(tmp_path / "tree", tmp_path / "out")
    report = index_tree(tmp_path / "tree", tmp_path / "out", valid_speakers=["me"])
    assert list(report.splits) == ["validation"] and "No training utterances" in str(report)


def test_missing_and_empty_roots_say_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No folder at .*nowhere"):
        index_tree(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"No usable utterance below .*empty.*trans\.txt"):
        index_tree(tmp_path / "empty", tmp_path / "out")
    add_utterance(tmp_path / "bad", "11").write_bytes(b"")
    with pytest.raises(ValueError, match=r"(?s)No usable utterance.*Left out: 1.*0 bytes"):
        index_tree(tmp_path / "bad", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_fails_before_the_work(tree, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(indexing, "scan_tree", lambda root: pytest.fail("the work has started"))
    with pytest.raises(ValueError, match=r"Cannot write into the folder .*file/out"):
        index_tree(tree, tmp_path / "file" / "out", test=True)


def test_all_manifests_are_replaced_or_none(tree, tmp_path, monkeypatch):
    index_tree(tree, tmp_path / "out", valid_speakers=["11"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write = indexing.write_lines

    def full_disk(path, folder, utterances):
        if utterances[0].speaker == "22":  # the validation manifest, which is written second
            raise OSError(28, "No space left on device")
        write(path, folder, utterances)

    monkeypatch.setattr(indexing, "write_lines", full_disk)
    with pytest.raises(OSError, match="No space left"):
        index_tree(tree, tmp_path / "out", valid_speakers=["22"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_speaker_table_is_found_above_a_subset(tmp_path):
    (tmp_path / "dev-clean").mkdir()
    (tmp_path / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n14   | F | train-clean-360  | 25.03 | Kristin LeMoine\n"
        "60   | M | train-clean-100  | 20.18 | |CBW|Simon\n"
    )
    table = load_speaker_table(tmp_path / "dev-clean")
    assert table["14"] == {
        "sex": "F",
        "subset": "train-clean-360",
        "minutes": 25.03,
        "name": "Kristin LeMoine",
    }
    assert table["60"]["name"] == "|CBW|Simon"
    assert math.isclose(sum(row["minutes"] for row in table.values()), 45.21)


def test_speaker_table_may_be_missing_but_not_broken(tmp_path):
    assert load_speaker_table(tmp_path / "a" / "b" / "c") == {}
    (tmp_path / "SPEAKERS.TXT").write_text("14 F train\n")
    with pytest.raises(ValueError, match=r"SPEAKERS\.TXT, line 1 is not ID"):
        load_speaker_table(tmp_path)
