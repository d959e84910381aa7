"""Fetching Speech Commands from a server on the loopback interface, and the corpus that the demo voices speak."""

import dataclasses
import hashlib
import io
import json

import numpy as np
import pytest
import soundfile
from loopback import tar_bytes

from vuilab.corpus import download
from vuilab.corpus.download import DownloadError
from vuilab.keywords import fetch
from vuilab.keywords.corpus import PARTS, choose_clips, index_folder
from vuilab.keywords.fetch import fetch_speech_commands, make_word_demo

NAME = "speech_commands_v0.02"


def clip(seed):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(seed).normal(0, 0.1, 1600), 16_000, format="WAV")
    return buffer.getvalue()


WORDS = {f"./{word}/{n}a_nohash_0.wav": clip(n) for n, word in enumerate(("yes", "no", "cat"))}
GOOD = tar_bytes(
    {**WORDS, "./_background_noise_/tap.wav": clip(9), "./validation_list.txt": b"yes/0a_nohash_0.wav\n"}.items()
)


@pytest.fixture
def serve(server, monkeypatch):
    """Offer bytes as version 2, which is said to have three words and this checksum."""

    def offer(content, md5=None, num_words=3):
        server.files[f"/{NAME}.tar.gz"] = content
        md5 = md5 or hashlib.md5(content, usedforsecurity=False).hexdigest()
        release = dataclasses.replace(fetch.VERSIONS[2], md5=md5, archive_bytes=len(content), num_words=num_words)
        monkeypatch.setitem(fetch.VERSIONS, 2, release)
        return {"base_url": server.url, "progress": False, "timeout": 1, "retries": 2}

    return offer


def test_the_corpus_is_fetched_verified_and_not_fetched_twice(serve, server, tmp_path, capsys):
    index = fetch_speech_commands(2, tmp_path, **serve(GOOD))
    assert index.folder == tmp_path / NAME and index.words == ("cat", "no", "yes") and index.has_lists
    assert index.backgrounds == ("_background_noise_/tap.wav",)
    assert not (tmp_path / ".downloads").exists()
    assert fetch_speech_commands(2, tmp_path, **serve(GOOD)) == index
    assert len(server.requests) == 1 and "not fetched again" in capsys.readouterr().out


def test_a_download_that_broke_off_goes_on_where_it_stopped(serve, server, tmp_path):
    options = serve(GOOD) | {"retries": 1}
    server.faults = ["cut", 503]
    with pytest.raises(DownloadError, match=r"Gave up on .*it continues after the"):
        fetch_speech_commands(2, tmp_path, **options)
    part = next((tmp_path / ".downloads").glob("*.part"))
    half = part.stat().st_size
    assert 0 < half < len(GOOD) and not (tmp_path / NAME).exists()
    fetch_speech_commands(2, tmp_path, **options)
    assert server.requests[-1][1] == f"bytes={half}-"


def test_wrong_bytes_are_refused_and_nothing_stays(serve, tmp_path):
    with pytest.raises(DownloadError, match=r"wrong checksum, twice.*expected md5:" + "0" * 32):
        fetch_speech_commands(2, tmp_path, **serve(GOOD, md5="0" * 32))
    assert not (tmp_path / NAME).exists() and not list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar_bytes([("./README.md", b"nothing")]), r"holds 0 words; 3 were expected"),
        (tar_bytes([(f"./w{n}/a.wav", b"x") for n in range(5)]), r"holds 5 words; 3 were expected"),
        (tar_bytes([*WORDS.items(), ("../evil.wav", b"x")]), r"is damaged or dangerous .*Nothing was extracted"),
        (GOOD[:2000], r"is damaged or dangerous"),
    ],
    ids=["no words", "other words", "unsafe", "damaged"],
)
def test_an_archive_that_is_not_the_corpus_is_refused_and_nothing_stays(serve, tmp_path, content, message):
    with pytest.raises(DownloadError, match=message):
        fetch_speech_commands(2, tmp_path, **serve(content))
    assert [path.name for path in tmp_path.iterdir()] in ([".downloads.lock"], [])


