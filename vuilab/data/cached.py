"""The generator of the study: many models in one session, features read and measured once."""

import json
from typing import ClassVar

import numpy as np

from vuilab.data.feature_cache import FeatureCache
from vuilab.data.generator import AudioGenerator
from vuilab.features import FeatureSettings

__all__ = ["AudioGeneratorCached"]


class AudioGeneratorCached(AudioGenerator):
    """A generator for the study: all generators of a session with the same features share caches and statistics.

    Args:
        spectrogram: True for spectrograms, False for MFCCs.
        raw: the waveform itself, (num_samples, 1), whatever `spectrogram` says.
        minibatch_size: utterances per batch.
        shuffle_data: False: training batches come shortest first too, in every epoch.
        mfcc_dim: number of MFCCs.
        max_duration: seconds; longer utterances take no part.
        seed: of the order of the batches.
    """

    _shared: ClassVar[dict[tuple, object]] = {}

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
        settings = FeatureSettings(kind, mfcc_dim=mfcc_dim)
        super().__init__(minibatch_size=minibatch_size, max_duration=max_duration, seed=seed, settings=settings)
        self.shuffle_data = shuffle_data

    def plan(self, partition: str, epoch: int | None = None) -> list[np.ndarray]:
        """Return the batches of one epoch; see `AudioGenerator.plan`."""
        return super().plan(partition, epoch if self.shuffle_data else None)

    def fit_train(self, k_samples: int = 100) -> None:
        """Measure the statistics of the training data, once in a session."""
        key = (*self._key("train"), self.max_duration, k_samples)
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
        return str(part.manifest.resolve()), part.manifest_hash, json.dumps(self.settings.relevant(), sort_keys=True)
