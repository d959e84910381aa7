"""Long recordings: every word in exactly one piece, nothing from noise, memory that does not grow."""

import itertools
import tracemalloc

import numpy as np
import pytest
import soundfile

from vuilab.audio import blocks, read_audio
from vuilab.corpus.manifest import MANIFESTS, read_manifest
from vuilab.inference.pieces import LONGEST, PieceCutter, is_long, pieces, speech_or_all, speech_pieces


@pytest.fixture(scope="module")
def talk(tiny_corpus, tmp_path_factory):
    """Fourteen sentences of the tiny corpus with pauses of 0.2 to 1.5 s over faint noise: (path, spans of the sentences)."""
    rng = np.random.default_rng(0)
    parts, spans, here = [], [], 0.0
    utterances = read_manifest(tiny_corpus / MANIFESTS["train"])[:14]
    for utterance, pause in zip(utterances, np.linspace(0.2, 1.5, len(utterances)), strict=True):
        samples = read_audio(utterance.path)
        loud = np.flatnonzero(np.abs(samples) > 0.1 * np.abs(samples).max())
        spans.append((here + loud[0] / 16_000, here + loud[-1] / 16_000))
        parts += [samples, np.zeros(int(pause * 16_000), np.float32)]
        here += len(samples) / 16_000 + int(pause * 16_000) / 16_000
    signal = np.concatenate(parts)
    path = tmp_path_factory.mktemp("talk") / "talk.flac"
    soundfile.write(path, (signal + 1e-4 * rng.standard_normal(len(signal))).clip(-1, 1), 16_000)
    return path, spans


@pytest.mark.parametrize("block_seconds", [0.05, 1.0, 60.0])
def test_pieces_hold_all_speech_once_and_are_short(talk, block_seconds):
    path, spans = talk
    found = list(pieces(path, block_seconds=block_seconds))
    ends = [piece.start + len(piece.samples) / 16_000 for piece in found]
    assert all(len(piece.samples) <= (LONGEST + 0.1) * 16_000 for piece in found)
    assert all(end <= later.start + 1e-9 for end, later in zip(ends, found[1:], strict=False))  # nothing twice
    signal = read_audio(path)
    covered = np.zeros(len(signal), bool)
    for piece in found:
        begin = round(piece.start * 16_000)
        part = signal[begin : begin + len(piece.samples)]
        np.testing.assert_array_equal(piece.samples[: len(part)], part)
        covered[begin : begin + len(piece.samples)] = True
    for start, end in spans:  # the loud parts of every sentence, to 30 ms at their ends
        assert covered[round((start + 0.03) * 16_000) : round((end - 0.03) * 16_000)].mean() > 0.99
    assert len(found) >= 4


def test_the_result_does_not_depend_on_how_it_is_read(talk):
    path, _ = talk
    first, second = list(pieces(path, block_seconds=0.037)), list(pieces(path, block_seconds=7.0))
    assert [piece.start for piece in first] == [piece.start for piece in second]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(first, second, strict=True))


def test_speech_without_a_pause_is_cut_at_quiet_moments(talk, tmp_path, monkeypatch):
    monkeypatch.setattr("vuilab.inference.pieces.LONGEST", 4.0)
    path, _ = talk
    signal = read_audio(path)
    loud = signal[np.convolve(np.abs(signal), np.ones(1600) / 1600, mode="same") > 0.01]  # no pauses left
    soundfile.write(tmp_path / "fast.wav", np.tile(loud, 3), 16_000)
    found = list(pieces(tmp_path / "fast.wav"))
    assert len(found) > 3 and all(len(piece.samples) <= 4.1 * 16_000 for piece in found)
    for before, after in itertools.pairwise(found):
        assert after.start == pytest.approx(before.start + len(before.samples) / 16_000, abs=0.5)


@pytest.mark.parametrize("kind", ["silence", "noise", "loud noise", "hum", "click"])
def test_what_is_no_speech_gives_no_piece(kind, tmp_path):
    rng = np.random.default_rng(0)
    time = np.arange(16_000 * 12) / 16_000
    signal = {
        "silence": np.zeros(len(time)),
        "noise": 0.003 * rng.standard_normal(len(time)),
        "loud noise": 0.05 * rng.standard_normal(len(time)),
        "hum": 0.05 * np.sin(2 * np.pi * 50 * time),
        "click": np.where(np.arange(len(time)) % 32_000 == 16_000, 0.5, 0.0),
    }[kind]
    soundfile.write(tmp_path / "nothing.wav", signal, 16_000)
    assert list(pieces(tmp_path / "nothing.wav")) == []


