"""Batches of features under the names that notebooks use; the code stands in `vuilab/data/generator.py`."""

from vuilab.data.generator import AudioGenerator, vis_train_features
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
