"""What a generator of batches is told apart from the features: which utterances take part, how many at once, how changed."""

import dataclasses
from typing import Any

from vuilab.augment import Augmentation
from vuilab.options import option


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """How batches are made.

    Raises:
        ValueError: at construction, for values out of range.
    """

    minibatch_size: int = option(20, "utterances per step", flag="batch-size")
    max_duration: float | None = option(10.0, "seconds; longer utterances take no part", metavar="SECONDS")
    sort_by_duration: bool = option(False, "shortest utterances first in the first epoch")
    speeds: tuple[float, ...] = option(
        (1.0,), "every epoch has each training utterance once at each of these speeds, e.g. 0.9 1 1.1", metavar="SPEED"
    )
    splice: float = option(
        0.0,
        "share of the training utterances in whose place stands a novel sentence of stretches that the same speaker said, "
        "e.g. 0.5; the manifest has to tell when each word is spoken",
        metavar="SHARE",
    )
    augmentation: Augmentation | None = option(None, "changes training features, anew in each epoch")
    shuffle: bool = option(True, "False: shortest utterances first, in every epoch")
    seed: int = option(0, "of the order of the batches and of the augmentation")

    def __post_init__(self) -> None:
        if self.minibatch_size < 1:
            raise ValueError(f"minibatch_size must be at least 1. Received: minibatch_size={self.minibatch_size}")
        if self.max_duration is not None and self.max_duration <= 0:
            raise ValueError(f"max_duration is in seconds and positive, or None. Received: {self.max_duration}")
        if not 0 <= self.splice <= 1:
            raise ValueError(f"splice is a share of the utterances, 0 to 1. Received: splice={self.splice}")
        speeds = tuple(float(speed) for speed in self.speeds)
        if not speeds or len(set(speeds)) < len(speeds) or not all(0.5 <= speed <= 2 for speed in speeds):
            raise ValueError(
                f"speeds are different numbers in 0.5..2, such as (0.9, 1.0, 1.1). Received: {self.speeds!r}"
            )
        object.__setattr__(self, "speeds", speeds)

    def relevant(self) -> dict[str, Any]:
        """Return what decides the batches, as a run's configuration holds it; what came later only where it is used."""
        plain = dataclasses.asdict(self)
        later = {"speeds": (1.0,), "splice": 0.0, "shuffle": True}
        return {key: value for key, value in plain.items() if key not in later or value != later[key]}
