"""The feature cache: what is in it, when it is made again, and what interruptions leave behind."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vuilab.audio import read_audio
from vuilab.augment import speed_perturb
from vuilab.corpus.manifest import MANIFESTS, Utterance, read_manifest, write_manifest
from vuilab.data import feature_cache
from vuilab.data.feature_cache import cache_folder, load_features
from vuilab.features import FeatureSettings, spectrogram_from_file
from vuilab.files import repository

SPECTROGRAM = FeatureSettings()
MFCC = FeatureSettings("mfcc")


@pytest.fixture(autouse=True)
def default_place(monkeypatch):
    monkeypatch.delenv("VUI_CACHE", raising=False)


@pytest.fixture
def manifest(make_corpus):
    """Five clips of noise, 0.3 to 0.7 s."""
    return make_corpus({"train": [("a b", 0.3 + number / 10) for number in range(5)]}) / "train_corpus.json"


@pytest.fixture
def builds(monkeypatch):
    """The folders that are really computed during a test."""
    built = []
    original = feature_cache._build

    def build(folder, *arguments):
        built.append(folder)
        original(folder, *arguments)

    monkeypatch.setattr(feature_cache, "_build", build)
    return built


def load(manifest, settings=SPECTROGRAM):
    return load_features(manifest, read_manifest(manifest), settings, progress=False)


def names(folder):
    """What lies in a folder of caches, but for the lock file and the table of recordings."""
    known = (".lock", ".train_corpus.contents")
    return sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.exists() else []


# ---------------------------------------------------------------------------------------------------- content


def test_the_cache_holds_every_utterance_s_features_to_float16_precision(manifest):
    cache = load(manifest)
    utterances = read_manifest(manifest)
    assert cache.frames.dtype == np.float16 and cache.frames.shape[1] == 161
    assert isinstance(cache.frames, np.memmap)
    assert list(cache.num_frames) == [29, 39, 49, 59, 69]  # (seconds x 16,000 - 320) / 160 + 1
    for index, utterance in enumerate(utterances):
        exact = spectrogram_from_file(utterance.path)
        np.testing.assert_allclose(cache[index], exact, rtol=2**-11, atol=2**-11)  # half a unit in the last place


def test_each_feature_kind_uses_its_own_frame_count(make_corpus):
    manifest = make_corpus({"train": [("a", 16_081 / 16_000)]}) / "train_corpus.json"
    assert list(load(manifest, SPECTROGRAM).num_frames) == [99]
    assert list(load(manifest, MFCC).num_frames) == [100]


def test_many_utterances_stay_in_the_manifest_s_order(make_corpus, monkeypatch):
    monkeypatch.setattr(feature_cache, "NUM_THREADS", 3)
    num_frames = np.random.default_rng(0).permutation(np.arange(10, 70))
    durations = (num_frames * 160 + 200) / 16_000  # a window of 320 needs 160 more; 40 are left over
    manifest = make_corpus({"train": [("a", seconds) for seconds in durations]}) / "train_corpus.json"
    np.testing.assert_array_equal(load(manifest).num_frames, num_frames)


def test_silence_is_cached_without_nan(tmp_path):
    path = tmp_path / "silence.flac"
    soundfile.write(path, np.zeros(8000), 16_000)
    write_manifest(tmp_path / "train_corpus.json", [Utterance(path, 0.5, "a")])
    for settings in (SPECTROGRAM, MFCC, FeatureSettings("logmel")):
        assert np.isfinite(load(tmp_path / "train_corpus.json", settings)[0]).all()


# --------------------------------------------------------------------------------------------- made anew, or not


def test_a_second_load_computes_nothing(manifest, builds):
    first, second = load(manifest), load(manifest)
    assert len(builds) == 1
    np.testing.assert_array_equal(first.frames, second.frames)


@pytest.mark.parametrize(
    "settings",
    [
        FeatureSettings(step=20),
        FeatureSettings(window=25),
        FeatureSettings(max_freq=4000),
        MFCC,
        FeatureSettings("logmel"),
    ],
)
def test_another_relevant_setting_makes_another_cache_beside_the_first(manifest, builds, settings):
    load(manifest)
    load(manifest, settings)
    load(manifest)
    assert len(builds) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FeatureSettings(), FeatureSettings(mfcc_dim=26, num_mels=40)),
        (FeatureSettings("mfcc"), FeatureSettings("mfcc", window=30, max_freq=4000, num_mels=40)),
        (FeatureSettings("logmel"), FeatureSettings("logmel", mfcc_dim=26)),
    ],
)
def test_settings_that_the_features_do_not_depend_on_make_no_new_cache(manifest, builds, first, second):
    load(manifest, first)
    load(manifest, second)
    assert len(builds) == 1


def test_a_changed_manifest_is_computed_again_and_the_old_cache_goes(manifest, builds):
    load(manifest)
    load(manifest, MFCC)
    write_manifest(manifest, read_manifest(manifest)[1:])
    assert list(load(manifest).num_frames) == [39, 49, 59, 69]
    assert len(builds) == 3
    kinds = [name.split("-")[1] for name in names(manifest.parent / ".features")]
    assert kinds == ["mfcc", "spectrogram"]  # one of each; the MFCCs of the old manifest stay until they are asked for


def replace(path, seed=1):
    """Put other noise of the same length in the place of a recording, with its modification time."""
    times, samples = path.stat(), soundfile.read(path)[0]
    other = np.random.default_rng(seed).normal(0, 0.1, len(samples))
    soundfile.write(path, other, 16_000)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_recordings_replaced_in_place_are_computed_again(manifest, builds):
    before = np.array(load(manifest)[2])
    replace(read_manifest(manifest)[2].path)
    after = np.array(load(manifest)[2])
    assert len(builds) == 2 and not np.allclose(before, after, atol=0.1)
    np.testing.assert_allclose(after, spectrogram_from_file(read_manifest(manifest)[2].path), atol=0.01)
    load(manifest)
    assert len(builds) == 2


def test_touched_and_vanished_recordings_are_not_computed_again(manifest, builds):
    before = np.array(load(manifest).frames)
    paths = [item.path for item in read_manifest(manifest)]
    for path in paths:
        path.touch()
    load(manifest)
    for path in paths:
        path.unlink()
    assert len(builds) == 1 and (load(manifest).frames == before).all()


def test_a_cache_of_version_0_2_is_taken_unless_a_recording_is_younger(manifest, builds):
    load(manifest)
    path = cache_folder(manifest, SPECTROGRAM) / "meta.json"
    meta = json.loads(path.read_text())
    del meta["contents"]
    path.write_text(json.dumps(meta))
    load(manifest)
    assert len(builds) == 1
    replace(read_manifest(manifest)[0].path)
    load(manifest)
    assert len(builds) == 2


def test_corpora_that_share_one_cache_folder_do_not_disturb_each_other(make_corpus, tmp_path, monkeypatch, builds):
    monkeypatch.setenv("VUI_CACHE", str(tmp_path / "cache"))
    corpora = [
        make_corpus({"train": [("a", seconds)]}, name) / "train_corpus.json"
        for name, seconds in (("one", 0.3), ("two", 0.4))
    ]
    for _ in range(2):
        assert [list(load(manifest).num_frames) for manifest in corpora] == [[29], [39]]
    assert len(builds) == 2
    assert not (corpora[0].parent / ".features").exists()


# ---------------------------------------------------------------------------------------------------- bad audio


def test_all_bad_files_are_named_at_once_and_nothing_is_written(manifest):
    utterances = read_manifest(manifest)
    utterances[1].path.write_text("this is no audio")
    utterances[3].path.unlink()
    soundfile.write(utterances[4].path, np.zeros(100), 16_000)
    with pytest.raises(ValueError, match=r"3 of 5 audio files cannot be used(?s:.*)data index") as caught:
        load(manifest)
    message = str(caught.value)
    assert all(str(utterances[index].path) in message for index in (1, 3, 4))
    assert not any(str(utterances[index].path) in message for index in (0, 2))
    assert names(manifest.parent / ".features") == []


def test_of_many_bad_files_ten_are_shown_and_the_rest_counted(make_corpus):
    manifest = make_corpus({"train": [("a", 0.1)] * 13}) / "train_corpus.json"
    for utterance in read_manifest(manifest):
        utterance.path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"13 of 13 (?s:.*)\.\.\. and 3 more"):
        load(manifest)


# -------------------------------------------------------------------------------------- disks, folders and kills


def test_too_little_disk_is_said_before_the_work_begins(manifest, monkeypatch):
    usage = shutil.disk_usage(manifest.parent)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    monkeypatch.setattr(feature_cache, "read_audio", lambda path: pytest.fail("began to work"))
    with pytest.raises(OSError, match=r"needs 0.1 MB and 0.0 MB are free. Free some space.*VUI_CACHE") as caught:
        load(manifest)
    assert caught.value.errno == 28
    assert names(manifest.parent / ".features") == []


def test_a_disk_that_fills_up_half_way_leaves_nothing_and_the_next_run_recovers(manifest):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # the kernel refuses to write more into any file
    try:
        with pytest.raises(OSError, match=r"Cannot finish the feature cache .*Nothing was kept; free some space"):
            load(manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(manifest.parent / ".features") == []
    assert len(load(manifest).num_frames) == 5


def test_ctrl_c_half_way_leaves_nothing(manifest, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(feature_cache.np, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(manifest)
    assert names(manifest.parent / ".features") == []


@contextlib.contextmanager
def without_root():
    """Drop the rights of the administrator for a while: to them no folder is unwritable."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(monkeypatch):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        soundfile.write(folder / "a.wav", np.zeros(8000), 16_000)
        write_manifest(folder / "train_corpus.json", [Utterance(folder / "a.wav", 0.5, "a")])
        folder.chmod(0o555)
        message = r"Cannot write the feature cache under .*\.features.*Make the folder writable.*VUI_CACHE"
        with without_root(), pytest.raises(PermissionError, match=message):
            load(folder / "train_corpus.json")
        with tempfile.TemporaryDirectory() as elsewhere:
            monkeypatch.setenv("VUI_CACHE", elsewhere)
            assert len(load(folder / "train_corpus.json").num_frames) == 1
        folder.chmod(0o755)


