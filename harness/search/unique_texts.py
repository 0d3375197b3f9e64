"""Finds equal texts by their hashes, so that each different text is encoded and searched once."""

from __future__ import annotations

import numpy as np


def unique_texts(hash_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(position of each different hash's first entry, int64 [U], ascending; which of these each entry is, int64 [E]).

    The order is that of first occurrence, not of the hashes: texts that are read together then lie together on disk.
    """
    _, first_U, inverse_E = np.unique(hash_E, return_index=True, return_inverse=True)
    order_U = np.argsort(first_U)
    rank_U = np.empty_like(order_U)
    rank_U[order_U] = np.arange(len(order_U))
    return first_U[order_U], rank_U[inverse_E]


def positions_in(hash_U: np.ndarray, hash_E: np.ndarray) -> np.ndarray:
    """Position of each of `hash_E` in `hash_U`, which holds each hash once: int64 [E], -1 where it is not there."""
    if not len(hash_U):
        return np.full(len(hash_E), -1)
    order_U = np.argsort(hash_U)
    position_E = order_U[np.minimum(np.searchsorted(hash_U, hash_E, sorter=order_U), len(hash_U) - 1)]
    return np.where(hash_U[position_E] == hash_E, position_E, -1)
