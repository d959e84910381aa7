"""The recorder of the notebook: what its server takes and refuses, and the page in a real browser."""

import http.client
import io
import re
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import scipy.signal
import soundfile

from vuilab.files import repository
from vuilab.inference import microphone
from vuilab.inference.microphone import VoiceRecorder, read_wav


def _wav(samples: np.ndarray, rate: int = 16_000, **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=options.pop("format", "WAV"), **options)
    return file.getvalue()


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    recorder = VoiceRecorder(lambda samples: f"{len(samples)} samples", max_seconds=2)
    yield recorder
    recorder.close()


def _post(recorder: VoiceRecorder, body: bytes, **headers) -> requests.Response:
    return requests.post(recorder.url + "recording", body, headers={"Content-Type": "audio/wav", **headers}, timeout=30)


# ---------------------------------------------------------------------------------------------------------- server


def test_a_recording_comes_back_as_text(recorder):
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000)
    answer = _post(recorder, _wav(samples, subtype="FLOAT"))
    assert (answer.status_code, answer.json()) == (200, {"text": "16000 samples", "seconds": 1.0})
    np.testing.assert_array_equal(recorder.samples, samples.astype(np.float32))
    assert recorder.text == "16000 samples"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_stereo_at_another_rate_arrives_as_mono_at_16_khz():
    time_ = np.arange(48_000) / 48_000
    tone = 0.4 * np.sin(2 * np.pi * 500 * time_)
    found = read_wav(_wav(np.stack([tone, 0 * tone], axis=1), 48_000))
    assert found.shape == (16_000,) and found.dtype == np.float32
    expected = 0.2 * np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=1e-3)


def test_the_page_is_whole_and_loads_nothing(recorder):
    page = requests.get(recorder.url, timeout=30)
    assert page.status_code == 200 and "{nonce}" not in page.text and "at most 2 s" in page.text
    assert not re.search(r"(src|href)=\"[^\"]", page.text) and "http:" not in page.text and "https:" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The recording is no audio"),
        (b"RIFF, but nothing else", "The recording is no audio"),
        (_wav(np.zeros(1600), format="FLAC"), r"Expected a recording as WAV\. Received: FLAC\."),
        (_wav(np.zeros(0)), "holds no samples"),
        (_wav(np.full(9, np.nan), subtype="FLOAT"), "not finite numbers"),
        (_wav(np.zeros(3 * 16_000)), r"The recording is 3 s long; at most 2 s can be sent\."),
        (_wav(np.zeros(100), 4_000), r"Expected 8000 to 192000 samples a second\. Received: 4000\."),
    ],
)
def test_what_is_no_recording_is_refused_with_the_reason(body, message, recorder):
    answer = _post(recorder, body)
    assert answer.status_code == 422 and re.search(message, answer.json()["error"])
    assert recorder.samples is None


