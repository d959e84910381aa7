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
        pickle_path: where the history goes; a bare name goes under `results/`.
        save_model_path: where the best weights go; `.h5`, `.weights.h5` or `.keras`.
        train_json: manifest; a bare name means the active corpus.
        valid_json: manifest for validation.
        minibatch_size: utterances per step.
        spectrogram: True for spectrograms, False for MFCCs; a model that brings features of its own gets those.
        mfcc_dim: number of MFCCs.
        optimizer: any Keras optimiser; None: SGD with learning rate 0.02, Nesterov momentum 0.9 and `global_clipnorm=5`.
            A fresh copy is used, so the same instance may train several models.
        epochs: passes over the training data.
        verbose: 0 silent, 1 a line per epoch.
        sort_by_duration: shortest utterances first in the first epoch.
        max_duration: seconds; longer utterances take no part.
        features: settings to use instead of `spectrogram`, `mfcc_dim` and what the model brings.
        generator: one with training and validation data loaded, which several models may share; the arguments for data, batches
            and features are not looked at then, apart from `seed`.
        callbacks: Keras callbacks, called with the same logs as the history.
        notes: plain data that go into the run record, such as {"full_name": ...}.
        options: the other fields of `vuilab.training.options.TrainingOptions` (schedule, warmup_epochs, patience, monitor, ema,
            force, resume, ...) and `vuilab.data.options.DataOptions` (augmentation, speeds, splice, seed, ...).

    Returns:
        The history: lists 'loss', 'val_loss' (nats per utterance), 'val_cer', 'val_wer' (shares), 'learning_rate' and
        'seconds', one entry per epoch.

    Raises:
        TypeError: for an option that there is not.
        ValueError: for arguments out of range, features or weights that do not fit the model, or data that cannot be used.
        FileNotFoundError: when a manifest or the weights to begin with are missing.
    """
    names = {field.name for field in dataclasses.fields(DataOptions)}
    data = {name: options.pop(name) for name in names & set(options)}
    training = TrainingOptions(epochs, verbose=verbose, **options)
    if generator is None:
        kind = FeatureSettings("spectrogram" if spectrogram else "mfcc", mfcc_dim=mfcc_dim)
        settings = features or getattr(input_to_softmax, "features", None) or kind
        generator = BatchGenerator(settings, DataOptions(minibatch_size, max_duration, sort_by_duration, **data))
        generator.progress = verbose > 0
        generator.load("train", train_json)
        generator.load("validation", valid_json)
    elif set(data) - {"seed"}:
        raise ValueError(f"A generator decides these itself; leave them out. Received: {', '.join(sorted(data))}")
    else:
        generator = generator.copy(data.get("seed"))
    task = Recognition(
        input_to_softmax, generator, pickle_path, save_model_path, optimizer=optimizer, callbacks=callbacks, notes=notes
    )
    return fit(task, training)
