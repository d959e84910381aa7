"""Your own voice in the notebook: a widget that records in the browser and shows what a recogniser hears.

The sound goes from the browser to the kernel as any widget's messages do, so the kernel may run anywhere (JupyterLab, Notebook,
Colab, a remote server). VS Code lets no notebook use the microphone; there, as everywhere, a recording can be chosen.
"""

from collections.abc import Callable

import anywidget
import numpy as np
import traitlets

from vuilab.audio import SAMPLE_RATE
from vuilab.files import asset


class VoiceRecorder(anywidget.AnyWidget):
    """A recorder for a notebook: show it as the last value of a cell, or with `display`.

    Args:
        transcribe: gets samples (num_samples,) at 16 kHz and returns their text, such as `Recogniser.transcribe_samples`.

    Attributes:
        max_seconds: of a recording, 60 or fewer.
        samples, text: the last recording, float32 (num_samples,) at 16 kHz, and what `transcribe` returned for it.
    """

    _esm = asset("inference/microphone.js")
    rate = traitlets.Int(SAMPLE_RATE, read_only=True).tag(sync=True)  # Hz
    max_seconds = traitlets.Float(60, min=0, max=60).tag(sync=True)  # 2 MB; notebook servers take up to 10 MB

    def __init__(self, transcribe: Callable[[np.ndarray], str]):
        super().__init__()
        self.transcribe, self.samples, self.text = transcribe, None, None
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        """Return what reports show in its place."""
        return "In a notebook that runs, a recorder stands here: speak, and read what the model hears."

    def _receive(self, _, content: dict, buffers: list[memoryview]) -> None:
        """Transcribe a recording that the page sent as 16-bit samples, and answer with the text."""
        self.samples = np.frombuffer(buffers[0], "<i2").astype(np.float32) / 32768
        try:
            self.text = self.transcribe(self.samples)
            status = f"{len(self.samples) / SAMPLE_RATE:.1f} s transcribed." if self.text else "No speech was heard."
        except Exception as error:  # the page should say what went wrong, whatever it was
            self.text, status = None, f"The recogniser failed ({type(error).__name__}: {error})."
        self.send({"status": status, "text": self.text or ""})
