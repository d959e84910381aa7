"""The optimiser of a run: a copy, with averages and a schedule where asked to."""

import keras
import numpy as np
import pytest
from tiny_training import train_tiny

from vuilab.training.optimizer import run_optimizer, with_schedule
from vuilab.training.options import TrainingOptions

pytestmark = pytest.mark.usefixtures("without_compiling")


def rates(options, steps, steps_per_epoch=10, rate=0.4):
    schedule = with_schedule(keras.optimizers.SGD(rate), options, steps_per_epoch).get_config()["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(schedule)
    return [float(schedule(step)) for step in steps]


def test_the_rate_rises_linearly_and_falls_along_half_a_cosine():
    options = TrainingOptions(epochs=5, schedule="cosine", warmup_epochs=1)
    # of 50 steps 10 are the warm-up; a third of the other 40 is not whole, a quarter, a half and all of them are
    found = rates(options, (0, 5, 10, 20, 30, 50, 60))
    assert found == pytest.approx([0, 0.2, 0.4, 0.2 * (1 + np.sqrt(0.5)), 0.2, 0, 0], abs=1e-7)


def test_the_rate_stays_after_a_warm_up_of_a_constant_schedule():
    assert rates(TrainingOptions(epochs=2, warmup_epochs=0.5), (0, 1, 5, 6, 20)) == pytest.approx(
        [0, 0.08, 0.4, 0.4, 0.4]
    )
    assert rates(TrainingOptions(epochs=1, warmup_epochs=1), (5, 10)) == pytest.approx([0.2, 0.4])
    cosine = TrainingOptions(epochs=2, schedule="cosine")
    assert rates(cosine, (0, 10, 20)) == pytest.approx([0.4, 0.2, 0], abs=1e-7)


def test_a_rate_that_stays_is_left_to_callbacks():
    optimizer = keras.optimizers.SGD(0.4)
    assert with_schedule(optimizer, TrainingOptions(), 10) is optimizer


def test_a_run_follows_the_schedule_from_step_to_step(corpus):
    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    seen = []
    options = {"schedule": "cosine", "warmup_epochs": 1, "epochs": 2, "optimizer": keras.optimizers.SGD(0.3)}
    history = train_tiny(callbacks=[Watch()], verbose=1, **options)
    assert seen == pytest.approx([0, 0.1, 0.2, 0.3, 0.15 * (1 + np.cos(np.pi / 3)), 0.15 * (1 + np.cos(2 * np.pi / 3))])
    assert history["learning_rate"] == pytest.approx([0.3, 0], abs=1e-7)  # where the next epoch would begin


@pytest.mark.parametrize("options", [{"schedule": "cosine"}, {"warmup_epochs": 0.5}])
def test_a_schedule_beside_the_optimisers_own_is_refused(corpus, options):
    own = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.5)
    with pytest.raises(
        ValueError, match=r"schedule of its own, ExponentialDecay, .*Received: schedule='.*warmup_epochs=0"
    ):
        train_tiny(optimizer=keras.optimizers.SGD(own), **options)
    history = train_tiny(optimizer=keras.optimizers.SGD(own))
    assert history["learning_rate"] == pytest.approx([0.01 * 0.5**0.3, 0.01 * 0.5**0.6])


def test_a_run_gets_a_copy_that_averages_where_asked_to():
    optimizer = keras.optimizers.AdamW(0.1, beta_1=0.8)
    plain, averaging = (run_optimizer(optimizer, TrainingOptions(ema=ema)) for ema in (None, 0.9))
    assert plain is not optimizer and plain.beta_1 == averaging.beta_1 == 0.8
    assert not plain.use_ema and averaging.use_ema and averaging.ema_momentum == 0.9
    assert averaging.ema_overwrite_frequency is None
