"""Ragged helpers against the loops they replace."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.data.ragged import expand_ranges, mix64, pad_lists


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=20))
def test_expanding_ranges_equals_a_loop(ranges):
    start = np.array([a for a, _ in ranges], dtype=np.int64)
    stop = start + np.array([n for _, n in ranges], dtype=np.int64)
    owner, value = expand_ranges(start, stop)
    assert list(zip(owner, value, strict=True)) == [(i, v) for i, (a, n) in enumerate(ranges) for v in range(a, a + n)]


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=10))
def test_padding_lists_keeps_their_order_and_fills_with_minus_one(lists):
    owner = np.array([i for i, entries in enumerate(lists) for _ in entries], dtype=np.int64)
    value = np.array([v for entries in lists for v in entries], dtype=np.int64)
    padded = pad_lists(owner, value, len(lists))
    assert [[v for v in row if v >= 0] for row in padded.tolist()] == lists


def test_mixed_values_are_spread_evenly_and_depend_on_the_key():
    values = mix64(np.arange(100_000), 7)
    counts = np.bincount((values % np.uint64(10)).astype(int), minlength=10)
    assert abs(counts - 10_000).max() < 500  # five standard deviations
    assert not np.array_equal(values, mix64(np.arange(100_000), 8))
