"""Fields that carry their own comment: what the command line and the checks read from them."""

import dataclasses

import pytest

from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.keywords.options import ClipOptions, KeywordOptimizer, KeywordOptions
from vuilab.options import option, require_choices
from vuilab.training.options import OptimizerOptions, TrainingOptions

EVERY = (
    FeatureSettings,
    DataOptions,
    OptimizerOptions,
    TrainingOptions,
    ClipOptions,
    KeywordOptimizer,
    KeywordOptions,
)


@pytest.mark.parametrize("kind", EVERY)
def test_every_field_of_every_options_object_says_what_it_does(kind):
    assert kind.__dataclass_params__.frozen
    for field in dataclasses.fields(kind):
        assert field.metadata["help"] and not field.metadata["help"].endswith(".")
        assert field.default in field.metadata.get("choices", (field.default,))


def test_a_text_that_is_no_choice_is_named_with_the_choices():
    @dataclasses.dataclass(frozen=True)
    class Meal:
        bread: str = option("rye", "of the sandwich", choices=("rye", "wheat"))
        guests: int = option(2, "at the table")

        def __post_init__(self):
            require_choices(self)

    assert Meal("wheat", 3).guests == 3
    with pytest.raises(ValueError, match=r"bread must be one of \('rye', 'wheat'\)\. Received: bread='oat'"):
        Meal("oat")
