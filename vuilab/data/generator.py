"""From a manifest to batches: cached features, normalisation, and utterances of similar length together.

A batch is `(inputs, outputs)` as the training model of `models/ctc.py` wants it:

| key | shape | meaning |
|---|---|---|
| `the_input` | (batch, num_frames, num_features) float32 | normalised features, zeros behind the end |
| `the_labels` | (batch, label_length) int32 | class indices, zeros behind the end |
| `input_length` | (batch,) int32 | feature frames of each utterance |
| `label_length` | (batch,) int32 | characters of each utterance |

Batches are padded to one of at most eight lengths, because compilers make a new program for each new shape.
"""

import copy
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vuilab.alphabet import current, using
from vuilab.audio import read_audio
from vuilab.corpus.manifest import MANIFESTS, resolve_manifest
from vuilab.corpus.phonemes import phoneme_targets
from vuilab.data.buckets import MAX_BUCKETS, bucket_boundaries, plan_batches
from vuilab.data.feature_cache import FeatureCache, load_features
from vuilab.data.options import DataOptions
from vuilab.data.partition import Partition, read_partition, require_word_times
from vuilab.data.splicing import Splicer
from vuilab.features import FeatureSettings

BATCHES_PER_BUCKET = 3  # at least, on average; else the same utterances would meet in every epoch
STATISTICS_SEED = 2017  # which utterances the mean and deviation are measured on
STD_FLOOR = 1e-3  # of a feature that (almost) never changes, such as in digital silence


