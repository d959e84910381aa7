"""The corpus by its names: the published split, labels, unknown words and silence, and what is refused."""

import collections
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from vuilab.audio import read_audio
from vuilab.cli import main
from vuilab.corpus import manifest
from vuilab.files import repository
from vuilab.keywords import corpus
from vuilab.keywords.batches import fewer_clips
from vuilab.keywords.clips import load_part
from vuilab.keywords.corpus import (
    PARTS,
    SHARES,
    SPEECH,
    choose_clips,
    index_folder,
    speaker_of,
    which_set,
    with_speech,
    write_dataset,
)

# lines of validation_list.txt and testing_list.txt in version 2 of the corpus
VALIDATION = (
    "a69b9b3e",
    "439c84f4",
    "409c962a",
    "dbaf8fc6",
    "a6d586b7",
    "0e17f595",
    "ff2b842e",
    "7fd25f7c",
    "3cc595de",
)
TESTING = ("bb05582b", "97f4c236", "f2e59fea", "fdb5155e", "dc75148d", "3f170018", "18f8afd5", "e1469561", "5c8af87a")
# speakers of version 2 that stand in neither list
TRAINING = ("00b01445", "012c8314", "0132a06d", "0135f3f2", "0137b3f4", "016e2c6d", "01bb6a2a", "01d22d03", "0227998e")


def names(number, prefix="speaker"):
    return [f"{prefix}{n}" for n in range(number)]


@pytest.fixture
def make(tmp_path):
    """Write a corpus of empty files: make({"yes": ["a_nohash_0.wav", ...]})."""

    def write(files, backgrounds=0):
        for word, keys in files.items():
            (tmp_path / word).mkdir()
            for key in keys:
                (tmp_path / word / key).touch()
        for number in range(backgrounds):
            (tmp_path / corpus.BACKGROUND).mkdir(exist_ok=True)
            samples = np.random.default_rng(number).normal(0, 0.1, 20 * 8000)
            soundfile.write(tmp_path / corpus.BACKGROUND / f"noise{number}.wav", samples, 8000)
        return tmp_path

    return write


@pytest.fixture
def four_words(make):
    """Forty speakers say each of four words once; two background recordings of 20 s at 8 kHz."""
    clips = [f"{name}_nohash_0.wav" for name in names(40)]
    return make({word: clips for word in ("bed", "go", "tree", "yes")}, backgrounds=2)


def test_the_split_is_that_of_the_published_lists():
    assert {which_set(f"right/{name}_nohash_3.wav") for name in VALIDATION} == {"validation"}
    assert {which_set(f"{name}_nohash_0.wav") for name in TESTING} == {"testing"}
    assert {which_set(f"no/{name}_nohash_1.flac") for name in TRAINING} == {"train"}


def test_the_split_has_the_shares_of_the_rule():
    parts = collections.Counter(which_set(f"{number:08x}_nohash_0.wav") for number in range(20_000))
    assert parts["validation"] / 20_000 == pytest.approx(0.1, abs=0.007)
    assert parts["testing"] / 20_000 == pytest.approx(0.1, abs=0.007)


def test_no_two_parts_share_a_speaker_and_development_is_a_tenth_of_training(make):
    clips = [f"{number:08x}_nohash_{take}.wav" for number in range(1500) for take in range(2)]
    dataset = choose_clips(index_folder(make({"no": clips, "yes": clips[::3]})))
    speakers = {part: set(dataset.speakers(part)) for part in PARTS}
    assert sum(map(len, speakers.values())) == len(set().union(*speakers.values())) == 1500
    share = len(speakers["development"]) / (len(speakers["development"]) + len(speakers["train"]))
    assert share == pytest.approx(0.1, abs=0.03)


def test_the_lists_of_the_corpus_decide_where_there_are_any(four_words):
    (four_words / "validation_list.txt").write_text("bed/speaker1_nohash_0.wav\nno/speaker2_nohash_7.wav\n")
    (four_words / "testing_list.txt").write_text("yes/speaker3_nohash_0.wav\n")
    dataset = choose_clips(index_folder(four_words))
    assert dataset.speakers("validation") == ["speaker1", "speaker2"] and dataset.speakers("testing") == ["speaker3"]
    assert len(dataset.part("validation")) == 8  # with all their clips, so that no voice is in two parts


def test_a_speaker_in_both_lists_is_refused(four_words):
    for name in ("validation_list.txt", "testing_list.txt"):
        (four_words / name).write_text("bed/speaker1_nohash_0.wav\n")
    with pytest.raises(ValueError, match=r"speaker1 stands in validation_list\.txt and in testing_list\.txt"):
        index_folder(four_words)


def test_names_without_a_hash_are_speakers_of_their_own():
    assert speaker_of("yes/clip.wav") == "clip.wav" and speaker_of("a_nohash_b_nohash_0.wav") == "a"


