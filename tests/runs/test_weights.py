"""Weights: what is written comes back, what is hostile or damaged is refused and not executed."""

import json
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from sample_models import cnn_rnn_model, deep_rnn_model, rnn_model, simple_rnn_model
from vuilab.files import repository
from vuilab.runs.record import _hash, has_fingerprint
from vuilab.runs.weights import load_model, load_weights, save_weights
from vuilab.runs.weights_file import METADATA_KEY, read_metadata

SUFFIXES = [".h5", ".weights.h5", ".keras"]
METADATA = {"features": {"kind": "mfcc", "mfcc_dim": 5}, "mean": [0.5] * 5, "train_speakers": ["a"], "text": "é ␣"}


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return cnn_rnn_model(5, 3, 4, 2, "valid", 4)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 20, 5)).astype(np.float32)


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
    save_weights(model, path, METADATA)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    keras.utils.set_random_seed(5)
    again = cnn_rnn_model(5, 3, 4, 2, "valid", 4)
    assert not np.allclose(again.predict_on_batch(features), expected)
    again.load_weights(path)
    np.testing.assert_array_equal(again.predict_on_batch(features), expected)
    assert {key: read_metadata(path)[key] for key in METADATA} == METADATA


@pytest.mark.contract
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_model_is_built_from_its_weights_file_alone(suffix, tmp_path, model, features):
    path = tmp_path / f"model_2{suffix}"
    save_weights(_disturb(model), path, METADATA)
    expected = model.predict_on_batch(features)
    built, metadata = load_model(path)
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
    save_weights(model, path)
    target = _disturb(other())
    before = target.get_weights()
    with pytest.raises(
        ValueError, match=rf"holds weights of another architecture than the model '{target.name}' \([\d,]+ parameters\)"
    ):
        load_weights(target, path)
    for old, new in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_unknown_suffix_is_refused_before_anything_is_written(tmp_path, model):
    for name in ("model.pt", "model", "model.hdf5"):
        with pytest.raises(
            ValueError, match=rf"ends in one of \('\.weights\.h5', '\.h5', '\.keras'\)\. Received: '{name}'"
        ):
            save_weights(model, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failed_write_leaves_nothing_and_keeps_what_was_there(suffix, tmp_path, model, monkeypatch):
    path = tmp_path / f"model_2{suffix}"
    save_weights(model, path, METADATA)
    before = path.read_bytes()

    def disk_full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", disk_full)
    monkeypatch.setattr(zipfile.ZipFile, "writestr", disk_full)
    for target in (path, tmp_path / f"new{suffix}"):
        with pytest.raises(OSError, match="No space left"):
            save_weights(model, target, METADATA)
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
                archive.writestr(name, text if name == f"{METADATA_KEY}.json" else data)
        return
    with h5py.File(path, "a") as file:
        del file[METADATA_KEY]
        file.create_dataset(METADATA_KEY, data=text)


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
    save_weights(model, path)
    _replace_metadata(path, json.dumps(_with_layer(read_metadata(path), **FOREIGN[name])))
    with pytest.raises(
        ValueError, match=r"The architecture in .* names .*, which is neither a layer of Keras nor of this"
    ):
        load_model(path)
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
    save_weights(model, path)
    _replace_metadata(path, text)
    with pytest.raises(ValueError, match=rf"model{suffix}"):
        load_model(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_weights_file_is_named_whatever_the_damage(suffix, tmp_path, model):
    path = tmp_path / f"model{suffix}"
    save_weights(model, path)
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
            load_model(path)  # damage within the numbers cannot be seen
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused >= 4
    with pytest.raises(
        FileNotFoundError, match=r"No weights at .*none.*Train a model first: python vui\.py train MODEL"
    ):
        load_model(tmp_path / f"none{suffix}")


def test_plain_keras_weights_are_told_from_ours(tmp_path, model):
    model.save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(
        ValueError, match=r"is not a weights file of this project .*load plain Keras weights with model"
    ):
        load_model(tmp_path / "plain.weights.h5")


@pytest.mark.parametrize("path", sorted((repository() / "results").rglob("*.h5")), ids=lambda path: path.name)
def test_committed_weights_load_and_their_architecture_has_the_hash_of_version_0_1(path):
    model, metadata = load_model(path)
    assert model.count_params() > 10_000 and len(metadata["mean"]) == len(metadata["std"])
    stored = metadata["architecture"]
    assert has_fingerprint({"fingerprint": _hash(stored)}, stored)  # the table of old modules is complete