@pytest.mark.parametrize("kind", ["offset", "hum", "-40 dB", "clipped", "all at once"])
def test_speech_is_found_at_any_level_and_over_what_lies_below_a_voice(talk, kind):
    path, spans = talk
    signal = read_audio(path)
    time = np.arange(len(signal)) / 16_000
    changed = {
        "offset": signal + 0.1,
        "hum": signal + 0.1 * np.sin(2 * np.pi * 50 * time + 1),
        "-40 dB": 0.01 * signal,
        "clipped": np.clip(30 * signal, -1, 1),
        "all at once": 0.01 * signal + 0.05 + 0.02 * np.sin(2 * np.pi * 50 * time),
    }[kind].astype(np.float32)
    covered = np.zeros(len(signal), bool)
    for piece in speech_pieces([changed]):
        begin = round(piece.start * 16_000)
        covered[begin : begin + len(piece.samples)] = True
        part = changed[begin : begin + len(piece.samples)]
        np.testing.assert_array_equal(piece.samples[: len(part)], part)  # the sound itself stays as it is
    for start, end in spans:
        assert covered[round((start + 0.03) * 16_000) : round((end - 0.03) * 16_000)].mean() > 0.99


def test_a_recording_of_which_the_gate_leaves_nothing_is_given_whole_with_a_note(capsys):
    rng, time = np.random.default_rng(0), np.arange(16_000 * 40) / 16_000
    noise = (0.05 * rng.standard_normal(len(time))).astype(np.float32)
    found = list(speech_or_all(lambda: np.array_split(noise, 7), "fan.wav"))
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in found])[: len(noise)], noise)
    assert max(len(piece.samples) for piece in found) <= (LONGEST + 0.1) * 16_000
    assert "fan.wav: nobody seems to speak" in capsys.readouterr().err
    hum = (0.3 + 0.1 * np.sin(2 * np.pi * 50 * time)).astype(np.float32)
    assert list(speech_or_all(lambda: [hum], "hum.wav")) == list(speech_or_all(lambda: [0 * hum], "nothing.wav")) == []
    assert capsys.readouterr().err == ""


def test_another_rate_and_stereo_give_the_same_times(talk, tmp_path):
    import soxr

    path, _ = talk
    signal = read_audio(path)
    other = soxr.resample(signal, 16_000, 44_100)
    soundfile.write(tmp_path / "stereo.wav", np.stack([other, other], axis=1), 44_100)
    expected, found = list(pieces(path)), list(pieces(tmp_path / "stereo.wav"))
    assert abs(len(found) - len(expected)) <= 1  # the detector's decisions at the edges of words differ by a frame
    seconds = [sum(len(piece.samples) for piece in group) / 16_000 for group in (found, expected)]
    assert seconds[0] == pytest.approx(seconds[1], rel=0.03) and found[-1].start == pytest.approx(
        expected[-1].start, abs=0.2
    )


def test_the_growing_piece_is_the_beginning_of_the_piece_that_it_becomes(talk):
    path, _ = talk
    cutter, seen, found = PieceCutter(), [], []
    for samples in blocks(path, 0.1):
        finished = list(cutter.add(samples))
        found += finished
        growing = cutter.growing()
        if growing is not None:
            seen.append(growing)
    found += cutter.finish()
    assert cutter.growing() is None
    for piece in found:
        before = [growing for growing in seen if growing.start == piece.start]
        assert len(before) > 3
        for growing in before:
            number = min(len(growing.samples), len(piece.samples))
            np.testing.assert_array_equal(growing.samples[:number], piece.samples[:number])
    assert {growing.start for growing in seen} == {piece.start for piece in found}


def test_memory_does_not_grow_with_the_length(talk, tmp_path):
    path, _ = talk
    signal = read_audio(path)
    peaks = []
    for times in (2, 6):
        soundfile.write(tmp_path / "long.flac", np.tile(signal, times), 16_000)
        tracemalloc.start()
        count = sum(1 for _ in pieces(tmp_path / "long.flac"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count >= 4 * times - 2
    assert peaks[1] < 1.3 * peaks[0]


def test_length_and_what_is_no_audio(talk, tmp_path):
    path, _ = talk
    assert is_long(path) and not is_long(path, 1000)
    (tmp_path / "text.wav").write_text("hello")
    assert not is_long(tmp_path / "text.wav")
    with pytest.raises(ValueError, match="ffmpeg -i INPUT"):
        list(pieces(tmp_path / "text.wav"))
    with pytest.raises(FileNotFoundError, match=r"No audio file at .*none\.wav"):
        list(pieces(tmp_path / "none.wav"))
