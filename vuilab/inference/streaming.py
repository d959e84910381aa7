"""Recognition while the sound arrives: samples in, probabilities and text out, frame by frame.

Features, and layers that only look back, are computed as soon as their window is complete. The result is the offline one: the
same features, the same probabilities up to rounding, in whatever chunks the samples come. Statistics are those of the
training set, which are known before the first sample.
"""

import numpy as np

from vuilab.audio import SAMPLE_RATE
from vuilab.features import PREEMPHASIS, FeatureSettings, mfcc
from vuilab.inference.frame_model import FrameModel, SlidingWindow
from vuilab.inference.transcribe import Recogniser
from vuilab.models.acoustic import output_length
from vuilab.text import int_sequence_to_text

ALTERNATIVE = (
    "Transcribe whole recordings with it, or stream with one that only looks back, such as model_1 or model_3."
)


class StreamingFeatures:
    """Feature frames as soon as their window is complete; equal to `FeatureSettings.extract` of everything at once.

    Args:
        settings: of the features.

    Example:
        >>> features = StreamingFeatures(FeatureSettings())  # windows of 320 samples, 160 apart
        >>> [len(features.add(np.zeros(number))) for number in (319, 1, 159, 1)]
        [0, 1, 0, 1]
    """

    def __init__(self, settings: FeatureSettings):
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget all samples: the next one is the first of another recording."""
        self.window = SlidingWindow(*self.settings.framing, np.empty(0, np.float32))
        self.num_samples = 0
        self.last = np.empty(0, np.float32)  # the sample before, for the pre-emphasis of MFCCs

    def add(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples (num_samples,) at 16 kHz and return the frames (num_frames, num_features) that they complete.

        Raises:
            ValueError: for another shape, and for samples that are not finite numbers.
        """
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise ValueError(f"Expected finite samples (num_samples,) at 16 kHz. Received: shape {samples.shape}.")
        self.num_samples += len(samples)
        if self.settings.kind == "mfcc":
            samples = self._emphasise(samples)
        return self._extract(*self.window.take(samples))

    def finish(self) -> np.ndarray:
        """Return the frame that only the end of the recording completes: MFCCs pad the last window with zeros."""
        length, step = self.settings.framing
        left = self.num_samples - length
        if self.settings.kind != "mfcc" or left < 0 or left % step == 0:
            return self._extract(np.empty(0), 0)
        rest = self.window.rows[self.window.next :]
        return self._extract(np.pad(rest, (0, length - len(rest))), 1)

    def _emphasise(self, samples: np.ndarray) -> np.ndarray:
        both = np.concatenate([self.last, samples])
        self.last = both[-1:]
        emphasised = both[1:] - PREEMPHASIS * both[:-1]
        return emphasised if len(both) > len(samples) else np.concatenate([both[:1], emphasised])

    def _extract(self, stretch: np.ndarray, number: int) -> np.ndarray:
        if not number:
            return np.empty((0, self.settings.num_features), np.float32)
        if self.settings.kind == "mfcc":
            return mfcc(stretch, self.settings.step, self.settings.mfcc_dim, preemphasis=0)
        return self.settings.extract(stretch)


class StreamingRecogniser:
    """A recogniser that takes samples as they come.

    Args:
        recogniser: whose model only looks back.
        frames: its model frame by frame, where that is there already.

    Raises:
        ValueError: when the model needs the end of a recording or has a layer that is not known frame by frame.
    """

    def __init__(self, recogniser: Recogniser, frames: FrameModel | None = None):
        self.recogniser = recogniser
        try:
            self.frames = frames or FrameModel(recogniser.model)
        except ValueError as error:
            raise ValueError(f"{recogniser.model.name} does not stream. {error} {ALTERNATIVE}") from error
        if self.frames.needs_end:
            raise ValueError(f"{recogniser.model.name} does not stream: {self.frames.needs_end}. {ALTERNATIVE}")
        self.features = StreamingFeatures(recogniser.settings)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is the first of another recording."""
        self.features.reset()
        self.frames.reset()
        self.labels: list[int] = []
        self.last_class: int | None = None

    def add(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples (num_samples,) at 16 kHz, any number, and return the probabilities that they complete.

        Returns:
            (num_output_frames, num_classes), often of no frame at all.

        Raises:
            ValueError: for samples of another shape or that are not finite numbers, and when the model gives NaN.
        """
        return self._advance(self.features.add(samples))

    def finish(self) -> np.ndarray:
        """Return the probabilities that only the end of the recording completes; call `reset` before the next one."""
        return self._advance(self.features.finish())

    @property
    def text(self) -> str:
        """What has been heard so far, by the best class of each frame."""
        return int_sequence_to_text(self.labels).strip()

    @property
    def look_ahead(self) -> float:
        """Seconds of sound, from the beginning of an output frame's window to its end, that must be there for it."""
        length, step = self.recogniser.settings.framing
        num_frames = 1
        while output_length(self.recogniser.model, num_frames) < 1:
            num_frames += 1
        return (length + (num_frames - 1) * step) / SAMPLE_RATE

    def _advance(self, features: np.ndarray) -> np.ndarray:
        probabilities = self.frames.add(self.recogniser.normalise(features))
        if np.isnan(probabilities).any():
            raise ValueError(
                "The model gives NaN. A model whose training diverged does that; train it again with clipping."
            )
        for best in probabilities.argmax(axis=1).tolist():
            if best != self.last_class and best != probabilities.shape[1] - 1:
                self.labels.append(best)
            self.last_class = best
        return probabilities
