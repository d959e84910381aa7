"""Your own voice in the notebook: a page part that records from the browser's microphone, and what transcribes it.

A notebook cell can show a page but gets nothing back from it without an extension of the notebook, and widgets leave a state
that exported reports cannot hold. So the page comes from a small web server inside the kernel, shown in a frame, and sends the
recording back to it; the answer is the text. It works in JupyterLab, Notebook and VS Code when the kernel runs on the machine
of the browser, since 127.0.0.1 is an address that browsers trust with a microphone.

Nothing leaves the machine: the server listens on 127.0.0.1 only, on a free port, and answers only under a path that holds a
random token. It refuses requests under another host name or from another page's script, bodies that are too large and whatever
is no WAV recording. The page loads nothing and may send nothing anywhere else. The server ends with `close`, with the kernel,
or after half an hour without a request.
"""

import html
import io
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import soundfile
import soxr

from vuilab.audio import SAMPLE_RATE
from vuilab.files import asset

MAX_SECONDS = 60.0
RATES = (8_000, 192_000)  # Hz that a sound card may have
HEADER_BYTES = 4096  # more than a WAV header has
IDLE_SECONDS = 1800.0
FRAME_HEIGHT = 310  # pixels


class VoiceRecorder:
    """A recorder for a notebook: show it as the last value of a cell, or with `display`.

    Args:
        transcribe: gets samples (num_samples,) at 16 kHz and returns their text, such as `Recogniser.transcribe_samples`. It
            runs in a thread of the server, one recording at a time.
        max_seconds: of a recording.

    Attributes:
        samples: the last recording, float32 (num_samples,) at 16 kHz; None before the first one.
        text: what `transcribe` returned for it.

    Example:
        >>> recorder = VoiceRecorder(lambda samples: f"{len(samples) / 16_000:.1f} s of silence")
        >>> recorder.samples is None
        True
    """

    def __init__(self, transcribe: Callable[[np.ndarray], str], max_seconds: float = MAX_SECONDS):
        if not 0 < max_seconds <= MAX_SECONDS:
            raise ValueError(f"max_seconds must be in 0..{MAX_SECONDS:.0f}. Received: max_seconds={max_seconds}")
        self.transcribe, self.max_seconds = transcribe, max_seconds
        self.samples: np.ndarray | None = None
        self.text: str | None = None
        self.busy = threading.Lock()
        self.server: _Server | None = None

    @property
    def url(self) -> str:
        """Where the page is; the server starts when it is first asked for."""
        if self.server is None or self.server.closed:
            self.server = _Server(self)
        return self.server.url

    def close(self) -> None:
        """End the server. The page stays and says that the notebook does not answer."""
        if self.server is not None:
            self.server.close()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the page in a frame, or a note where nobody could use it."""
        if _is_headless():
            return (
                "<p><em>In a notebook that somebody works with, a recorder stands here: press its button, speak, and read what "
                "the model hears. This is a report, which records nothing.</em></p>"
            )
        if "google.colab" in sys.modules:
            return (
                "<p>The kernel runs on another machine, so the browser's microphone cannot be reached from here. Upload a "
                "recording and transcribe it: <code>recogniser.transcribe(path)</code></p>"
            )
        url = html.escape(self.url, quote=True)
        return (
            f'<iframe src="{url}" allow="microphone" title="Recorder" width="100%" height="{FRAME_HEIGHT}" '
            'style="border: 1px solid; border-radius: 4px"></iframe>'
            "<p><small>If the frame stays empty, the kernel runs on another machine than the browser: upload a recording "
            "and run <code>recogniser.transcribe(path)</code>.</small></p>"
        )

    def receive(self, body: bytes) -> dict:
        """Transcribe a recording that the page sent.

        Args:
            body: a WAV file.

        Returns:
            {"text": what was said, "seconds": length}

        Raises:
            ValueError: when it is no WAV file, too long, or has no samples; and what `transcribe` raises.
        """
        samples = read_wav(body, self.max_seconds)
        with self.busy:
            text = self.transcribe(samples)
            self.samples, self.text = samples, text
        return {"text": text, "seconds": len(samples) / SAMPLE_RATE}


def read_wav(body: bytes, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """Return a WAV file in memory as mono float32 (num_samples,) at 16 kHz.

    Args:
        body: the file.
        max_seconds: longest recording.

    Raises:
        ValueError: when it is no WAV file, has an impossible sample rate, no samples, too many, or any that are not finite.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(body)) as file:
            if file.format not in ("WAV", "WAVEX"):
                raise ValueError(f"Expected a recording as WAV. Received: {file.format}.")
            rate, seconds = file.samplerate, file.frames / file.samplerate
            if not RATES[0] <= rate <= RATES[1]:
                raise ValueError(f"Expected {RATES[0]} to {RATES[1]} samples a second. Received: {rate}.")
            if seconds > max_seconds + 0.5:
                raise ValueError(f"The recording is {seconds:.0f} s long; at most {max_seconds:.0f} s can be sent.")
            samples = file.read(dtype="float32", always_2d=True).mean(axis=1)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"The recording is no audio ({str(error).strip()}). Expected WAV.") from error
    if not len(samples) or not np.isfinite(samples).all():
        raise ValueError("The recording holds no samples, or some that are not finite numbers. Record it again.")
    return soxr.resample(samples, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else samples


def _is_headless() -> bool:
    """Whether a program runs the notebook: it then takes no keyboard input, which front ends for people do."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    kernel = getattr(shell, "kernel", None)
    return kernel is not None and not getattr(kernel, "_allow_stdin", True)


class _Server(ThreadingHTTPServer):
    """Serves the page and takes recordings; see the module."""

    daemon_threads = True

    def __init__(self, recorder: VoiceRecorder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.recorder = recorder
        self.max_bytes = HEADER_BYTES + int((recorder.max_seconds + 0.5) * RATES[1]) * 2
        self.nonce = secrets.token_urlsafe(16)
        self.path = f"/{secrets.token_urlsafe(16)}/"
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}{self.path}"
        self.closed = False
        self.last_request = time.monotonic()
        self.thread = threading.Thread(target=self.serve_forever, name="voice recorder", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """End it and free the port."""
        if not self.closed:
            self.closed = True
            self.shutdown()
            self.server_close()

    def service_actions(self) -> None:
        """Called about twice a second by `serve_forever`."""
        if not self.closed and time.monotonic() - self.last_request > IDLE_SECONDS:
            threading.Thread(target=self.close, daemon=True).start()  # shutdown waits for this very loop

    def handle_error(self, request, client_address) -> None:
        """Say nothing when a browser hangs up."""

    def page(self) -> bytes:
        """Return the page."""
        text = asset("inference/microphone.html")
        values = {"{nonce}": self.nonce, "{max_seconds}": f"{self.recorder.max_seconds:g}"}
        for name, value in values.items():
            text = text.replace(name, value)
        return text.encode()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server
    timeout = 20  # seconds that a client may keep the connection without sending anything

    def do_GET(self) -> None:
        """Send the page."""
        if not self._is_ours(self.server.path):
            return
        policy = (
            f"default-src 'none'; script-src 'nonce-{self.server.nonce}' blob:; style-src 'nonce-{self.server.nonce}'; "
            "connect-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'"
        )
        self._send(200, "text/html; charset=utf-8", self.server.page(), {"Content-Security-Policy": policy})

    def do_POST(self) -> None:
        """Take a recording and send its text as JSON."""
        if not self._is_ours(self.server.path + "recording"):
            return
        if self.headers.get("Origin", f"http://{self.server.host}") != f"http://{self.server.host}":
            return self._refuse(403, "This page may not send recordings here.")
        if self.headers.get("Content-Type") != "audio/wav":  # scripts of other pages cannot send this type unasked
            return self._refuse(415, "Expected a recording as audio/wav.")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            return self._refuse(411, "Expected a Content-Length.")
        if int(length) > self.server.max_bytes:
            limit = f"at most {self.server.max_bytes} bytes ({self.server.recorder.max_seconds:g} s)"
            return self._refuse(413, f"The recording is too large: {int(length)} bytes, {limit} can be sent.")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return self._refuse(400, "The recording was cut off on its way.")
        try:
            answer = self.server.recorder.receive(body)
        except ValueError as error:
            return self._refuse(422, str(error))
        except Exception as error:  # the page should say what went wrong, whatever it was
            return self._refuse(500, f"The recogniser failed ({type(error).__name__}: {error}).")
        return self._send(200, "application/json", json.dumps(answer).encode())

    def _is_ours(self, path: str) -> bool:
        """Check host and token; answer 404 otherwise, which tells nothing."""
        self.server.last_request = time.monotonic()
        same = secrets.compare_digest(urlsplit(self.path).path.encode(), path.encode())
        if same and self.headers.get("Host") == self.server.host:
            return True
        self._refuse(404, "There is nothing here.")
        return False

    def _refuse(self, status: int, reason: str) -> None:
        self._send(status, "application/json", json.dumps({"error": reason}).encode())

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        common = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        self.send_response(status)
        for name, value in {**common, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        """Write nothing into the notebook."""
