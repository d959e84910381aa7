"""SpecAugment, warping and noise: what may change, by how much, and that the seed decides."""

import numpy as np
import pytest
import scipy.signal

from vuilab.augment import (
    NOISES,
    Augmentation,
    coloured_noise,
    mix_at_snr,
    spec_augment,
    speed_perturb,
    time_shift,
    warp_frequency,
)


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


# ---------------------------------------------------------------------------------------------------- noise

# dB per octave: 10 log10 of 2 ** exponent
SLOPES = {
    "white": 0,
    "pink": -3.01,
    "blue": 3.01,
    "brown": -6.02,
    "violet": 6.02,
}


@pytest.mark.parametrize("colour", NOISES)
def test_noise_has_the_slope_of_its_colour(colour):
    noise = NOISES[colour](2**18, np.random.default_rng(0))
    frequencies, density = scipy.signal.welch(noise, 16_000, nperseg=4096)
    octaves = [125 * 2**number for number in range(7)]  # 125 Hz to 8 kHz: the bands that speech lies in
    levels = [10 * np.log10(density[(frequencies >= low) & (frequencies < 2 * low)].mean()) for low in octaves[:-1]]
    slope = np.polyfit(np.arange(len(levels)), levels, 1)[0]
    assert slope == pytest.approx(SLOPES[colour], abs=0.3)
    assert np.abs(np.diff(levels) - SLOPES[colour]).max() < 0.6  # a straight line, no single octave off


@pytest.mark.parametrize("num_samples", [2, 3, 16_000, 16_001])
@pytest.mark.parametrize("colour", NOISES)
def test_noise_has_unit_power_and_its_length(colour, num_samples):
    noise = NOISES[colour](num_samples, np.random.default_rng(1))
    assert noise.shape == (num_samples,) and noise.dtype == np.float32
    assert np.mean(noise.astype(float) ** 2) == pytest.approx(1, abs=1e-5)


def test_the_seed_of_noise_alone_decides():
    for make in NOISES.values():
        np.testing.assert_array_equal(make(100, np.random.default_rng(5)), make(100, np.random.default_rng(5)))
        assert (make(100, np.random.default_rng(5)) != make(100, np.random.default_rng(6))).any()


def test_noise_of_one_sample_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 samples\. Received: num_samples=1"):
        coloured_noise(1, np.random.default_rng(0), 0)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 3.0, 40.0])
def test_mixing_gives_the_ratio_exactly_whatever_the_levels(snr_db):
    rng = np.random.default_rng(2)
    signal, noise = 0.03 * rng.standard_normal(16_000), 7 * rng.uniform(-1, 1, 16_000)
    added = mix_at_snr(signal, noise, snr_db).astype(float) - signal
    assert 10 * np.log10(np.mean(signal**2) / np.mean(added**2)) == pytest.approx(snr_db, abs=1e-3)
    assert np.corrcoef(added, noise)[0, 1] > 0.99999


def test_what_has_no_ratio_is_refused():
    with pytest.raises(ValueError, match=r"one length\. Received: shapes \(4,\) and \(5,\)"):
        mix_at_snr(np.ones(4), np.ones(5), 0)
    for signal, noise in ((np.zeros(4), np.ones(4)), (np.ones(4), np.zeros(4))):
        with pytest.raises(ValueError, match="needs sound in both"):
            mix_at_snr(signal, noise, 0)


def test_shifting_moves_the_sound_and_fills_with_silence():
    samples = np.arange(1, 6, dtype=np.float32)
    assert time_shift(samples, 2).tolist() == [0, 0, 1, 2, 3]
    assert time_shift(samples, -3).tolist() == [4, 5, 0, 0, 0]
    assert time_shift(samples, 0).tolist() == samples.tolist()
    assert not time_shift(samples, 9).any() and not time_shift(samples, -9).any()
