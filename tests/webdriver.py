"""A browser for tests, driven over the WebDriver protocol (https://www.w3.org/TR/webdriver2/) with plain requests."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import requests

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the standard prescribes


class Browser:
    """Chromium without a window.

    Args:
        profile: an empty folder.
        flags: more of Chromium's.
    """

    def __init__(self, profile: Path, *flags: str):
        self.process = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.session = None
        try:
            port = next(
                found[1] for line in self.process.stdout if (found := re.search(r"successfully on port (\d+)", line))
            )
            self.base = f"http://127.0.0.1:{port}/session"
            options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}", *flags]}
            capabilities = {"alwaysMatch": {"goog:chromeOptions": options}}
            self.session = self._ask("POST", "", capabilities=capabilities)["sessionId"]
            self.base += f"/{self.session}"
        except BaseException:
            self.close()
            raise

    def _ask(self, method: str, path: str, **body):
        reply = requests.request(method, self.base + path, json=body if method == "POST" else None, timeout=120)
        value = reply.json()["value"]
        if reply.status_code != 200:
            raise RuntimeError(f"{path}: {value['error']}: {value['message']}")
        return value

    def open(self, url: str) -> None:
        """Load a page."""
        self._ask("POST", "/url", url=url)

    def enter_frame(self, number: int = 0) -> None:
        """Go into a frame of the page."""
        self._ask("POST", "/frame", id=number)

    def find(self, css: str) -> str:
        """Return an element's id."""
        return self._ask("POST", "/element", using="css selector", value=css)[ELEMENT]

    def click(self, css: str) -> None:
        """Click an element."""
        self._ask("POST", f"/element/{self.find(css)}/click")

    def type(self, css: str, text: str) -> None:
        """Type into an element; into a file chooser the path of a file."""
        self._ask("POST", f"/element/{self.find(css)}/value", text=text)

    def text(self, css: str) -> str:
        """Return the visible text of an element."""
        return self._ask("GET", f"/element/{self.find(css)}/text")

    def script(self, code: str):
        """Return what a script returns."""
        return self._ask("POST", "/execute/sync", script=code, args=[])

    def wait(self, css: str, good: Callable[[str], bool], seconds: float = 60) -> str:
        """Return the text of an element as soon as it is good."""
        end = time.monotonic() + seconds
        while not good(text := self.text(css)):
            if time.monotonic() > end:
                raise TimeoutError(f"{css} still reads {text!r} after {seconds} s.")
            time.sleep(0.1)
        return text

    def close(self) -> None:
        """End browser and driver."""
        if self.session is not None:
            requests.delete(self.base, timeout=60)
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self.close()
