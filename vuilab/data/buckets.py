"""Which utterances share a batch, and to how many frames each batch is padded.

Compilers make a new program for each new shape, so that batches are padded to one of a few lengths; the lengths are chosen
for the corpus so that they waste the fewest frames.
"""

import numpy as np

MAX_BUCKETS = 8
MAX_CANDIDATES = 1000  # lengths that the search looks at; a quarter of a second


def bucket_boundaries(num_frames: np.ndarray, num_buckets: int = MAX_BUCKETS, batch_size: int = 1) -> np.ndarray:
    """Choose padded lengths that waste the fewest frames when `plan_batches` fills the batches.

    An exact dynamic programme: what does not fill a batch of one length moves up into the next length, so that the number of
    batches up to a length depends on the number of utterances up to it alone, and the cost of a choice is a sum over
    neighbouring lengths.

    Args:
        num_frames: of each utterance. Of more than a thousand different lengths, a thousand quantiles are looked at.
        num_buckets: how many lengths at most.
        batch_size: utterances per batch.

    Returns:
        Ascending integer array of at most `num_buckets` lengths; the last is the longest utterance.

    Example:
        >>> bucket_boundaries(np.array([10, 10, 11, 50, 52]), num_buckets=2)
        array([11, 52])
        >>> bucket_boundaries(np.array([10, 10, 11, 50, 52]), num_buckets=2, batch_size=2)  # 11 shares a batch with 50
        array([10, 52])
    """
    lengths = np.sort(np.asarray(num_frames))
    candidates = np.unique(lengths)
    if len(candidates) > MAX_CANDIDATES:
        candidates = np.unique(np.quantile(lengths, np.linspace(0, 1, MAX_CANDIDATES), method="higher"))
    num_candidates = len(candidates)
    # utterances in full batches up to each candidate, before the first: none; the last batch may be smaller
    batched = np.concatenate([[0], np.searchsorted(lengths, candidates, side="right") // batch_size * batch_size])
    batched[-1] = len(lengths)
    # cost[i, j]: frames after padding to candidate j of what is in no batch up to candidate i - 1
    cost = candidates[None, :].astype(np.float64) * (batched[None, 1:] - batched[:-1, None])
    best = cost[0]  # with one length, by last candidate
    choices = []
    for _ in range(min(num_buckets, num_candidates) - 1):
        total = best[:-1, None] + cost[1:]
        total[np.tril_indices(num_candidates - 1, 0, num_candidates)] = np.inf
        choices.append(np.where(total.min(axis=0) < best, total.argmin(axis=0), -1))
        best = np.minimum(best, total.min(axis=0))
    boundaries, last = [num_candidates - 1], num_candidates - 1
    for choice in reversed(choices):
        if choice[last] >= 0:
            last = int(choice[last])
            boundaries.append(last)
    return candidates[boundaries[::-1]].astype(np.int64)


def plan_batches(
    num_frames: np.ndarray, boundaries: np.ndarray, batch_size: int, rng: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Deal utterances into batches of similar length; each stands in exactly one.

    Utterances of one length bucket are shuffled together; what does not fill a batch moves up into the next bucket, so
    that only the last batch can be smaller.

    Args:
        num_frames: frames of each utterance.
        boundaries: ascending padded lengths, the last at least the longest utterance.
        batch_size: utterances per batch.
        rng: shuffles within buckets and the batches; None: shortest first, no shuffling.

    Example:
        >>> [batch.tolist() for batch in plan_batches(np.array([9, 50, 11, 10, 52]), np.array([11, 52]), 2)]
        [[0, 3], [2, 1], [4]]
    """
    bucket = np.searchsorted(boundaries[:-1], num_frames)
    batches: list[np.ndarray] = []
    waiting = np.empty(0, np.int64)
    for number in range(len(boundaries)):
        members = np.flatnonzero(bucket == number)
        members = members[np.argsort(num_frames[members], kind="stable")] if rng is None else rng.permutation(members)
        members = np.concatenate([waiting, members])
        full = len(members) // batch_size * batch_size
        batches.extend(members[:full].reshape(-1, batch_size))
        waiting = members[full:]
    if rng is not None:
        batches = [batches[index] for index in rng.permutation(len(batches))]
    return batches + ([waiting] if len(waiting) else [])
