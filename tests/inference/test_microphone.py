"""The recorder of the notebook: what it makes of a message, what reports show, and its page part in a real browser."""

import base64
import json

import nbformat
import numpy as np
import pytest
import scipy.signal
import soundfile

from vuilab.audio import read_audio
from vuilab.inference.microphone import VoiceRecorder
from vuilab.reports.notebook import clean_outputs, export_html


@pytest.fixture
def recorder(monkeypatch):
    """A recorder that counts samples; what it sends to the page gathers in `recorder.answers`."""
    recorder = VoiceRecorder(lambda samples: f"{len(samples)} samples")
    recorder.max_seconds, recorder.answers = 2, []
    monkeypatch.setattr(recorder, "send", recorder.answers.append)
    return recorder


def _arrive(recorder: VoiceRecorder, samples: bytes) -> dict:
    """Hand the recorder a message as a kernel does, and return what it answers."""
    data = {"method": "custom", "content": {}}
    recorder.comm.handle_msg({"content": {"data": data}, "buffers": [memoryview(samples)]})
    return recorder.answers.pop()


def test_a_recording_comes_back_as_text(recorder):
    samples = np.array([0, 16384, -32768], "<i2")
    assert _arrive(recorder, np.tile(samples, 8000).tobytes()) == {
        "status": "1.5 s transcribed.",
        "text": "24000 samples",
    }
    np.testing.assert_array_equal(recorder.samples, np.tile(np.float32([0, 0.5, -1]), 8000))
    assert recorder.samples.dtype == np.float32 and recorder.text == "24000 samples"


def test_a_failing_recogniser_and_silence_are_reported(recorder):
    def fail(samples):
        raise RuntimeError("out of memory")

    recorder.transcribe = fail
    assert _arrive(recorder, bytes(3200))["status"] == "The recogniser failed (RuntimeError: out of memory)."
    assert recorder.text is None and len(recorder.samples) == 1600
    recorder.transcribe = lambda samples: ""
    assert _arrive(recorder, bytes(3200)) == {"status": "No speech was heard.", "text": ""}


def test_length_of_recordings_has_a_limit(recorder):
    with pytest.raises(ValueError, match="should not be greater than 60"):
        try:
            recorder.max_seconds = 61
        except Exception as error:
            raise ValueError(error) from error


