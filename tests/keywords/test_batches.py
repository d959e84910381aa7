"""Batches of clips: plans, normalisation, and that the seed decides."""

import shutil

import numpy as np
import pytest

from vuilab.keywords.batches import ClipGenerator
from vuilab.keywords.clips import KeywordFeatures
from vuilab.keywords.corpus import choose_clips, index_folder
from vuilab.keywords.options import ClipAugmentation, ClipOptions


@pytest.fixture(scope="module")
def dataset(spoken_words):
    return choose_clips(index_folder(spoken_words), ["bed", "cat", "silence", "unknown"])


@pytest.fixture(scope="module")
def generator(dataset):
    return ClipGenerator(dataset, KeywordFeatures("mfcc"), ClipOptions(16, ClipAugmentation(), seed=3), progress=False)


def test_an_epoch_has_every_clip_and_steps_of_one_size(generator):
    count = len(generator.num_frames("train"))
    for epoch in range(2):
        plan = generator.plan("train", epoch)
        assert {len(step) for step in plan} == {16} and len(plan) == -(-count // 16)
        assert set(np.concatenate(plan)) == set(range(count))
    assert not np.array_equal(generator.plan("train", 0), generator.plan("train", 1))
    np.testing.assert_array_equal(
        np.concatenate(generator.plan("validation")), np.arange(len(generator.num_frames("validation")))
    )


def test_training_and_validation_are_the_train_and_development_parts(generator, dataset):
    assert [clip.key for clip in generator.audio["train"].clips] == [clip.key for clip in dataset.part("train")]
    assert {clip.part for clip in generator.audio["validation"].clips} == {"development"}


def test_targets_are_one_of_k_in_the_order_of_the_labels(generator, dataset):
    indices = np.arange(12)
    _, outputs = generator.assemble("train", indices)
    assert outputs["logits"].shape == (12, 4) and (outputs["logits"].sum(axis=1) == 1).all()
    expected = [dataset.labels.index(generator.audio["train"].clips[n].label) for n in indices]
    assert outputs["logits"].argmax(axis=1).tolist() == expected


def test_features_are_normalised_by_the_training_clips_that_hold_sound(generator):
    sound = [n for n, clip in enumerate(generator.audio["train"].clips) if clip.label != "silence"]
    features = generator.assemble("train", np.array(sound))[0]["the_input"]
    np.testing.assert_allclose(features.mean(axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(features.std(axis=(0, 1)), 1, atol=1e-3)


def test_only_a_step_with_random_numbers_is_augmented_and_they_decide_alone(generator):
    indices = np.arange(8)
    plain, again = (generator.assemble("train", indices)[0]["the_input"] for _ in range(2))
    np.testing.assert_array_equal(plain, again)
    first, same, other = (
        generator.assemble("train", indices, generator.step_rng(epoch, 0))[0]["the_input"] for epoch in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != plain).any() and (first != other).any()


def test_labels_without_clips_are_refused(spoken_words, tmp_path):
    folder = tmp_path / "words"
    shutil.copytree(spoken_words, folder, ignore=shutil.ignore_patterns(".features"))
    heard = {clip.speaker for clip in choose_clips(index_folder(folder)).part("validation")}
    for path in (folder / "cat").iterdir():
        if path.name.split("_")[0] not in heard:
            path.unlink()
    with pytest.raises(ValueError, match="no training clips of: cat"):
        ClipGenerator(choose_clips(index_folder(folder), ["bed", "cat"]), KeywordFeatures(), progress=False)
