"""Stage 2: exact duplicates: pairs that are one after normalisation; the first stays."""

from __future__ import annotations

import numpy as np
import xxhash

from harness.filtering.junk_rules import normalised


def pair_text(query: str, positive: str) -> str:
    """The pair as duplicates are compared: both sides normalised, which leaves no line break in either."""
    return f"{normalised(query)}\n{normalised(positive)}"


def pair_hash(query: str, positive: str) -> int:
    """A 64-bit hash of `pair_text`."""
    return xxhash.xxh3_64_intdigest(pair_text(query, positive).encode())


def repeats(hash_E: np.ndarray) -> np.ndarray:
    """Whether an earlier entry has the same hash, bool [E]."""
    repeated_E = np.ones(len(hash_E), dtype=bool)
    repeated_E[np.unique(hash_E, return_index=True)[1]] = False
    return repeated_E
