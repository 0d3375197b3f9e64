"""Stage 2: find exact duplicates among the pairs; the first pair of each group is kept.

Exact duplicates are equal after normalisation, or encode alike: their queries have equal tokens after prompt and
truncation, and so have their positives. Near duplicates, stage 3, are found in `near/`.
"""

from __future__ import annotations

import numpy as np
import xxhash

from harness.data.pseudo_random import mix64
from harness.data.table.identity import TextKeys, identities
from harness.filtering.junk_rules import normalised


def pair_text(query: str, positive: str) -> str:
    """A pair as one text: the normalised query and positive, separated by the only line break of the text."""
    return f"{normalised(query)}\n{normalised(positive)}"


def pair_hash(query: str, positive: str) -> int:
    """A 64-bit hash of `pair_text`."""
    return xxhash.xxh3_64_intdigest(pair_text(query, positive).encode())


def is_repeated(pair_hash_E: np.ndarray, query_token_E: np.ndarray, positive_token_E: np.ndarray) -> np.ndarray:
    """For each pair, whether an earlier pair is the same, bool [E].

    pair_hash_E: `pair_hash`. query_token_E, positive_token_E: uint64, hashes of the token ids.
    """
    encoded_E = mix64(mix64(query_token_E, 1) ^ positive_token_E, 2)
    repeated_E = np.ones(len(pair_hash_E), dtype=bool)
    repeated_E[np.unique(identities(TextKeys(pair_hash_E, encoded_E)), return_index=True)[1]] = False
    return repeated_E
