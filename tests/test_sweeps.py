"""Sweeps on a real Ray cluster on this machine: a machine that vanishes loses nothing, a bad network stops nothing."""

import builtins
import json
import threading
import time

import pytest

import sweeps
from corpora import set_active_corpus
from model_builder import CNNConfig, RNNModel
from records import load_history
from study_claims import Setting


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    original = builtins.__import__

    def no_ray(name, *arguments, **options):
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_ray)
    with pytest.raises(RuntimeError, match=r"pip install -r requirements-sweep\.txt"):
        sweeps.sweep({"a": Setting(RNNModel())}, epochs=1)


def small(**options):
    return Setting(RNNModel(CNNConfig(filters=6, kernel_size=5), rnn_units=8, **options), "mfcc")


@pytest.fixture
def two_machines(monkeypatch):
    """A Ray cluster of two raylets with one core each, as two machines on one network would be."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    memory = {"num_cpus": 1, "object_store_memory": 100 * 1024**2, "memory": 3 * 1024**3}
    cluster = Cluster(initialize_head=True, head_node_args={**memory, "include_dashboard": False})
    second = cluster.add_node(**memory)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_loses_nothing_when_one_of_two_machines_is_killed(project, tiny_corpus, two_machines, capfd):
    cluster, second = two_machines
    set_active_corpus(tiny_corpus)
    folder = project / "results"
    settings = {
        "sum": small(bd_merge="sum"),
        "bad": Setting(
            RNNModel(CNNConfig(filters=4, kernel_size=3, conv_stride=30, cnn_layers=2), rnn_units=4), "mfcc"
        ),
        "mul": small(bd_merge="mul"),
        "concat": small(),
    }
    epochs = 6

    def kill_the_second_machine_in_the_middle():
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:  # both machines are at work once two runs have finished an epoch
            if len(list(folder.glob("*.pickle"))) >= 2:
                break
            time.sleep(0.1)
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill_the_second_machine_in_the_middle)
    killer.start()
    try:
        failures = sweeps.sweep(
            settings, epochs, folder=folder, minibatch_size=8, address=cluster.address, memory_per_trial=1e9
        )
    finally:
        killer.join()
        set_active_corpus(None)

    assert [failure.split(" ")[0] for failure in failures] == ["bad"]
    assert "transcript" in failures[0]
    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert sorted(record["full_name"] for record in records) == sorted(
        settings[label].name for label in ("sum", "mul", "concat")
    )
    for record in records:
        assert record["status"] == "finished"
        assert len(load_history(folder / f"{record['name']}.pickle")["loss"]) == epochs
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert {line["name"] for line in lines} == {record["name"] for record in records}
    out = capfd.readouterr().out
    assert "started again" in out and "bad (seed 0): failed" in out
