"""Helpers for ragged lists equal the loops that they replace."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.data.ragged import expand_ranges
from harness.types import RaggedLists


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), max_size=20))
def test_expanding_ranges_equals_a_loop(ranges):
    start = np.array([a for a, _ in ranges], dtype=np.int64)
    stop = start + np.array([n for _, n in ranges], dtype=np.int64)
    owner, value = expand_ranges(start, stop)
    assert list(zip(owner, value, strict=True)) == [(i, v) for i, (a, n) in enumerate(ranges) for v in range(a, a + n)]


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=10), st.integers(0, 10), st.integers(0, 10)
)
def test_lists_keep_their_order_and_a_slice_holds_the_lists_of_its_queries(entries, start, stop):
    owner = np.array([i for i, values in enumerate(entries) for _ in values], dtype=np.int64)
    value = np.array([v for values in entries for v in values], dtype=np.int64)
    lists = RaggedLists.of_pairs(owner, value, len(entries))
    assert [lists[i].tolist() for i in range(len(lists))] == entries
    for one, other in zip(lists.pairs(), (owner, value), strict=True):
        np.testing.assert_array_equal(one, other)
    part = lists[start:stop]
    assert [part[i].tolist() for i in range(len(part))] == entries[start:stop]
    assert part.start_B1[0] == 0
    padded_BX = np.array([values + [-1] * (5 - len(values)) for values in entries]).reshape(-1, 5)
    for one, other in zip(RaggedLists.of_padded(padded_BX).pairs(), (owner, value), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_long_list_costs_its_own_length_only():
    lists = RaggedLists.of_pairs(np.full(40_000, 7), np.arange(40_000), 8192)
    assert lists.start_B1.nbytes + lists.value_E.nbytes == 8 * (8193 + 40_000)
    assert lists[100:8192].value_E.nbytes == 0
    assert lists[5:9].start_B1.tolist() == [0, 0, 0, 40_000, 40_000]
