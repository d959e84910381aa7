"""Batches: complete, in a known order, padded with zeros to few lengths, and right against the files."""

import json

import numpy as np
import pytest
import scipy.signal
import soundfile

from vuilab.alphabet import ALPHABET
from vuilab.augment import Augmentation
from vuilab.corpus.manifest import Utterance, write_manifest
from vuilab.data import generator as data_generator
from vuilab.data.feature_cache import FeatureCache
from vuilab.data.generator import BatchGenerator
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings


def library_lengths(num_utterances, seed=0):
    """Seconds of utterances spread like those of train-clean-100: most of 12 to 17 s, a third shorter than that."""
    rng = np.random.default_rng(seed)
    long = np.clip(rng.normal(14.6, 1.0, num_utterances), 12, 17)
    return np.where(rng.random(num_utterances) < 0.7, long, rng.uniform(1.4, 14, num_utterances))


def fake(tmp_path, monkeypatch, seconds, texts=None, splits=("train",), **options):
    """A generator over utterances of these durations; its 13 features are all ones and no audio is read."""
    settings = FeatureSettings("mfcc")

    def load_features(manifest, utterances, settings, progress):
        lengths = [round(utterance.duration * 100) for utterance in utterances]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return FeatureCache(np.broadcast_to(np.float16(1), (offsets[-1], 13)), offsets)

    monkeypatch.setattr(data_generator, "load_features", load_features)
    generator = BatchGenerator(settings, DataOptions(**{"max_duration": None, **options}))
    generator.set_statistics(np.zeros(13), np.ones(13))
    texts = texts or ["abc"] * len(seconds)
    for split in splits:
        manifest = tmp_path / f"{split}.json"
        utterances = [
            Utterance(tmp_path / split / f"{i}.flac", float(duration), text)
            for i, (duration, text) in enumerate(zip(seconds, texts, strict=True))
        ]
        write_manifest(manifest, utterances)
        generator.load(split, manifest)
    return generator


# ---------------------------------------------------------------------------------------------------- the plan


@pytest.mark.parametrize("num_utterances", [1, 19, 20, 21, 137, 300])
@pytest.mark.parametrize("epoch", [None, 0, 1])
def test_every_utterance_stands_once_in_an_epoch_and_only_the_last_batch_is_smaller(
    tmp_path, monkeypatch, num_utterances, epoch
):
    generator = fake(tmp_path, monkeypatch, library_lengths(num_utterances))
    plan = generator.plan("train", epoch)
    assert sorted(np.concatenate(plan)) == list(range(num_utterances))
    sizes = [len(indices) for indices in plan]
    assert all(size == 20 for size in sizes[:-1])
    assert sizes[-1] == (num_utterances % 20 or 20)


def test_a_batch_has_one_of_at_most_eight_padded_shapes_of_its_partition(tmp_path, monkeypatch):
    generator = fake(tmp_path, monkeypatch, library_lengths(400), splits=("train", "validation"))
    shapes = {"train": set(), "validation": set()}
    for partition, epoch in (("train", 0), ("train", 1), ("validation", None)):
        for indices in generator.plan(partition, epoch):
            inputs, _ = generator.assemble(partition, indices)
            shapes[partition].add((inputs["the_input"].shape[1], inputs["the_labels"].shape[1]))
    for pairs in shapes.values():
        assert 2 <= len({num_frames for num_frames, _ in pairs}) <= 8
        assert len(pairs) <= 8


def padding_share(generator, epoch):
    padded = true = 0
    for indices in generator.plan("train", epoch):
        inputs, _ = generator.assemble("train", indices)
        padded += inputs["the_input"].shape[0] * inputs["the_input"].shape[1]
        true += int(inputs["input_length"].sum())
    assert true == generator.num_frames("train").sum()
    return 1 - true / padded


@pytest.mark.parametrize("epoch", [None, 0, 1])
def test_padding_is_under_8_percent_of_the_frames_on_lengths_like_librispeech_s(tmp_path, monkeypatch, epoch):
    assert padding_share(fake(tmp_path, monkeypatch, library_lengths(1500)), epoch) < 0.08


