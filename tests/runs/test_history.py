"""Histories: what is written comes back, what is hostile or damaged is refused and not executed."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from vuilab.runs.history import load_history, save_history


def test_history_comes_back_as_plain_lists_of_numbers(tmp_path):
    path = tmp_path / "new folder" / "model_0.pickle"
    save_history(path, {"loss": [np.float32(1.5), 2, float("nan")], "val_cer": np.array([0.25])})
    history = load_history(path)
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
        load_history(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [[1.0], {"loss": 1.0}, {"loss": ["1"]}, {1: [1.0]}, {"loss": [[1.0]]}], ids=str)
def test_pickle_of_other_plain_data_is_refused(content, tmp_path):
    path = tmp_path / "model_0.pickle"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"holds a {type(content).__name__}; expected a dict of lists of numbers"):
        load_history(path)


def test_missing_history_is_named_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No history at .*none\.pickle\. Train the model first"):
        load_history(tmp_path / "none.pickle")
