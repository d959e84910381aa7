"""Buckets: every utterance once, as little padding as the best of all choices, full batches."""

import itertools

import numpy as np
import pytest

from vuilab.data.buckets import bucket_boundaries, plan_batches


def padded_frames(lengths, boundaries, batch_size=1):
    """Frames after padding, counted on the batches themselves."""
    total = 0
    for batch in plan_batches(lengths, np.array(boundaries), batch_size):
        total += len(batch) * min(boundary for boundary in boundaries if boundary >= lengths[batch].max())
    return total


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_bucket_boundaries_waste_as_little_as_the_best_of_all_choices(seed, batch_size):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 60, rng.integers(1, 14))
    candidates = sorted({int(length) for length in lengths})
    for num_buckets in (1, 2, 3, 4):
        best = min(
            padded_frames(lengths, (*choice, candidates[-1]), batch_size)
            for size in range(num_buckets)
            for choice in itertools.combinations(candidates[:-1], size)
        )
        boundaries = bucket_boundaries(lengths, num_buckets, batch_size)
        assert len(boundaries) <= num_buckets
        assert list(boundaries) == sorted(set(boundaries)) and boundaries[-1] == max(lengths)
        assert padded_frames(lengths, boundaries, batch_size) == best


@pytest.mark.parametrize("batch_size", [20, 32])
def test_full_batches_cost_at_most_a_point_of_padding_more_than_eight_lengths_must(batch_size):
    # like the 778 utterances of dev-clean under 10 s: so few and so evenly spread that eight lengths alone cost 8 %
    lengths = np.interp(np.linspace(0, 1, 600), np.linspace(0, 1, 6), [150, 310, 440, 560, 750, 1000]).astype(int)
    least = 1 - lengths.sum() / padded_frames(lengths, bucket_boundaries(lengths))
    share = 1 - lengths.sum() / padded_frames(lengths, bucket_boundaries(lengths, batch_size=batch_size), batch_size)
    assert least < share < least + 0.01


def test_bucket_boundaries_of_many_lengths_end_in_the_longest():
    lengths = np.random.default_rng(0).integers(1, 5000, 4000)
    boundaries = bucket_boundaries(lengths)
    assert len(boundaries) == 8 and boundaries[-1] == lengths.max()


def test_equal_lengths_need_one_bucket():
    assert list(bucket_boundaries(np.full(10, 77))) == [77]


def test_shuffled_batches_hold_each_utterance_once_and_only_the_last_is_smaller():
    lengths = np.random.default_rng(1).integers(100, 1000, 137)
    boundaries = bucket_boundaries(lengths, batch_size=20)
    for rng in (None, np.random.default_rng(0)):
        batches = plan_batches(lengths, boundaries, 20, rng)
        assert sorted(np.concatenate(batches)) == list(range(137))
        assert [len(batch) for batch in batches] == [20] * 6 + [17]
