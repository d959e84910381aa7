"""The study's conclusions follow from the numbers: altered losses change the words."""

import math

import pytest

from vuilab.models.builder import CNNConfig, RNNModel
from vuilab.study.claims import Claim, Question, Setting, conclusions, judge, spread
from vuilab.study.questions import QUESTIONS, question

BETTER = Claim("deep is better.", ("shallow",), "deep")
ALIKE = Claim("all are alike.", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("losses", "outcome"),
    [
        ({"deep": [100, 102, 101], "shallow": [120, 121, 119]}, "holds"),
        ({"deep": [120, 121, 119], "shallow": [100, 102, 101]}, "does not hold"),
        ({"deep": [100, 110, 105], "shallow": [108, 112, 107]}, "undecided"),  # 4 apart, twice the spread is 10
        ({"deep": [100], "shallow": [150]}, "undecided"),  # one seed
        ({"deep": [100, 101], "shallow": [math.nan, 120]}, "undecided"),
        ({"deep": [100, 101], "shallow": [math.inf, 120]}, "undecided"),
        ({"deep": [100, 101]}, "not run"),
        ({"deep": [100, 101], "shallow": []}, "not run"),
        ({}, "not run"),
    ],
)
def test_a_claim_that_one_is_better(losses, outcome):
    assert judge(BETTER, losses).outcome == outcome


@pytest.mark.parametrize(("gap", "better", "alike"), [(1.95, "undecided", "holds"), (2.05, "holds", "does not hold")])
def test_a_difference_counts_from_twice_the_spread_on(gap, better, alike):
    """Both sides of the threshold: the spread over the seeds 99, 100 and 101 is 1."""
    losses = {"deep": [99, 100, 101], "shallow": [100 + gap] * 3}
    assert judge(BETTER, losses).outcome == better
    assert judge(Claim("they are alike.", ("deep", "shallow")), losses).outcome.split(",")[0] == alike
    other_way = judge(BETTER, {"deep": losses["shallow"], "shallow": losses["deep"]}).outcome
    assert other_way == {"undecided": "undecided", "holds": "does not hold"}[better]


def test_the_best_must_beat_every_other_one():
    claim = Claim("a is best.", ("b", "c"), "a")
    losses = {"a": [100, 101], "b": [120, 121], "c": [100.5, 101.5]}
    assert judge(claim, losses).outcome == "undecided"
    assert judge(claim, {**losses, "c": [90, 91]}).outcome == "does not hold"
    assert judge(claim, {**losses, "c": [110, 111]}).outcome == "holds"


def test_a_claim_that_all_are_alike():
    assert judge(ALIKE, {"a": [100, 104], "b": [101, 103], "c": [102, 103]}).outcome.startswith("holds")
    assert judge(ALIKE, {"a": [100, 101], "b": [101, 100], "c": [110, 111]}).outcome == "does not hold"
    assert judge(ALIKE, {"a": [100, 101], "b": [101, 100]}).outcome == "not run"


def test_the_spread_is_the_largest_deviation_over_seeds():
    assert spread({"a": [1.0, 3.0], "b": [5.0, 5.0], "c": [7.0]}) == pytest.approx(math.sqrt(2))
    assert math.isnan(spread({"a": [1.0], "b": [2.0]}))


def test_conclusions_rank_and_count_seeds_and_change_with_the_winner():
    item = Question("How deep?", "", {"deep": Setting(RNNModel()), "shallow": Setting(RNNModel())}, (BETTER,))
    text = " ".join(conclusions(item, {"shallow": [120.0, 122.0], "deep": [100.0, 101.0]}))
    assert "lowest first: deep 100.5 ± 0.7 (2 seeds); shallow 121.0 ± 1.4 (2 seeds)" in text
    assert "The reference found: deep is better. Here: holds (deep is 20.5 nats below shallow" in text
    other = " ".join(conclusions(item, {"deep": [120.0, 122.0], "shallow": [100.0, 101.0]}))
    assert "lowest first: shallow" in other and "does not hold (deep is 20.5 nats above shallow" in other
    assert conclusions(item, {}) == ["The reference found: deep is better. Here: not run (no runs of deep, shallow)."]


def test_a_claim_about_an_unknown_configuration_is_refused():
    with pytest.raises(ValueError, match="shallow"):
        Question("", "", {"deep": Setting(RNNModel())}, (BETTER,))
    with pytest.raises(ValueError, match="wide"):
        Question("", "", {"deep": Setting(RNNModel())}, (), tiny=("wide",))
    with pytest.raises(ValueError, match="Expected one of: dense"):
        question("colour")


def test_every_question_can_be_built_and_no_two_labels_mean_the_same_network():
    assert len({item.title for item in QUESTIONS.values()}) == len(QUESTIONS) >= 20
    for item in QUESTIONS.values():
        for scale in ("full", "evidence", "tiny"):
            names = [setting.name for setting in item.at_scale(scale).values()]
            assert len(set(names)) == len(names)
        assert {setting.features for setting in item.settings.values()} <= {"spectrogram", "mfcc", "raw"}
    with pytest.raises(ValueError, match="scale"):
        question("dense").at_scale("huge")


def test_the_trial_of_the_machinery_has_at_most_24_networks():
    tiny = {setting.name for item in QUESTIONS.values() for setting in item.at_scale("tiny").values()}
    assert 15 <= len(tiny) <= 24


def test_the_comparison_with_several_seeds_holds_every_network_that_a_finding_speaks_of_128_wide():
    for key, item in QUESTIONS.items():
        assert {label for claim in item.claims for label in claim.labels} <= set(item.evidence) and item.evidence
        widest = max(setting.model.rnn_units for setting in item.evidence.values())
        assert widest == (192 if key == "width" else 160 if key == "final_depth" else 128)


def test_scaling_keeps_the_structure():
    setting = question("width").settings["250 units"].scaled(24)
    assert setting.model.rnn_units == 30 and setting.model.cnn_config.filters == 24
    assert setting.model.rnn_layers == 4 and setting.model.cnn_config.cnn_layers == 12
    straight = Setting(RNNModel(CNNConfig(), time_distributed_dense=False)).scaled(8)
    assert straight.model.rnn_units == 32  # the softmax needs a class for each character
