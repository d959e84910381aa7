"""Histories, weights and records: what is written comes back, what is hostile or damaged is refused and not executed."""

import hashlib
import io
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from sample_models import cnn_rnn_model, deep_rnn_model, rnn_model, simple_rnn_model
from vuilab.files import repository
from vuilab.runs import records

SUFFIXES = [".h5", ".weights.h5", ".keras"]
METADATA = {"features": {"kind": "mfcc", "mfcc_dim": 5}, "mean": [0.5] * 5, "train_speakers": ["a"], "text": "é ␣"}


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return cnn_rnn_model(5, 3, 4, 2, "valid", 4)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 20, 5)).astype(np.float32)


# ------------------------------------------------------------------------------------------------ histories


def test_history_comes_back_as_plain_lists_of_numbers(tmp_path):
    path = tmp_path / "new folder" / "model_0.pickle"
    records.save_history(path, {"loss": [np.float32(1.5), 2, float("nan")], "val_cer": np.array([0.25])})
    history = records.load_history(path)
    assert history["loss"][:2] == [1.5, 2.0] and np.isnan(history["loss"][2])
    assert history["val_cer"] == [0.25]
    assert {type(value) for values in history.values() for value in values} == {float}
    assert pickle.loads(path.read_bytes()).keys() == {"loss", "val_cer"}  # noqa: S301 (our own file, as users read it)
    assert [item.name for item in path.parent.iterdir()] == ["model_0.pickle"]


