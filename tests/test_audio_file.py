"""Opening audio files: what is none is called by its name, and libmpg123 is silent."""

import os

import numpy as np
import pytest
import soundfile

from vuilab.audio import read_audio


def overwrite(path, place, content):
    whole = bytearray(path.read_bytes())
    whole[place : place + len(content)] = content
    path.write_bytes(bytes(whole))


def test_libmpg123_s_notes_reach_nobody_and_others_do(tmp_path, capfd):
    path = tmp_path / "mangled.mp3"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(48_000), 16_000)
    overwrite(path, 3000, np.random.default_rng(0).bytes(400))
    read_audio(path)
    os.write(2, b"somebody else's\n")
    assert [line.split()[0] for line in capfd.readouterr().err.splitlines()] == ["Note:", "somebody"]


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"\n<!DOCTYPE html><html>404</html>", "a web page"), (b"hello " * 99, "a text"), (b"", r"empty \(0 bytes\)")],
)
def test_what_is_no_audio_is_called_by_its_name(tmp_path, content, what):
    (tmp_path / "a.mp3").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.mp3 as audio .*{what}"):
        read_audio(tmp_path / "a.mp3")


def test_a_pipe_is_told_from_a_missing_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"is a pipe or a device.*Write it into a file"):
        read_audio(tmp_path / "pipe")


def test_a_rate_that_cannot_be_is_refused(tmp_path):
    path = tmp_path / "slow.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    overwrite(path, 24, (2).to_bytes(4, "little"))
    with pytest.raises(ValueError, match="claims 2 samples a second"):
        read_audio(path)
