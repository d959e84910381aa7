"""Text, audio and features under the names that notebooks use; the code stands in `vuilab`."""

from vuilab.audio import SAMPLE_RATE, read_audio
from vuilab.features import FeatureSettings, logmel, mfcc, spectrogram, spectrogram_from_file
from vuilab.text import int_sequence_to_text, text_to_int_sequence


def config_GPU(gpu_memory_fraction: float | None = None, allow_growth: bool = True) -> str:
    """Call `train_utils.configure_gpu`, under the name that the reference study uses."""
    from vuilab.training.devices import configure_gpu  # features need no deep-learning backend

    return configure_gpu(gpu_memory_fraction, allow_growth)


__all__ = [
    "SAMPLE_RATE",
    "FeatureSettings",
    "config_GPU",
    "int_sequence_to_text",
    "logmel",
    "mfcc",
    "read_audio",
    "spectrogram",
    "spectrogram_from_file",
    "text_to_int_sequence",
]
