"""How a keyword classifier is trained: changes of its clips, batches, and the recogniser's options with other defaults."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vuilab.audio import SAMPLE_RATE
from vuilab.augment import NOISES, mix_at_snr, spec_augment, speed_perturb, time_shift
from vuilab.keywords.clips import fit_length
from vuilab.options import option
from vuilab.training.options import SCHEDULES, OptimizerOptions, TrainingOptions


@dataclasses.dataclass(frozen=True)
class ClipAugmentation:
    """What is done to a training clip, anew in every epoch.

    Raises:
        ValueError: at construction, for values out of range.
    """

    shift: float = 0.1  # seconds, at most, earlier or later
    speed: float = 0.15  # largest relative change of the playing speed (resampling)
    speed_probability: float = 0.5
    noise_probability: float = 0.8
    snr_low: float = 0.0  # dB, drawn uniformly between the two
    snr_high: float = 40.0
    recorded_share: float = 0.5  # of the noise, from background recordings, half of them reversed; the rest is coloured
    gain: float = 6.0  # dB, at most, louder or softer
    freq_masks: int = 2  # SpecAugment on the features, where they have frames
    freq_share: float = 0.15  # largest width of a band
    time_masks: int = 2
    time_share: float = 0.2  # longest stretch

    def __post_init__(self) -> None:
        shares = ("speed_probability", "noise_probability", "recorded_share", "freq_share", "time_share")
        wrong = [name for name in shares if not 0 <= getattr(self, name) <= 1]
        if wrong or not 0 <= self.speed <= 0.5 or self.snr_low > self.snr_high or self.shift < 0:
            raise ValueError(
                f"Shares and probabilities lie in 0..1, speed in 0..0.5, shift is no less than 0, and snr_low no more than "
                f"snr_high. Received: {self}"
            )

    def change(
        self, samples: np.ndarray, rng: np.random.Generator, backgrounds: Sequence[np.ndarray] = ()
    ) -> np.ndarray:
        """Return a changed copy of a waveform (num_samples,), of the same length; `backgrounds` are longer than that."""
        num_samples = len(samples)
        if rng.random() < self.speed_probability:
            samples = fit_length(speed_perturb(samples, 1 + rng.uniform(-self.speed, self.speed)), num_samples)
        most = round(self.shift * SAMPLE_RATE)
        samples = time_shift(samples, int(rng.integers(-most, most + 1)))
        if rng.random() < self.noise_probability and samples.any():
            noise = self._noise(num_samples, rng, backgrounds)
            if noise.any():
                samples = mix_at_snr(samples, noise, rng.uniform(self.snr_low, self.snr_high))
        return samples * np.float32(10 ** (rng.uniform(-self.gain, self.gain) / 20))

    def mask(self, features: np.ndarray, time_axis: int | None, rng: np.random.Generator) -> np.ndarray:
        """Return normalised features of one clip with bands and stretches set to 0 (SpecAugment)."""
        if time_axis is None or not (self.freq_masks or self.time_masks):
            return features
        frames = np.moveaxis(features.reshape(features.shape[:2]), time_axis, 0)  # (num_frames, num_features)
        num_frames, num_features = frames.shape
        freq_width, time_width = int(self.freq_share * num_features), int(self.time_share * num_frames)
        masked = spec_augment(frames, rng, self.freq_masks, freq_width, self.time_masks, time_width)
        return np.moveaxis(masked, 0, time_axis).reshape(features.shape)

    def _noise(self, num_samples: int, rng: np.random.Generator, backgrounds: Sequence[np.ndarray]) -> np.ndarray:
        if len(backgrounds) and rng.random() < self.recorded_share:
            recording = backgrounds[rng.integers(len(backgrounds))]
            start = int(rng.integers(len(recording) - num_samples + 1))
            noise = recording[start : start + num_samples]
            return noise[::-1] if rng.random() < 0.5 else noise
        return list(NOISES.values())[rng.integers(len(NOISES))](num_samples, rng)


@dataclasses.dataclass(frozen=True)
class ClipOptions:
    """How batches of clips are made.

    Raises:
        ValueError: at construction, for a batch size under 1.
    """

    minibatch_size: int = option(64, "clips per step", flag="batch-size")
    augmentation: ClipAugmentation | None = option(None, "changes training clips, anew in each epoch")
    seed: int = option(0, "of the order of the clips and of the augmentation")

    def __post_init__(self) -> None:
        if self.minibatch_size < 1:
            raise ValueError(f"minibatch_size must be at least 1. Received: minibatch_size={self.minibatch_size}")


@dataclasses.dataclass(frozen=True)
class KeywordOptimizer(OptimizerOptions):
    """Which optimiser, with which learning rate; see `OptimizerOptions`."""

    optimizer: str = option("adamw", "adamw or sgd (with Nesterov momentum 0.9)", choices=("adamw", "sgd"))
    learning_rate: float | None = option(2e-3, "the highest one", metavar="RATE")
    weight_decay: float | None = option(1e-3, "of the weights in each step", metavar="SHARE")


@dataclasses.dataclass(frozen=True)
class KeywordOptions(TrainingOptions):
    """How a classifier is trained; see `TrainingOptions`."""

    epochs: int = option(30, "passes over the training clips")
    monitor: str = option(
        "val_loss",
        "the lowest loss or the highest accuracy on the development part chooses the weights that are kept",
        choices=("val_loss", "val_accuracy"),
    )
    schedule: str = option("cosine", "of the learning rate after the warm-up; cosine: it falls to 0", choices=SCHEDULES)
    warmup_epochs: float = option(1.0, "the learning rate rises linearly so long", metavar="EPOCHS")
    label_smoothing: float = option(
        0.0, "share of the target that is spread over all classes (Szegedy et al., 2016)", metavar="SHARE"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in 0..1. Received: label_smoothing={self.label_smoothing}")
