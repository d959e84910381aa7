"""Many runs of the study at once, on this machine or on a cluster, with Ray Tune.

Every trial is a `runs.train_setting` call in a process of its own and leaves its files in the same folder and ledger as a run
made by hand. A trial whose process or machine dies is started again and goes on from its checkpoint; a configuration that
cannot be trained is reported and does not stop the others. On a cluster the project, the corpus and the results stand on a
file system that all machines share, under the same path.

Ray is not needed by anything else: `pip install -c constraints.txt -e '.[sweep]'`.
"""

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vuilab.corpus.manifest import active_corpus
from vuilab.files import repository
from vuilab.study.claims import Setting
from vuilab.study.runs import STUDY
from vuilab.training.options import TrainingOptions

TRIAL_MEMORY = 3e9  # bytes; what the networks of the study take at most, on a processor


def sweep(
    settings: Mapping[str, Setting],
    epochs: int,
    seeds: Sequence[int] = (0,),
    *,
    folder: str | Path = STUDY,
    minibatch_size: int = 32,
    address: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float = 0,
    memory_per_trial: float = TRIAL_MEMORY,
    retries: int = 3,
    options: TrainingOptions | None = None,
) -> list[str]:
    """Train everything that a question compares, as many trials at a time as fit; finished runs are loaded.

    Args:
        settings: label -> what is trained.
        epochs: passes over the training data.
        seeds: one run each.
        folder: for the files.
        minibatch_size: utterances per batch.
        address: of a Ray cluster, such as "10.0.0.1:6379" or "auto"; None: this machine.
        cpus_per_trial: cores of each trial.
        gpus_per_trial: GPUs of each trial; a fraction lets several share one.
        memory_per_trial: bytes of main memory that each trial is given.
        retries: how often a trial that died is started again.
        options: how they are trained apart from `epochs`.

    Returns:
        The labels whose runs failed, with the reason.

    Raises:
        RuntimeError: when Ray is not installed.
        ConnectionError: when there is no cluster at the address.
    """
    ray, tune = _require_ray()
    trials = [
        {
            "label": label,
            "setting": setting,
            "seed": seed,
            "minibatch_size": minibatch_size,
            "folder": str(Path(folder).resolve()),
            "corpus": str(active_corpus().resolve()),
            "options": dataclasses.replace(options or TrainingOptions(), epochs=epochs),
        }
        for seed in seeds
        for label, setting in settings.items()
    ]
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": _trial_environment(cpus_per_trial)},
        )
    scratch = Path(folder).resolve() / ".sweep"
    try:
        resources = {"cpu": cpus_per_trial, "gpu": gpus_per_trial, "memory": memory_per_trial}
        tuner = tune.Tuner(
            tune.with_resources(run_trial, resources),
            param_space={"trial": tune.grid_search(trials)},
            tune_config=tune.TuneConfig(reuse_actors=False),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(scratch),
                failure_config=tune.FailureConfig(max_failures=retries),
                callbacks=[_progress_callback(tune, len(trials))],
                verbose=0,
            ),
        )
        return _failures(trials, tuner.fit())
    finally:
        if started_here:
            ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def run_trial(config: dict[str, Any]) -> dict[str, Any]:
    """Train one network of a sweep, in a process that Ray started; goes on from its checkpoint when there is one."""
    trial = config["trial"]
    from vuilab.corpus.manifest import set_active_corpus
    from vuilab.study.runs import train_setting

    set_active_corpus(trial["corpus"])
    try:
        train_setting(trial["setting"], trial["seed"], trial["folder"], trial["minibatch_size"], trial["options"])
    except ValueError as error:  # trying again would not help
        return {"error": str(error)}
    return {"error": ""}


def _require_ray():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise RuntimeError(
            "A sweep over several processes or machines needs Ray: pip install -c constraints.txt -e '.[sweep]'. Without it, "
            "leave out --parallel and --address; the runs are then made one after the other."
        ) from error
    return ray, tune


def _trial_environment(cpus: float) -> dict[str, str]:
    """Return what a trial's process needs: the modules, the backend, and no more threads than it has cores."""
    threads = str(max(1, int(cpus)))
    environment = {
        "PYTHONPATH": os.pathsep.join([str(repository()), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "RAY_USAGE_STATS_ENABLED": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }
    for name in ("KERAS_BACKEND", "VUI_CACHE", "GLIBC_TUNABLES"):
        if os.environ.get(name):
            environment[name] = os.environ[name]
    return environment


def _progress_callback(tune, num_trials: int):
    """Return a Tune callback that prints a line for every trial that ends or is started again."""

    class Lines(tune.Callback):
        done = 0

        def on_trial_complete(self, iteration, trials, trial, **info):
            self.done += 1
            self.say(trial, "done" if not (trial.last_result or {}).get("error") else "failed")

        def on_trial_error(self, iteration, trials, trial, **info):
            self.say(trial, "died")

        def on_trial_recover(self, iteration, trials, trial, **info):
            self.say(trial, "died and is started again")

        def say(self, trial, what: str) -> None:
            chosen = trial.config["trial"]
            print(f"[{self.done} of {num_trials}] {chosen['label']} (seed {chosen['seed']}): {what}", flush=True)

    return Lines()


def _failures(trials: list[dict], results) -> list[str]:
    """Return a line for every trial that has no result."""
    failures = []
    for result in results:
        trial = (result.config or {}).get("trial", {})
        reason = str(result.error) if result.error else (result.metrics or {}).get("error", "")
        if reason:
            failures.append(f"{trial.get('label')} (seed {trial.get('seed')}): {reason.strip().splitlines()[-1]}")
    return failures
