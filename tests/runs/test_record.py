"""Records and the ledger: plain data, and fingerprints that outlive a move of the code."""

import hashlib
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from vuilab.files import repository
from vuilab.runs.history import load_history
from vuilab.runs.record import (
    append_to_ledger,
    environment,
    fingerprint,
    has_fingerprint,
    read_record,
    read_records,
    results_path,
    write_json,
)


def test_bare_names_go_under_results_and_paths_stay():
    assert results_path("model_0.h5") == Path("results/model_0.h5")
    assert results_path("elsewhere/model_0.h5") == Path("elsewhere/model_0.h5")
    assert results_path("/tmp/model_0.h5") == Path("/tmp/model_0.h5")


def test_record_and_ledger_hold_plain_json_without_nan(tmp_path):
    record = {
        "name": "model_0",
        "scores": {"loss": np.float32(1.5), "bad": float("nan")},
        "mean": np.arange(2),
        "n": np.int64(3),
    }
    write_json(tmp_path / "model_0.json", record)
    append_to_ledger(tmp_path, record)
    append_to_ledger(tmp_path, record | {"name": "model_1"})
    expected = {"name": "model_0", "scores": {"loss": 1.5, "bad": None}, "mean": [0, 1], "n": 3}
    assert json.loads((tmp_path / "model_0.json").read_text()) == expected == read_record(tmp_path / "model_0.json")
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["model_0", "model_1"]


def test_files_that_are_no_records_are_passed_over_in_a_folder_and_named_when_asked_for(tmp_path):
    write_json(tmp_path / "model_0.json", {"name": "model_0"})
    (tmp_path / "damaged.json").write_text('{"name": "x"')
    (tmp_path / "other.json").write_text("[1, 2]")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    assert [record["name"] for record in read_records(tmp_path)] == ["model_0"]
    for name in ("damaged", "binary", "other"):
        with pytest.raises(ValueError, match=rf"{name}\.json is no run record"):
            read_record(tmp_path / f"{name}.json")


def test_environment_names_commit_versions_and_machine():
    found = environment()
    assert found["versions"]["keras"] == keras.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["backend"] == keras.backend.backend()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["commit"] == "unknown" or len(found["commit"]) == 40
    assert found["machine"]["cores"] >= 1


def test_fingerprint_ignores_counters_of_automatic_names_and_nothing_else():
    first, second = ({"layers": [{"name": f"dense_{number}", "units": 200}]} for number in (1, 7))
    assert fingerprint(first) == fingerprint(second)
    second["layers"][0]["units"] = 201
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_fingerprint_does_not_depend_on_the_module_of_our_layers():
    layers = [{"registered_name": "vui>GRU", "module": module, "config": {"units": 3}} for module in ("a", "b.c")]
    assert fingerprint({"layers": layers[:1]}) == fingerprint({"layers": layers[1:]})
    layers[1]["config"]["units"] = 4
    assert fingerprint({"layers": layers[:1]}) != fingerprint({"layers": layers[1:]})
    keras_own = [{"registered_name": None, "module": module} for module in ("keras.layers", "mine")]
    assert fingerprint(keras_own[0]) != fingerprint(keras_own[1])


def test_fingerprint_does_not_depend_on_the_features_that_a_model_brings():
    plain = {"registered_name": "vui>AcousticModel", "config": {"name": "net", "layers": []}}
    brings = {"registered_name": "vui>AcousticModel", "config": {**plain["config"], "features": {"kind": "logmel"}}}
    assert fingerprint({"architecture": plain}) == fingerprint({"architecture": brings})
    assert "features" in brings["config"]  # nothing is changed
    assert fingerprint({"features": {"kind": "logmel"}}) != fingerprint({"features": {"kind": "mfcc"}})


def test_fingerprints_of_version_0_1_are_still_recognised():
    layers = [
        {"registered_name": "vui>GRU", "module": module, "config": {"units": 3}} for module in ("moved.here", "x")
    ]
    old = '{"layers": {"config": {"units": 3}, "module": "recurrent_layers", "registered_name": "vui>GRU"}}'
    found = {"fingerprint": hashlib.sha256(old.encode()).hexdigest()[:16]}
    assert all(has_fingerprint(found, {"layers": layer}) for layer in layers)
    layers[0]["config"]["units"] = 4
    assert not has_fingerprint(found, {"layers": layers[0]})
    assert not has_fingerprint({}, {"layers": layers[1]})


COMMITTED = repository() / "results"


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in COMMITTED.rglob("*.json")}), ids=lambda path: path.name
)
def test_committed_records_and_histories_are_read(folder):
    found = [read_record(path) for path in folder.glob("*.json")]
    assert all(record["fingerprint"] and record["commit"] for record in found if "status" in record)
    for history in folder.glob("*.pickle"):
        assert len(load_history(history)["loss"]) >= 1