class BatchGenerator:
    """Reads manifests and makes batches of features.

    Args:
        settings: what is computed from the audio; None: spectrograms.
        options: which utterances take part, how many at once, how changed; None: the defaults of `DataOptions`.
    """

    def __init__(self, settings: FeatureSettings | None = None, options: DataOptions | None = None):
        self.settings, self.options = settings or FeatureSettings(), options or DataOptions()
        self.feats_mean = np.zeros(self.settings.num_features, np.float32)
        self.feats_std = np.ones(self.settings.num_features, np.float32)
        self.has_statistics = False  # measured or set
        self.phonemes = False  # batches hold those too, for models that learn them; see `corpus/phonemes.py`
        self.progress = True  # show a bar while features are computed
        self.alphabet = current()  # in which texts are read
        self.partitions: dict[str, Partition] = {}
        self.left_out: dict[str, int] = {}
        self._iterators: dict[str, Iterator] = {}

    def copy(self, seed: int | None = None) -> "BatchGenerator":
        """Return a generator over the same data, features and statistics with a choice of utterances, and a seed, of its own."""
        other = copy.copy(self)
        other.partitions = {name: dataclasses.replace(part) for name, part in self.partitions.items()}
        other.left_out, other._iterators = dict(self.left_out), {}
        if seed is not None:
            other.options = dataclasses.replace(self.options, seed=seed)
        return other

    # ------------------------------------------------------------------------------------------- loading

    def load_train_data(self, desc_file: str | Path = MANIFESTS["train"]) -> None:
        """Read the training manifest and measure the statistics of its features; see `load` and `fit_train`."""
        self.load("train", desc_file)
        self.fit_train()

    def load_validation_data(self, desc_file: str | Path = MANIFESTS["validation"]) -> None:
        """Read the validation manifest; see `load`."""
        self.load("validation", desc_file)

    def load_test_data(self, desc_file: str | Path = MANIFESTS["test"]) -> None:
        """Read the test manifest; see `load`."""
        self.load("test", desc_file)

    def load(self, partition: str, desc_file: str | Path) -> None:
        """Read a manifest into 'train', 'validation' or 'test', leaving out utterances over `max_duration`; see `read_partition`.

        A bare name means the manifest of the active corpus.
        """
        _check_partition(partition)
        speeds = self.options.speeds if partition == "train" else (1.0,)
        with using(self.alphabet):
            part = read_partition(resolve_manifest(desc_file), speeds, self.options.max_duration)
        self.left_out[partition] = len(part.everything) - len(part.kept)
        if partition == "train" and self.options.splice:
            require_word_times(part)
            part.splicer = Splicer(part.everything, self.settings.frames_per_second)
        self.partitions[partition] = part
        self._iterators.pop(partition, None)

    def drop_infeasible(self, partition: str, output_length: Callable[[int], int]) -> list[str]:
        """Leave out utterances whose transcript needs more frames than the model puts out; see `Partition.drop_infeasible`."""
        part = self._part(partition)
        lines = part.drop_infeasible(self._cache(partition).num_frames, output_length)
        self._iterators.pop(partition, None)
        return lines

    @property
    def train_texts(self) -> list[str]:
        """Transcripts of the training utterances that take part."""
        return [utterance.text for utterance in self._part("train").utterances]

    @property
    def train_audio_paths(self) -> list[str]:
        """Audio paths of the training utterances that take part."""
        return [str(utterance.path) for utterance in self._part("train").utterances]

    @property
    def valid_texts(self) -> list[str]:
        """Transcripts of the validation utterances that take part."""
        return [utterance.text for utterance in self._part("validation").utterances]

    @property
    def valid_audio_paths(self) -> list[str]:
        """Audio paths of the validation utterances that take part."""
        return [str(utterance.path) for utterance in self._part("validation").utterances]

    # ------------------------------------------------------------------------------------------ features

    def featurize(self, audio_clip: str | Path) -> np.ndarray:
        """Compute the features of an audio file, before normalisation: (num_frames, num_features)."""
        return self.settings.extract(read_audio(audio_clip))

    def fit_train(self, k_samples: int = 100) -> None:
        """Measure mean and deviation of each feature on a fixed random choice of `k_samples` training utterances, or on all."""
        paths = self.train_audio_paths
        chosen = np.random.default_rng(STATISTICS_SEED).choice(
            len(paths), size=min(k_samples, len(paths)), replace=False
        )
        frames = np.concatenate([self.featurize(paths[index]) for index in np.sort(chosen)])
        self.set_statistics(frames.mean(axis=0, dtype=np.float64), frames.std(axis=0, dtype=np.float64))

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Use these statistics, for example those saved with a model: two arrays (num_features,)."""
        self.feats_mean = np.asarray(mean, np.float32)
        self.feats_std = np.maximum(np.asarray(std, np.float32), STD_FLOOR)
        self.has_statistics = True

    def normalize(self, feature: np.ndarray) -> np.ndarray:
        """Subtract the training mean and divide by the training deviation: float32, same shape.

        Raises:
            ValueError: when neither was measured or set.
        """
        if not self.has_statistics:
            raise ValueError(
                "The mean and deviation of the features are not known yet. Call load_train_data or fit_train to measure them, or "
                "set_statistics with those of a weights file."
            )
        return (feature.astype(np.float32) - self.feats_mean) / self.feats_std

    def features(self, partition: str, index: int) -> np.ndarray:
        """Return the normalised features of one utterance that takes part: (num_frames, num_features)."""
        part = self._part(partition)
        return self.normalize(self._cache(partition)[part.kept[index]])

    # ------------------------------------------------------------------------------------------- batches

    def num_frames(self, partition: str) -> np.ndarray:
        """Feature frames of each utterance that takes part, (num_utterances,)."""
        return self._cache(partition).num_frames[self._part(partition).kept]

    def plan(self, partition: str, epoch: int | None = None) -> list[np.ndarray]:
        """Return the batches of an epoch (0, 1, ...; None: shortest first, no shuffling) as arrays of utterance numbers.

        Every utterance stands in exactly one batch and only the last batch can be smaller; see `buckets.plan_batches`. The order
        depends on the epoch and on the seed alone.
        """
        ascending = epoch is None or not self.options.shuffle or (epoch == 0 and self.options.sort_by_duration)
        rng = None if ascending else np.random.default_rng([self.options.seed, epoch])
        boundaries, _ = self._bucket_shapes(partition)
        return plan_batches(self.num_frames(partition), boundaries, self.options.minibatch_size, rng)

    def assemble(
        self, partition: str, indices: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Build the batch of these utterance numbers: (inputs, outputs) as the module describes.

        With a random generator the augmentation, if there is one, is applied.
        """
        part, cache = self._part(partition), self._cache(partition)
        where = part.kept[np.asarray(indices)]
        input_length = cache.num_frames[where].astype(np.int32)
        label_length = np.array([len(part.labels[index]) for index in where], np.int32)
        boundaries, widths = self._bucket_shapes(partition)
        bucket = min(int(np.searchsorted(boundaries, input_length.max())), len(boundaries) - 1)
        num_frames = max(int(boundaries[bucket]), int(input_length.max()))
        the_input = np.zeros((len(where), num_frames, self.settings.num_features), np.float32)
        the_labels = np.zeros((len(where), max(int(widths[bucket]), int(label_length.max()))), np.int32)
        for row, index in enumerate(where):
            features, labels = cache[index], part.labels[index]
            if rng is not None and part.splicer is not None and rng.random() < self.options.splice:
                features, labels = part.spliced(index, the_labels.shape[1], rng)
                input_length[row], label_length[row] = len(features), len(labels)
            features = self.normalize(features)
            if rng is not None and self.options.augmentation is not None:
                features = self.options.augmentation.apply(features, rng)
            the_input[row, : input_length[row]] = features
            the_labels[row, : label_length[row]] = labels
        inputs = {"the_input": the_input, "the_labels": the_labels}
        inputs |= {"input_length": input_length, "label_length": label_length}
        if self.phonemes:
            inputs |= phoneme_targets(the_labels, label_length)
        return inputs, {"ctc": np.zeros(len(where), np.float32)}

    def step_rng(self, epoch: int, step: int) -> np.random.Generator:
        """Return the source of augmentation for one step; it depends on the seed, epoch and step alone."""
        return np.random.default_rng([self.options.seed, epoch, step])

    def get_batch(self, partition: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return the next batch of a partition; after the last one the next epoch begins."""
        return next(self._iterators.setdefault(partition, self._endless(partition)))

    def next_train(self) -> Iterator[tuple[dict, dict]]:
        """Yield training batches without end, in a new order each epoch."""
        return self._endless("train")

    def next_valid(self) -> Iterator[tuple[dict, dict]]:
        """Yield validation batches without end, always in the same order."""
        return self._endless("validation")

    def next_test(self) -> Iterator[tuple[dict, dict]]:
        """Yield test batches without end, always in the same order."""
        return self._endless("test")

    def _endless(self, partition: str) -> Iterator[tuple[dict, dict]]:
        training = partition == "train"
        for epoch in itertools.count():
            for step, indices in enumerate(self.plan(partition, epoch if training else None)):
                yield self.assemble(partition, indices, self.step_rng(epoch, step) if training else None)

    # ------------------------------------------------------------------------------------------ internals

    def _part(self, partition: str) -> Partition:
        _check_partition(partition)
        if partition not in self.partitions:
            raise ValueError(f"The {partition} data are not loaded. Call load({partition!r}, manifest) first.")
        return self.partitions[partition]

    def _cache(self, partition: str) -> FeatureCache:
        part = self._part(partition)
        if part.cache is None:
            part.cache = load_features(part.manifest, part.everything, self.settings, self.progress)
        return part.cache

    def _bucket_shapes(self, partition: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the padded frame counts of a partition's buckets and the label width that goes with each."""
        part = self._part(partition)
        if part.buckets is None:
            num_frames = self.num_frames(partition)
            label_length = np.array([len(part.labels[index]) for index in part.kept])
            num_buckets = MAX_BUCKETS
            if partition == "train":  # several batches share a length, so that they can be shuffled
                num_batches = -(-len(num_frames) // self.options.minibatch_size)
                num_buckets = min(MAX_BUCKETS, max(1, num_batches // BATCHES_PER_BUCKET))
            boundaries = bucket_boundaries(num_frames, num_buckets, self.options.minibatch_size)
            widths = np.array([label_length[num_frames <= boundary].max() for boundary in boundaries])
            part.buckets = boundaries, widths
        return part.buckets


class AudioGeneratorCached(BatchGenerator):
    """A generator for the study: all generators of a session with the same features share caches and statistics.

    Args:
        spectrogram, mfcc_dim: True for spectrograms, False for so many MFCCs.
        raw: the waveform itself, (num_samples, 1), whatever `spectrogram` says.
        shuffle_data: False: training batches come shortest first too, in every epoch.
        minibatch_size, max_duration, seed: see `DataOptions`.
    """

    _shared: ClassVar[dict[tuple, Any]] = {}

    def __init__(
        self,
        spectrogram: bool = True,
        raw: bool = False,
        minibatch_size: int = 32,
        shuffle_data: bool = True,
        *,
        mfcc_dim: int = 26,
        max_duration: float | None = 10.0,
        seed: int = 0,
    ):
        kind = "raw" if raw else "spectrogram" if spectrogram else "mfcc"
        super().__init__(
            FeatureSettings(kind, mfcc_dim=mfcc_dim),
            DataOptions(minibatch_size=minibatch_size, max_duration=max_duration, shuffle=shuffle_data, seed=seed),
        )

    def fit_train(self, k_samples: int = 100) -> None:
        """Measure the statistics of the training data, once in a session."""
        key = (*self._key("train"), self.options.max_duration, k_samples)
        if key not in self._shared:
            super().fit_train(k_samples)
            self._shared[key] = (self.feats_mean, self.feats_std)
        self.set_statistics(*self._shared[key])

    def _cache(self, partition: str) -> FeatureCache:
        key = self._key(partition)
        if key not in self._shared:
            self._shared[key] = super()._cache(partition)
        return self._shared[key]

    def _key(self, partition: str) -> tuple:
        part = self._part(partition)
        settings = json.dumps(self.settings.relevant(), sort_keys=True)
        return str(part.manifest.resolve()), part.manifest_hash, part.contents, settings


def _check_partition(partition: str) -> None:
    if partition not in MANIFESTS:
        raise ValueError(f"partition must be one of {list(MANIFESTS)}. Received: partition={partition!r}")
