"""The study in a session: train models of `models/builder.py` side by side, load them again, and compare them by name.

A run is named after its network, in the notation of `models/builder.py`. Its files stand in `results/study/` under a short
form of that name and a number that depends on the settings and the data, so that two runs of one network (another seed, another
learning rate) do not meet, and the same call finds its own run again: finished runs are loaded, interrupted ones go on.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vuilab.data.generator import AudioGeneratorCached, BatchGenerator
from vuilab.decoding.greedy import greedy_decode
from vuilab.figures import curve_style
from vuilab.models.builder import RNNModel
from vuilab.runs.checkpoint import checkpoint_path
from vuilab.runs.record import RESULTS, fingerprint, read_record, read_records, same_recordings
from vuilab.runs.weights import load_weights
from vuilab.scoring import comparison
from vuilab.study.claims import Setting
from vuilab.training.fit import fit
from vuilab.training.options import OptimizerOptions, TrainingOptions
from vuilab.training.recogniser import Recognition

STUDY = RESULTS / "study"
LOSS_LIMIT = 500.0  # nats per utterance
LIMIT_EPOCHS = 3  # after so many epochs a loss must be under the limit
LONGEST_SLUG = 100  # characters
CROWDED = 4  # labels of an axis, beyond which they are turned

_session: dict[Path, str] = {}  # file of a history -> full name, in the order of training


class LossLimit(keras.callbacks.Callback):
    """Stop a run whose training loss is still above a limit (nats per utterance) after three epochs: it does not learn."""

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the loss of this epoch."""
        loss = (logs or {}).get("loss", float("nan"))
        if epoch + 1 == LIMIT_EPOCHS and loss > self.limit:
            print(f"Stopped: the loss is {loss:.0f} after {LIMIT_EPOCHS} epochs, above loss_limit={self.limit:g}.")
            self.model.stop_training = True


def get_generator(
    spectrogram: bool = True, raw: bool = False, minibatch_size: int = 32, shuffle_data: bool = True, **options
) -> AudioGeneratorCached:
    """Return a generator with the active corpus loaded; features and statistics are shared within the session."""
    generator = AudioGeneratorCached(spectrogram, raw, minibatch_size, shuffle_data, **options)
    generator.load_train_data()
    generator.load_validation_data()
    return generator


def train_model(
    model_builder: RNNModel,
    spectrogram: bool = True,
    raw: bool = False,
    epochs: int = 50,
    loss_limit: float | None = LOSS_LIMIT,
    *,
    generator: BatchGenerator | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
    folder: str | Path = STUDY,
    options: TrainingOptions | None = None,
) -> str:
    """Train a network of the study, or load its run when it is finished, or go on with it when it was interrupted.

    Args:
        model_builder: the network.
        spectrogram: True for spectrograms, False for 26 MFCCs.
        raw: the waveform itself.
        epochs: passes over the training data.
        loss_limit: stop when the training loss is above this after three epochs; None: never.
        generator: other data, features or seed than `spectrogram` and `raw` say; see `get_generator`. Its seed is that of the
            first weights and dropout too.
        optimizer: None: the recogniser's default.
        folder: for the files.
        options: how it is trained apart from `epochs`.

    Returns:
        The full name, which `plot_comparison` knows.
    """
    generator = generator or get_generator(spectrogram, raw)
    optimizer = optimizer or OptimizerOptions().build()
    options = dataclasses.replace(options or TrainingOptions(), epochs=epochs)
    name = model_builder.name(generator.settings.kind)
    history = _history_path(name, generator, optimizer, options, loss_limit, folder)
    if options.verbose:
        print(f"{name}  (seed {generator.options.seed}; files {history.stem}.*)")
    keras.utils.set_random_seed(generator.options.seed)
    task = Recognition(
        model_builder.build(generator.settings.num_features, print_summary=False),
        generator,
        history,
        history.with_suffix(".h5"),
        optimizer=optimizer,
        callbacks=[] if loss_limit is None else [LossLimit(loss_limit)],
        notes={"full_name": name, "loss_limit": loss_limit},
    )
    fit(task, dataclasses.replace(options, resume=checkpoint_path(history).is_file()))
    _session[history] = name
    return name