def test_the_order_depends_on_seed_and_epoch_alone(tmp_path, monkeypatch):
    seconds = library_lengths(100)

    def plan(seed, epoch):
        return [list(indices) for indices in fake(tmp_path, monkeypatch, seconds, seed=seed).plan("train", epoch)]

    np.random.seed(1)  # noqa: NPY002  the global state must not matter
    first = plan(0, 3)
    np.random.seed(2)  # noqa: NPY002
    generator = fake(tmp_path, monkeypatch, seconds, seed=0)
    for epoch in range(3):
        generator.plan("train", epoch)  # nor what was asked for before
    assert first == plan(0, 3) == [list(indices) for indices in generator.plan("train", 3)]
    assert first != plan(0, 4) and first != plan(1, 3)
    membership = {frozenset(batch) for batch in first}
    assert membership != {frozenset(batch) for batch in plan(0, 4)}  # other neighbours, not only another order


def test_validation_batches_come_in_a_fixed_order_of_length(tmp_path, monkeypatch):
    seconds = library_lengths(50)
    orders = []
    for seed in (0, 1):
        generator = fake(tmp_path, monkeypatch, seconds, splits=("validation",), seed=seed)
        batches = generator.next_valid()
        for _ in range(2):
            orders.append(np.concatenate([next(batches)[0]["input_length"] for _ in range(3)]).tolist())
    assert orders == [sorted(orders[0])] * 4


def test_sort_by_duration_puts_the_shortest_first_in_the_first_epoch_only(tmp_path, monkeypatch):
    generator = fake(tmp_path, monkeypatch, library_lengths(100), sort_by_duration=True)
    lengths = generator.num_frames("train")
    first = lengths[np.concatenate(generator.plan("train", 0))]
    assert list(first) == sorted(first)
    second = lengths[np.concatenate(generator.plan("train", 1))]
    assert list(second) != sorted(second)


def test_get_batch_and_next_train_go_on_into_the_next_epoch(tmp_path, monkeypatch):
    generator = fake(tmp_path, monkeypatch, library_lengths(45))
    expected = [list(indices) for epoch in (0, 1) for indices in generator.plan("train", epoch)]
    lengths = generator.num_frames("train")
    batches = generator.next_train()
    for indices in expected:
        assert list(next(batches)[0]["input_length"]) == list(lengths[indices])
        assert list(generator.get_batch("train")[0]["input_length"]) == list(lengths[indices])


# ------------------------------------------------------------------------------------------------ batch contents


@pytest.fixture
def corpus(make_corpus):
    texts = ["it's a cat", "zebra", "a b", "hello there", "no"]
    train = [(text, 0.5 + number / 8) for number, text in enumerate(texts)]
    return make_corpus({"train": train, "validation": [("yes", 0.5)], "test": [("maybe so", 0.75)]})


def file_spectrogram(path):
    samples, _ = soundfile.read(path)
    _, _, density = scipy.signal.spectrogram(
        samples, 16_000, window="hann", nperseg=320, noverlap=160, detrend=False, scaling="density"
    )
    return np.log(density.T + 1e-14)


def test_a_batch_holds_the_normalised_features_and_labels_of_the_files_and_zeros_behind_them(corpus):
    generator = BatchGenerator(options=DataOptions(minibatch_size=5))
    generator.load_train_data(corpus / "train_corpus.json")
    lines = [json.loads(line) for line in (corpus / "train_corpus.json").read_text().splitlines()]
    truth = [file_spectrogram(corpus / line["key"]) for line in lines]
    mean, std = np.concatenate(truth).mean(axis=0), np.concatenate(truth).std(axis=0)

    (indices,) = generator.plan("train", 0)
    inputs, outputs = generator.assemble("train", indices)
    assert {key: value.dtype.name for key, value in inputs.items()} == {
        "the_input": "float32",
        "the_labels": "int32",
        "input_length": "int32",
        "label_length": "int32",
    }
    assert inputs["the_input"].shape == (5, 99, 161) and inputs["the_labels"].shape == (5, 11)
    assert outputs["ctc"].shape == (5,)
    for row, index in enumerate(indices):
        num_frames = 49 + round(12.5 * index)  # 0.5 s and an eighth more each: 8,000 + 2,000 index samples
        assert inputs["input_length"][row] == len(truth[index])
        assert abs(len(truth[index]) - num_frames) <= 1
        # float16: half a unit at -20 is 0.008, divided by a deviation of about 1
        np.testing.assert_allclose(
            inputs["the_input"][row, : len(truth[index])], (truth[index] - mean) / std, atol=0.02
        )
        assert not inputs["the_input"][row, len(truth[index]) :].any()
        text = lines[index]["text"]
        assert inputs["label_length"][row] == len(text)
        assert [ALPHABET[label] for label in inputs["the_labels"][row, : len(text)]] == list(text)
        assert not inputs["the_labels"][row, len(text) :].any()


