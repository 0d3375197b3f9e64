"""Pseudo-random numbers that depend on a key."""

import numpy as np

from harness.data.pseudo_random import mix64


def test_mixed_values_are_spread_evenly_and_depend_on_the_key():
    values = mix64(np.arange(100_000), 7)
    counts = np.bincount((values % np.uint64(10)).astype(int), minlength=10)
    assert abs(counts - 10_000).max() < 500  # five standard deviations
    assert not np.array_equal(values, mix64(np.arange(100_000), 8))
