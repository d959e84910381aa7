"""The options of a generator: which are refused, and what of them a run's configuration holds."""

import dataclasses
import json

import pytest

from vuilab.augment import Augmentation
from vuilab.data.options import DataOptions
from vuilab.files import repository


def test_a_configuration_holds_what_the_committed_records_hold():
    used = json.loads((repository() / "results/released/recogniser.json").read_text())["configuration"]
    options = DataOptions(
        minibatch_size=8,
        max_duration=16.0,
        speeds=[0.9, 1, 1.1],
        splice=0.5,
        augmentation=Augmentation(**used["augmentation"]),
    )
    relevant = json.loads(json.dumps(options.relevant()))
    assert {"speeds", "splice", "augmentation", "sort_by_duration"} <= set(relevant)
    assert {key: used[key] for key in relevant} == relevant


def test_what_later_versions_added_stands_in_a_configuration_only_where_it_is_used():
    first = {"minibatch_size": 20, "max_duration": 10.0, "sort_by_duration": False, "seed": 0, "augmentation": None}
    assert DataOptions().relevant() == first
    assert DataOptions(shuffle=False).relevant() == {**first, "shuffle": False}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minibatch_size": 0}, "minibatch_size must be at least 1. Received: minibatch_size=0"),
        ({"max_duration": 0}, "seconds and positive, or None. Received: 0"),
        ({"splice": -0.1}, "a share of the utterances, 0 to 1. Received: splice=-0.1"),
        ({"splice": 1.5}, "a share of the utterances, 0 to 1. Received: splice=1.5"),
        ({"speeds": ()}, r"speeds are different numbers in 0.5..2, such as \(0.9, 1.0, 1.1\). Received: \(\)"),
        ({"speeds": (1, 1.0)}, "speeds are different numbers"),
        ({"speeds": (0.4,)}, "speeds are different numbers"),
        ({"speeds": (1.0, 3.0)}, "speeds are different numbers"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DataOptions(**options)


def test_equal_options_are_equal_however_the_speeds_are_written():
    assert DataOptions(speeds=[1, 2]) == DataOptions(speeds=(1.0, 2.0))
    assert dataclasses.replace(DataOptions(), seed=3).seed == 3