def test_texts_and_paths_are_those_of_the_manifest(corpus):
    generator = BatchGenerator()
    generator.load_train_data(corpus / "train_corpus.json")
    generator.load_validation_data(corpus / "valid_corpus.json")
    generator.load_test_data(corpus / "test_corpus.json")
    assert generator.train_texts == ["it's a cat", "zebra", "a b", "hello there", "no"]
    assert generator.valid_texts == ["yes"]
    assert generator.valid_audio_paths == [str(corpus / "validation" / "validation-0.flac")]
    assert len(generator.train_audio_paths) == 5
    inputs, _ = next(generator.next_test())
    assert list(inputs["label_length"]) == [8]


def test_fit_train_measures_a_fixed_choice_of_utterances(corpus):
    first, second, everything = BatchGenerator(), BatchGenerator(), BatchGenerator()
    for generator in (first, second, everything):
        generator.load("train", corpus / "train_corpus.json")
    first.fit_train(2)
    second.fit_train(2)
    everything.fit_train(100)
    np.testing.assert_array_equal(first.feats_mean, second.feats_mean)
    assert (first.feats_mean != everything.feats_mean).any()


def test_normalised_training_features_have_mean_zero_and_deviation_one(corpus):
    generator = BatchGenerator(FeatureSettings("mfcc"))
    generator.load_train_data(corpus / "train_corpus.json")
    frames = np.concatenate([generator.normalize(generator.featurize(path)) for path in generator.train_audio_paths])
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-3)


@pytest.mark.parametrize("kind", ["spectrogram", "mfcc"])
def test_a_training_set_of_silence_is_normalised_without_nan(tmp_path, kind):
    soundfile.write(tmp_path / "silence.flac", np.zeros(8000), 16_000)
    write_manifest(tmp_path / "train_corpus.json", [Utterance(tmp_path / "silence.flac", 0.5, "a")])
    generator = BatchGenerator(FeatureSettings(kind))
    generator.load_train_data(tmp_path / "train_corpus.json")
    assert np.isfinite(next(generator.next_train())[0]["the_input"]).all()


def test_augmentation_changes_training_batches_anew_each_epoch_and_never_validation(corpus):
    def batches(augmentation):
        generator = BatchGenerator(options=DataOptions(minibatch_size=5, augmentation=augmentation))
        generator.load_train_data(corpus / "train_corpus.json")
        generator.load_validation_data(corpus / "valid_corpus.json")
        train = generator.next_train()
        by_length = [{int(n): x for n, x in zip(b["input_length"], b["the_input"], strict=True)} for b, _ in
                     (next(train), next(train))]  # fmt: skip
        return *by_length, next(generator.next_valid())[0]["the_input"]

    plain, augmented, again = batches(None), batches(Augmentation()), batches(Augmentation())
    assert all((plain[0][n] == plain[1][n]).all() for n in plain[0])
    assert any((augmented[0][n] != augmented[1][n]).any() for n in plain[0])
    assert all((augmented[0][n] == again[0][n]).all() for n in plain[0])
    assert all(not augmented[0][n][n:].any() for n in plain[0])  # the padding stays zero
    np.testing.assert_array_equal(plain[2], augmented[2])


# -------------------------------------------------------------------------------------------- what takes no part