class _Call:
    """Pickles as the call of a function, as the classic attack does."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class _PickleWithOutsideObjects(pickle.Pickler):
    def persistent_id(self, item):
        return "outside" if item == 7.0 else None


def _with_persistent_id(_: Path) -> bytes:
    buffer = io.BytesIO()
    _PickleWithOutsideObjects(buffer).dump({"loss": [7.0]})
    return buffer.getvalue()


HOSTILE = {
    "os.system": lambda marker: pickle.dumps(_Call(os.system, f"touch {marker}")),
    "os.system, protocol 0": lambda marker: pickle.dumps(_Call(os.system, f"touch {marker}"), protocol=0),
    "inside a history": lambda marker: pickle.dumps({"loss": [1.0, _Call(os.mkdir, str(marker))]}),
    "eval": lambda marker: pickle.dumps({"loss": [_Call(eval, f"open({str(marker)!r}, 'w')")]}),
    "getattr": lambda marker: pickle.dumps(_Call(getattr, [], "append")),
    "class by old opcode": lambda marker: b"(S'touch " + str(marker).encode() + b"'\nios\nsystem\n.",
    "numpy scalar": lambda marker: pickle.dumps({"loss": [np.float64(1.0)]}),
    "persistent id": _with_persistent_id,
    "truncated": lambda marker: pickle.dumps({"loss": [1.0] * 50})[:40],
    "empty": lambda marker: b"",
    "text": lambda marker: b"loss,val_loss\n1,2\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_pickle_that_is_no_plain_history_is_refused_and_nothing_executed(name, tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "model_0.pickle"
    path.write_bytes(HOSTILE[name](marker))
    with pytest.raises(ValueError, match=r"model_0\.pickle is not a plain history .*Expected a pickled dict of lists"):
        records.load_history(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [[1.0], {"loss": 1.0}, {"loss": ["1"]}, {1: [1.0]}, {"loss": [[1.0]]}], ids=str)
def test_pickle_of_other_plain_data_is_refused(content, tmp_path):
    path = tmp_path / "model_0.pickle"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"holds a {type(content).__name__}; expected a dict of lists of numbers"):
        records.load_history(path)


def test_missing_history_is_named_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No history at .*none\.pickle\. Train the model first"):
        records.load_history(tmp_path / "none.pickle")


def test_bare_names_go_under_results_and_paths_stay():
    assert records.results_path("model_0.h5") == Path("results/model_0.h5")
    assert records.results_path("elsewhere/model_0.h5") == Path("elsewhere/model_0.h5")
    assert records.results_path("/tmp/model_0.h5") == Path("/tmp/model_0.h5")


# -------------------------------------------------------------------------------------------------- weights


def _disturb(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(9)
    model.set_weights([rng.uniform(0.1, 1, weight.shape) for weight in model.get_weights()])
    return model


@pytest.mark.contract
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_load_under_the_very_name_they_were_written_under(suffix, tmp_path, model, features):
    path = tmp_path / f"model_2{suffix}"
    _disturb(model)  # also the batch statistics
    expected = model.predict_on_batch(features)
    records.save_weights(model, path, METADATA)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    keras.utils.set_random_seed(5)
    again = cnn_rnn_model(5, 3, 4, 2, "valid", 4)
    assert not np.allclose(again.predict_on_batch(features), expected)
    again.load_weights(path)
    np.testing.assert_array_equal(again.predict_on_batch(features), expected)
    assert {key: records.read_metadata(path)[key] for key in METADATA} == METADATA


@pytest.mark.contract
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_model_is_built_from_its_weights_file_alone(suffix, tmp_path, model, features):
    path = tmp_path / f"model_2{suffix}"
    records.save_weights(_disturb(model), path, METADATA)
    expected = model.predict_on_batch(features)
    built, metadata = records.load_model(path)
    np.testing.assert_array_equal(built.predict_on_batch(features), expected)
    assert type(built) is type(model) and built.name == model.name
    assert built.output_length(20) == expected.shape[1]
    assert metadata["train_speakers"] == ["a"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "other",
    [
        lambda: cnn_rnn_model(5, 3, 4, 2, "valid", 5),
        lambda: cnn_rnn_model(5, 3, 4, 2, "valid", 4, cell="gru"),
        lambda: rnn_model(5, 4),
        lambda: simple_rnn_model(5),
        lambda: deep_rnn_model(5, 4, 3),
    ],
    ids=["wider", "other cell", "fewer layers", "no dense layer", "deeper"],
)
def test_weights_of_another_architecture_are_refused_and_the_model_stays_as_it_was(suffix, other, tmp_path, model):
    path = tmp_path / f"model_2{suffix}"
    records.save_weights(model, path)
    target = _disturb(other())
    before = target.get_weights()
    with pytest.raises(
        ValueError, match=rf"holds weights of another architecture than the model '{target.name}' \([\d,]+ parameters\)"
    ):
        records.load_weights(target, path)
    for old, new in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_unknown_suffix_is_refused_before_anything_is_written(tmp_path, model):
    for name in ("model.pt", "model", "model.hdf5"):
        with pytest.raises(
            ValueError, match=rf"ends in one of \('\.weights\.h5', '\.h5', '\.keras'\)\. Received: '{name}'"
        ):
            records.save_weights(model, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failed_write_leaves_nothing_and_keeps_what_was_there(suffix, tmp_path, model, monkeypatch):
    path = tmp_path / f"model_2{suffix}"
    records.save_weights(model, path, METADATA)
    before = path.read_bytes()

    def disk_full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", disk_full)
    monkeypatch.setattr(zipfile.ZipFile, "writestr", disk_full)
    for target in (path, tmp_path / f"new{suffix}"):
        with pytest.raises(OSError, match="No space left"):
            records.save_weights(model, target, METADATA)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


# ------------------------------------------------------------------------------------ hostile and damaged weights


def _replace_metadata(path: Path, text: str) -> None:
    if path.suffix == ".keras":
        content = {}
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, text if name == f"{records.METADATA_KEY}.json" else data)
        return
    with h5py.File(path, "a") as file:
        del file[records.METADATA_KEY]
        file.create_dataset(records.METADATA_KEY, data=text)


def _with_layer(metadata: dict, **keys) -> dict:
    """Return the metadata with one layer of the architecture changed."""
    changed = json.loads(json.dumps(metadata))
    changed["architecture"]["config"]["layers"][1].update(keys)
    return changed


FOREIGN = {
    "foreign module": {"module": "hostile_module", "class_name": "Layer", "registered_name": None},
    "foreign module that claims to be ours": {
        "module": "hostile_module",
        "class_name": "Layer",
        "registered_name": "vui>X",
    },
    "foreign registered name": {"module": "hostile_module", "class_name": "Layer", "registered_name": "other>Layer"},
    "function": {"module": "hostile_module", "class_name": "function", "config": "run", "registered_name": "run"},
    "system call": {"module": "os", "class_name": "system", "registered_name": None},
    "module that only begins like Keras": {"module": "keras_hostile", "class_name": "Layer", "registered_name": None},
    "lambda layer": {"module": "keras.layers", "class_name": "Lambda", "registered_name": None},
    "saved graph": {"module": "keras.layers", "class_name": "TFSMLayer", "registered_name": None},
    "lambda deep inside": {
        "config": {"kernel_initializer": {"class_name": "__lambda__", "config": {"value": "4wEAAA=="}}},
    },
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", FOREIGN)
def test_architecture_with_foreign_code_is_refused_without_import(name, suffix, tmp_path, model, monkeypatch):
    marker = tmp_path / "executed"
    for module in ("hostile_module", "keras_hostile"):
        (tmp_path / f"{module}.py").write_text(f"open({str(marker)!r}, 'w').close()\nLayer = run = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / f"model{suffix}"
    records.save_weights(model, path)
    _replace_metadata(path, json.dumps(_with_layer(records.read_metadata(path), **FOREIGN[name])))
    with pytest.raises(
        ValueError, match=r"The architecture in .* names .*, which is neither a layer of Keras nor of this"
    ):
        records.load_model(path)
    assert not marker.exists()
    assert not {"hostile_module", "keras_hostile"} & set(sys.modules)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"architecture": null}',
        '{"architecture": {"class_name": "Dense", "module": "keras.layers"}}',
    ],
)
def test_metadata_that_describe_no_model_are_a_clear_error(text, suffix, tmp_path, model):
    path = tmp_path / f"model{suffix}"
    records.save_weights(model, path)
    _replace_metadata(path, text)
    with pytest.raises(ValueError, match=rf"model{suffix}"):
        records.load_model(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_weights_file_is_named_whatever_the_damage(suffix, tmp_path, model):
    path = tmp_path / f"model{suffix}"
    records.save_weights(model, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"no weights at all", whole[: len(whole) // 2], whole[:-1], whole[100:]]
    for _ in range(25):
        content = bytearray(whole)
        start = int(rng.integers(0, len(whole) - 64))
        content[start : start + 64] = rng.bytes(64)
        damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            records.load_model(path)  # damage within the numbers cannot be seen
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused >= 4
    with pytest.raises(
        FileNotFoundError, match=r"No weights at .*none.*Train a model first: python vui\.py train MODEL"
    ):
        records.load_model(tmp_path / f"none{suffix}")


def test_plain_keras_weights_are_told_from_ours(tmp_path, model):
    model.save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(
        ValueError, match=r"is not a weights file of this project .*load plain Keras weights with model"
    ):
        records.load_model(tmp_path / "plain.weights.h5")


# -------------------------------------------------------------------------------------------- records, ledger


def test_record_and_ledger_hold_plain_json_without_nan(tmp_path):
    record = {
        "name": "model_0",
        "scores": {"loss": np.float32(1.5), "bad": float("nan")},
        "mean": np.arange(2),
        "n": np.int64(3),
    }
    records.write_json(tmp_path / "model_0.json", record)
    records.append_to_ledger(tmp_path, record)
    records.append_to_ledger(tmp_path, record | {"name": "model_1"})
    expected = {"name": "model_0", "scores": {"loss": 1.5, "bad": None}, "mean": [0, 1], "n": 3}
    assert (
        json.loads((tmp_path / "model_0.json").read_text())
        == expected
        == records.read_record(tmp_path / "model_0.json")
    )
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["model_0", "model_1"]


def test_files_that_are_no_records_are_passed_over_in_a_folder_and_named_when_asked_for(tmp_path):
    records.write_json(tmp_path / "model_0.json", {"name": "model_0"})
    (tmp_path / "damaged.json").write_text('{"name": "x"')
    (tmp_path / "other.json").write_text("[1, 2]")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    assert [record["name"] for record in records.read_records(tmp_path)] == ["model_0"]
    for name in ("damaged", "binary", "other"):
        with pytest.raises(ValueError, match=rf"{name}\.json is no run record"):
            records.read_record(tmp_path / f"{name}.json")


def test_environment_names_commit_versions_and_machine():
    environment = records.environment()
    assert environment["versions"]["keras"] == keras.__version__
    assert environment["versions"]["numpy"] == np.__version__
    assert environment["backend"] == keras.backend.backend()
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["commit"] == "unknown" or len(environment["commit"]) == 40
    assert environment["machine"]["cores"] >= 1


def test_fingerprint_ignores_counters_of_automatic_names_and_nothing_else():
    first, second = ({"layers": [{"name": f"dense_{number}", "units": 200}]} for number in (1, 7))
    assert records.fingerprint(first) == records.fingerprint(second)
    second["layers"][0]["units"] = 201
    assert records.fingerprint(first) != records.fingerprint(second)
    assert records.fingerprint({"a": 1, "b": 2}) == records.fingerprint({"b": 2, "a": 1})


def test_fingerprint_does_not_depend_on_the_module_of_our_layers():
    layers = [{"registered_name": "vui>GRU", "module": module, "config": {"units": 3}} for module in ("a", "b.c")]
    assert records.fingerprint({"layers": layers[:1]}) == records.fingerprint({"layers": layers[1:]})
    layers[1]["config"]["units"] = 4
    assert records.fingerprint({"layers": layers[:1]}) != records.fingerprint({"layers": layers[1:]})
    keras_own = [{"registered_name": None, "module": module} for module in ("keras.layers", "mine")]
    assert records.fingerprint(keras_own[0]) != records.fingerprint(keras_own[1])


def test_fingerprints_of_version_0_1_are_still_recognised():
    layers = [
        {"registered_name": "vui>GRU", "module": module, "config": {"units": 3}} for module in ("moved.here", "x")
    ]
    old = '{"layers": {"config": {"units": 3}, "module": "recurrent_layers", "registered_name": "vui>GRU"}}'
    found = {"fingerprint": hashlib.sha256(old.encode()).hexdigest()[:16]}
    assert all(records.has_fingerprint(found, {"layers": layer}) for layer in layers)
    layers[0]["config"]["units"] = 4
    assert not records.has_fingerprint(found, {"layers": layers[0]})
    assert not records.has_fingerprint({}, {"layers": layers[1]})


COMMITTED = repository() / "results"


@pytest.mark.parametrize("path", sorted(COMMITTED.rglob("*.h5")), ids=lambda path: path.name)
def test_committed_weights_load_and_their_architecture_has_the_hash_of_version_0_1(path):
    model, metadata = records.load_model(path)
    assert model.count_params() > 10_000 and len(metadata["mean"]) == len(metadata["std"])
    stored = metadata["architecture"]
    assert records.has_fingerprint(
        {"fingerprint": records._hash(stored)}, stored
    )  # the table of old modules is complete


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in COMMITTED.rglob("*.json")}), ids=lambda path: path.name
)
def test_committed_records_and_histories_are_read(folder):
    found = [records.read_record(path) for path in folder.glob("*.json")]
    assert all(record["fingerprint"] and record["commit"] for record in found if "status" in record)
    for history in folder.glob("*.pickle"):
        assert len(records.load_history(history)["loss"]) >= 1
