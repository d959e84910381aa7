"""Training and what comes after it, in the call shapes of the notebooks; the code stands in `vuilab/`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from vuilab.corpus.manifest import MANIFESTS
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.models.ctc import add_ctc_loss
from vuilab.scoring.comparison import plot_comparison
from vuilab.scoring.predictions import get_predictions, print_predictions
from vuilab.training.devices import configure_gpu
from vuilab.training.fit import fit
from vuilab.training.options import TrainingOptions
from vuilab.training.recogniser import Recognition

__all__ = [
    "add_ctc_loss",
    "configure_gpu",
    "get_predictions",
    "plot_comparison",
    "print_predictions",
    "train_model",
]


def train_model(
    input_to_softmax: keras.Model,
    pickle_path: str | Path,
    save_model_path: str | Path,
    train_json: str | Path = MANIFESTS["train"],
    valid_json: str | Path = MANIFESTS["validation"],
    minibatch_size: int = 20,
    spectrogram: bool = True,
    mfcc_dim: int = 13,
    optimizer: keras.optimizers.Optimizer | None = None,
    epochs: int = 20,
    verbose: int = 1,
    sort_by_duration: bool = False,
    max_duration: float | None = 10.0,
    *,
    features: FeatureSettings | None = None,
    generator: BatchGenerator | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    notes: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, list[float]]:
    """Train an acoustic model with CTC and leave its history, best weights and run record on disk.

    Args:
        input_to_softmax: the model, ending in a layer named 'softmax'.
        pickle_path, save_model_path: of history, best weights (`.h5`, `.weights.h5`, `.keras`); bare names go under `results/`.
        train_json, valid_json: manifests; a bare name means the active corpus.
        minibatch_size: utterances per step.
        spectrogram, mfcc_dim: spectrograms, or so many MFCCs; a model that brings features of its own gets those.
        optimizer: any Keras optimiser, of which a copy is used; None: SGD with learning rate 0.02, Nesterov momentum 0.9 and
            `global_clipnorm=5`.
        epochs, verbose: passes over the training data; 0 silent, 1 a line per epoch.
        sort_by_duration, max_duration: shortest first in the first epoch; seconds, what is longer takes no part.
        features: settings to use instead of `spectrogram`, `mfcc_dim` and what the model brings.
        generator: one with its data loaded, which several models may share, in the place of the arguments for data and features.
        callbacks, notes: Keras callbacks; plain data for the run record, such as {"full_name": ...}.
        options: the other fields of `vuilab.training.options.TrainingOptions` (schedule, patience, monitor, ema, force, resume,
            ...) and `vuilab.data.options.DataOptions` (augmentation, speeds, splice, seed, ...).

    Returns:
        The history: lists 'loss', 'val_loss' (nats per utterance), 'val_cer', 'val_wer' (shares), 'learning_rate' and
        'seconds', one entry per epoch.

    Raises:
        TypeError, ValueError: for unknown options; for values out of range, and features, weights or data that do not fit.
        FileNotFoundError: when a manifest or the weights to begin with are missing.
    """
    data = {field.name: options.pop(field.name) for field in dataclasses.fields(DataOptions) if field.name in options}
    training = TrainingOptions(epochs, verbose=verbose, **options)
    if generator is None:
        kind = FeatureSettings("spectrogram" if spectrogram else "mfcc", mfcc_dim=mfcc_dim)
        settings = features or getattr(input_to_softmax, "features", None) or kind
        generator = BatchGenerator(settings, DataOptions(minibatch_size, max_duration, sort_by_duration, **data))
        generator.load("train", train_json)
        generator.load("validation", valid_json)
    elif set(data) - {"seed"}:
        raise ValueError(f"A generator decides these itself; leave them out. Received: {', '.join(sorted(data))}")
    files = pickle_path, save_model_path
    more = {"optimizer": optimizer, "callbacks": callbacks, "notes": notes}
    return fit(Recognition(input_to_softmax, generator.copy(data.get("seed")), *files, **more), training)