def test_utterances_over_max_duration_are_left_out_and_counted(tmp_path, monkeypatch):
    seconds = [1.0, 12.0, 10.0, 10.01, 2.0]
    texts = ["a", "b", "c", "d", "e"]
    generator = fake(tmp_path, monkeypatch, seconds, texts, splits=("train", "test"), max_duration=10.0)
    assert generator.train_texts == ["a", "c", "e"]
    assert generator.left_out == {"train": 2, "test": 2}
    assert list(generator.num_frames("train")) == [100, 1000, 200]
    everything = fake(tmp_path, monkeypatch, seconds, texts, splits=("test",), max_duration=None)
    assert len(everything.partitions["test"].utterances) == 5 and everything.left_out == {"test": 0}


def test_transcripts_longer_than_the_output_are_named_and_left_out(tmp_path, monkeypatch):
    # of 20 frames, 10 come out: 'abcdefghij' needs 10, 'abcdefghii' 11 (a blank between the two i), 'aaaaaa' 11
    texts = ["abcdefghij", "abcdefghii", "aaaaaa", "aaaaa"]
    generator = fake(tmp_path, monkeypatch, [0.2] * 4, texts)
    lines = generator.drop_infeasible("train", lambda num_frames: num_frames // 2)
    assert lines == [
        f"{tmp_path / 'train' / '1.flac'}: the transcript needs 11 output frames, the model gives 10",
        f"{tmp_path / 'train' / '2.flac'}: the transcript needs 11 output frames, the model gives 10",
    ]
    assert generator.train_texts == ["abcdefghij", "aaaaa"]
    assert sorted(np.concatenate(generator.plan("train", 0))) == [0, 1]
    assert sorted(next(generator.next_train())[0]["label_length"]) == [5, 10]


def test_batches_already_begun_do_not_outlive_a_change_of_what_takes_part(tmp_path, monkeypatch):
    texts = ["abcdefghij"] * 2 + ["aaaaaaaaaa"] * 3
    generator = fake(tmp_path, monkeypatch, [0.2] * 5, texts, minibatch_size=1)
    generator.get_batch("train")
    generator.drop_infeasible("train", lambda num_frames: num_frames // 2)
    assert sum(len(generator.get_batch("train")[0]["label_length"]) for _ in range(4)) == 4


# ---------------------------------------------------------------------------------------------------- misuse


def test_a_partition_must_be_known_and_loaded():
    with pytest.raises(ValueError, match=r"partition must be one of .*'validation'.*Received: partition='valid'"):
        BatchGenerator().load("valid", "valid_corpus.json")
    with pytest.raises(ValueError, match=r"The train data are not loaded. Call load\('train', manifest\) first"):
        BatchGenerator().plan("train")


def test_features_are_not_normalised_before_their_statistics_are_known(corpus):
    generator = BatchGenerator(options=DataOptions(minibatch_size=5))
    generator.load("train", corpus / "train_corpus.json")
    for use in (lambda: generator.normalize(np.ones((3, 161))), lambda: generator.get_batch("train")):
        with pytest.raises(ValueError, match=r"not known yet. Call load_train_data or fit_train .* or set_statistics"):
            use()
    generator.set_statistics(np.ones(161), np.full(161, 2))
    np.testing.assert_array_equal(generator.normalize(np.zeros((3, 161))), np.full((3, 161), -0.5))


def test_each_training_utterance_takes_part_once_at_each_speed_and_validation_as_it_is(tmp_path, monkeypatch):
    generator = fake(
        tmp_path, monkeypatch, [1.0, 2.0, 3.6], splits=("train", "validation"), speeds=(0.9, 1.0, 1.2), max_duration=3.6
    )
    durations = [round(item.duration, 3) for item in generator.partitions["train"].utterances]
    assert durations == [1.111, 2.222, 1.0, 2.0, 3.6, 0.833, 1.667, 3.0]  # 3.6 / 0.9 = 4 s is too long
    assert generator.left_out["train"] == 1
    assert len(generator.valid_texts) == 3
    assert sorted(np.concatenate(generator.plan("train", 0))) == list(range(8))