def test_a_folder_of_ones_own_is_left_alone_and_other_versions_are_refused(serve, tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(ValueError, match="exists, but was not made by this command"):
        fetch_speech_commands(2, tmp_path, **serve(GOOD))
    with pytest.raises(ValueError, match=r"version must be one of \[1, 2\]\. Received: version=3"):
        fetch_speech_commands(3, tmp_path)


def test_a_disk_that_is_too_small_is_said_before_fetching(serve, server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ValueError, match=r"Not enough space in .*speech_commands_v0\.02 needs"):
        fetch_speech_commands(2, tmp_path, **serve(GOOD))
    assert not server.requests


# ------------------------------------------------------------------------------------------------------ demo


def test_every_part_of_the_demo_has_clips_of_every_word_and_voices_of_its_own(spoken_words):
    index = index_folder(spoken_words)
    assert index.words == ("bed", "cat", "happy", "no") and len(index.backgrounds) == 5
    dataset = choose_clips(index)
    counts = dataset.counts()
    assert all(counts[part][word] >= 2 for part in PARTS for word in index.words)
    assert [len(dataset.speakers(part)) for part in ("validation", "testing")] == [4, 2]
    assert len(dataset.speakers("train")) + len(dataset.speakers("development")) == 12


def test_names_put_each_voice_into_its_part_and_development_shares_no_variant_with_training():
    speakers = fetch.make_speakers(1, {"train": 368, "validation": 40, "test": 56})
    names = fetch._speaker_names(speakers)
    assert len(set(names.values())) == len(speakers) == 116
    variants = {part: set() for part in PARTS}
    for voice in speakers:
        part = fetch.which_set(names[voice.speaker])
        part = "development" if part == "train" and fetch.is_development(names[voice.speaker]) else part
        assert (
            part
            in {"train": ("train", "development"), "validation": ("validation",), "test": ("testing",)}[voice.split]
        )
        variants[part].add(voice.variant)
    assert sum(map(len, variants.values())) == len(set().union(*variants.values()))


def test_demo_clips_are_one_second_of_speech_in_noise(spoken_words):
    for key in index_folder(spoken_words).files["happy"][:5]:
        samples, rate = soundfile.read(spoken_words / key)
        assert rate == 16_000 and len(samples) == 16_000
        level = np.sqrt(np.mean(samples.reshape(100, 160) ** 2, axis=1))
        assert level.max() > 4 * np.median(np.sort(level)[:15])  # the word stands out of the noise


def test_the_demo_is_made_once_and_follows_from_its_settings(tmp_path):
    def make(name, **options):
        return make_word_demo(tmp_path / name, ("no", "go"), scale="tiny", progress=False, **options)

    first = make("a")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.wav")}
    assert make("a") == first and {path: path.stat().st_mtime_ns for path in stamps} == stamps
    make("b")
    for key in first.files["no"]:
        assert (tmp_path / "a" / key).read_bytes() == (tmp_path / "b" / key).read_bytes()
    make("a", seed=2)
    assert json.loads((tmp_path / "a" / "DEMO.json").read_text())["settings"]["seed"] == 2
    assert sorted(path.name for path in tmp_path.iterdir() if "making" in path.name) == []


def test_the_demo_overwrites_nothing_of_the_users(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "song.wav").touch()
    with pytest.raises(FileExistsError, match="is not a demo corpus"):
        make_word_demo(tmp_path / "mine", ("no", "go"), scale="tiny", progress=False)
    with pytest.raises(ValueError, match="scale must be one of"):
        make_word_demo(tmp_path / "new", scale="huge")
    assert (tmp_path / "mine" / "song.wav").exists() and not (tmp_path / "new").exists()
