"""Texts by their hashes, on hand-made lists."""

from __future__ import annotations

import numpy as np

from harness.search.unique_texts import places, unique_texts


def test_each_text_stands_where_it_comes_first() -> None:
    first_U, place_E = unique_texts(np.array([9, 2, 9, 5, 2, 1], dtype=np.uint64))
    assert first_U.tolist() == [0, 1, 3, 5]
    assert place_E.tolist() == [0, 1, 0, 2, 1, 3]


def test_places_are_those_of_the_list_as_it_is_ordered() -> None:
    hash_U = np.array([9, 2, 5], dtype=np.uint64)
    assert places(hash_U, np.array([5, 9, 1, 10, 2], dtype=np.uint64)).tolist() == [2, 0, -1, -1, 1]
    assert places(hash_U[:0], hash_U).tolist() == [-1, -1, -1]
