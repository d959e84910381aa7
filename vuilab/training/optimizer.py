"""The optimiser of one run: a copy of what was given, which averages the weights and follows a schedule where asked to."""

import keras

from vuilab.training.options import TrainingOptions


def run_optimizer(optimizer: keras.optimizers.Optimizer, options: TrainingOptions) -> keras.optimizers.Optimizer:
    """Return a copy of an optimiser, since one instance serves one model only; with `ema` it averages the weights.

    Raises:
        ValueError: when it has a schedule of its own and another is asked for.
    """
    config = optimizer.get_config()
    if isinstance(config["learning_rate"], dict) and (options.schedule != "constant" or options.warmup_epochs):
        raise ValueError(
            f"The optimiser has a learning-rate schedule of its own, {config['learning_rate']['class_name']}, beside which no "
            f"other can be. Received: schedule={options.schedule!r}, warmup_epochs={options.warmup_epochs}. Give the optimiser a "
            "number as its learning rate, or pass schedule='constant' and warmup_epochs=0."
        )
    if options.ema is not None:
        config |= {"use_ema": True, "ema_momentum": options.ema, "ema_overwrite_frequency": None}
    return optimizer.__class__.from_config(config)


def with_schedule(
    optimizer: keras.optimizers.Optimizer, options: TrainingOptions, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Return the optimiser with the schedule of its learning rate, which Keras follows from step to step.

    The learning rate rises linearly from 0 to the optimiser's own during `warmup_epochs`; then it stays, or falls to 0 along
    half a cosine (Loshchilov and Hutter, arXiv:1608.03983). An optimiser whose learning rate stays is returned as it is, so that
    callbacks may change it. An epoch has `steps_per_epoch` batches.
    """
    if options.schedule == "constant" and not options.warmup_epochs:
        return optimizer
    config = optimizer.get_config()
    rate, warmup_steps = float(config["learning_rate"]), round(options.warmup_epochs * steps_per_epoch)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else rate,
        decay_steps=max(1, options.epochs * steps_per_epoch - warmup_steps),
        alpha=1.0 if options.schedule == "constant" else 0.0,  # the share of the rate that is left in the end
        warmup_target=rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    return optimizer.__class__.from_config({**config, "learning_rate": schedule})