def test_a_read_only_corpus_whose_cache_is_complete_can_be_used(manifest, monkeypatch):
    load(manifest)
    monkeypatch.setattr(feature_cache.filelock, "FileLock", lambda path: pytest.fail("tried to write"))
    assert len(load(manifest).num_frames) == 5


CHILD = """
    import sys, time
    from pathlib import Path

    sys.path.insert(0, {modules!r})
    from vuilab.corpus.manifest import read_manifest
    from vuilab.data import feature_cache
    from vuilab.features import FeatureSettings

    manifest, mode = Path({manifest!r}), {mode!r}
    original, done = feature_cache.read_audio, []
    feature_cache.NUM_THREADS = 1

    def read_audio(path):
        if mode == "stall" and len(done) == 3:
            print("half-way", flush=True)
            time.sleep(120)
        if mode == "slow":
            time.sleep(0.1)
        done.append(path)
        return original(path)

    feature_cache.read_audio = read_audio
    if mode == "slow":
        print("ready", flush=True)
        sys.stdin.readline()
    cache = feature_cache.load_features(manifest, read_manifest(manifest), FeatureSettings(), progress=False)
    print(len(done), cache.frames.shape[0], float(abs(cache.frames.astype("float64")).sum()))
"""


def start(manifest, mode):
    code = textwrap.dedent(CHILD).format(modules=str(repository()), manifest=str(manifest), mode=mode)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_after_a_kill_half_way_the_next_run_recovers(manifest):
    child = start(manifest, "stall")
    try:
        assert child.stdout.readline() == "half-way\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    finally:
        child.kill()
        child.communicate()
    features = manifest.parent / ".features"
    (left,) = names(features)
    assert left.startswith(".building-")  # the kill was real: no one tidied up
    cache = load(manifest)
    assert list(cache.num_frames) == [29, 39, 49, 59, 69]
    np.testing.assert_allclose(cache[4], spectrogram_from_file(read_manifest(manifest)[4].path), rtol=1e-3, atol=1e-3)
    assert names(features) == [cache_folder(manifest, SPECTROGRAM).name]


