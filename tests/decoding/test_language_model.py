"""Language models as files: the same probabilities come back, and what is no model is refused."""

import numpy as np
import pytest

from vuilab.decoding.kneser_ney import train_ngram
from vuilab.decoding.language_model import load_language_model, save_language_model

TEXT = ["a b c a b", "a b d", "c a b", "d a", "a b c"]


@pytest.mark.parametrize("suffix", [".npz", ".arpa", ".arpa.gz"])
def test_files_of_models_of_characters_give_the_same_probabilities_back(suffix, tmp_path):
    model = train_ngram(TEXT, 8, (0, 0, 0, 1), characters=True)
    save_language_model(model, tmp_path / f"model{suffix}")
    again = load_language_model(tmp_path / f"model{suffix}")
    assert again.of_characters
    for sentence in [*TEXT, "d d c"]:
        assert again.sentence_scores(sentence) == pytest.approx(model.sentence_scores(sentence), abs=2e-5)


@pytest.mark.parametrize("suffix", [".npz", ".arpa", ".arpa.gz"])
def test_files_give_the_same_probabilities_back(suffix, tmp_path):
    model = train_ngram(TEXT, 3, (0, 0, 1))
    path = tmp_path / f"model{suffix}"
    save_language_model(model, path)
    again = load_language_model(path)
    assert again.num_ngrams == model.num_ngrams and set(again.words) == set(model.words)
    for sentence in [*TEXT, "a b", "c c c", "b zebra a"]:
        assert again.sentence_scores(sentence) == pytest.approx(model.sentence_scores(sentence), abs=2e-5)
    assert len(again.sentence_hashes) == (len(TEXT) if suffix == ".npz" else 0)
    assert again.window_hashes.tolist() == (model.window_hashes.tolist() if suffix == ".npz" else [])


def test_what_is_no_language_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vui\.py lm train"):
        load_language_model(tmp_path / "none.npz")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"ends in \.npz, \.arpa or \.arpa\.gz"):
        load_language_model(tmp_path / "text.txt")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ValueError, match="no language model of this project"):
        load_language_model(tmp_path / "cut.npz")
    model = train_ngram(TEXT, 2)
    wild = {name: getattr(model, name) for name in ("level_starts", "word", "first_child", "log_prob", "backoff")}
    wild["first_child"] = wild["first_child"] + 1000  # compiled code would read outside the array
    words = np.frombuffer("\n".join(model.words).encode(), np.uint8)
    empty = np.empty(0, np.uint64)
    np.savez(tmp_path / "wild.npz", format=1, order=2, words=words, suffix=model.suffix, sentence_hashes=empty, **wild)
    with pytest.raises(ValueError, match="do not fit together"):
        load_language_model(tmp_path / "wild.npz")
