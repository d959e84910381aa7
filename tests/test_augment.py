"""SpecAugment and frequency warping: what may change, by how much, and that the seed decides."""

import numpy as np
import pytest

from augment import Augmentation, spec_augment, warp_frequency


@pytest.fixture
def features():
    return np.random.default_rng(0).uniform(1, 2, (100, 40)).astype(np.float32)  # no zeros: those are masks


def test_masks_are_whole_bands_and_stretches_of_zeros_and_the_rest_is_untouched(features):
    for seed in range(30):
        changed = spec_augment(features, np.random.default_rng(seed), 2, 8, 2, 10)
        columns, rows = (changed == 0).all(axis=0), (changed == 0).all(axis=1)
        expected = np.where(rows[:, None] | columns[None, :], 0, features)
        np.testing.assert_array_equal(changed, expected)
        assert columns.sum() <= 16 and rows.sum() <= 20


def test_mask_widths_cover_zero_to_the_highest_width(features):
    counts = {
        int((spec_augment(features, np.random.default_rng(seed), 1, 4, 0, 0) == 0).all(axis=0).sum())
        for seed in range(200)
    }
    assert counts == {0, 1, 2, 3, 4}


def test_masks_reach_both_ends(features):
    masked = np.zeros(40, bool)
    for seed in range(300):
        masked |= (spec_augment(features, np.random.default_rng(seed), 1, 4, 0, 0) == 0).all(axis=0)
    assert masked.all()


def test_without_masks_nothing_changes_and_the_input_is_never_touched(features):
    before = features.copy()
    np.testing.assert_array_equal(spec_augment(features, np.random.default_rng(0), 0, 8, 0, 10), before)
    spec_augment(features, np.random.default_rng(1))
    Augmentation(warp=0.2).apply(features, np.random.default_rng(1))
    np.testing.assert_array_equal(features, before)


def test_masks_wider_than_the_features_are_cut_to_fit():
    tiny = np.ones((3, 2), np.float32)
    for seed in range(50):
        assert spec_augment(tiny, np.random.default_rng(seed), 2, 16, 2, 20).shape == (3, 2)


def test_the_seed_alone_decides(features):
    apply = Augmentation(warp=0.1).apply
    np.testing.assert_array_equal(apply(features, np.random.default_rng(3)), apply(features, np.random.default_rng(3)))
    assert (apply(features, np.random.default_rng(3)) != apply(features, np.random.default_rng(4))).any()


def test_the_longest_stretch_is_a_share_of_the_utterance():
    long = np.ones((1000, 5), np.float32)
    shares = [
        (Augmentation(freq_masks=0, time_masks=1, time_share=0.1).apply(long, np.random.default_rng(seed)) == 0)
        .all(axis=1)
        .sum()
        for seed in range(100)
    ]
    assert 80 < max(shares) <= 100


def test_warping_a_ramp_multiplies_it_and_clips_at_the_end():
    ramp = np.tile(np.arange(40, dtype=np.float32), (3, 1))  # feature k holds k
    np.testing.assert_allclose(warp_frequency(ramp, 0.9), ramp * 0.9, atol=1e-5)
    np.testing.assert_allclose(warp_frequency(ramp, 1.2), np.minimum(ramp * 1.2, 39), atol=1e-5)


def test_warping_by_one_changes_nothing_and_keeps_the_type(features):
    np.testing.assert_array_equal(warp_frequency(features, 1.0), features)
    assert warp_frequency(features, 1.1).dtype == np.float32
    assert warp_frequency(features, 1.1).shape == features.shape