def test_the_index_names_missing_commands_and_skips_empty_folders_and_other_files(make):
    folder = make(
        {"yes": ["b_nohash_0.WAV", "a_nohash_0.flac", "notes.txt", "._a_nohash_0.wav"], "zebra": [], "_x": ["a.wav"]}
    )
    index = index_folder(folder)
    assert index.files == {"yes": ("yes/a_nohash_0.flac", "yes/b_nohash_0.WAV")}
    assert index.missing_commands == ("no", "up", "down", "left", "right", "on", "off", "stop", "go")
    assert index.skipped == ("zebra/: no .wav or .flac files in it",)
    assert "lacks: no up down" in str(index) and "skipped zebra/" in str(index)


def test_a_folder_that_is_missing_or_has_no_words_is_refused(tmp_path, make):
    with pytest.raises(FileNotFoundError, match=r"No folder .*nowhere.*vui\.py data speech_commands"):
        index_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no folders with clips\. Expected one folder for each word"):
        index_folder(make({"empty": []}))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bed", "zebra", "yak"], "has no clips of: zebra yak. Choose from: bed go tree yes, silence, unknown"),
        (["bed"], "at least two different labels, one of them a word. Received: bed"),
        (["bed", "bed"], "at least two different labels"),
        (["silence", "unknown"], "one of them a word"),
        (["bed", "go", "tree", "yes", "unknown"], "all words of the corpus are. Leave it out"),
    ],
)
def test_choices_of_labels_that_make_no_classifier_are_refused(four_words, words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        choose_clips(index_folder(four_words), words)


def test_a_corpus_of_one_word_is_refused_without_a_second_label(make):
    index = index_folder(make({"yes": ["a_nohash_0.wav"]}))
    with pytest.raises(ValueError, match="at least two different labels"):
        choose_clips(index)


def test_classes_follow_the_order_of_the_labels(four_words):
    index = index_folder(four_words)
    assert choose_clips(index, ["tree", "bed"]).labels == ("tree", "bed")
    assert choose_clips(index).labels == ("bed", "go", "tree", "yes")


def test_more_unknown_words_for_training_change_nothing_that_is_measured_with(four_words):
    once, often = (
        choose_clips(index_folder(four_words), ["yes", "silence", "unknown"], unknown_factor=k) for k in (1, 2)
    )
    for part in PARTS:
        counts = [dataset.counts()[part] for dataset in (once, often)]
        factor = 2 if part in ("train", "development") else 1
        assert counts[1]["unknown"] == factor * counts[0]["unknown"] and counts[1]["yes"] == counts[0]["yes"]
        if factor == 1:
            assert often.part(part) == once.part(part)
    with pytest.raises(ValueError, match="unknown_factor must be positive"):
        choose_clips(index_folder(four_words), ["yes", "unknown"], unknown_factor=0)


def test_the_challenge_has_the_commands_there_are_then_silence_and_unknown(four_words):
    dataset = choose_clips(index_folder(four_words), "challenge")
    assert dataset.labels == ("yes", "go", "silence", "unknown")
    assert dataset.missing == ("no", "up", "down", "left", "right", "on", "off", "stop")
    counts = dataset.counts()
    for part in PARTS:  # as many of silence and unknown as of a command
        assert counts[part]["silence"] == counts[part]["unknown"] == counts[part]["yes"] == counts[part]["go"]
    unknown = [clip for clip in dataset.clips if clip.label == "unknown"]
    assert {clip.word for clip in unknown} == {"bed", "tree"} and len({clip.key for clip in unknown}) == len(unknown)


def test_silence_is_of_every_kind_and_no_two_parts_hear_the_same_stretch(four_words):
    dataset = choose_clips(index_folder(four_words), ["bed", "silence"])
    silence = [clip for clip in dataset.clips if clip.label == "silence"]
    kinds = {clip.word for clip in silence}
    assert {"recorded", "reversed", "zero"} <= kinds and kinds - {"recorded", "reversed", "zero"} <= set(corpus.NOISES)
    for clip in silence:
        if clip.key:  # 20 s at 8 kHz are 320,000 samples at 16 kHz
            low, high = SHARES[clip.part]
            assert low * 320_000 <= clip.start and clip.start + 16_000 <= high * 320_000
    assert {clip.speaker for clip in silence} == {""}


def test_silence_is_made_without_recordings(make):
    clips = [f"{name}_nohash_0.wav" for name in names(40)]
    index = index_folder(make({"bed": clips}))
    kinds = {clip.word for clip in choose_clips(index, ["bed", "silence"]).clips if clip.label == "silence"}
    assert kinds and not kinds & {"recorded", "reversed"}


def test_the_seed_alone_decides_and_stands_in_the_manifest(four_words, tmp_path):
    index = index_folder(four_words)
    first, again, other = (choose_clips(index, "challenge", seed) for seed in (1, 1, 2))
    assert first == again and first.fingerprint() == again.fingerprint() != other.fingerprint()
    write_dataset(tmp_path / "clips.json", first)
    content = json.loads((tmp_path / "clips.json").read_text())
    assert (
        content["seed"] == 1 and content["labels"] == list(first.labels) and len(content["clips"]) == len(first.clips)
    )
    assert content["clips"][0]["part"] in PARTS


def test_the_corpus_and_its_features_load_no_backend():
    code = (
        "import sys, vuilab.keywords.corpus, vuilab.keywords.clips, vuilab.keywords.fetch; "
        "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repository())


def test_fewer_clips_are_of_training_only_and_stand_in_every_larger_choice(four_words):
    dataset = choose_clips(index_folder(four_words), ["yes", "go", "bed"])
    few, more, all_of_them = (fewer_clips(dataset, number) for number in (2, 4, 10_000))
    assert all(count == 2 for count in few.counts()["train"].values())
    assert all(0 < few.counts()["development"][label] < dataset.counts()["development"][label] for label in few.labels)
    assert set(few.clips) < set(more.clips) < set(dataset.clips) and all_of_them == dataset
    for part in ("validation", "testing"):
        assert few.part(part) == dataset.part(part)
    assert fewer_clips(dataset, 2).fingerprint() == few.fingerprint() != fewer_clips(dataset, 2, seed=1).fingerprint()
    with pytest.raises(ValueError, match="clips_per_label must be at least 1"):
        fewer_clips(dataset, 0)


# ---------------------------------------------------------------------- speech


@pytest.fixture
def dataset(noises):
    return choose_clips(index_folder(noises), ["brown", "violet", "unknown"])


@pytest.fixture
def speech(tmp_path):
    """Utterances of twelve speakers: each sample is 1 + the number of its utterance, in hundredths; two hold a label."""
    items = []
    for number in range(12):
        path = tmp_path / f"{number}.flac"
        soundfile.write(path, np.full(16_000 * (2 + number % 3), 0.01 * (1 + number)), 16_000)
        text = "the violet hour" if number < 2 else "violets are no label"
        items.append(manifest.Utterance(path, 2.0 + number % 3, text, str(number)))
    soundfile.write(tmp_path / "short.flac", np.zeros(16_000), 16_000)
    items.append(manifest.Utterance(tmp_path / "short.flac", 1.0, "too short", "20"))
    manifest.write_manifest(tmp_path / "speech.json", items)
    return tmp_path / "speech.json"


def test_stretches_of_utterances_without_a_label_become_unknown_clips_for_training(dataset, speech):
    more = with_speech(dataset, speech, 300)
    added = [clip for clip in more.clips if clip.word == SPEECH]
    assert len(added) == 300 and {clip.label for clip in added} == {"unknown"}
    assert {clip.speaker for clip in added} == {str(number) for number in range(2, 12)}
    assert {clip.part for clip in added} <= {"train", "development"}
    assert all(len({clip.part for clip in added if clip.speaker == speaker}) == 1 for speaker in {"2", "3", "11"})
    for part in ("validation", "testing"):
        assert more.part(part) == dataset.part(part)
    counts = [sum(clip.speaker == speaker for clip in added) for speaker in ("3", "5")]  # 2 s and 4 s, so 1 to 3
    assert 1.8 < counts[1] / counts[0] < 5
    assert with_speech(dataset, speech, 300) == more != with_speech(dataset, speech, 300, seed=1)
    assert more.fingerprint() != dataset.fingerprint()


def test_the_audio_of_a_stretch_is_that_of_its_utterance(dataset, speech):
    more = with_speech(dataset, speech, 50)
    audio = load_part(more, "train", progress=False)
    assert len(audio) == len(more.part("train")) and not audio.skipped
    for number, clip in enumerate(audio.clips):
        if clip.word == SPEECH:
            whole = read_audio(more.folder / clip.key)
            found = audio.samples([number])[0]
            np.testing.assert_allclose(found, whole[clip.start : clip.start + 16_000], atol=1e-4)
            assert clip.start + 16_000 <= len(whole)
    assert sorted(audio.targets.tolist()).count(2) == sum(clip.label == "unknown" for clip in more.part("train"))
    assert set(PARTS) >= {clip.part for clip in more.clips}


def test_a_linked_corpus_finds_the_utterances_too(noises, speech, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    link = tmp_path / "deep" / "er" / "link"
    link.symlink_to(noises, target_is_directory=True)
    more = with_speech(choose_clips(index_folder(link), ["brown", "violet", "unknown"]), speech, 3)
    assert len(load_part(more, "train", progress=False)) == len(more.part("train"))


def test_what_cannot_be_is_refused(noises, dataset, speech, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"for the label 'unknown'.*labels brown violet white"):
        with_speech(choose_clips(index_folder(noises)), speech, 5)
    with pytest.raises(ValueError, match="num_clips=0"):
        with_speech(dataset, speech, 0)
    manifest.write_manifest(tmp_path / "label.json", [manifest.Utterance(tmp_path / "2.flac", 4.0, "a brown fox", "2")])
    with pytest.raises(ValueError, match="none of the labels"):
        with_speech(dataset, tmp_path / "label.json", 5)
    command = ["keywords", "train", str(noises), "--words", "brown", "violet", "unknown", "--speech", "none.json"]
    assert main.main(command) == 1
    assert "No manifest at none.json" in capsys.readouterr().err
