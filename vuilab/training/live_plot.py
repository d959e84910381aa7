"""The curves of a run while it trains, in the notebook; the last picture stays there and in the exported report."""

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vuilab.figures import curve_style, show_again


class LivePlot(keras.callbacks.Callback):
    """Draws loss and error rate after every epoch, in one picture that is replaced: `train_model(..., callbacks=[LivePlot()])`.

    Outside a notebook it shows nothing. In a run that is resumed the curves begin with the first epoch after the break.
    """

    def on_train_begin(self, logs=None) -> None:
        """Begin with an empty picture."""
        self.numbers: list[int] = []
        self.logs: list[dict[str, float]] = []
        self.handle = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add an epoch and show the picture anew."""
        self.numbers.append(epoch + 1)
        self.logs.append(dict(logs or {}))
        if not InteractiveShell.initialized():
            return
        last = self.logs[-1]
        alt = f"Training and validation loss and CER up to epoch {epoch + 1}; validation loss {last.get('val_loss', np.nan):.1f}"
        self.handle = show_again(self.figure(), alt, self.handle)

    def figure(self) -> Figure:
        """Return the picture: losses on the left, CER and WER on the right, against the epoch."""
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
        curves = {"loss": "training", "val_loss": "validation", "val_cer": "CER", "val_wer": "WER"}
        for number, (key, label) in enumerate(curves.items()):
            ax, factor = (left, 1) if key.endswith("loss") else (right, 100)
            values = [factor * logs.get(key, np.nan) for logs in self.logs]
            ax.plot(self.numbers, values, label=label, **curve_style(number % 2))
        left.set(xlabel="epoch", ylabel="loss (nats per utterance)")
        right.set(xlabel="epoch", ylabel="validation error rate (%)", ylim=(0, None))
        for ax in (left, right):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.legend()
        return figure
