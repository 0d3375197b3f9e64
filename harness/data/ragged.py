"""Represents many ranges of different lengths as flat arrays, without a Python loop over the ranges."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def expand_ranges(start_Q: np.ndarray, stop_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate the ranges [start, stop). Returns (owner, value): the index of each number's range, the number."""
    length_Q = np.maximum(stop_Q - start_Q, 0)
    owner = np.repeat(np.arange(len(length_Q)), length_Q)
    begin_Q = np.cumsum(length_Q) - length_Q
    value = np.arange(int(length_Q.sum())) - begin_Q[owner] + np.asarray(start_Q)[owner]
    return owner, value


def expand_in_chunks(start_Q: np.ndarray, stop_Q: np.ndarray, at_most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The result of `expand_ranges` in chunks of at most `at_most` numbers; a long range is in several chunks."""
    end_Q = np.cumsum(np.maximum(stop_Q - start_Q, 0))
    total = int(end_Q[-1]) if len(end_Q) else 0
    for low in range(0, total, at_most):
        high = min(low + at_most, total)
        first, last = (int(np.searchsorted(end_Q, place, "right")) for place in (low, high - 1))
        start_C, stop_C = start_Q[first : last + 1].copy(), stop_Q[first : last + 1].copy()
        stop_C[-1] -= end_Q[last] - high
        start_C[0] = stop_Q[first] - (end_Q[first] - low)
        owner, value = expand_ranges(start_C, stop_C)
        yield owner + first, value


def matches(key_N: np.ndarray, other_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (position in `key_N`, position in `other_M`) of equal values: a sort-merge join."""
    order_M = np.argsort(other_M, kind="stable")
    highest = max(int(key_N.max(initial=0)), int(other_M.max(initial=0)))
    if highest <= len(key_N) + len(other_M) and min(key_N.min(initial=0), other_M.min(initial=0)) >= 0:
        # Small numbers need no search: the range of each number is known.
        start_V1 = np.append(0, np.cumsum(np.bincount(other_M.astype(np.int64), minlength=highest + 1)))
        start_N, stop_N = start_V1[:-1][key_N], start_V1[1:][key_N]
    else:
        start_N, stop_N = equal_ranges(other_M[order_M], key_N)
    entry, place = expand_ranges(start_N, stop_N)
    return entry, order_M[place]


def equal_ranges(sorted_M: np.ndarray, key_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each key, the range [start, stop) of the equal values among the ascending `sorted_M`.

    The keys are searched in ascending order, which for many keys is several times as fast as in any other.
    """
    order_N = np.argsort(key_N)
    ascending_N = key_N[order_N]
    start_N, stop_N = np.empty(len(key_N), dtype=np.int64), np.empty(len(key_N), dtype=np.int64)
    start_N[order_N] = np.searchsorted(sorted_M, ascending_N, "left")
    stop_N[order_N] = np.searchsorted(sorted_M, ascending_N, "right")
    return start_N, stop_N
