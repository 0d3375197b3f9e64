"""Sets of numbers, and of pairs of numbers, as sorted arrays.

`numpy.unique` is not used where only the values are wanted: since version 2.3 it fills a hash table before it sorts,
which takes about ten times as long as sorting alone (10^6 random integers, numpy 2.4).
"""

from __future__ import annotations

import numpy as np

Pairs = tuple[np.ndarray, np.ndarray]  # two arrays of equal length


def distinct(value_E: np.ndarray) -> np.ndarray:
    """The values, ascending and without repeats."""
    sorted_E = np.sort(value_E)
    return sorted_E[is_first_of_equal(sorted_E)]


def is_first_of_equal(sorted_E: np.ndarray) -> np.ndarray:
    """Whether each of the ascending values differs from the one before, bool [E]."""
    is_first_E = np.ones(len(sorted_E), dtype=bool)
    np.not_equal(sorted_E[1:], sorted_E[:-1], out=is_first_E[1:])
    return is_first_E


def numbered(value_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each value, int64 [E], from 0 in ascending order of the values; and the order that sorts them."""
    order_E = np.argsort(value_E)
    number_E = np.empty(len(value_E), dtype=np.int64)
    number_E[order_E] = np.cumsum(is_first_of_equal(value_E[order_E])) - 1
    return number_E, order_E


def distinct_pairs(first: np.ndarray, second: np.ndarray) -> Pairs:
    """Pairs of positions, sorted and distinct. Each pair is packed into one int64, which sorts far faster."""
    width = int(second.max(initial=0)) + 1
    packed = distinct(first * width + second)
    return packed // width, packed % width


def merge_pairs(*pairs: Pairs) -> Pairs:
    """The union of the given pairs of positions, sorted and distinct."""
    first, second = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return distinct_pairs(first, second)


def is_among(value_E: np.ndarray, other_N: np.ndarray) -> np.ndarray:
    """Whether each value occurs among the others, bool [E]."""
    if not len(other_N):
        return np.zeros(len(value_E), dtype=bool)
    sorted_N = np.sort(other_N)
    return sorted_N[np.minimum(np.searchsorted(sorted_N, value_E), len(sorted_N) - 1)] == value_E


def pairs_among(first: np.ndarray, second: np.ndarray, others: Pairs) -> np.ndarray:
    """Whether each pair (first, second) of positions is among the other pairs, bool [E]."""
    width = max(int(second.max(initial=0)), int(others[1].max(initial=0))) + 1
    return is_among(first * width + second, others[0] * width + others[1])
