"""Which pairs are compared: those that agree in a band, and at most a fixed number for each pair and band.

All members of a bucket (the pairs that agree in one band) are compared if the bucket is small. Texts made from a
template share most shingles, so that thousands may be in one bucket. There, each pair is compared with the bucket's
first pairs, of which most near duplicates are copies, and with its neighbours in the order of the signatures' other
hashes, in which similar pairs are neighbours, in another order for each band (sorted neighbourhood, Hernández and
Stolfo 1995). So the work is linear in the number of pairs, at the price of near duplicates that are missed there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.distinct import distinct
from harness.filtering.near.signatures import Bands, SignatureFiles

LARGEST_WHOLE = 32  # pairs in a bucket of which all are compared
NEIGHBOURS = 8  # in a larger one: pairs before and after each with which it is compared
EARLIEST = 4  # in a larger one: first pairs with which all others are compared
MOST_COMPARISONS = max((LARGEST_WHOLE - 1) / 2, NEIGHBOURS + EARLIEST)  # in a band, per pair: a mean over all pairs
_ORDERING_HASHES = 8  # hashes after the band by which a large bucket is sorted


@dataclass(frozen=True, slots=True)
class Candidates:
    """The pairs to compare, and how much was left out.

    edge_N: earlier pair * number of pairs + later pair, int64, ascending. large_buckets: those whose pairs are not all
    compared with each other; in_large_E: the pairs in one of them, bool [E].
    """

    edge_N: np.ndarray
    large_buckets: int
    in_large_E: np.ndarray


def band_candidates(files: SignatureFiles, band: int) -> Candidates:
    """The pairs to compare because they agree in a band. Memory: about 60 bytes per pair, and 8 per comparison."""
    key_E = files.band(band)
    order_E = np.argsort(key_E, kind="stable")  # in a bucket by number
    bucket_E = np.cumsum(np.diff(key_E[order_E], prepend=key_E[order_E[:1]]) != 0)
    size_E = np.bincount(bucket_E)[bucket_E]
    shared_M = np.flatnonzero(size_E > 1)
    pair_M, bucket_M, size_M = order_E[shared_M], bucket_E[shared_M], size_E[shared_M]
    is_large_M = size_M > LARGEST_WHOLE
    earliest = _with_earliest(pair_M[is_large_M], bucket_M[is_large_M], len(key_E))
    pair_M[is_large_M] = _sorted_by_other_hashes(files, band, pair_M[is_large_M], bucket_M[is_large_M])
    edge_N = distinct(np.concatenate([earliest, _with_neighbours(pair_M, bucket_M, is_large_M, len(key_E))]))
    in_large_E = np.zeros(len(key_E), dtype=bool)
    in_large_E[pair_M[is_large_M]] = True
    return Candidates(edge_N, len(distinct(bucket_M[is_large_M])), in_large_E)


def _with_neighbours(pair_M: np.ndarray, bucket_M: np.ndarray, is_large_M: np.ndarray, num_pairs: int) -> np.ndarray:
    """Each pair with the following ones of its bucket: all of a small bucket, NEIGHBOURS of a large one."""
    edges = [np.empty(0, dtype=np.int64)]
    for distance in range(1, LARGEST_WHOLE):
        near_M = bucket_M[distance:] == bucket_M[:-distance]
        if distance > NEIGHBOURS:
            near_M &= ~is_large_M[distance:]
        if not near_M.any():
            break
        edges.append(_edges(pair_M[:-distance][near_M], pair_M[distance:][near_M], num_pairs))
    return np.concatenate(edges)


def _with_earliest(pair_L: np.ndarray, bucket_L: np.ndarray, num_pairs: int) -> np.ndarray:
    """The EARLIEST pairs of each large bucket with all its others. pair_L: in the order of buckets, then of numbers."""
    if not len(pair_L):
        return np.empty(0, dtype=np.int64)
    start_L = np.flatnonzero(np.diff(bucket_L, prepend=-1))[np.cumsum(np.diff(bucket_L, prepend=-1) != 0) - 1]
    place_L = np.arange(len(pair_L)) - start_L
    edges = []
    for place in range(EARLIEST):
        later_L = place_L > place
        edges.append(_edges(pair_L[start_L[later_L] + place], pair_L[later_L], num_pairs))
    return np.concatenate(edges)


def _sorted_by_other_hashes(files: SignatureFiles, band: int, pair_L: np.ndarray, bucket_L: np.ndarray) -> np.ndarray:
    """The pairs of large buckets, sorted by bucket and then by the hashes that follow the band."""
    if not len(pair_L):
        return pair_L
    width = Bands.of(files.config).width
    column_O = (np.arange(_ORDERING_HASHES) + (band + 1) * width) % (2 * files.config.num_hashes)
    hash_LO = files.rows(pair_L)[:, column_O]
    return pair_L[np.lexsort((pair_L, *hash_LO.T[::-1], bucket_L))]


def _edges(left_N: np.ndarray, right_N: np.ndarray, num_pairs: int) -> np.ndarray:
    return np.minimum(left_N, right_N) * num_pairs + np.maximum(left_N, right_N)
