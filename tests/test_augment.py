"""SpecAugment and frequency warping: what may change, by how much, and that the seed decides."""

import numpy as np
import pytest

from augment import Augmentation, spec_augment, speed_perturb, warp_frequency


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


# ------------------------------------------------------------------------------------------------ speed


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1, 1.25])
def test_a_tone_gets_shorter_and_higher_by_the_factor_and_stays_as_loud(factor):
    time = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    changed = speed_perturb(tone, factor)
    assert changed.dtype == np.float32 and len(changed) == pytest.approx(16_000 / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(changed * np.hanning(len(changed))))
    peak = np.argmax(spectrum) * 16_000 / len(changed)
    assert peak == pytest.approx(440 * factor, abs=1.5)
    assert np.std(changed[100:-100]) == pytest.approx(np.std(tone), rel=0.01)


def test_what_would_lie_above_half_the_rate_is_removed_not_folded_back():
    time = np.arange(16_000) / 16_000
    assert np.std(speed_perturb(np.sin(2 * np.pi * 7600 * time), 1.25)[200:-200]) < 0.02  # 9500 Hz


@pytest.mark.parametrize("factor", [0.4, 2.5, 0, -1])
def test_a_speed_out_of_range_is_refused(factor):
    with pytest.raises(ValueError, match=rf"0.5..2. Received: factor={factor}"):
        speed_perturb(np.zeros(100), factor)
