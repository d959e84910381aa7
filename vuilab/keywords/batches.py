"""From labelled clips to normalised, augmented batches for a keyword classifier."""

import dataclasses
import math

import numpy as np

from vuilab.keywords.clips import KeywordFeatures, background_noise, load_part
from vuilab.keywords.corpus import SILENCE, Dataset
from vuilab.keywords.options import ClipOptions

PARTITIONS = {"train": "train", "validation": "development"}  # of the training loop -> part of the dataset
STATISTICS_CLIPS = 2000  # so many training clips give mean and deviation


def fewer_clips(dataset: Dataset, clips_per_label: int, seed: int = 0) -> Dataset:
    """Return the dataset with a random choice of its training clips, for networks that are slow and learning curves.

    The clips that choose the epoch ('development') are thinned alike; validation and testing stay, so that accuracies compare.
    Fewer clips are in every larger choice.

    Raises:
        ValueError: for fewer than 1 clips of each label.
    """
    if clips_per_label < 1:
        raise ValueError(f"clips_per_label must be at least 1. Received: clips_per_label={clips_per_label}")
    most = dataset.counts()["train"]
    kept = {clip for clip in dataset.clips if clip.part not in PARTITIONS.values()}
    for number, label in enumerate(dataset.labels):
        share = min(1.0, clips_per_label / max(1, most[label]))
        for part in PARTITIONS.values():
            clips = [clip for clip in dataset.part(part) if clip.label == label]
            order = np.random.default_rng([seed, number]).permutation(len(clips))
            kept |= {clips[position] for position in order[: math.ceil(share * len(clips))]}
    return dataclasses.replace(dataset, clips=tuple(clip for clip in dataset.clips if clip in kept))


class ClipGenerator:
    """Batches of clips for the training loop, which sees an epoch as a plan of steps.

    Args:
        dataset: labelled clips. Training takes the part 'train', validation the part 'development'.
        settings: the features.
        options: clips per step (every step has as many), their changes, and the seed of the order; None: the defaults.

    Raises:
        ValueError: when a part is empty, or a label has no training clips.
    """

    def __init__(
        self, dataset: Dataset, settings: KeywordFeatures, options: ClipOptions | None = None, progress: bool = True
    ):
        self.dataset, self.settings, self.options = dataset, settings, options or ClipOptions()
        self.audio = {partition: load_part(dataset, part, progress) for partition, part in PARTITIONS.items()}
        without = [label for n, label in enumerate(dataset.labels) if n not in self.audio["train"].targets]
        if without:
            raise ValueError(
                f"There are no training clips of: {' '.join(without)}. A label needs clips of several speakers, of whom about "
                "eight in ten are for training; leave the label out, or record more."
            )
        self.backgrounds = background_noise(dataset, "train") if self.options.augmentation else []
        self.feats_mean, self.feats_std = self._statistics()

    @property
    def train_audio_paths(self) -> list[str]:
        """Paths of the training clips, or of silence what it is made of."""
        return [clip.key or clip.word for clip in self.audio["train"].clips]

    @property
    def skipped(self) -> list[str]:
        """What was passed over, and why."""
        return [*self.dataset.skipped, *(text for audio in self.audio.values() for text in audio.skipped)]

    def num_frames(self, partition: str) -> np.ndarray:
        """Return the length of each clip, in clips: they are all alike."""
        return np.ones(len(self.audio[partition]), np.int64)

    def plan(self, partition: str, epoch: int | None = None) -> list[np.ndarray]:
        """Return the clips of each step: in the order of the dataset, or of an epoch in random order.

        In an epoch the last step is filled up with clips of the first, so that all steps have one size.
        """
        count = len(self.audio[partition])
        if epoch is None:
            return np.split(np.arange(count), range(self.options.minibatch_size, count, self.options.minibatch_size))
        order = np.random.default_rng([self.options.seed, epoch]).permutation(count)
        size = min(self.options.minibatch_size, count)
        order = np.concatenate([order, order[: -count % size]])
        return list(order.reshape(-1, size))

    def step_rng(self, epoch: int, step: int) -> np.random.Generator:
        """Return the random numbers of one step, whatever happened before."""
        return np.random.default_rng([self.options.seed, epoch, step, 1])

    def assemble(
        self, partition: str, indices: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return a batch of the clips with these numbers, augmented where there is an `rng`.

        It is {'the_input': features (batch, *shape)} and {'logits': targets (batch, num_classes), 1 of K}.
        """
        audio = self.audio[partition]
        waveforms = audio.samples(indices)
        augmentation = self.options.augmentation if rng is not None else None
        if augmentation:
            for number, samples in enumerate(waveforms):
                waveforms[number] = augmentation.change(samples, rng, self.backgrounds)
        features = self.normalize(self.settings.extract(waveforms))
        if augmentation:
            for number, matrix in enumerate(features):
                features[number] = augmentation.mask(matrix, self.settings.time_axis, rng)
        targets = np.eye(len(self.dataset.labels), dtype=np.float32)[audio.targets[indices]]
        return {"the_input": features}, {"logits": targets}

    def normalize(self, features: np.ndarray) -> np.ndarray:
        """Bring features to mean 0 and deviation 1 over the training clips."""
        return (features - self.feats_mean) / self.feats_std

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        audio = self.audio["train"]
        # digital zero would give a deviation of its own
        sound = [number for number, clip in enumerate(audio.clips) if clip.label != SILENCE]
        chosen = np.random.default_rng(self.options.seed).permutation(sound)[:STATISTICS_CLIPS]
        pieces = np.array_split(chosen, len(chosen) // 200 + 1)
        features = [self.settings.extract(audio.samples(piece)) for piece in pieces]
        return self.settings.statistics(np.concatenate(features))
