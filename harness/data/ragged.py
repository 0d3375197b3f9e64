"""Represents many ranges of different lengths as flat arrays, without a Python loop."""

from __future__ import annotations

import numpy as np


def expand_ranges(start_Q: np.ndarray, stop_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate the ranges [start, stop). Returns (owner, value): the index of each number's range, the number."""
    length_Q = np.maximum(stop_Q - start_Q, 0)
    owner = np.repeat(np.arange(len(length_Q)), length_Q)
    begin_Q = np.cumsum(length_Q) - length_Q
    value = np.arange(int(length_Q.sum())) - begin_Q[owner] + np.asarray(start_Q)[owner]
    return owner, value


def matches(key_N: np.ndarray, other_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (position in `key_N`, position in `other_M`) of equal values: a sort-merge join."""
    order_M = np.argsort(other_M, kind="stable")
    sorted_M = other_M[order_M]
    start_N, stop_N = np.searchsorted(sorted_M, key_N, "left"), np.searchsorted(sorted_M, key_N, "right")
    entry, place = expand_ranges(start_N, stop_N)
    return entry, order_M[place]
