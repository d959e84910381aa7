"""Looking at recorded words: every view by one name, each returning a figure and its `Numbers`.

Their `facts()` are what a table under the figure shows, for the notebook and for those who cannot see the figure. Nothing here
loads a deep-learning backend.

Of one clip: `log_spectrogram`, `mel_spectrogram`, `mfcc_deltas`, `fft_magnitude` and `resampling` (`clips`),
`silence_removal` and `marked_spectrogram` (`activity`). Of many: `class_counts`, `durations`, `mean_spectra` and
`violin_frequency` (`words`), `two_recordings` and `speaker_distances` (`speakers`), `pca_outliers` and
`turning_plot` (`cloud`).
"""

from vuilab.exploration.activity import marked_spectrogram, silence_removal
from vuilab.exploration.clips import fft_magnitude, log_spectrogram, mel_spectrogram, mfcc_deltas, resampling
from vuilab.exploration.cloud import pca_outliers, turning_plot
from vuilab.exploration.speakers import speaker_distances, two_recordings
from vuilab.exploration.words import class_counts, durations, mean_spectra, violin_frequency

__all__ = [
    "class_counts",
    "durations",
    "fft_magnitude",
    "log_spectrogram",
    "marked_spectrogram",
    "mean_spectra",
    "mel_spectrogram",
    "mfcc_deltas",
    "pca_outliers",
    "resampling",
    "silence_removal",
    "speaker_distances",
    "turning_plot",
    "two_recordings",
    "violin_frequency",
]
