"""Sweeps on a real Ray cluster on this machine: a machine that vanishes loses nothing, a bad network stops nothing."""

import builtins
import json
import os
import subprocess
import sys

import pytest

from vuilab.files import repository
from vuilab.models.builder import RNNModel
from vuilab.runs.history import load_history
from vuilab.study import sweep
from vuilab.study.claims import Setting

ROOT = repository()


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    original = builtins.__import__

    def no_ray(name, *arguments, **options):
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_ray)
    with pytest.raises(RuntimeError, match=r"pip install .*\[sweep\]"):
        sweep.sweep({"a": Setting(RNNModel())}, epochs=1)


RUN = """
import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from vuilab.corpus.manifest import set_active_corpus
from vuilab.models.builder import CNNConfig, RNNModel
from vuilab.runs.history import load_history
from vuilab.study import sweep
from vuilab.study.claims import Setting

set_active_corpus(sys.argv[1])
epochs = int(sys.argv[2])
folder = Path("results")
memory = {"num_cpus": 1, "object_store_memory": 100 * 1024**2, "memory": 3 * 1024**3}
cluster = Cluster(initialize_head=True, head_node_args={**memory, "include_dashboard": False})
second = cluster.add_node(**memory)  # a second machine, as far as Ray can tell


def small(**options):
    return Setting(RNNModel(CNNConfig(filters=6, kernel_size=5), rnn_units=8, **options), "mfcc")


settings = {  # the first two begin together, one on each machine
    "sum": small(bd_merge="sum"),
    "mul": small(bd_merge="mul"),
    "bad": Setting(RNNModel(CNNConfig(filters=4, kernel_size=3, conv_stride=30, cnn_layers=2), rnn_units=4), "mfcc"),
    "concat": small(),
}


def epochs_so_far():
    return [len(load_history(path)["loss"]) for path in folder.glob("[!.]*.pickle")]


def kill_the_second_machine_in_the_middle():
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and sum(num_epochs < epochs - 5 for num_epochs in epochs_so_far()) < 2:
        time.sleep(0.1)  # until two trials, one on each machine, have begun and have some way to go
    cluster.remove_node(second, allow_graceful=False)


killer = threading.Thread(target=kill_the_second_machine_in_the_middle)
killer.start()
failures = sweep.sweep(
    settings, epochs, workers=sweep.Workers(cluster.address, memory=1e9), folder=folder, minibatch_size=8
)
killer.join()
print(*(f"failure: {failure}" for failure in failures), sep="\\n")
print(*(f"expected: {settings[label].name}" for label in ("sum", "mul", "concat")), sep="\\n")
cluster.shutdown()
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_loses_nothing_when_one_of_two_machines_is_killed(project, tiny_corpus):
    epochs = 24  # enough for the second trial to begin before the first has ended
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["RAY_worker_niceness"] = "0"  # else workers wait for whatever else the machine does
    command = [sys.executable, "-c", RUN, str(tiny_corpus), str(epochs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    failures = [line for line in lines if line.startswith("failure: ")]
    assert len(failures) == 1 and failures[0].startswith("failure: bad (seed 0)") and "transcript" in failures[0]
    folder = project / "results"
    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    expected = [line.removeprefix("expected: ") for line in lines if line.startswith("expected: ")]
    assert sorted(record["full_name"] for record in records) == sorted(expected) and len(expected) == 3
    for record in records:
        assert record["status"] == "finished"
        assert len(load_history(folder / f"{record['name']}.pickle")["loss"]) == epochs
    ledger = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert {line["name"] for line in ledger} == {record["name"] for record in records}
    assert "started again" in done.stdout and "bad (seed 0): failed" in done.stdout
