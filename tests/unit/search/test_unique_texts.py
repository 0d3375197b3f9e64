"""Unique texts are found by their hashes."""

from __future__ import annotations

import numpy as np

from harness.search.unique_texts import positions_in, unique_texts


def test_each_text_stands_where_it_comes_first() -> None:
    first_U, place_E = unique_texts(np.array([9, 2, 9, 5, 2, 1], dtype=np.uint64))
    assert first_U.tolist() == [0, 1, 3, 5]
    assert place_E.tolist() == [0, 1, 0, 2, 1, 3]


def test_positions_are_those_in_the_unsorted_list() -> None:
    hash_U = np.array([9, 2, 5], dtype=np.uint64)
    assert positions_in(hash_U, np.array([5, 9, 1, 10, 2], dtype=np.uint64)).tolist() == [2, 0, -1, -1, 1]
    assert positions_in(hash_U[:0], hash_U).tolist() == [-1, -1, -1]