def _raw(recorder: VoiceRecorder, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> int:
    """Send a request as it is and return the status of the answer."""
    host = urlsplit(recorder.url).netloc
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"Host": host, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


def test_strangers_are_refused(recorder):
    path = urlsplit(recorder.url).path
    ours = {"Content-Type": "audio/wav", "Content-Length": "0"}
    for method in ("GET", "POST"):
        for wrong in ("/", "/wrong-token/", "/wrong-token/recording", path[:-2] + "x/", path + "other", path[:-1]):
            assert _raw(recorder, method, wrong, ours) == 404
        assert _raw(recorder, method, path + "recording" * (method == "POST"), {**ours, "Host": "example.com"}) == 404
    assert _raw(recorder, "POST", path + "recording", {**ours, "Origin": "http://127.0.0.1:1"}) == 403
    assert _raw(recorder, "POST", path + "recording", {**ours, "Content-Type": "text/plain"}) == 415
    assert _raw(recorder, "OPTIONS", path + "recording", {"Origin": "http://127.0.0.1:1"}) == 501  # no leave for others
    assert recorder.samples is None


def test_a_body_without_length_or_too_large_is_refused_before_it_is_read(recorder):
    path, kind = urlsplit(recorder.url).path + "recording", {"Content-Type": "audio/wav"}
    assert _raw(recorder, "POST", path, kind) == 411
    for length in ("-1", "many", "1" * 5000):
        assert _raw(recorder, "POST", path, {**kind, "Content-Length": length}) == 411
    limit = 4096 + int(2.5 * 192_000) * 2
    assert _raw(recorder, "POST", path, {**kind, "Content-Length": str(limit + 1)}) == 413
    assert _raw(recorder, "POST", path, {**kind, "Content-Length": str(10**11)}) == 413


def test_a_failing_recogniser_is_reported_and_does_not_end_the_server(recorder):
    def fail(samples):
        raise RuntimeError("out of memory")

    works, recorder.transcribe = recorder.transcribe, fail
    answer = _post(recorder, _wav(np.zeros(1600)))
    assert answer.status_code == 500 and "RuntimeError: out of memory" in answer.json()["error"]
    recorder.transcribe = works
    assert _post(recorder, _wav(np.zeros(1600))).status_code == 200


def test_the_server_ends_with_close_and_when_nobody_asks(recorder, monkeypatch):
    url = recorder.url
    assert recorder.url == url  # one server
    recorder.close()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
    monkeypatch.setattr(microphone, "IDLE_SECONDS", 0.0)
    assert recorder.url != url  # another server with another token
    thread = recorder.server.thread
    thread.join(30)
    assert not thread.is_alive() and recorder.server.closed


def test_a_notebook_gets_a_frame_and_a_program_that_runs_it_a_note(recorder, monkeypatch):
    shown = recorder._repr_html_()
    assert f'<iframe src="{recorder.url}" allow="microphone"' in shown
    monkeypatch.setattr(microphone, "_is_headless", lambda: True)
    recorder.close()
    note = recorder._repr_html_()
    assert "<iframe" not in note and "records nothing" in note and recorder.server.closed


@pytest.mark.slow
def test_a_notebook_run_by_a_program_starts_no_server(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    cells = [
        f"import sys; sys.path.insert(0, {str(repository())!r})\nfrom microphone import VoiceRecorder",
        "recorder = VoiceRecorder(len)\nrecorder",
        "print(recorder.server)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path))
    assert "records nothing" in notebook.cells[1].outputs[0].data["text/html"]
    assert notebook.cells[2].outputs[0].text == "None\n"


def test_length_of_recordings_has_a_limit():
    with pytest.raises(ValueError, match=r"max_seconds must be in 0\.\.60\. Received: max_seconds=61"):
        VoiceRecorder(len, max_seconds=61)


# --------------------------------------------------------------------------------------------------------- browser


FAKE_DEVICE = "--use-fake-device-for-media-stream"
SAY_YES = "--use-fake-ui-for-media-stream"
STOP_AT_THREE_SECONDS = """
  const status = document.getElementById("status");
  new MutationObserver((_, observer) => {
    if (parseFloat(status.textContent.replace("Recording: ", "")) >= 3) {
      observer.disconnect();
      document.getElementById("record").click();
    }
  }).observe(status, {childList: true});
"""


@pytest.fixture
def voice(tmp_path):
    """Six seconds of noise that rises and falls, with 16 bits for the fake microphone: (path, samples at 16 kHz).

    It is low, since the recording may begin a third of a sample beside the original's grid.
    """
    rng = np.random.default_rng(0)
    time_ = np.arange(6 * 48_000) / 48_000
    signal = scipy.signal.lfilter(
        *scipy.signal.butter(4, [100, 800], "bandpass", fs=48_000), rng.standard_normal(len(time_))
    )
    signal *= 0.2 / np.abs(signal).max() * (1.5 + np.sin(2 * np.pi * 2.3 * time_))
    path = tmp_path / "voice.wav"
    soundfile.write(path, signal, 48_000, subtype="PCM_16")
    return path, read_wav(path.read_bytes())


@pytest.fixture
def browse(tmp_path, server, monkeypatch):
    """A function that opens a recorder in a frame of a page of another origin, as a notebook does."""
    from webdriver import CHROMIUM, DRIVER, Browser

    if CHROMIUM is None or DRIVER is None:
        pytest.skip("Chromium and its chromedriver are not both on this machine")
    opened = []

    def open_page(recorder: VoiceRecorder, *flags: str, html: str | None = None) -> Browser:
        browser = Browser(tmp_path / "profile", *flags)
        opened.append(browser)
        server.files["/notebook"] = (html or recorder._repr_html_()).encode()
        browser.open(f"{server.url}/notebook")
        browser.enter_frame()
        return browser

    yield open_page
    for browser in opened:
        browser.close()


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
def test_browser_records_the_microphone_in_a_frame(browse, voice, recorder):
    path, original = voice
    recorder.max_seconds = 60
    browser = browse(recorder, FAKE_DEVICE, SAY_YES, f"--use-file-for-fake-audio-capture={path}%noloop")
    browser.script(STOP_AT_THREE_SECONDS)
    browser.click("#record")
    text = browser.wait("#text", bool)
    found = recorder.samples
    assert text == f"{len(found)} samples" and "s transcribed." in browser.text("#status")
    assert 2.9 * 16_000 <= len(found) < 30 * 16_000
    correlation, level = _likeness(found[: 3 * 16_000], original)
    assert correlation > 0.98 and level == pytest.approx(1, rel=0.1)
    assert browser.script("return document.getElementById('player').src").startswith("blob:")


@pytest.mark.slow
def test_browser_stops_by_itself_at_the_longest_recording(browse, voice, recorder):
    browser = browse(recorder, FAKE_DEVICE, SAY_YES, f"--use-file-for-fake-audio-capture={voice[0]}")
    browser.click("#record")
    browser.wait("#text", bool)
    assert len(recorder.samples) == 2 * 16_000


@pytest.mark.slow
def test_browser_says_that_the_microphone_is_not_allowed(browse, recorder):
    browser = browse(recorder, FAKE_DEVICE, SAY_YES + "=deny")
    browser.click("#record")
    status = browser.wait("#status", lambda text: "choose a recording" in text)
    assert "does not allow the microphone" in status and browser.text("#record") == "Record"
    assert recorder.samples is None


@pytest.mark.slow
def test_browser_says_that_there_is_no_microphone(browse, recorder):
    browser = browse(recorder, SAY_YES)
    browser.click("#record")
    status = browser.wait("#status", lambda text: "choose a recording" in text)
    assert "There is no microphone." in status


@pytest.mark.slow
def test_browser_needs_the_frame_to_hand_on_the_microphone(browse, recorder):
    browser = browse(recorder, FAKE_DEVICE, SAY_YES, html=recorder._repr_html_().replace('allow="microphone"', ""))
    browser.click("#record")
    assert "does not allow the microphone" in browser.wait("#status", lambda text: "choose a recording" in text)


@pytest.mark.slow
def test_browser_sends_a_chosen_recording_instead(browse, voice, recorder, tmp_path):
    recorder.max_seconds = 60
    browser = browse(recorder, SAY_YES)
    samples = voice[1][: 3 * 16_000]
    soundfile.write(tmp_path / "mine.flac", samples, 16_000)
    browser.type("#file", str(tmp_path / "mine.flac"))
    assert browser.wait("#text", bool) == f"{len(recorder.samples)} samples"
    assert len(recorder.samples) == pytest.approx(len(samples), abs=50)
    correlation, level = _likeness(recorder.samples, samples)
    assert correlation > 0.99 and level == pytest.approx(1, rel=0.05)

    (tmp_path / "text.wav").write_text("hello")
    browser.type("#file", str(tmp_path / "text.wav"))
    assert "cannot read text.wav as audio" in browser.wait("#status", lambda text: "cannot" in text)
    recorder.transcribe = lambda samples: ""
    browser.type("#file", str(tmp_path / "mine.flac"))
    assert browser.wait("#status", lambda text: "No speech" in text) == "No speech was heard in 3.0 s."
    recorder.close()
    browser.type("#file", str(tmp_path / "mine.flac"))
    browser.wait("#status", lambda text: text == "The notebook does not answer any more. Run its cell again.")
