"""Compares pairs: by their signatures first, then exactly; and decides which of the near duplicates stay."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.data.distinct import distinct
from harness.filtering.near.shingles import jaccard, shingle_sets
from harness.filtering.near.signatures import ReadTexts, SignatureFiles, similarities

# A comparison whose estimate is this many standard errors below the threshold ends there: one in 30,000 of the pairs at
# the threshold are lost by it.
SCREENING_ERRORS = 4.0
_SCREENED = 16_384  # comparisons whose signatures are in memory at a time
_TILE = 4096  # comparisons are sorted by blocks of so many pairs, so that texts in memory are used again
_PAIRS, _CHARACTERS = 8192, 4_000_000  # whose texts are in memory at a time, unless one comparison has more
_DECIDED = 1_000_000  # near duplicates taken from numpy at a time


def screened(files: SignatureFiles, edge_N: np.ndarray) -> np.ndarray:
    """The comparisons whose estimated similarity may be that of a near duplicate, int64."""
    threshold = files.config.near_threshold
    error = (threshold * (1 - threshold) / files.config.num_hashes) ** 0.5
    kept = [np.empty(0, dtype=np.int64)]
    for first in range(0, len(edge_N), _SCREENED):
        part_N = edge_N[first : first + _SCREENED]
        left_EH, right_EH = (files.rows(pair_N) for pair_N in np.divmod(part_N, files.num_pairs))
        kept.append(part_N[similarities(left_EH, right_EH) >= threshold - SCREENING_ERRORS * error])
    return np.concatenate(kept)


def near(read: ReadTexts, edge_N: np.ndarray, files: SignatureFiles) -> np.ndarray:
    """The comparisons of near duplicates, ascending: the sides' similarity, computed exactly, reaches the threshold."""
    left_N, right_N = np.divmod(edge_N, files.num_pairs)
    order_N = np.lexsort((edge_N, right_N // _TILE, left_N // _TILE))
    found = [np.empty(0, dtype=np.int64)]
    for part_N in _parts(edge_N[order_N], files.num_pairs):
        found += _near_part(read, part_N, files)
    return np.sort(np.concatenate(found))


def _parts(edge_N: np.ndarray, num_pairs: int) -> Iterator[np.ndarray]:
    """The comparisons in parts of at most `_PAIRS` pairs."""
    for first in range(0, len(edge_N), _SCREENED):
        yield from _halves(edge_N[first : first + _SCREENED], num_pairs)


def _halves(edge_N: np.ndarray, num_pairs: int) -> Iterator[np.ndarray]:
    if len(edge_N) <= 1 or len(_pairs_of(edge_N, num_pairs)) <= _PAIRS:
        yield edge_N
        return
    middle = len(edge_N) // 2
    yield from _halves(edge_N[:middle], num_pairs)
    yield from _halves(edge_N[middle:], num_pairs)


def _near_part(read: ReadTexts, edge_N: np.ndarray, files: SignatureFiles) -> list[np.ndarray]:
    pair_T = _pairs_of(edge_N, files.num_pairs)
    texts = read(pair_T)
    if len(edge_N) > 1 and sum(map(len, texts)) > _CHARACTERS:
        middle = len(edge_N) // 2
        return [*_near_part(read, edge_N[:middle], files), *_near_part(read, edge_N[middle:], files)]
    for side in zip(*(text.split("\n") for text in texts), strict=True):  # the queries, then the positives
        sets = shingle_sets(side, files.config.shingle_characters)
        left_N, right_N = (np.searchsorted(pair_T, pair_N) for pair_N in np.divmod(edge_N, files.num_pairs))
        edge_N = edge_N[jaccard(sets, left_N, right_N) >= files.config.near_threshold]
    return [edge_N]


def _pairs_of(edge_N: np.ndarray, num_pairs: int) -> np.ndarray:
    return distinct(np.concatenate(np.divmod(edge_N, num_pairs)))


def repeated(near_N: np.ndarray, num_pairs: int) -> np.ndarray:
    """For each pair, whether it is a near duplicate of an earlier pair that stays, bool [E].

    A pair that is near a dropped pair only stays: what counts are the pairs that are kept.
    """
    left_N, right_N = np.divmod(near_N, num_pairs)
    order_N = np.argsort(right_N, kind="stable")  # so that all that comes before a pair is decided before it
    is_repeated = bytearray(num_pairs)
    for first in range(0, len(near_N), _DECIDED):
        part_N = order_N[first : first + _DECIDED]
        for left, right in zip(left_N[part_N].tolist(), right_N[part_N].tolist(), strict=True):
            if not is_repeated[left]:
                is_repeated[right] = 1
    return np.frombuffer(is_repeated, dtype=np.uint8).astype(bool)
