"""Language models as files: the project's own compact format, and ARPA for other tools.

`decoding/ngram.py` has the model itself, `decoding/kneser_ney.py` the estimation, `decoding/arpa.py` the text format.
"""

import dataclasses
import gzip
from pathlib import Path

import numpy as np

from vuilab.decoding.arpa import arpa_lines, read_arpa
from vuilab.decoding.ngram import SPECIAL, NGramModel
from vuilab.files import atomic_path

FORMAT = 1  # of .npz files


def save_language_model(model: NGramModel, path: str | Path) -> None:
    """Write a model: `.npz` (compact, with the sentence hashes), `.arpa` or `.arpa.gz` (for other tools).

    Raises:
        ValueError: for another suffix.
    """
    path = Path(path)
    kind = _kind(path)
    with atomic_path(path) as partial:
        if kind == "npz":
            arrays = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
            arrays["words"] = np.frombuffer("\n".join(model.words).encode(), np.uint8)
            with partial.open("wb") as file:
                np.savez_compressed(file, format=FORMAT, **arrays)
        else:
            opener = gzip.open if kind == "gz" else open
            with opener(partial, "wt", encoding="utf-8") as file:
                file.writelines(arpa_lines(model))


def load_language_model(path: str | Path) -> NGramModel:
    """Read a model that `save_language_model` wrote, or an ARPA file (plain or gzipped) of another tool.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no language model; of a broken ARPA file the line is named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No language model at {path}. Make one: python vui.py lm train TEXT... --out {path}")
    if _kind(path) == "npz":
        return _load_npz(path)
    return read_arpa(path)


def _kind(path: Path) -> str:
    for suffix, kind in ((".npz", "npz"), (".arpa", "arpa"), (".arpa.gz", "gz")):
        if path.name.endswith(suffix):
            return kind
    raise ValueError(f"A language model's file ends in .npz, .arpa or .arpa.gz. Received: {path.name!r}")


def _load_npz(path: Path) -> NGramModel:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if int(arrays.pop("format")) != FORMAT:
            raise ValueError("it has another format")
        words = arrays.pop("words").tobytes().decode().split("\n")
        model = NGramModel(order=int(arrays.pop("order")), words=words, **arrays)
        _require_sound(model)
    except Exception as error:  # a damaged archive can raise almost anything
        raise ValueError(
            f"{path} is no language model of this project ({error}). Make it again: vui.py lm train"
        ) from error
    return model


def _require_sound(model: NGramModel) -> None:
    """Make sure that indices stay within the arrays: compiled code does not look."""
    num_nodes = len(model.word)
    lengths = {len(array) for array in (model.log_prob, model.backoff, model.suffix)}
    sound = (
        lengths == {num_nodes}
        and len(model.first_child) == num_nodes + 1
        and tuple(model.words[:3]) == SPECIAL
        and model.first_child[0] == 1
        and (np.diff(model.first_child) >= 0).all()
        and model.first_child[-1] == num_nodes
        and model.first_child[1] == 1 + len(model.words)
        and (model.word[1 : 1 + len(model.words)] == np.arange(len(model.words))).all()
        and ((model.suffix >= 0) & (model.suffix < np.maximum(1, np.arange(num_nodes)))).all()
    )
    if not sound:
        raise ValueError("its arrays do not fit together")
