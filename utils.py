"""Text, audio and features under the names that notebooks use; the code stands in `vuilab`."""

from vuilab.audio import SAMPLE_RATE, read_audio
from vuilab.features import FeatureSettings, logmel, mfcc, spectrogram, spectrogram_from_file
from vuilab.text import int_sequence_to_text, text_to_int_sequence

__all__ = [
    "SAMPLE_RATE",
    "FeatureSettings",
    "int_sequence_to_text",
    "logmel",
    "mfcc",
    "read_audio",
    "spectrogram",
    "spectrogram_from_file",
    "text_to_int_sequence",
]
