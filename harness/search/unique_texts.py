"""Finds equal texts by their hashes, so that each distinct text is encoded and searched once."""

from __future__ import annotations

import numpy as np


def unique_texts(hash_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct hashes: (position of each one's first entry, int64 [U]; each entry's distinct hash, int64 [E]).

    The distinct hashes are numbered in the order of their first occurrence, so that texts that are read together are
    close to each other on disk.
    """
    _, first_U, inverse_E = np.unique(hash_E, return_index=True, return_inverse=True)
    order_U = np.argsort(first_U)
    rank_U = np.empty_like(order_U)
    rank_U[order_U] = np.arange(len(order_U))
    return first_U[order_U], rank_U[inverse_E]


def positions_in(hash_U: np.ndarray, hash_E: np.ndarray) -> np.ndarray:
    """Position of each of `hash_E` in the distinct hashes `hash_U`: int64 [E], -1 for a hash not in `hash_U`."""
    if not len(hash_U):
        return np.full(len(hash_E), -1)
    order_U = np.argsort(hash_U)
    position_E = order_U[np.minimum(np.searchsorted(hash_U, hash_E, sorter=order_U), len(hash_U) - 1)]
    return np.where(hash_U[position_E] == hash_E, position_E, -1)
