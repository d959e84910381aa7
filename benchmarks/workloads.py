"""What is trained in the comparison: fixed batches, the architectures as data, and the optimiser.

The architectures stand here once, so that the PyTorch peer and the stock Keras peer build the same. This project's own
models come from `sample_models.py`; the drivers check that the parameter counts agree.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

NUM_CLASSES = 29  # 28 characters and the blank
NUM_FEATURES = 161
SHORTEST = 0.85  # true length over padded length in a bucket: between this and 1
LABELS_PER_FRAME = 0.17  # characters per frame of 10 ms, about LibriSpeech's
LEARNING_RATE, MOMENTUM, CLIP_NORM = 0.02, 0.9, 5.0  # SGD with Nesterov momentum; the norm of all gradients together
PARAMETER_TOLERANCE = 0.01  # peers may have another number of bias vectors


class Part(NamedTuple):
    """One part of an architecture."""

    kind: str  # 'gru', 'simple_rnn', 'bigru', 'conv', 'bn', 'dense' or 'wavenet'
    size: int = 0  # units or filters
    kernel: int = 1  # frames that a convolution sees
    stride: int = 1
    groups: int = 0  # of a WaveNet


DENSE, NORM = Part("dense", NUM_CLASSES), Part("bn")
MODELS = {
    "model_0": (Part("gru", NUM_CLASSES),),
    "model_1": (Part("gru", 200), NORM, DENSE),
    "model_2": (Part("conv", 200, 11, 2), NORM, Part("simple_rnn", 200), NORM, DENSE),
    "model_3": (Part("gru", 200), NORM, Part("gru", 200), NORM, DENSE),
    "model_4": (Part("bigru", 200), DENSE),
    "birnn_final_model": (Part("bigru", 300), Part("bigru", 300), DENSE),
    "wavenet_2x64": (Part("wavenet", 64, groups=2), DENSE),
}
DILATIONS, WAVENET_KERNEL = (1, 2, 4, 8, 16), 7


def output_length(parts: tuple[Part, ...], num_frames):
    """Return the output frames of an architecture for so many input frames (an integer or an array).

    Example:
        >>> output_length(MODELS["model_2"], 700)
        345
    """
    for part in parts:
        if part.kind == "conv":
            num_frames = (num_frames - part.kernel) // part.stride + 1
    return num_frames


@dataclasses.dataclass(frozen=True)
class Workload:
    """Batches of one bucket: noise as features, random transcripts, true lengths of 85 to 100 % of the padded one.

    Raises:
        ValueError: at construction, for sizes that give no batch.
    """

    batch: int = 20  # utterances
    num_frames: int = 700  # after padding
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.num_frames < 40:
            raise ValueError(
                "Expected at least 1 utterance and 40 frames. Received: "
                f"batch={self.batch}, num_frames={self.num_frames}"
            )

    def batches(self, count: int = 2) -> list[dict[str, np.ndarray]]:
        """Return so many batches, keyed as `data/generator.py` describes; the same for everyone who asks."""
        return [self._batch(np.random.default_rng([self.seed, number])) for number in range(count)]

    def _batch(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        lowest = int(np.ceil(SHORTEST * self.num_frames))
        input_length = rng.integers(lowest, self.num_frames + 1, self.batch).astype(np.int32)
        input_length[0] = self.num_frames  # a bucket is as long as its longest utterance
        width = int(LABELS_PER_FRAME * self.num_frames)
        label_length = (LABELS_PER_FRAME * input_length * rng.uniform(0.85, 1.0, self.batch)).astype(np.int32)
        the_input = rng.standard_normal((self.batch, self.num_frames, NUM_FEATURES), dtype=np.float32)
        the_labels = rng.integers(0, NUM_CLASSES - 1, (self.batch, width), dtype=np.int32)
        for row, (frames, characters) in enumerate(zip(input_length, label_length, strict=True)):
            the_input[row, frames:] = 0
            the_labels[row, characters:] = 0
        return {
            "the_input": the_input,
            "the_labels": the_labels,
            "input_length": input_length,
            "label_length": label_length,
        }


def true_frames(batches: list[dict[str, np.ndarray]]) -> float:
    """Return the frames of speech per batch, padding not counted."""
    return float(np.mean([batch["input_length"].sum() for batch in batches]))
