"""Small vectorised helpers on ragged lists and hashed choices."""

from __future__ import annotations

import numpy as np


def expand_ranges(start_Q: np.ndarray, stop_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate the ranges [start, stop): returns (owner, value), both as long as all ranges together."""
    length_Q = np.maximum(stop_Q - start_Q, 0)
    owner = np.repeat(np.arange(len(length_Q)), length_Q)
    begin_Q = np.cumsum(length_Q) - length_Q
    value = np.arange(int(length_Q.sum())) - begin_Q[owner] + np.asarray(start_Q)[owner]
    return owner, value


def mix64(value: np.ndarray, key: int) -> np.ndarray:
    """Pseudo-random uint64 of (value, key): the finaliser of SplitMix64 (Steele et al. 2014, fig. 16)."""
    with np.errstate(over="ignore"):
        z = (np.asarray(value).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