def test_two_processes_at_the_same_time_compute_once_and_read_the_same(manifest):
    children = [start(manifest, "slow") for _ in range(2)]
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [child.communicate(timeout=60)[0].split() for child in children]
    finally:
        for child in children:
            child.kill()
    assert sorted(answer[0] for answer in answers) == ["0", "5"]  # clips that each of them read
    assert answers[0][1:] == answers[1][1:] and answers[0][1] == "245"
    assert names(manifest.parent / ".features") == [cache_folder(manifest, SPECTROGRAM).name]


def test_a_folder_without_its_last_file_counts_as_unfinished(manifest, builds):
    load(manifest)
    (cache_folder(manifest, SPECTROGRAM) / "meta.json").unlink()
    assert len(load(manifest).num_frames) == 5
    assert len(builds) == 2


def test_the_cache_says_what_it_holds(manifest):
    load(manifest)
    meta = json.loads((cache_folder(manifest, SPECTROGRAM) / "meta.json").read_text())
    assert meta["settings"] == {"kind": "spectrogram", "step": 10, "window": 20, "max_freq": 8000}
    assert meta["num_utterances"] == 5


def test_features_at_several_speeds_are_those_of_the_changed_recordings_and_have_a_cache_of_their_own(make_corpus):
    manifest = make_corpus({"train": [("a b", 1.0), ("c", 0.5)]}) / MANIFESTS["train"]
    plain = read_manifest(manifest)
    played = [dataclasses.replace(item, speed=speed) for speed in (0.9, 1.0) for item in plain]
    cache = load_features(manifest, played, SPECTROGRAM, progress=False)
    assert len(cache.num_frames) == 4
    for index, item in enumerate(played):
        expected = SPECTROGRAM.extract(speed_perturb(read_audio(item.path), item.speed))
        np.testing.assert_allclose(cache[index], expected, rtol=2e-3, atol=2e-3)
    assert len(load_features(manifest, plain, SPECTROGRAM, progress=False).num_frames) == 2
    assert feature_cache.is_cached(manifest, SPECTROGRAM, (0.9, 1.0))
    assert not feature_cache.is_cached(manifest, SPECTROGRAM, (1.0, 1.1))