def test_a_report_shows_one_line_in_its_place(recorder, tmp_path):
    bundle, _ = recorder._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle  # where somebody works with the notebook
    output = nbformat.v4.new_output("execute_result", bundle, execution_count=1)
    cell = nbformat.v4.new_code_cell("recorder", outputs=[output], execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    clean_outputs(notebook)
    export_html(notebook, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("a recorder stands here") == 1 and "widget-view" not in html and "getUserMedia" not in html
    assert list(notebook.cells[0].outputs[0].data) == ["text/plain"] and "widgets" not in notebook.metadata


# --------------------------------------------------------------------------------------------------------- browser


FAKE_DEVICE = "--use-fake-device-for-media-stream"
SAY_YES = "--use-fake-ui-for-media-stream"
# what anywidget and a front end do: load the script, give it a model and a place, carry its messages
PAGE = """<div id="place"></div><script>
const handlers = [], sent = [];
const base64 = bytes => btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
const model = {
  get: name => (STATE)[name],
  on: (name, handler) => handlers.push(handler),
  send: (content, callbacks, [buffer]) => sent.push(base64(new Uint8Array(buffer))),
};
const answer = message => handlers.forEach(handler => handler(message));
import(URL.createObjectURL(new Blob([SCRIPT], { type: "text/javascript" }))).then(
  ({ default: { render } }) => render({ model, el: document.getElementById("place") }));
</script>"""


@pytest.fixture
def voice(tmp_path):
    """Six seconds of noise that rises and falls, with 16 bits for the fake microphone: (path, samples at 16 kHz).

    It is low, since the recording may begin a third of a sample beside the original's grid; a loud tone of 10 kHz beside it
    would appear at 6 kHz where a sample rate is lowered without a filter.
    """
    rng = np.random.default_rng(0)
    time_ = np.arange(6 * 48_000) / 48_000
    signal = scipy.signal.lfilter(
        *scipy.signal.butter(4, [100, 800], "bandpass", fs=48_000), rng.standard_normal(len(time_))
    )
    signal *= 0.2 / np.abs(signal).max() * (1.5 + np.sin(2 * np.pi * 2.3 * time_))
    path = tmp_path / "voice.wav"
    soundfile.write(path, signal + 0.2 * np.sin(2 * np.pi * 10_000 * time_), 48_000, subtype="PCM_16")
    return path, read_audio(path)


@pytest.fixture
def browse(tmp_path, server, recorder):
    """A function that opens the recorder's page part in a browser, on a page that stands in for a notebook."""
    from webdriver import CHROMIUM, DRIVER, Browser

    if CHROMIUM is None or DRIVER is None:
        pytest.skip("Chromium and its chromedriver are not both on this machine")
    opened = []

    def open_page(*flags: str) -> Browser:
        browser = Browser(tmp_path / "profile", *flags)
        opened.append(browser)
        state = {name: getattr(recorder, name) for name in ("rate", "max_seconds")}
        page = PAGE.replace("STATE", json.dumps(state)).replace("SCRIPT", json.dumps(recorder._esm))
        server.files["/notebook"] = page.encode()
        browser.open(f"{server.url}/notebook")
        browser.wait("#place", lambda text: "Press the button" in text)
        return browser

    yield open_page
    for browser in opened:
        browser.close()


def _hand_on(browser, recorder: VoiceRecorder) -> None:
    """Wait for a recording, give it to the recorder, and give the page what it answers."""
    browser.wait("[role]", lambda text: text == "Transcribing ...")
    samples = base64.b64decode(browser.script("return sent.pop()"))
    browser.script(f"answer({json.dumps(_arrive(recorder, samples))})")
    assert browser.text("[aria-live]") == f"{len(samples) // 2} samples" and "transcribed" in browser.text("[role]")


def _likeness(found: np.ndarray, original: np.ndarray) -> tuple[float, float]:
    """Return, of half seconds of a recording, the median correlation with the best place in the original, and of the levels.

    On a busy machine a browser loses blocks of sound, which is why the recording is not compared as a whole.
    """
    size, results = 8_000, []
    energy = np.convolve(original**2, np.ones(size), mode="valid")
    for start in range(0, len(found) - size + 1, size):
        part = found[start : start + size]
        product = scipy.signal.correlate(original, part, mode="valid")
        place = int(np.argmax(product / np.sqrt(energy)))
        stretch = original[place : place + size]
        results.append((np.corrcoef(part, stretch)[0, 1], part.std() / stretch.std()))
    correlations, levels = np.array(results).T
    return float(np.median(correlations)), float(np.median(levels))


@pytest.mark.slow
def test_browser_records_the_microphone(browse, voice, recorder):
    path, original = voice
    recorder.max_seconds = 60
    browser = browse(FAKE_DEVICE, SAY_YES, f"--use-file-for-fake-audio-capture={path}%noloop")
    browser.script("setTimeout(() => document.querySelector('button').click(), 4000)")
    browser.click("button")
    _hand_on(browser, recorder)
    found = recorder.samples
    assert 2.5 * 16_000 <= len(found) < 30 * 16_000 and browser.text("button") == "Record"
    correlation, level = _likeness(found[: 3 * 16_000], original)
    assert correlation > 0.98 and level == pytest.approx(1, rel=0.1)


@pytest.mark.slow
def test_browser_stops_by_itself_at_the_longest_recording(browse, voice, recorder):
    browser = browse(FAKE_DEVICE, SAY_YES, f"--use-file-for-fake-audio-capture={voice[0]}")
    browser.click("button")
    _hand_on(browser, recorder)
    assert len(recorder.samples) == pytest.approx(2 * 16_000, rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((FAKE_DEVICE, SAY_YES + "=deny"), "Not possible: Permission denied."),
        ((SAY_YES,), "Not possible: Requested device not found."),
    ],
    ids=["not allowed", "no microphone"],
)
def test_browser_says_why_it_does_not_record(browse, flags, message):
    browser = browse(*flags)
    browser.click("button")
    assert browser.wait("[role]", lambda text: "Press" not in text) == f"{message} You can choose a recording."
    assert browser.text("button") == "Record" and browser.script("return sent.length") == 0


@pytest.mark.slow
def test_browser_sends_a_chosen_recording_instead(browse, voice, recorder, tmp_path):
    browser = browse(SAY_YES)
    samples = voice[1][: 2 * 16_000]
    soundfile.write(tmp_path / "mine.flac", np.stack([samples, np.zeros_like(samples)], axis=1), 16_000)
    browser.type("input", str(tmp_path / "mine.flac"))
    _hand_on(browser, recorder)
    np.testing.assert_allclose(recorder.samples, samples / 2, atol=1e-4)

    soundfile.write(tmp_path / "silence.wav", np.zeros(1600), 16_000)
    soundfile.write(tmp_path / "long.wav", np.ones(4 * 16_000), 16_000)
    (tmp_path / "text.wav").write_text("hello")
    for name, message in (
        ("silence.wav", "silence.wav is digital silence (is the microphone muted?)"),
        ("long.wav", "long.wav is 4 s long; at most 2 s here"),
        ("text.wav", "Unable to decode audio data"),
    ):
        browser.type("input", str(tmp_path / name))
        browser.wait("[role]", lambda text, message=message: message in text)
    assert browser.script("return sent.length") == 0
