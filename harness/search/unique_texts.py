"""Floor 4: texts by their hashes: each once, and where one text stands among others."""

from __future__ import annotations

import numpy as np


def unique_texts(hash_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(entry at which each text comes first, int64 [U], ascending; each entry's text, int64 [E], a place among them).

    In the order in which they come, a block of texts lies together on disk; in that of their hashes, everywhere.
    """
    _, first_U, inverse_E = np.unique(hash_E, return_index=True, return_inverse=True)
    order_U = np.argsort(first_U)
    place_U = np.empty_like(order_U)
    place_U[order_U] = np.arange(len(order_U))
    return first_U[order_U], place_U[inverse_E]


def places(hash_U: np.ndarray, hash_E: np.ndarray) -> np.ndarray:
    """Where each of `hash_E` stands in `hash_U`, which holds each hash once: int64 [E], -1 for nowhere."""
    if not len(hash_U):
        return np.full(len(hash_E), -1)
    order_U = np.argsort(hash_U)
    place_E = order_U[np.minimum(np.searchsorted(hash_U, hash_E, sorter=order_U), len(hash_U) - 1)]
    return np.where(hash_U[place_E] == hash_E, place_E, -1)
