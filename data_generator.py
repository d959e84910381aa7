"""Batches of features in the call shape of the notebooks, one training example in every form, and its plots."""

from pathlib import Path
from typing import Any

import numpy as np

from vuilab.audio import read_audio
from vuilab.corpus.manifest import MANIFESTS
from vuilab.data.generator import AudioGeneratorCached, BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.figures import plot_mfcc_feature, plot_raw_audio, plot_spectrogram_feature
from vuilab.text import int_sequence_to_text

__all__ = [
    "AudioGenerator",
    "AudioGeneratorCached",
    "int_sequence_to_text",
    "plot_mfcc_feature",
    "plot_raw_audio",
    "plot_spectrogram_feature",
    "vis_train_features",
]


class AudioGenerator(BatchGenerator):
    """Reads manifests and makes batches of features; its methods are those of `vuilab.data.generator.BatchGenerator`.

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
        options: the other fields of `vuilab.data.options.DataOptions`, such as `seed` and `augmentation`.

    Raises:
        ValueError: for values out of range.
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
        **options: Any,
    ):
        super().__init__(
            FeatureSettings("spectrogram" if spectrogram else "mfcc", step, window, max_freq, mfcc_dim),
            DataOptions(minibatch_size, max_duration, sort_by_duration, **options),
        )
        if desc_file is not None:
            self.load_train_data(desc_file)


def vis_train_features(
    index: int = 0, mfcc_dim: int = 13, *, mfcc_classes: int | None = None
) -> tuple[str, np.ndarray, np.ndarray, np.ndarray, str]:
    """Return one training example of the active corpus in every form, and print how many there are.

    Args:
        index: number of the training example.
        mfcc_dim: number of MFCCs; the reference study calls it `mfcc_classes`.

    Returns:
        (text, raw audio (num_samples,), normalised MFCCs (num_frames, mfcc_dim), normalised spectrogram
        (num_frames, 161), audio path).

    Raises:
        IndexError: when there is no such example.
    """
    spectrograms = AudioGenerator(desc_file=MANIFESTS["train"])
    mfccs = AudioGenerator(desc_file=MANIFESTS["train"], spectrogram=False, mfcc_dim=mfcc_classes or mfcc_dim)
    paths = spectrograms.train_audio_paths
    if not -len(paths) <= index < len(paths):
        raise IndexError(f"There are {len(paths)} training examples. Received: index={index}")
    print(f"There are {len(paths)} total training examples.")
    path = paths[index]
    mfcc, spectrogram = (generator.normalize(generator.featurize(path)) for generator in (mfccs, spectrograms))
    return spectrograms.train_texts[index], read_audio(path), mfcc, spectrogram, path
