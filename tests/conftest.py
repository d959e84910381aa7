"""Fixtures that several test modules share."""

import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import soundfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# JAX compiles each new model; tests build the same ones again and again
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".cache" / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
matplotlib.use("agg")


ALLOWED_SKIPS: dict[str, str] = {  # test id -> why it may be skipped; any other skip is a failure
    f"tests/{test}": "where there is no Chromium with its chromedriver"
    for test in (
        "exploration/test_cloud.py::test_the_page_turns_in_a_browser_and_no_name_takes_it_over",
        "inference/test_microphone.py::test_browser_records_the_microphone",
        "inference/test_microphone.py::test_browser_says_why_it_does_not_record[no microphone]",
        "inference/test_microphone.py::test_browser_says_why_it_does_not_record[not allowed]",
        "inference/test_microphone.py::test_browser_sends_a_chosen_recording_instead",
        "inference/test_microphone.py::test_browser_stops_by_itself_at_the_longest_recording",
    )
}


LONG = ("tests/test_notebooks", "tests/training", "tests/study", "tests/models", "tests/keywords", "tests/inference")


def pytest_collection_modifyitems(items):
    """Begin with what takes longest, so that no worker is left with it alone at the end."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONG) if item.nodeid.startswith(name)), len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skip that nobody has allowed into a failure, so that no test goes quiet unnoticed."""
    report = yield
    if report.skipped and item.nodeid not in ALLOWED_SKIPS:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped and does not stand in ALLOWED_SKIPS: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _seed():
    """Every test draws the same weights in every run: none passes by luck, none fails by it."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory) -> Path:
    """A demo corpus of 60 utterances, made once for all tests; treat it as read-only."""
    from vuilab.corpus.demo import make_demo

    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    make_demo(folder, scale="tiny", workers=0, progress=False)
    return folder


@pytest.fixture(scope="session")
def spoken_words(tmp_path_factory) -> Path:
    """A corpus of 72 clips of four words in the layout of Speech Commands, made once for all tests; treat it as read-only."""
    from vuilab.keywords.fetch import make_word_demo

    folder = tmp_path_factory.mktemp("corpora") / "words"
    make_word_demo(folder, ("bed", "cat", "happy", "no"), scale="tiny", progress=False)
    return folder


@pytest.fixture(scope="session")
def noises(tmp_path_factory) -> Path:
    """Clips of three colours of noise by thirty speakers each, in the layout of Speech Commands; treat it as read-only."""
    from vuilab.augment import NOISES

    folder = tmp_path_factory.mktemp("noises")
    for number, word in enumerate(("brown", "violet", "white")):
        (folder / word).mkdir()
        for speaker in range(30):
            samples = 0.1 * NOISES[word](16_000, np.random.default_rng([number, speaker]))
            soundfile.write(folder / word / f"speaker{speaker}_nohash_0.wav", samples.clip(-1, 1), 16_000)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_corpus) -> Path:
    """An empty working folder in which the active corpus is the tiny one; results go to its `results/`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VUI_CORPUS", str(tiny_corpus))
    return tmp_path


@pytest.fixture
def make_corpus(tmp_path):
    """A function that writes a small corpus of noise: make_corpus({"train": [("a b", 1.0), ...]}) -> folder."""
    from vuilab.corpus.manifest import MANIFESTS, Utterance, write_manifest

    def make(splits: dict[str, list[tuple[str, float]]], name: str = "corpus") -> Path:
        folder = tmp_path / name
        rng = np.random.default_rng(0)
        for split, items in splits.items():
            utterances = []
            for number, (text, seconds) in enumerate(items):
                path = folder / split / f"{split}-{number}.flac"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, rng.normal(0, 0.1, int(seconds * 16_000)).clip(-1, 1), 16_000)
                utterances.append(Utterance(path, seconds, text, f"speaker-{split}"))
            write_manifest(folder / MANIFESTS[split], utterances)
        return folder

    return make


@pytest.fixture
def without_compiling(request):
    """Run without compiling, which takes most of the time of tiny runs; contract tests run as users do."""
    import keras

    if keras.backend.backend() != "tensorflow" or request.node.get_closest_marker("contract"):
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def use_corpus(make_corpus, tmp_path, monkeypatch):
    """A function that makes clips of noise the active corpus of an empty working folder."""

    def use(train: list[tuple[str, float]], validation: list[tuple[str, float]]) -> Path:
        folder = make_corpus({"train": train, "validation": validation})
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("VUI_CORPUS", str(folder))
        from vuilab.corpus.manifest import set_active_corpus

        set_active_corpus(None)
        return folder

    return use


@pytest.fixture
def corpus(use_corpus) -> Path:
    """Ten training clips of 0.4 or 0.5 s, four for validation."""
    from tiny_training import TEXTS

    train = [(text, 0.4 if number % 2 else 0.5) for number, text in enumerate(TEXTS)]
    return use_corpus(train, [(text, 0.4) for text in TEXTS[:4]])


@pytest.fixture
def even_corpus(use_corpus) -> Path:
    """Eight training and four validation clips of 0.4 s, for which a compiler makes one program."""
    from tiny_training import TEXTS

    return use_corpus([(text, 0.4) for text in TEXTS[:8]], [(text, 0.4) for text in TEXTS[:4]])


@pytest.fixture
def server(monkeypatch):
    """A web server on the loopback interface that can be told to misbehave."""
    from loopback import Server

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_corpus) -> Path:
    """A working folder with a model that the command line trained; treat it as read-only."""
    from tiny_training import TRAIN

    import vui
    from vuilab.corpus.manifest import set_active_corpus

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert vui.main([*TRAIN.split(), "--corpus", str(tiny_corpus)]) == 0
    set_active_corpus(None)
    return folder


@pytest.fixture
def weights(trained) -> str:
    return str(trained / "results" / "tiny.h5")


@pytest.fixture
def clip(tiny_corpus) -> str:
    from vuilab.corpus.manifest import MANIFESTS, read_manifest

    return str(read_manifest(tiny_corpus / MANIFESTS["test"])[0].path)
