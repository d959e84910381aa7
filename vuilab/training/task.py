"""What is trained on what: the part of a run that differs between recognising speech and classifying single words.

`fit(task, options)` (`training/fit.py`) does the rest, which is the same for all.
"""

import abc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import keras
import numpy as np

from vuilab.runs.record import results_path
from vuilab.runs.weights_file import WEIGHT_SUFFIXES
from vuilab.training.options import TrainingOptions

Say = Callable[[str], None]


class Batches(Protocol):
    """What the loop asks a generator of batches; 'train' and 'validation' are its partitions."""

    settings: Any  # of the features, a dataclass
    feats_mean: np.ndarray
    feats_std: np.ndarray

    @property
    def train_audio_paths(self) -> list[str]:
        """Where the sound of each training example comes from."""

    def num_frames(self, partition: str) -> np.ndarray:
        """Return the length of each example, (num_examples,)."""

    def plan(self, partition: str, epoch: int | None = None) -> list[np.ndarray]:
        """Return the examples of each step of an epoch; None: in a fixed order."""

    def assemble(
        self, partition: str, indices: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return inputs and outputs of the training model for these examples."""

    def step_rng(self, epoch: int, step: int) -> np.random.Generator:
        """Return the random numbers of one step, whatever happened before."""


class Task(abc.ABC):
    """A model with its data, what its validation measures, and where its files go.

    Args:
        model: features to probabilities, ending in a layer named 'softmax'.
        generator: of the batches.
        pickle_path: where the history goes; a bare name goes under `results/`. The run is named after it.
        save_model_path: where the best weights go; `.h5`, `.weights.h5` or `.keras`.
        optimizer: any Keras optimiser, of which a copy is used, so that one instance may train several models; None: the
            task's own.
        callbacks: Keras callbacks, called with the same logs as the history.
        notes: plain data for the run record, such as {"full_name": ...}.

    Raises:
        ValueError: for weights of another kind of file, or an optimiser that is none.
    """

    options_kind: ClassVar[type[TrainingOptions]] = TrainingOptions
    unit: ClassVar[str] = "utterances"  # what is counted
    validation_set: ClassVar[str] = "the validation set"  # what chooses the weights

    def __init__(
        self,
        model: keras.Model,
        generator: Batches,
        pickle_path: str | Path,
        save_model_path: str | Path,
        *,
        optimizer: keras.optimizers.Optimizer | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        notes: dict[str, Any] | None = None,
    ):
        if not str(save_model_path).endswith(WEIGHT_SUFFIXES):
            raise ValueError(
                f"save_model_path must end in one of {WEIGHT_SUFFIXES}. Received: {str(save_model_path)!r}"
            )
        if optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(f"optimizer must be a keras.optimizers.Optimizer or None. Received: {optimizer!r}")
        self.model, self.generator = model, generator
        self.history_path, self.weights_path = results_path(pickle_path), results_path(save_model_path)
        self.optimizer = self.default_optimizer() if optimizer is None else optimizer
        self.callbacks, self.notes = list(callbacks), dict(notes or {})
        self.check()

    @abc.abstractmethod
    def check(self) -> None:
        """Refuse data that do not fit the model, at construction."""

    @property
    def name(self) -> str:
        """The run's name, that of its files."""
        return self.history_path.stem

    @abc.abstractmethod
    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Return a fresh optimiser for where none is given."""

    @abc.abstractmethod
    def configuration(self) -> dict[str, Any]:
        """Return what of the data decides the result, as plain data."""

    @abc.abstractmethod
    def contents(self) -> dict[str, str | None]:
        """Return set -> hash of what its recordings hold; None where they are gone."""

    @abc.abstractmethod
    def prepare(self, say: Say, progress: bool) -> None:
        """Get the data ready before the first step; `say` prints, `progress` asks for bars."""

    @abc.abstractmethod
    def training_model(self, options: Any) -> tuple[keras.Model, Any]:
        """Return the model that is trained, with inputs and outputs as the generator gives them, and its loss."""

    def evaluator(self, trainer: keras.Model) -> keras.Model:
        """Return the model that `validate` asks, made from the training model; the default is that itself."""
        return trainer

    @abc.abstractmethod
    def validate(self, evaluator: keras.Model) -> tuple[dict[str, float], dict[str, Any]]:
        """Score the validation set: what the epoch logs (every monitor among it), and the scores for the record."""

    @abc.abstractmethod
    def describe(self, logs: dict[str, float]) -> str:
        """Return what the line of an epoch says of its logs."""

    @abc.abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Return what the weights file needs besides architecture and name, so that it needs nothing else."""

    @abc.abstractmethod
    def corpus(self) -> dict[str, Any]:
        """Return what was trained and validated on, for the record."""

    def report(self, status: str, say: Say) -> dict[str, Any]:
        """Measure what is reported of a run that is 'finished', 'interrupted' or 'diverged'; further keys of its record."""
        return {}

    def size_of(self, hours: float) -> tuple[float, float]:
        """Return how many frames and how many bytes of features so many hours of speech are.

        Raises:
            ValueError: where the data are not counted in hours.
        """
        raise ValueError(
            f"A plan is made for hours of running speech. Received a {type(self).__name__}: leave plan out."
        )
