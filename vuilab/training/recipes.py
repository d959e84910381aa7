"""How models are trained that have a recipe of their own: what `vui.py train NAME` does unless told otherwise.

A recipe holds options of the command line; whatever is given there stays as given. It names no corpus: the same recipe
trains on two hours of speech and on a thousand.
"""

from typing import Any

# Passes are counted over the speech at all three speeds, so that 8 epochs hear each utterance 24 times.
SMALL_CORPUS: dict[str, Any] = {
    "features": "logmel",
    "max_duration": 16.0,
    "batch_size": 8,  # so little speech makes few steps, and it takes some hundreds before letters appear
    "speeds": (0.9, 1.0, 1.1),
    "augment": True,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "epochs": 8,
}
# The last of two rounds in which the released weights were trained (--start-from): docs/training.md has the commands,
# docs/results.md the rates after each. Novel sentences need the times of words, which `vui.py data words` adds to a corpus.
FINAL: dict[str, Any] = {
    **SMALL_CORPUS,
    "epochs": 26,
    "warmup_epochs": 0.5,
    "ema": 0.999,
    "monitor": "val_cer",
    "splice": 0.5,
}
ON_MFCC = {key: {"features": "mfcc"} for key in ("model_6", "birnn_final_model", "wavenet_model", "wavenet_2x64")}
RECIPES: dict[str, dict[str, Any]] = {"residual_birnn": SMALL_CORPUS, "final_model": FINAL, **ON_MFCC}
