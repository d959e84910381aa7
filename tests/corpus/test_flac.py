"""The quick look at FLAC files agrees with the decoder, and is certain only of files that are whole."""

import numpy as np
import pytest
import soundfile

from vuilab.corpus.flac import complete_flac_seconds


@pytest.mark.parametrize("num_samples", [1, 400, 4096, 4097, 16_000, 400_000, 4096 * 130])
@pytest.mark.parametrize("kind", ["noise", "tone", "silence"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_whole_files_have_the_decoder_s_duration(num_samples, kind, rate, tmp_path):
    rng = np.random.default_rng(num_samples)
    signal = {
        "noise": 0.1 * rng.standard_normal(num_samples),
        "tone": 0.5 * np.sin(np.arange(num_samples) / 10),
        "silence": np.zeros(num_samples),
    }[kind]
    path = tmp_path / "a.flac"
    soundfile.write(path, signal, rate)
    assert complete_flac_seconds(str(path)) == pytest.approx(soundfile.info(path).duration, abs=1e-9)


def test_a_file_that_lacks_any_end_or_was_changed_is_not_vouched_for(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(50_000), 16_000)
    whole = path.read_bytes()
    for missing in (1, 2, 3, 10, 1000, 9000, len(whole) - 60, len(whole) - 41, len(whole)):
        path.write_bytes(whole[: len(whole) - missing])
        assert complete_flac_seconds(str(path)) is None
    path.write_bytes(whole + b"more")
    assert complete_flac_seconds(str(path)) is None
    changed = bytearray(whole)
    changed[-200] ^= 1  # within the last frame
    path.write_bytes(bytes(changed))
    assert complete_flac_seconds(str(path)) is None


def test_what_is_no_flac_and_what_is_not_there(tmp_path):
    (tmp_path / "a.flac").write_bytes(b"fLaC" + bytes(100))
    (tmp_path / "b.flac").write_text("hello")
    for name in ("a.flac", "b.flac", "c.flac"):
        assert complete_flac_seconds(str(tmp_path / name)) is None
