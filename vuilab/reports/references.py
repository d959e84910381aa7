"""The reference notebooks' losses beside those of the same networks here, on the same speakers."""

import math
from collections.abc import Sequence

from vuilab.scoring.comparison import RunResult
from vuilab.text import markdown_rows

# Lowest validation loss in nats per utterance that the reference notebooks print, after 20 epochs on LibriSpeech dev-clean,
# validated on test-clean, utterances up to 10 s. Two numbers where two notebooks trained the network.
LOSSES = {
    "model_0": (715.4, 715.2),
    "model_1": (136.0, 139.9),
    "model_2": (128.1, 128.7),
    "model_3": (123.8,),
    "model_3_simple_rnn": (146.6,),
    "model_4": (137.8,),
    "model_4_simple_rnn": (147.0,),
    "model_5": (113.5,),
    "model_6": (114.8,),
    "birnn_final": (118.6,),
    "wavenet_2x64": (132.8,),
    "wavenet_3x128": (123.9,),
}


def loss_table(runs: Sequence[RunResult]) -> str:
    """Return a Markdown table of the runs with the references' losses; the ratio is to the lower of theirs.

    Args:
        runs: called as in `LOSSES` where the references trained the network.
    """
    rows = []
    for run in runs:
        theirs = LOSSES.get(run.name, ())
        finite = math.isfinite(run.best_loss)
        rows.append(
            [
                run.name,
                f"{run.parameters:,}" if run.parameters else "",
                f"{run.best_loss:.1f}" if finite else "diverged",
                ", ".join(f"{loss:.1f}" for loss in theirs),
                f"{run.best_loss / min(theirs):.2f}" if theirs and finite else "",
                f"{100 * run.at_best('val_cer'):.1f}" if finite else "",
                f"{run.best_epoch} of {len(run.series('loss'))}",
            ]
        )
    head = ["model", "parameters", "best validation loss", "the references'", "ratio", "CER %", "epoch"]
    return markdown_rows(head, rows)
