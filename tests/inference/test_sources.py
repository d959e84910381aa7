"""Microphone and file as sources of chunks; the microphone is a stand-in for the package sounddevice."""

import sys
import types

import numpy as np
import pytest
import soundfile

from vuilab.inference import sources
from vuilab.inference.sources import check_microphone, file_chunks, first_seconds, microphone_chunks


class PortAudioError(Exception):
    pass


class FakeSoundDevice(types.SimpleNamespace):
    """Plays a signal (num_samples,) at one rate; `devices` are the names of its inputs."""

    PortAudioError = PortAudioError

    def __init__(self, rate: int, signal: np.ndarray, devices=("built-in",)):
        super().__init__(rate=rate, signal=signal, devices=devices, closed=False, opened=[])
        fake = self

        class InputStream:
            def __init__(self, samplerate, blocksize, device, channels, dtype, callback):
                assert (samplerate, channels, dtype) == (fake.rate, 1, "float32")
                fake.opened.append(device)
                self.size, self.callback, self.active = blocksize, callback, True

            def start(self):
                block = np.zeros((self.size, 1), np.float32)
                for start in range(0, len(fake.signal), self.size):
                    part = fake.signal[start : start + self.size, None]
                    block[: len(part)] = part  # PortAudio fills the same memory again and again
                    self.callback(block[: len(part)], len(part), None, None)
                self.active = False

            def close(self):
                fake.closed = True

        self.InputStream = InputStream

    def query_devices(self, device, kind):
        if isinstance(device, int) or not self.devices:  # what PortAudio 19.6 says of numbers that it does not know
            raise PortAudioError(f"Error querying device {-1 if device is None else device}")
        if device not in (None, *self.devices):
            raise ValueError(f"No input device matching {device!r}")
        return {"default_samplerate": float(self.rate)}

    def check_input_settings(self, device, channels, dtype, samplerate):
        if samplerate != self.rate:
            raise PortAudioError("Invalid sample rate")


@pytest.fixture
def tone():
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype(np.float32)


def test_samples_arrive_as_the_device_gives_them(monkeypatch):
    signal = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    fake = FakeSoundDevice(16_000, signal)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    assert check_microphone() == 16_000
    chunks = first_seconds(microphone_chunks("built-in"), 0.5)
    np.testing.assert_array_equal(np.concatenate(list(chunks)), signal)
    chunks.close()
    assert fake.opened == ["built-in"] and fake.closed


def test_a_device_without_16_khz_is_resampled(monkeypatch, tone):
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice(48_000, tone))
    assert check_microphone() == 48_000
    found = np.concatenate(list(first_seconds(microphone_chunks(), 0.9)))
    assert len(found) == pytest.approx(0.9 * 16_000, abs=10)
    spectrum = np.abs(np.fft.rfft(found[1000:9000] * np.hanning(8000)))
    assert spectrum.argmax() * 2 == 440  # Hz
    assert np.abs(found).max() == pytest.approx(0.3, rel=0.02)


def test_without_the_package_or_its_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(RuntimeError, match=r"pip install sounddevice\. Or record a file .*vui\.py transcribe FILE"):
        next(microphone_chunks())
    monkeypatch.delitem(sys.modules, "sounddevice")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"apt-get install libportaudio2; Fedora.*vui\.py transcribe FILE"):
        check_microphone()


@pytest.mark.parametrize(
    ("device", "devices", "message"),
    [
        (None, (), r"Could not open a microphone \(Error querying device -1\)\. Plug one in.*--device N"),
        (7, ("built-in",), r"Could not open the microphone 7 \(Error querying device 7\).*python -m sounddevice"),
        ("usb", ("built-in",), "Could not open the microphone 'usb'"),
    ],
)
def test_no_microphone_or_not_that_one(device, devices, message, monkeypatch, tone):
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice(16_000, tone, devices))
    with pytest.raises(RuntimeError, match=message):
        next(microphone_chunks(device))


def test_a_microphone_that_stops_is_an_error_and_not_an_end(monkeypatch, tone):
    fake = FakeSoundDevice(16_000, tone)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    with pytest.raises(RuntimeError, match=r"The microphone has stopped\. Was it unplugged"):
        list(microphone_chunks())
    assert fake.closed


def test_digital_silence_is_mentioned_once(monkeypatch, capsys):
    signal = np.zeros(8 * 16_000, np.float32)
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice(16_000, signal))
    monkeypatch.setattr(sources, "MUTED", -1.0)  # at once
    with pytest.raises(RuntimeError, match="stopped"):
        list(microphone_chunks())
    assert capsys.readouterr().err.count("Is the microphone muted") == 1


def test_a_file_comes_in_tenths_of_a_second_and_in_real_time(monkeypatch, tmp_path):
    signal = np.random.default_rng(0).normal(0, 0.1, 7_000).clip(-1, 1)
    soundfile.write(tmp_path / "clip.wav", signal, 16_000, subtype="FLOAT")
    fast = list(file_chunks(tmp_path / "clip.wav", real_time=False))
    assert [len(chunk) for chunk in fast] == [1600] * 4 + [600]
    np.testing.assert_array_equal(np.concatenate(fast), signal.astype(np.float32))
    clock = [100.0]
    monkeypatch.setattr(sources.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    times = [clock[0] for _ in file_chunks(tmp_path / "clip.wav")]
    assert times == pytest.approx([100.1, 100.2, 100.3, 100.4, 100.4375])


def test_what_is_no_audio_and_what_is_not_there(tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(ValueError, match=r"Cannot read .*text\.wav as audio"):
        list(file_chunks(tmp_path / "text.wav"))
    with pytest.raises(FileNotFoundError, match=r"No audio file at .*none\.wav"):
        list(file_chunks(tmp_path / "none.wav"))


def test_first_seconds_cut_within_a_chunk():
    chunks = [np.arange(1600.0)] * 3
    assert sum(map(len, first_seconds(chunks, 0.25))) == 4000
    assert sum(map(len, first_seconds(chunks, None))) == 4800
    with pytest.raises(ValueError, match=r"seconds must be positive\. Received: seconds=0"):
        list(first_seconds(chunks, 0))
