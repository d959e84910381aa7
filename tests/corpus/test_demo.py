import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vuilab.corpus import demo, manifest, voices
from vuilab.corpus import index as indexing
from vuilab.files import repository

TINY = {"scale": "tiny", "seed": 3, "progress": False}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "demo"
    report = demo.make_demo(folder, workers=2, **TINY)
    return folder, report


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def splits(folder: Path) -> dict[str, list[manifest.Utterance]]:
    return {split: manifest.read_manifest(folder / name) for split, name in manifest.MANIFESTS.items()}


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio)))) if len(audio) else 0.0


# --------------------------------------------------------------------------------------------- one recording


@pytest.mark.parametrize("seed", range(8))
def test_recording_keeps_its_level_and_noise_within_the_stated_limits(seed):
    tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    recorded = demo.record(tone, 4_000, np.random.default_rng(seed))
    peak = 20 * np.log10(np.abs(recorded).max())
    assert -18.01 <= peak <= -2.99
    silence, speech = rms(recorded[:4_000]), rms(recorded[4_000:20_000])
    assert 17 < 20 * np.log10(speech / silence) < 44  # the margin is for the pauses and the short stretch of noise


def test_noise_is_white_or_pink_at_unit_power():
    slopes = set()
    for seed in range(10):
        noise = demo._noise(32_000, np.random.default_rng(seed))
        assert rms(noise) == pytest.approx(1.0)
        power = np.abs(np.fft.rfft(noise)) ** 2
        octaves = power[4_000:8_000].mean() / power[500:1_000].mean()  # three octaves apart
        slopes.add(round(-10 * np.log10(octaves) / 3))
    assert slopes == {0, 3}  # dB an octave


# ------------------------------------------------------------------------------------------------ the corpus


def test_tiny_corpus_has_librispeech_layout_and_16_khz_mono_flac(tiny):
    folder, report = tiny
    assert report.made
    paths = sorted(folder.rglob("*.flac"))
    assert len(paths) == sum(demo.SCALES["tiny"])
    for path in paths:
        speaker, chapter, number = path.stem.split("-")
        assert path.parent.name == chapter
        assert path.parent.parent.name == speaker
        assert re.fullmatch(r"\d{4}", number)
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (16_000, 1, "FLAC", "PCM_16")
        lines = (path.parent / f"{speaker}-{chapter}.trans.txt").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith(f"{path.stem} ")]
        assert re.fullmatch(r"[A-Z' ]+", line.partition(" ")[2])
    table = indexing.load_speaker_table(folder)
    assert set(table) == {path.parent.parent.name for path in paths}
    assert {row["sex"] for row in table.values()} <= {"M", "F"}


def test_index_tree_reads_what_the_manifests_say(tiny, tmp_path):
    folder, _ = tiny
    said = {u.path: (u.text, u.speaker) for part in splits(folder).values() for u in part}
    found, left_out = indexing.scan_tree(folder)
    assert left_out == []
    assert {u.path: (u.text, u.speaker) for u in found} == said
    test_speakers = {u.speaker for u in splits(folder)["test"]}
    indexing.index_tree(folder, tmp_path, test_speakers=sorted(test_speakers))
    assert {u.path for u in splits(tmp_path)["test"]} == {u.path for u in splits(folder)["test"]}


def test_tiny_splits_share_no_variant_no_sentence_and_mark_unseen_words(tiny):
    folder, report = tiny
    parts = splits(folder)
    names = {speaker: row["name"] for speaker, row in indexing.load_speaker_table(folder).items()}
    variants = {split: {re.match(r"[^+]+\+(.+) rate", names[u.speaker])[1] for u in parts[split]} for split in parts}
    texts = {split: {u.text for u in parts[split]} for split in parts}
    for one, other in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        assert not variants[one] & variants[other]
        assert not texts[one] & texts[other]
    trained = {word for text in texts["train"] for word in text.split()}
    for utterance in parts["test"]:
        unseen = not trained.issuperset(utterance.text.split())
        assert utterance.extra.get("unseen_words", False) == unseen
    marked = [u for u in parts["test"] if "unseen_words" in u.extra]
    assert len(marked) == 2
    assert report.unseen_share == pytest.approx(0.2)
    assert not [u for u in parts["train"] + parts["validation"] if "unseen_words" in u.extra]


def test_durations_and_word_times_fit_the_audio(tiny):
    folder, report = tiny
    everything = [u for part in splits(folder).values() for u in part]
    for utterance in everything:
        assert utterance.duration == soundfile.info(utterance.path).frames / 16_000
        words = utterance.extra["words"]
        assert [word for word, _, _ in words] == utterance.text.split()
        times = [time for _, start, end in words for time in (start, end)]
        assert times == sorted(times)
        assert times[0] >= 0.08
        assert times[-1] <= utterance.duration
        audio, _ = soundfile.read(utterance.path)
        first, last = (round(time * 16_000) for time in (times[0], times[-1]))
        assert rms(audio[: first - 80]) < 0.2 * rms(audio[first:last])  # noise is at least 20 dB below
    assert 1.5 < np.mean([u.duration for u in everything]) < 3.0
    assert report.num_spoken == sum(len(u.text.split()) for u in everything)
    minutes = sum(u.duration for u in everything) / 60
    assert sum(part["minutes"] for part in report.splits.values()) == pytest.approx(minutes, abs=0.02)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(tiny, tmp_path, workers):
    folder, _ = tiny
    demo.make_demo(tmp_path / "demo", workers=workers, **TINY)
    assert digests(tmp_path / "demo") == digests(folder)


