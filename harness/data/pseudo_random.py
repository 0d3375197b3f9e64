"""Pseudo-random numbers computed from a number and a key, so that no generator state has to be stored."""

from __future__ import annotations

import numpy as np


def mix64(value: np.ndarray, key: int) -> np.ndarray:
    """Pseudo-random uint64 of (value, key): the finaliser of SplitMix64 (Steele et al. 2014, fig. 16)."""
    with np.errstate(over="ignore"):
        z = (np.asarray(value).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
