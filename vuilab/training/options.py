"""How a run is trained, apart from model and data: epochs, learning rate, which weights are kept, what is done again.

`OptimizerOptions` and `TrainingOptions` are plain values; nothing here loads a deep-learning backend.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vuilab.options import option, require_choices

if TYPE_CHECKING:
    import keras

SCHEDULES = ("constant", "cosine")
LEARNING_RATES = {"sgd": 0.02, "adamw": 1e-3}  # of the references; of the project's own recipes
DECAY = 1e-4  # of AdamW


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Which optimiser, with which learning rate.

    Raises:
        ValueError: at construction, for values out of range.
    """

    optimizer: str = option("sgd", "sgd (with Nesterov momentum 0.9) or adamw", choices=tuple(LEARNING_RATES))
    learning_rate: float | None = option(
        None, "the highest one (default: 0.02 for sgd, 0.001 for adamw)", metavar="RATE"
    )
    weight_decay: float | None = option(None, "(default: none for sgd, 0.0001 for adamw)", metavar="SHARE")

    def __post_init__(self) -> None:
        require_choices(self)
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive. Received: learning_rate={self.learning_rate}")
        if self.weight_decay is not None and self.weight_decay < 0:
            raise ValueError(f"weight_decay must be no less than 0. Received: weight_decay={self.weight_decay}")

    def build(self) -> "keras.optimizers.Optimizer":
        """Return a fresh optimiser.

        SGD is the references', clipped by the norm of all gradients. Their Keras 2 called this `clipnorm`; in Keras 3
        `clipnorm` clips each weight by itself, which stalls deep convolutional models, and the counterpart is `global_clipnorm`.
        """
        import keras

        rate = self.learning_rate or LEARNING_RATES[self.optimizer]
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(
                rate, momentum=0.9, nesterov=True, weight_decay=self.weight_decay, global_clipnorm=5
            )
        return keras.optimizers.AdamW(rate, weight_decay=DECAY if self.weight_decay is None else self.weight_decay)


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a run is trained.

    Raises:
        ValueError: at construction, for values out of range.
    """

    # monitors of which the highest value is best, not the lowest
    HIGHEST: ClassVar[tuple[str, ...]] = ("val_accuracy",)
    # what does not decide the result, or stands in a run's configuration in another form (`ema` in the optimiser)
    APART: ClassVar[tuple[str, ...]] = ("ema", "start_from", "checkpoint_steps", "force", "resume", "plan", "verbose")

    epochs: int = option(20, "passes over the training data")
    monitor: str = option(
        "val_loss",
        "the lowest value of this chooses the weights that are kept",
        choices=("val_loss", "val_cer", "val_wer"),
    )
    schedule: str = option(
        "constant", "of the learning rate after the warm-up; cosine: it falls to 0", choices=SCHEDULES
    )
    warmup_epochs: float = option(0.0, "the learning rate rises linearly so long", metavar="EPOCHS")
    patience: int | None = option(
        None, "stop after so many epochs without a better value of the monitor", metavar="EPOCHS"
    )
    ema: float | None = option(
        None, "average the weights over the steps, validate and keep the averages; e.g. 0.999", metavar="MOMENTUM"
    )
    start_from: Path | None = option(None, "weights of the same architecture to begin with", metavar="WEIGHTS")
    checkpoint_steps: int = option(
        200, "steps between the checkpoints within an epoch; there is one after every epoch", metavar="STEPS"
    )
    force: bool = option(False, "train even when the same run is finished")
    resume: bool = option(False, "go on with a run that was killed or stopped, from its last checkpoint")
    plan: tuple[float, ...] = option((), "say what so much speech would take; train nothing", metavar="HOURS")
    verbose: int = option(1, "0: silent, 1: a line per epoch")

    def __post_init__(self) -> None:
        require_choices(self)
        for name, more in (("epochs", ""), ("checkpoint_steps", ""), ("patience", ", or None")):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1{more}. Received: {name}={value}")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"warmup_epochs must be in 0..epochs ({self.epochs}). Received: warmup_epochs={self.warmup_epochs}"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is a momentum between 0 and 1, such as 0.999, or None. Received: ema={self.ema}")
        if any(hours <= 0 for hours in self.plan):
            raise ValueError(f"plan holds hours of speech, which are positive. Received: plan={tuple(self.plan)}")

    @property
    def monitors(self) -> tuple[str, ...]:
        """What an epoch logs that can choose the weights."""
        return type(self).__dataclass_fields__["monitor"].metadata["choices"]

    @property
    def best_is(self) -> str:
        """Whether the 'lowest' or the 'highest' value of the monitor is best."""
        return "highest" if self.monitor in self.HIGHEST else "lowest"

    def relevant(self) -> dict[str, Any]:
        """Return what decides the result, as a run's configuration holds it."""
        plain = dataclasses.asdict(self)
        return {key: value for key, value in plain.items() if key not in self.APART and value is not None}