def _history_path(
    name: str,
    generator: BatchGenerator,
    optimizer: keras.optimizers.Optimizer,
    options: TrainingOptions,
    loss_limit: float | None,
    folder: str | Path,
) -> Path:
    """Return where the history of a run goes: its name in short, and a number that its settings and data decide."""
    plain = TrainingOptions(options.epochs, patience=options.patience).relevant()
    key = fingerprint(
        {
            "name": name,
            "features": generator.settings.relevant(),
            "data": [generator.partitions[part].manifest_hash for part in ("train", "validation")],
            **{field: getattr(generator.options, field) for field in ("minibatch_size", "max_duration", "seed")},
            "optimizer": keras.optimizers.serialize(optimizer),
            "epochs": options.epochs,
            "loss_limit": loss_limit,
            "patience": options.patience,
            "backend": keras.backend.backend(),
            **{key: value for key, value in options.relevant().items() if plain.get(key) != value},
        }
    )
    return Path(folder) / f"{run_stem(name, key)}.pickle"


def run_stem(name: str, key: str) -> str:
    """Return the file name of a run: its full name in plain characters, and a number made of the hash of all settings.

    Example:
        >>> run_stem("Spec GRU(200 x1) BN relu TD(D)", "00000000000000ff")
        'spec-gru-200x1-bn-relu-td-000255'
    """
    plain = re.sub(r"\bTD\(D\)", "td", name).replace(" x", "x").lower()
    slug = re.sub(r"[^a-z0-9._]+", "-", plain).strip("-")
    return f"{slug[:LONGEST_SLUG].rstrip('-')}-{int(key, 16) % 1_000_000:06d}"


def session_runs() -> list[str]:
    """Return the full names of the runs of this session, in the order of training."""
    return list(dict.fromkeys(_session.values()))


def load_model(generator: BatchGenerator, builder: RNNModel, folder: str | Path = STUDY) -> tuple[keras.Model, Path]:
    """Build a network and load the best weights of its run; of several runs (seeds) those with the lowest validation loss.

    The generator tells the features, and gets the statistics that the weights were trained with.

    Returns:
        (model, path of its weights), the pair that `predictions.print_predictions` takes.

    Raises:
        FileNotFoundError: when there is no run of this network.
    """
    name = builder.name(generator.settings.kind)
    found = [
        (record["scores"]["val_loss"], Path(folder) / record["weights"])
        for record in read_records(folder)
        if record.get("full_name") == name and (Path(folder) / record["weights"]).is_file()
    ]
    if not found:
        raise FileNotFoundError(f"{folder} has no weights of {name!r}. Train it first: study.train_model(builder).")
    _, weights = min(found)
    model = builder.build(generator.settings.num_features, print_summary=False)
    metadata = load_weights(model, weights)
    generator.set_statistics(metadata["mean"], metadata["std"])
    return model, weights


def get_predictions(
    generator: BatchGenerator,
    model: keras.Model | tuple[keras.Model, Path],
    partition: str,
    index: int,
    print_line: bool = True,
    omit_true: bool = False,
) -> str:
    """Print what is said in one utterance and what a model makes of it, and return the path of its audio.

    Args:
        generator: with the features and statistics that the model was trained with; `load_model` sets them.
        model: a model, or the pair that `load_model` returns.
        partition, index: 'train' or 'validation', and the number of the utterance there.
        print_line: a line below, where nothing follows that belongs to the same utterance.
        omit_true: leave out the true text, where another model has shown it.
    """
    model, utterance = (
        model[0] if isinstance(model, tuple) else model,
        generator.partitions[partition].utterances[index],
    )
    predicted = greedy_decode(np.asarray(model.predict_on_batch(generator.features(partition, index)[None]))[0])
    lines = [f"true       {utterance.text}"] * (not omit_true) + [f"predicted  {predicted}"] + ["-" * 80] * print_line
    print("\n".join(lines))
    return str(utterance.path)


def plot_comparison(
    model_names: Sequence[str] | None = None,
    min_loss: float | None = None,
    max_loss: float | None = None,
    max_epoch: int | None = None,
    *,
    folder: str | Path = STUDY,
) -> Figure:
    """Plot runs of the study against each other; see `comparison.plot_comparison` for the limits of the axes.

    Args:
        model_names: full names, file names or patterns such as 'MFCC *'; None: the runs of this session.
        min_loss, max_loss, max_epoch: limits of the axes.
        folder: where the runs are.

    Raises:
        ValueError: without names, when nothing was trained in this session.
    """
    if model_names is None:
        model_names = [history.stem for history in _session if history.parent == Path(folder)]
        if not model_names:
            raise ValueError("No run in this session. Train one, or name runs: plot_comparison(['Spec *']).")
    return comparison.plot_comparison(model_names, min_loss, max_loss, max_epoch, folder=folder)


# ------------------------------------------------------------------------------------------------- questions


