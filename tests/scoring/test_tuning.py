"""Weights are chosen on other speakers than those that are reported."""

import numpy as np
import pytest

from vuilab.decoding.beam import Hypothesis
from vuilab.decoding.kneser_ney import train_ngram
from vuilab.decoding.settings import BeamSettings
from vuilab.scoring import tuning
from vuilab.scoring.tuning import tune


@pytest.fixture
def model():
    return train_ngram(["a b", "b a"], 2)


class FakeDecoder:
    """Gets speaker one right with alpha 1 and speaker two with alpha 2; everybody is wrong with alpha 0."""

    def __init__(self, model, settings):
        self.alpha = settings.alpha

    def decode_batch(self, batch):
        right = {0: self.alpha == 1, 1: self.alpha == 1, 2: self.alpha == 2, 3: self.alpha == 2, 4: self.alpha == 2}
        return [[Hypothesis("a b" if right[int(rows[0, 0])] else "x x x", 0, 0, 0)] for rows in batch]


def test_each_speaker_is_decoded_with_the_weights_that_suit_the_others(model, monkeypatch):
    monkeypatch.setattr(tuning, "BeamDecoder", FakeDecoder)
    batch = [np.full((1, 1), number) for number in range(5)]
    speakers = ["one", "one", "two", "two", "two"]
    tuned = tune(batch, ["a b"] * 5, speakers, model, alphas=(0, 1, 2), betas=(0,), progress=False)
    assert tuned.weights == {"one": (2, 0), "two": (1, 0)}
    assert tuned.texts == ["x x x"] * 5  # what suits one speaker suits the other badly: no rate is flattered
    assert tuned.best == (2, 0)
    assert tuned.word_errors == {(0, 0): 1.5, (1, 0): 0.9, (2, 0): 0.6}


@pytest.mark.parametrize("speakers", [["one"] * 2, [None, "two"], [None, None]])
def test_one_speaker_or_unknown_ones_are_refused(speakers, model):
    with pytest.raises(ValueError, match="at least two known speakers"):
        tune([np.ones((1, 29))] * 2, ["a", "b"], speakers, model, progress=False)


def test_weights_are_compared_with_a_narrow_beam_and_the_texts_come_from_the_wide_one(model, monkeypatch):
    widths = []

    class Spy(FakeDecoder):
        def __init__(self, model, settings):
            super().__init__(model, settings)
            widths.append(settings.beam_width)

    monkeypatch.setattr(tuning, "BeamDecoder", Spy)
    batch = [np.full((1, 1), number) for number in (0, 2)]
    settings = BeamSettings(beam_width=100)
    tune(batch, ["a b"] * 2, ["one", "two"], model, settings, alphas=(0, 1, 2), betas=(0,), progress=False)
    assert widths == [tuning.CHOICE_BEAM_WIDTH] * 3 + [100] * 2