def test_another_seed_gives_another_corpus(tiny, tmp_path):
    folder, _ = tiny
    demo.make_demo(tmp_path / "demo", workers=0, **(TINY | {"seed": 4}))
    assert {u.text for u in splits(tmp_path / "demo")["train"]} != {u.text for u in splits(folder)["train"]}


def test_a_finished_demo_is_not_made_again_and_says_so(tiny, capsys, monkeypatch):
    folder, first = tiny
    before = digests(folder)
    monkeypatch.setattr(demo, "render_all", lambda *_: pytest.fail("made again"))
    report = demo.make_demo(folder, **(TINY | {"progress": True}))
    assert "already there" in capsys.readouterr().out
    assert not report.made
    assert report.splits == first.splits
    assert digests(folder) == before


def small(folder: Path, **settings) -> demo.DemoReport:
    return demo.make_demo(folder, num_train=12, num_valid=1, num_test=1, workers=0, progress=False, **settings)


def test_a_demo_with_other_settings_or_a_missing_file_is_replaced(tmp_path):
    folder = tmp_path / "demo"
    assert small(folder, seed=1).made
    assert small(folder, seed=2).made
    before = digests(folder)
    next(folder.rglob("*.flac")).unlink()
    assert small(folder, seed=2).made
    assert digests(folder) == before
    assert not small(folder, seed=2).made
    assert {path.name for path in tmp_path.iterdir()} <= {"demo", ".demo.lock"}


def test_a_demo_of_an_older_grammar_or_voice_list_is_made_again(tmp_path, monkeypatch):
    small(tmp_path / "demo")
    monkeypatch.setattr(voices, "ACCENTS", ("en-us",))
    assert small(tmp_path / "demo").made


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "train_corpus.json").write_text("mine\n")
    with pytest.raises(FileExistsError, match=r"mine is there already and is not a demo.*Choose another folder"):
        small(folder)
    (folder / demo.MARKER).write_text("{}")  # a file of that name does not make it one
    with pytest.raises(FileExistsError, match="not a demo"):
        small(folder)
    assert (folder / "train_corpus.json").read_text() == "mine\n"


def test_a_failure_half_way_leaves_nothing_and_keeps_the_old_demo(tmp_path, monkeypatch):
    folder = tmp_path / "demo"
    small(folder, seed=1)
    before = digests(folder)
    render, calls = demo._render, []

    def break_down(job):
        calls.append(job)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        return render(job)

    monkeypatch.setattr(demo, "_render", break_down)
    with pytest.raises(OSError, match="No space left"):
        small(folder, seed=2)
    assert digests(folder) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"demo", ".demo.lock"}


def test_a_killed_run_is_taken_for_nothing_and_the_next_run_recovers(tmp_path):
    folder = tmp_path / "demo"
    code = (
        "import os; from vuilab.corpus import demo; render = demo._render; calls = []\n"
        "def stop(job):\n"
        "    calls.append(job)\n"
        "    return render(job) if len(calls) < 6 else os._exit(9)\n"
        "demo._render = stop\n"
        f"demo.make_demo({str(folder)!r}, num_train=12, num_valid=1, num_test=1, workers=0, progress=False)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=repository(), check=False)
    assert killed.returncode == 9
    assert not folder.exists()
    assert any(path.name.startswith(".demo-making-") for path in tmp_path.iterdir())
    assert small(folder).made
    assert len(list(folder.rglob("*.flac"))) == 14
    assert {path.name for path in tmp_path.iterdir()} <= {"demo", ".demo.lock"}


def test_a_script_without_a_main_guard_can_make_a_demo(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(repository())!r})\n"
        "from vuilab.corpus import demo\n"
        f"demo.make_demo({str(tmp_path / 'demo')!r}, num_train=12, num_valid=1, num_test=1, workers=2)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("Demo corpus in") == 1
    marker = json.loads((tmp_path / "demo" / demo.MARKER).read_text())
    assert marker["settings"]["counts"] == [12, 1, 1]


def test_a_worker_that_dies_is_reported_with_the_way_round(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_render", lambda job: os._exit(1))
    with pytest.raises(RuntimeError, match=r"ended.*workers=0"):
        demo.make_demo(tmp_path / "demo", scale="tiny", workers=2, progress=False)
    assert not (tmp_path / "demo").exists()


def test_settings_are_checked_first(tmp_path):
    with pytest.raises(ValueError, match="Received: scale='huge'"):
        demo.make_demo(tmp_path / "demo", scale="huge")
    with pytest.raises(ValueError, match="at least 1 utterance in each split"):
        demo.make_demo(tmp_path / "demo", num_test=0)
