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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vuilab.audio import read_audio
from vuilab.augment import Augmentation
from vuilab.corpus.manifest import MANIFESTS, resolve_manifest
from vuilab.corpus.phonemes import phoneme_targets
from vuilab.data.buckets import MAX_BUCKETS, bucket_boundaries, plan_batches
from vuilab.data.feature_cache import FeatureCache, load_features
from vuilab.data.partition import Partition, read_partition
from vuilab.data.splicing import Splicer
from vuilab.features import FeatureSettings
from vuilab.figures import plot_mfcc_feature, plot_raw_audio, plot_spectrogram_feature
from vuilab.text import int_sequence_to_text

__all__ = [
    "AudioGenerator",
    "int_sequence_to_text",
    "plot_mfcc_feature",
    "plot_raw_audio",
    "plot_spectrogram_feature",
    "vis_train_features",
]

BATCHES_PER_BUCKET = 3  # at least, on average; else the same utterances would meet in every epoch
STATISTICS_SEED = 2017  # which utterances the mean and deviation are measured on
STD_FLOOR = 1e-3  # of a feature that (almost) never changes, such as in digital silence


class AudioGenerator:
    """Reads manifests and makes batches of features.

    Args:
        step: milliseconds between frames.
        window: milliseconds per frame.
        max_freq: highest frequency of a spectrogram in Hz.
        mfcc_dim: number of MFCCs, when `spectrogram` is False.
        minibatch_size: utterances per batch; the last batch of an epoch may be smaller.
        desc_file: manifest of the training set, loaded at once when given.
        spectrogram: True for spectrograms, False for MFCCs.
        max_duration: seconds; longer utterances take no part (None: all do). `left_out` counts them.
        sort_by_duration: shortest utterances first, in the first epoch of training.
        seed: of the order of the batches and of the augmentation.
        augmentation: changes training features, anew in each epoch; None: no change.
        speeds: each training utterance takes part once at each of these speeds in every epoch; see `speed_perturb`.
        settings: a `FeatureSettings` to use instead of the arguments above.
        batch_frames: so many frames per training batch at most, padding included, instead of `minibatch_size` utterances.
        splice: share of the training utterances in whose place stands a novel sentence, made of stretches that the same speaker
            said (see `data/splicing.py`), anew in each epoch.

    Raises:
        ValueError: for a batch size under 1, a duration that is not positive, or a share outside 0..1.
    """

    def __init__(
        self,
        step: float = 10,
        window: float = 20,
        max_freq: float = 8000,
        mfcc_dim: int = 13,
        minibatch_size: int = 20,
        desc_file: str | Path | None = None,
        spectrogram: bool = True,
        max_duration: float | None = 10.0,
        sort_by_duration: bool = False,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        settings: FeatureSettings | None = None,
        speeds: Sequence[float] = (1.0,),
        batch_frames: int | None = None,
        splice: float = 0.0,
    ):
        if batch_frames is not None and batch_frames < 1:
            raise ValueError(f"batch_frames must be at least 1, or None. Received: batch_frames={batch_frames}")
        if minibatch_size < 1:
            raise ValueError(f"minibatch_size must be at least 1. Received: minibatch_size={minibatch_size}")
        if max_duration is not None and max_duration <= 0:
            raise ValueError(f"max_duration is in seconds and positive, or None. Received: {max_duration}")
        if not 0 <= splice <= 1:
            raise ValueError(f"splice is a share of the utterances, 0 to 1. Received: splice={splice}")
        kind = "spectrogram" if spectrogram else "mfcc"
        self.settings = settings or FeatureSettings(kind, step, window, max_freq, mfcc_dim)
        self.minibatch_size = minibatch_size
        self.batch_frames = batch_frames
        self.splice = splice
        self.max_duration = max_duration
        self.sort_by_duration = sort_by_duration
        self.seed = seed
        self.augmentation = augmentation
        self.speeds = tuple(float(speed) for speed in speeds)
        if not self.speeds or len(set(self.speeds)) < len(self.speeds) or not all(0.5 <= s <= 2 for s in self.speeds):
            raise ValueError(f"speeds are different numbers in 0.5..2, such as (0.9, 1.0, 1.1). Received: {speeds!r}")
        self.feats_mean = np.zeros(self.settings.num_features, np.float32)
        self.feats_std = np.ones(self.settings.num_features, np.float32)
        self.has_statistics = False  # measured or set
        self.phonemes = False  # batches hold those too, for models that learn them; see `corpus/phonemes.py`
        self.progress = True  # show a bar while features are computed
        self.partitions: dict[str, Partition] = {}
        self.left_out: dict[str, int] = {}
        self._iterators: dict[str, Iterator] = {}
        if desc_file is not None:
            self.load_train_data(desc_file)

    def copy(self, seed: int | None = None) -> "AudioGenerator":
        """Return a generator over the same data, features and statistics, whose choice of utterances is its own.

        Args:
            seed: of the copy's order of batches and augmentation; None: this one's.
        """
        other = copy.copy(self)
        other.partitions = {name: dataclasses.replace(part) for name, part in self.partitions.items()}
        other.left_out, other._iterators = dict(self.left_out), {}
        other.seed = self.seed if seed is None else seed
        return other

    # ------------------------------------------------------------------------------------------- loading

    def load_train_data(self, desc_file: str | Path = MANIFESTS["train"]) -> None:
        """Read the training manifest; see `load`."""
        self.load("train", desc_file)

    def load_validation_data(self, desc_file: str | Path = MANIFESTS["validation"]) -> None:
        """Read the validation manifest; see `load`."""
        self.load("validation", desc_file)

    def load_test_data(self, desc_file: str | Path = MANIFESTS["test"]) -> None:
        """Read the test manifest; see `load`."""
        self.load("test", desc_file)

    def load(self, partition: str, desc_file: str | Path) -> None:
        """Read a manifest into a partition, leaving out utterances over `max_duration`.

        Args:
            partition: 'train', 'validation' or 'test'.
            desc_file: path of a manifest; a bare name means the one of the active corpus.

        Raises:
            FileNotFoundError: when there is no such manifest.
            ValueError: when the manifest is broken, a transcript holds characters outside the alphabet, or no
                utterance is short enough.
        """
        _check_partition(partition)
        speeds = self.speeds if partition == "train" else (1.0,)
        part = read_partition(resolve_manifest(desc_file), speeds, self.max_duration)
        self.left_out[partition] = len(part.everything) - len(part.kept)
        if partition == "train" and self.splice:
            part.splicer = Splicer(part.everything, self.settings.frames_per_second)
        self.partitions[partition] = part
        self._iterators.pop(partition, None)

    def drop_infeasible(self, partition: str, output_length: Callable[[int], int]) -> list[str]:
        """Leave out utterances whose transcript needs more frames than the model puts out.

        CTC needs a frame per character and one more between equal neighbours; with fewer the loss is infinite.

        Args:
            partition: 'train', 'validation' or 'test'.
            output_length: maps feature frames (an integer array) to output frames.

        Returns:
            One line per utterance left out: its path and both numbers.

        Raises:
            ValueError: when nothing is left.
        """
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
        """Measure mean and deviation of each feature on a fixed random choice of training utterances.

        Args:
            k_samples: how many utterances; all of them when there are fewer.
        """
        paths = self.train_audio_paths
        rng = np.random.default_rng(STATISTICS_SEED)
        chosen = rng.choice(len(paths), size=min(k_samples, len(paths)), replace=False)
        frames = np.concatenate([self.featurize(paths[index]) for index in np.sort(chosen)])
        self.set_statistics(frames.mean(axis=0, dtype=np.float64), frames.std(axis=0, dtype=np.float64))

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Use these statistics, for example those saved with a model: two arrays (num_features,)."""
        self.feats_mean = np.asarray(mean, np.float32)
        self.feats_std = np.maximum(np.asarray(std, np.float32), STD_FLOOR)
        self.has_statistics = True

    def normalize(self, feature: np.ndarray) -> np.ndarray:
        """Subtract the training mean and divide by the training deviation: float32, same shape."""
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
        """Return the batches of one epoch as arrays of utterance numbers.

        Every utterance stands in exactly one batch and only the last batch can be smaller; see `buckets.plan_batches`.

        Args:
            partition: 'train', 'validation' or 'test'.
            epoch: 0, 1, ...: the order depends on it and on the seed alone. None: shortest first, no shuffling.
        """
        ascending = epoch is None or (epoch == 0 and self.sort_by_duration)
        rng = None if ascending else np.random.default_rng([self.seed, epoch])
        boundaries, _ = self._bucket_shapes(partition)
        batch_frames = self.batch_frames if partition == "train" else None
        return plan_batches(self.num_frames(partition), boundaries, self.minibatch_size, rng, batch_frames)

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
            if rng is not None and part.splicer is not None and rng.random() < self.splice:
                features, labels = part.spliced(index, the_labels.shape[1], rng)
                input_length[row], label_length[row] = len(features), len(labels)
            features = self.normalize(features)
            if rng is not None and self.augmentation is not None:
                features = self.augmentation.apply(features, rng)
            the_input[row, : input_length[row]] = features
            the_labels[row, : label_length[row]] = labels
        inputs = {
            "the_input": the_input,
            "the_labels": the_labels,
            "input_length": input_length,
            "label_length": label_length,
            **(phoneme_targets(the_labels, label_length) if self.phonemes else {}),
        }
        return inputs, {"ctc": np.zeros(len(where), np.float32)}

    def step_rng(self, epoch: int, step: int) -> np.random.Generator:
        """Return the source of augmentation for one step; it depends on the seed, epoch and step alone."""
        return np.random.default_rng([self.seed, epoch, step])

    def get_batch(self, partition: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return the next batch of a partition; after the last one the next epoch begins."""
        if partition not in self._iterators:
            self._iterators[partition] = self._endless(partition)
        return next(self._iterators[partition])

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
        epoch = 0
        while True:
            training = partition == "train"
            for step, indices in enumerate(self.plan(partition, epoch if training else None)):
                yield self.assemble(partition, indices, self.step_rng(epoch, step) if training else None)
            epoch += 1

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
                num_batches = -(-len(num_frames) // self.minibatch_size)
                num_buckets = min(MAX_BUCKETS, max(1, num_batches // BATCHES_PER_BUCKET))
            boundaries = bucket_boundaries(num_frames, num_buckets, self.minibatch_size)
            widths = np.array([label_length[num_frames <= boundary].max() for boundary in boundaries])
            part.buckets = boundaries, widths
        return part.buckets


def vis_train_features(index: int = 0, mfcc_dim: int = 13) -> tuple[str, np.ndarray, np.ndarray, np.ndarray, str]:
    """Return one training example of the active corpus in every form, and print how many there are.

    Args:
        index: number of the training example.
        mfcc_dim: number of MFCCs.

    Returns:
        (text, raw audio (num_samples,), normalised MFCCs (num_frames, mfcc_dim), normalised spectrogram
        (num_frames, 161), audio path).

    Raises:
        IndexError: when there is no such example.
    """
    spectrograms = AudioGenerator(spectrogram=True)
    spectrograms.load_train_data()
    mfccs = AudioGenerator(spectrogram=False, mfcc_dim=mfcc_dim)
    mfccs.load_train_data()
    paths = spectrograms.train_audio_paths
    if not -len(paths) <= index < len(paths):
        raise IndexError(f"There are {len(paths)} training examples. Received: index={index}")
    print(f"There are {len(paths)} total training examples.")
    for generator in (spectrograms, mfccs):
        generator.fit_train()
    path = paths[index]
    mfcc = mfccs.normalize(mfccs.featurize(path))
    spectrogram = spectrograms.normalize(spectrograms.featurize(path))
    return spectrograms.train_texts[index], read_audio(path), mfcc, spectrogram, path


def _check_partition(partition: str) -> None:
    if partition not in MANIFESTS:
        raise ValueError(f"partition must be one of {list(MANIFESTS)}. Received: partition={partition!r}")