def train_settings(
    settings: Mapping[str, Setting],
    epochs: int,
    seeds: Sequence[int] = (0,),
    *,
    folder: str | Path = STUDY,
    minibatch_size: int = 32,
    options: TrainingOptions | None = None,
) -> list[str]:
    """Train everything that a question compares, seed by seed; a finished run counts, also where its weights were not kept.

    Args:
        settings: label -> what is trained, from `Question.at_scale`.
        epochs: passes over the training data.
        seeds: one run each.
        folder: for the files.
        minibatch_size: utterances per batch.
        options: how they are trained apart from `epochs`.

    Returns:
        The labels whose runs failed, with the reason; one that cannot be trained does not stop the others.
    """
    options = dataclasses.replace(options or TrainingOptions(), epochs=epochs)
    failures = []
    for seed in seeds:
        for label, setting in settings.items():
            try:
                train_setting(setting, seed, folder, minibatch_size, options)
            except (ValueError, RuntimeError) as error:
                failures.append(f"{label} (seed {seed}): {error}")
                print(f"{label} (seed {seed}) cannot be trained; going on with the others.")
    return failures


def train_setting(
    setting: Setting, seed: int, folder: str | Path, minibatch_size: int, options: TrainingOptions
) -> None:
    """Train one network of a question, unless its run is finished; the arguments are those of `train_settings`."""
    generator = get_generator(setting.features == "spectrogram", setting.features == "raw", minibatch_size, seed=seed)
    history = _history_path(setting.name, generator, setting.optimizer(), options, LOSS_LIMIT, folder)
    record = history.with_suffix(".json")
    found = read_record(record) if history.is_file() and record.is_file() else {}
    contents = {part: generator.partitions[part].contents for part in ("train", "validation")}
    if options.force or found.get("status") != "finished" or not same_recordings(found, contents):
        more = {"generator": generator, "optimizer": setting.optimizer(), "folder": folder, "options": options}
        train_model(setting.model, epochs=options.epochs, **more)
        return
    if options.verbose:
        print(f"{setting.name}  (seed {seed}; files {history.stem}.*)\nFinished before.")
    _session[history] = setting.name


def runs_of(settings: Mapping[str, Setting], folder: str | Path) -> dict[str, list[comparison.RunResult]]:
    """Return the runs in a folder that belong to these settings: label -> one per seed, in order; none for a label without."""
    found: dict[str, list[comparison.RunResult]] = {}
    everything = comparison.load_runs(None, folder) if settings and any(Path(folder).glob("*.pickle")) else []
    for label, setting in settings.items():
        mine = {
            run.record["configuration"]["seed"]: run
            for run in everything
            if run.record and run.record.get("full_name") == setting.name and run.record["status"] != "interrupted"
        }
        if mine:
            found[label] = [mine[seed] for seed in sorted(mine)]
    return found


def best_losses(settings: Mapping[str, Setting], folder: str | Path = STUDY) -> dict[str, list[float]]:
    """Return the lowest validation loss of each of these runs, by label; NaN for a run that never had a finite one."""
    return {label: [run.best_loss for run in runs] for label, runs in runs_of(settings, folder).items()}


def figure_of(found: Mapping[str, Sequence[comparison.RunResult]]) -> Figure:
    """Plot what a question compares: validation loss over the epochs (mean over seeds), and the lowest loss of each run.

    Args:
        found: label -> runs, at least one; see `runs_of`.
    """
    figure, (curves, dots) = plt.subplots(1, 2, figsize=(10.4, 3.6), layout="constrained")
    for number, (label, runs) in enumerate(found.items()):
        by_epoch = list(itertools.zip_longest(*(run.series("val_loss") for run in runs), fillvalue=np.nan))
        mean = np.ma.masked_invalid(by_epoch).mean(axis=1)  # over the seeds that have one
        style = {**curve_style(number), "markevery": max(1, len(mean) // 8)}
        curves.plot(np.arange(1, len(mean) + 1), mean, label=label, **style)
        best = [run.best_loss for run in runs]
        dots.plot([number] * len(best), best, color=style["color"], marker=style["marker"], linestyle="none")
        dots.plot([number - 0.25, number + 0.25], [np.mean(best)] * 2, color=style["color"])
    curves.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    curves.set(xlabel="epoch", ylabel="validation loss (nats per utterance)")
    curves.legend(fontsize=8)
    dots.set(ylabel="lowest validation loss (nats)", xlim=(-0.6, len(found) - 0.4))
    turned = {"rotation": 20, "ha": "right"} if len(found) > CROWDED else {}
    dots.set_xticks(range(len(found)), list(found), **turned)
    return figure
