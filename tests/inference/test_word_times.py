"""When each word of a corpus is spoken: found by a model, moved to where it is quiet, and good enough to splice."""

import dataclasses

import numpy as np
import pytest

from vuilab.audio import read_audio
from vuilab.corpus.manifest import MANIFESTS, read_manifest, write_manifest
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.inference.word_times import add_word_times, measure_delay, settle

RATE = 100  # frames per second


@pytest.fixture(scope="module")
def aligner(tmp_path_factory):
    """Weights of a small length-aware network that was never trained."""
    from sample_models import build
    from vuilab.runs.weights import save_weights

    model = build("residual_birnn", 80, filters=8, units=8, recur_layers=1, dilations=(1,), print_summary=False)
    path = tmp_path_factory.mktemp("aligner") / "aligner.h5"
    settings = dataclasses.asdict(FeatureSettings("logmel"))
    save_weights(model, path, {"features": settings, "mean": [0.0] * 80, "std": [1.0] * 80})
    return path


def test_word_times_are_added_to_training_and_suffice_for_splicing(tiny_corpus, aligner, tmp_path):
    plain = tmp_path / "plain"  # the corpus without the times that the demo has
    plain.mkdir()
    for name in MANIFESTS.values():
        items = read_manifest(tiny_corpus / name)
        write_manifest(plain / name, [dataclasses.replace(item, extra={}) for item in items])
    report = add_word_times(plain, tmp_path / "timed", aligner)
    before, after = (read_manifest(folder / MANIFESTS["train"]) for folder in (plain, tmp_path / "timed"))
    assert [item.path for item in before] == [item.path for item in after] and not report.left_out
    assert f"{report.num_words} words of {len(before)} training utterances" in str(report)
    for item in after:
        starts, ends = np.array([word[1:] for word in item.extra["words"]]).T
        assert np.all(np.diff(starts) >= 0) and np.all(ends >= starts) and ends[-1] <= item.duration and starts[0] >= 0
    for split in ("validation", "test"):
        assert read_manifest(tmp_path / "timed" / MANIFESTS[split]) == read_manifest(plain / MANIFESTS[split])
    batches = BatchGenerator(FeatureSettings("logmel"), DataOptions(splice=1.0))
    batches.load_train_data(tmp_path / "timed" / MANIFESTS["train"])
    assert next(batches.next_train())
    write_manifest(
        tmp_path / "timed" / MANIFESTS["train"], [dataclasses.replace(after[0], extra=after[1].extra), *after[1:]]
    )
    with pytest.raises(ValueError, match=r"1 recordings of .* were replaced since the times of their words were found"):
        batches.load_train_data(tmp_path / "timed" / MANIFESTS["train"])


def test_word_times_do_not_replace_the_corpus_they_are_for(tiny_corpus, aligner):
    with pytest.raises(ValueError, match=r"Choose another --out"):
        add_word_times(tiny_corpus, tiny_corpus, aligner)
    with pytest.raises(FileNotFoundError, match=r"train_corpus\.json"):
        add_word_times(tiny_corpus.parent / "nowhere", tiny_corpus.parent / "new", aligner)
    assert not (tiny_corpus.parent / "new").exists()


@pytest.fixture(scope="module")
def spoken(tiny_corpus):
    """Times of words as the synthesiser tells them, and the loudness of the recordings."""
    times, loudness, settings = [], [], FeatureSettings("logmel")
    for split in ("train", "validation"):
        for item in read_manifest(tiny_corpus / MANIFESTS[split]):
            features = settings.extract(read_audio(item.path))
            times.append(np.array([word[1:] for word in item.extra["words"]]))
            loudness.append(((features - features.mean(0)) / features.std(0)).mean(axis=1))
    return times, loudness


@pytest.mark.parametrize("bias", [-0.06, 0.0, 0.05])
def test_a_model_that_answers_early_or_late_is_found_out_and_its_boundaries_are_put_right(spoken, bias):
    truth, loudness = spoken
    rng = np.random.default_rng(0)
    told = []
    for times in truth:
        wrong = times + bias
        wrong[:-1, 1] = wrong[1:, 0] = wrong[1:, 0] + rng.normal(0, 0.03, len(times) - 1)
        told.append(wrong)
    delay = measure_delay(told, loudness, RATE)
    assert delay == pytest.approx(-bias, abs=0.025)

    def median_error(found):
        return np.median(np.concatenate([np.abs(a[1:, 0] - b[1:, 0]) for a, b in zip(found, truth, strict=True)]))

    moved = [times + delay for times in told]
    settled = [settle(times, rows, RATE) for times, rows in zip(moved, loudness, strict=True)]
    assert median_error(settled) < median_error(moved) < 0.03
    for times, rows in zip(settled, loudness, strict=True):
        assert np.all(np.diff(times.ravel()) >= 0) and times.min() >= 0 and times.max() <= len(rows) / RATE


def test_where_no_shift_is_quiet_nothing_is_moved():
    rising = [np.linspace(-1, 1, 300)]
    assert measure_delay([np.array([[0.5, 1.0], [1.0, 1.6], [1.6, 2.0]])], rising, RATE) == 0
