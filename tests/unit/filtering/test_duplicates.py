"""Exact duplicates are found among pairs; near ones: see `near/`."""

from __future__ import annotations

import numpy as np

from harness.filtering.duplicates import is_repeated, pair_hash


def test_the_first_of_pairs_that_read_alike_or_encode_alike_stays() -> None:
    """Pair 3 encodes like pair 1 (both sides), pair 5 like pair 4 on one side only; pair 6 is joined by pair 3."""
    hashes = np.array([7, 5, 7, 8, 9, 4, 8], dtype=np.uint64)
    query_token, positive_token = np.array([[1, 2, 1, 2, 3, 3, 6], [1, 3, 1, 3, 4, 5, 6]], dtype=np.uint64)
    repeated = is_repeated(hashes, query_token, positive_token)
    assert np.flatnonzero(repeated).tolist() == [2, 3, 6]
    # Query and positive exchanged are another pair.
    assert not is_repeated(hashes[:2], np.array([1, 2], np.uint64), np.array([2, 1], np.uint64)).any()


def test_query_and_positive_are_not_one_string() -> None:
    assert pair_hash("ab", "c") != pair_hash("a", "bc")
