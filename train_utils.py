"""Training under the names that notebooks use; the code stands in `vuilab/training/`."""

from vuilab.models.ctc import add_ctc_loss
from vuilab.scoring.comparison import plot_comparison
from vuilab.scoring.predictions import get_predictions, print_predictions
from vuilab.training.devices import configure_gpu
from vuilab.training.recogniser import train_model

__all__ = [
    "add_ctc_loss",
    "configure_gpu",
    "get_predictions",
    "plot_comparison",
    "print_predictions",
    "train_model",
]
