"""MinHash signatures of pairs, written to disk block by block, and the bands into which they are cut.

The similarity of two texts is the Jaccard similarity of their sets of character shingles (not of words, because Chinese
has no spaces). MinHash estimates it as the share of positions at which two signatures agree (Broder 1997). rensa
computes the signatures, from all shingles of many texts in one call.

FOLDER/  signature-FIRST.npy  uint32 [at most BLOCK_PAIRS, H]   bands-FIRST.npy  uint64 [B, at most BLOCK_PAIRS]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from harness import comm
from harness.data.pseudo_random import mix64
from harness.files import replace_file
from harness.filtering.config import FilterConfig
from harness.filtering.near.shingles import shingle_hashes
from harness.rank0 import wait_until_visible

BLOCK_PAIRS = 4096  # number of pairs whose signatures are computed together and written to one file
_SEED = 1
_QUERY_BITS, _POSITIVE_BITS = np.uint8(0b10101010), np.uint8(0b01010101)  # their places in a byte of eight positions
# The share of the pairs exactly at the threshold that no band finds, if the number of hashes allows. More similar pairs
# are missed less often: at 128 hashes and a threshold of 0.8, it is 0.3 % at 0.8 and 1 in 10^8 at 0.9.
LARGEST_MISS = 0.01
ReadTexts = Callable[[np.ndarray], Sequence[str]]  # numbers of pairs → their `pair_text`


@dataclass(frozen=True, slots=True)
class Bands:
    """How a signature is cut: `count` bands of `width` hashes. Only pairs that agree in a whole band are compared."""

    count: int
    width: int

    @classmethod
    def of(cls, config: FilterConfig) -> Bands:
        """The widest bands that miss at most `LARGEST_MISS` of the pairs at the threshold; see `missed`."""
        num_hashes = 2 * config.num_hashes
        choices = (cls(num_hashes // width, width) for width in range(num_hashes, 1, -1))
        good = (bands for bands in choices if bands.missed(config.near_threshold) <= LARGEST_MISS)
        return next(good, cls(num_hashes, 1))

    def missed(self, similarity: float) -> float:
        """The probability that two pairs, both of whose sides have this similarity, agree in no band."""
        return float((1 - similarity**self.width) ** self.count)


def signatures(texts: Sequence[str], config: FilterConfig) -> np.ndarray:
    """MinHash of each text's set of character shingles, uint32 [T, H / 2]."""
    hash_S, start_T1 = shingle_hashes(texts, config.shingle_characters)
    digests = _rensa().RMinHash.digest_matrix_from_flat_token_hashes(
        hash_S, start_T1.astype(np.uint64), config.num_hashes, _SEED
    )
    shape = (len(texts), config.num_hashes)
    return np.fromiter(chain.from_iterable(digests.to_rows()), np.uint32, shape[0] * shape[1]).reshape(shape)


def pair_signatures(texts: Sequence[str], config: FilterConfig) -> np.ndarray:
    """Signatures of `pair_text`s, uint32 [E, H]. Hashes of query and positive alternate, so that a band has both."""
    queries, positives = zip(*(text.split("\n") for text in texts), strict=True)
    return np.stack([signatures(queries, config), signatures(positives, config)], axis=2).reshape(len(texts), -1)


def similarities(left_EH: np.ndarray, right_EH: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of pairs of pairs, float64 [E]: the lower one of query and positive."""
    bits_EX = np.packbits(left_EH == right_EH, axis=1)  # four positions of both sides to a byte
    counts = (np.bitwise_count(bits_EX & side).sum(axis=1, dtype=np.int64) for side in (_QUERY_BITS, _POSITIVE_BITS))
    return np.minimum(*counts) / (left_EH.shape[1] // 2)


@dataclass(frozen=True, slots=True)
class SignatureFiles:
    """The signatures of `num_pairs` pairs on disk; see the top of this file."""

    folder: Path
    num_pairs: int
    config: FilterConfig

    def _places(self, kind: str) -> list[Path]:
        return [self.folder / f"{kind}-{first:012d}.npy" for first in range(0, self.num_pairs, BLOCK_PAIRS)]

    def write_share(self, read: ReadTexts, progress: Callable[[int], None]) -> None:
        """Write every W-th block (W ranks) unless an earlier start has written it. No collectives."""
        _rensa()  # refuse before any work if it is not installed
        blocks = zip(self._places("signature"), self._places("bands"), strict=True)
        for number, (signature_file, bands_file) in enumerate(blocks):
            if number % comm.world_size() != comm.rank():
                continue
            first = number * BLOCK_PAIRS
            progress(first)
            if bands_file.exists():
                continue
            texts = read(np.arange(first, min(first + BLOCK_PAIRS, self.num_pairs)))
            signature_EH = pair_signatures(texts, self.config)
            replace_file(signature_file, partial(np.save, arr=signature_EH))
            replace_file(bands_file, partial(np.save, arr=band_keys(signature_EH, Bands.of(self.config))))

    def band(self, number: int) -> np.ndarray:
        """The key of each pair in one band, uint64 [E]: pairs that agree in the band have one key."""
        parts = []
        for place in self._places("bands"):
            wait_until_visible(place)  # another rank has written it, maybe on another host
            parts.append(np.load(place, mmap_mode="r")[number])
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)

    def rows(self, pair_E: np.ndarray) -> np.ndarray:
        """The signatures of some pairs, uint32 [E, H]."""
        row_EH = np.empty((len(pair_E), 2 * self.config.num_hashes), dtype=np.uint32)
        for place_E, block_EH in self._blocks_of(pair_E):
            row_EH[place_E] = block_EH[pair_E[place_E] % BLOCK_PAIRS]
        return row_EH

    def _blocks_of(self, pair_E: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each block that has some of the pairs: (their positions in `pair_E`, the block's signatures)."""
        places = self._places("signature")
        order_E = np.argsort(pair_E // BLOCK_PAIRS, kind="stable")
        number_U, first_U = np.unique(pair_E[order_E] // BLOCK_PAIRS, return_index=True)
        for number, place_E in zip(number_U.tolist(), np.split(order_E, first_U[1:]), strict=True):
            yield place_E, np.load(places[number], mmap_mode="r")


def band_keys(signature_EH: np.ndarray, bands: Bands) -> np.ndarray:
    """A hash of each pair's hashes in each band, uint64 [B, E]."""
    key_BE = np.zeros((bands.count, len(signature_EH)), dtype=np.uint64)
    for band in range(bands.count):
        for column in range(band * bands.width, (band + 1) * bands.width):
            key_BE[band] = mix64(key_BE[band] ^ signature_EH[:, column], column)
    return key_BE


def _rensa() -> Any:
    try:
        import rensa
    except ImportError as error:
        raise ValueError(
            "--duplicates: got near, which needs rensa, expected it installed; "
            "pip install -c constraints.txt -e '.[mining]', or take --duplicates exact"
        ) from error
    return rensa
