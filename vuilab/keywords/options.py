"""How a keyword classifier is trained: the options of the recogniser's training, with other defaults, and its own."""

import dataclasses
from typing import TYPE_CHECKING

from vuilab.options import option
from vuilab.training.options import SCHEDULES, OptimizerOptions, TrainingOptions

if TYPE_CHECKING:
    from vuilab.keywords.batches import ClipAugmentation


@dataclasses.dataclass(frozen=True)
class ClipOptions:
    """How batches of clips are made.

    Raises:
        ValueError: at construction, for a batch size under 1.
    """

    minibatch_size: int = option(64, "clips per step", flag="--batch-size")
    augmentation: "ClipAugmentation | None" = option(None, "changes training clips, anew in each epoch", flag="")
    seed: int = option(0, "of the order of the clips and of the augmentation")

    def __post_init__(self) -> None:
        if self.minibatch_size < 1:
            raise ValueError(f"minibatch_size must be at least 1. Received: minibatch_size={self.minibatch_size}")


@dataclasses.dataclass(frozen=True)
class KeywordOptimizer(OptimizerOptions):
    """Which optimiser, with which learning rate; see `OptimizerOptions`."""

    optimizer: str = option("adamw", "adamw or sgd (with Nesterov momentum 0.9)", choices=("adamw", "sgd"))
    learning_rate: float | None = option(2e-3, "the highest one", metavar="RATE")
    weight_decay: float | None = option(1e-3, "of the weights in each step", metavar="SHARE")


@dataclasses.dataclass(frozen=True)
class KeywordOptions(TrainingOptions):
    """How a classifier is trained; see `TrainingOptions`."""

    epochs: int = option(30, "passes over the training clips")
    monitor: str = option(
        "val_loss",
        "the lowest loss or the highest accuracy on the development part chooses the weights that are kept",
        choices=("val_loss", "val_accuracy"),
    )
    schedule: str = option("cosine", "of the learning rate after the warm-up; cosine: it falls to 0", choices=SCHEDULES)
    warmup_epochs: float = option(1.0, "the learning rate rises linearly so long", metavar="EPOCHS")
    label_smoothing: float = option(
        0.0, "share of the target that is spread over all classes (Szegedy et al., 2016)", metavar="SHARE"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in 0..1. Received: label_smoothing={self.label_smoothing}")
