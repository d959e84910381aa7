"""Many runs of the study at once, on this machine or on a cluster, with Ray.

Every trial is a `runs.train_setting` call in a process of its own and leaves its files in the same folder and ledger as a run
made by hand. A trial whose process or machine dies is started again and goes on from its checkpoint; a configuration that
cannot be trained is reported and does not stop the others. On a cluster the project, the corpus and the results stand on a
file system that all machines share, under the same path.

Ray is not needed by anything else: `pip install -c constraints.txt -e '.[sweep]'`.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vuilab.corpus.manifest import active_corpus, set_active_corpus
from vuilab.files import repository
from vuilab.study.claims import Setting
from vuilab.study.runs import STUDY, train_setting
from vuilab.training.options import TrainingOptions


@dataclasses.dataclass(frozen=True)
class Workers:
    """Where trials run, and what each of them is given."""

    address: str | None = None  # of a Ray cluster, such as "10.0.0.1:6379" or "auto"; None: this machine
    cpus: float = 1  # cores of each trial
    gpus: float = 0  # of each trial; a fraction lets several share one
    memory: float = 3e9  # bytes; what the networks of the study take at most, on a processor
    retries: int = 3  # how often a trial that died is started again


def sweep(
    settings: Mapping[str, Setting],
    epochs: int,
    seeds: Sequence[int] = (0,),
    *,
    workers: Workers = Workers(),
    folder: str | Path = STUDY,
    minibatch_size: int = 32,
    options: TrainingOptions | None = None,
) -> list[str]:
    """Train everything that a question compares, as many trials at a time as fit; finished runs are loaded.

    The arguments, beside the workers, and what is returned are those of `runs.train_settings`.

    Raises:
        RuntimeError: when Ray is not installed.
        ConnectionError: when there is no cluster at the address.
    """
    ray = _require_ray()
    shared = {
        "minibatch_size": minibatch_size,
        "folder": str(Path(folder).resolve()),
        "corpus": str(active_corpus().resolve()),
        "options": dataclasses.replace(options or TrainingOptions(), epochs=epochs),
    }
    trials = [
        {"label": label, "setting": setting, "seed": seed, **shared}
        for seed in seeds
        for label, setting in settings.items()
    ]
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(
            address=workers.address or "local",
            include_dashboard=None if workers.address else False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": _trial_environment(workers.cpus)},
        )
    try:
        return _run_all(ray, trials, workers)
    finally:
        if started_here:
            ray.shutdown()


def _run_all(ray, trials: list[dict[str, Any]], workers: Workers) -> list[str]:
    """Run trials, print a line for each that ends or is started again, and return one for each that failed.

    Trials are started again here and not by Ray, which says nothing of it and tries for ever when memory ran out.
    """
    resources = {"num_cpus": workers.cpus, "num_gpus": workers.gpus, "memory": workers.memory}
    task = ray.remote(max_calls=1, max_retries=0, **resources)(run_trial)
    waiting = {task.remote(trial): (trial, workers.retries) for trial in trials}
    failures: list[str] = []
    while waiting:
        [ended], _ = ray.wait(list(waiting))
        trial, retries = waiting.pop(ended)
        title = f"{trial['label']} (seed {trial['seed']})"
        try:
            reason = ray.get(ended)
        except ray.exceptions.RayError as error:
            if retries:
                waiting[task.remote(trial)] = (trial, retries - 1)
                print(f"{title}: died and is started again", flush=True)
                continue
            reason = str(error).strip().splitlines()[-1]
        if reason:
            failures.append(f"{title}: {reason}")
        done = len(trials) - len(waiting)
        print(f"[{done} of {len(trials)}] {title}: {'failed' if reason else 'done'}", flush=True)
    return failures


def run_trial(trial: dict[str, Any]) -> str:
    """Train one network of a sweep, in a process that Ray started; return why it cannot be trained, '' when it was."""
    set_active_corpus(trial["corpus"])
    try:
        train_setting(trial["setting"], trial["seed"], trial["folder"], trial["minibatch_size"], trial["options"])
    except ValueError as error:  # trying again would not help
        return str(error).strip().splitlines()[-1]
    return ""


def _require_ray():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise RuntimeError(
            "A sweep over several processes or machines needs Ray: pip install -c constraints.txt -e '.[sweep]'. Without it, "
            "leave out --parallel and --address; the runs are then made one after the other."
        ) from error
    return ray


def _trial_environment(cpus: float) -> dict[str, str]:
    """Return what a trial's process needs: the modules, the backend, and no more threads than it has cores."""
    threads = str(max(1, int(cpus)))
    path = os.pathsep.join([str(repository()), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        environment[name] = threads
    kept = {name: os.environ.get(name) for name in ("KERAS_BACKEND", "VUI_CACHE", "GLIBC_TUNABLES")}
    return environment | {name: value for name, value in kept.items() if value}
