"""What the tests of the command line share."""

import re
import shutil

import pytest

from vuilab.cli import main
from vuilab.corpus.manifest import MANIFESTS, set_active_corpus


@pytest.fixture(autouse=True)
def corpus_of_each_test_its_own():
    set_active_corpus(None)
    yield
    set_active_corpus(None)


@pytest.fixture
def language_model(project, capsys) -> str:
    """A bigram model of sentences that the tiny corpus does not hold."""
    (project / "book.txt").write_text(
        "She left the basket at the mill. Turn left at the door!\n\nHe was learning to read."
    )
    assert main.main(["lm", "train", "book.txt", "--order", "2", "--out", "lm.npz"]) == 0
    assert re.search(r"lm\.npz: 3 sentences, \d+ 1-grams, \d+ 2-grams \(0\.0 MB\)", capsys.readouterr().out)
    return "lm.npz"


@pytest.fixture
def released(language_model, tiny_corpus, trained, project, monkeypatch, capsys):
    """A project whose released weights were evaluated with a language model beside them."""
    from vuilab.inference import transcribe
    from vuilab.scoring import tuning

    folder = project / "results" / "released"
    folder.mkdir(parents=True)
    for suffix in (".h5", ".json"):
        shutil.copy(trained / "results" / f"tiny{suffix}", folder / f"recogniser{suffix}")
    shutil.copy(language_model, folder / "small.npz")
    monkeypatch.setattr(transcribe, "released_folder", lambda: folder)
    monkeypatch.setattr(tuning.tune, "__defaults__", (None, (0.7,), (3.0,), False))
    command = [
        "evaluate",
        str(tiny_corpus / MANIFESTS["test"]),
        "--lm",
        str(folder / "small.npz"),
        "--tune",
        "--record",
    ]
    assert main.main(command) == 0
    capsys.readouterr()
    return folder


@pytest.fixture
def phonetic(released, monkeypatch):
    """Released weights that know phonemes, untrained, with an evaluation of their own."""
    import keras

    from vuilab.models.residual_birnn import residual_birnn_model
    from vuilab.runs.weights import save_weights
    from vuilab.scoring import tuning

    keras.utils.set_random_seed(0)
    model = residual_birnn_model(units=4, filters=4, recur_layers=2, phoneme_heads=(1,), print_summary=False)
    save_weights(model, released / "recogniser.h5", {"features": {"kind": "logmel"}})
    monkeypatch.setattr(tuning.tune_sounds, "__defaults__", (((0.4,), (0.6,), (2.0,)),))
    return released
