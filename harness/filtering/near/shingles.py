"""The character shingles of texts, as arrays of hashes, and the exact Jaccard similarity of texts.

Shapes: T texts, S shingles of all texts one after the other, E compared pairs of texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from harness.data.pseudo_random import mix64

# Fills up a text that is shorter than a shingle. It is no character (Unicode, chapter 23.7), so no other text has it.
_FILLER = "\U0010ffff"
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no character is lost in the product
_HASH_BITS = 44  # of a shingle's hash where sets are compared; the bits above hold the number of the text
MOST_TEXTS = 2 ** (63 - _HASH_BITS)  # in one call of `shingle_sets`
_COMPARED_SHINGLES = 4_000_000  # of both sides, in memory at a time


def shingle_hashes(texts: Sequence[str], width: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes of all shingles of `width` characters, uint64 [S]; where each text begins and the last ends, [T + 1]).

    A shingle that stands in a text twice is there twice. A text shorter than a shingle is one shingle.
    """
    filled = [text if len(text) >= width else text.ljust(width, _FILLER) for text in texts]
    code = np.frombuffer("".join(filled).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    end_T = np.cumsum(np.fromiter(map(len, filled), np.int64, len(filled)))
    start_T1 = np.concatenate([[0], end_T - (width - 1) * np.arange(1, len(filled) + 1)])
    if not len(code):
        return np.empty(0, dtype=np.uint64), start_T1
    hash_P = np.zeros(len(code) - width + 1, dtype=np.uint64)  # at every place, also across the ends of texts
    for place in range(width):
        hash_P = hash_P * _FACTOR + code[place : place + len(hash_P)]
    crosses_P = np.zeros(len(code), dtype=bool)
    for back in range(1, width):
        crosses_P[end_T - back] = True
    return mix64(hash_P[~crosses_P[: len(hash_P)]], width), start_T1


def shingle_sets(texts: Sequence[str], width: int) -> csr_array:
    """The texts' sets of shingles: a row per text, a column per hash of 44 bits, 1 where the text has the shingle.

    Two shingles of different characters have one hash with probability 2^-44.
    """
    assert len(texts) <= MOST_TEXTS
    hash_S, start_T1 = shingle_hashes(texts, width)
    text_S = np.repeat(np.arange(len(texts), dtype=np.int64), np.diff(start_T1))
    key_S = np.sort((text_S << _HASH_BITS) | (hash_S >> np.uint64(64 - _HASH_BITS)).astype(np.int64))
    key_S = key_S[np.diff(key_S, prepend=-1) != 0]
    bounds_T1 = np.searchsorted(key_S, np.arange(len(texts) + 1, dtype=np.int64) << _HASH_BITS)
    column_S = key_S & (2**_HASH_BITS - 1)
    shape = (len(texts), 2**_HASH_BITS)
    return csr_array((np.ones(len(key_S), dtype=np.int8), column_S, bounds_T1), shape=shape)


def jaccard(sets: csr_array, left_E: np.ndarray, right_E: np.ndarray) -> np.ndarray:
    """|A ∩ B| / |A ∪ B| of the texts `left_E` and `right_E` (rows of `sets`), float64 [E]."""
    size_T = np.diff(sets.indptr)
    shared_E = np.empty(len(left_E), dtype=np.int64)
    last_E = np.cumsum(size_T[left_E] + size_T[right_E])
    first = 0
    while first < len(left_E):
        done = last_E[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(last_E, done + _COMPARED_SHINGLES, side="right")))
        both = sets[left_E[first:stop]].multiply(sets[right_E[first:stop]]).tocsr()
        shared_E[first:stop] = np.diff(both.indptr)
        first = stop
    return shared_E / (size_T[left_E] + size_T[right_E] - shared_E)
