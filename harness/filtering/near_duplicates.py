"""Stage 3: near duplicates, by MinHash over character shingles (no words: Chinese has no spaces).

Two pairs are near duplicates when their queries and their positives both are: many questions may have one answer, and
one question many. Similarity is the Jaccard similarity of the sets of shingles, estimated by the share of places in
which two signatures agree (Broder 1997). Signatures and the cut into bands are datasketch's. Its index of buckets holds
Python objects for every pair; here buckets are found by sorting arrays, and only pairs that share one are looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import xxhash
from numpy.lib import format as npy_format

from harness import comm
from harness.data.pseudo_random import mix64
from harness.files import replace_file
from harness.filtering.config import FilterConfig

BLOCK_PAIRS = 4096  # whose signatures are made at a time, then kept
# Of missed and needless candidates: candidates are compared, so a needless one costs time only.
_MISSED, _NEEDLESS = 0.98, 0.02


def signature(text: str, config: FilterConfig) -> np.ndarray:
    """MinHash of the set of a text's character shingles, uint32 [H / 2]; of a text shorter than one, its own."""
    minhash_class, _ = _datasketch()
    width = config.shingle_characters
    shingles = {text[i : i + width].encode() for i in range(max(1, len(text) - width + 1))}
    minhash = minhash_class(num_perm=config.num_hashes, hashfunc=xxhash.xxh32_intdigest)
    minhash.update_batch(shingles)
    return minhash.hashvalues.astype(np.uint32)


def pair_signature(text: str, config: FilterConfig) -> np.ndarray:
    """The signatures of both lines of a `pair_text` in turn, uint32 [H], so that a band looks at both."""
    return np.stack([signature(side, config) for side in text.split("\n")], axis=1).ravel()


def write_signatures(
    folder: Path,
    read: Callable[[np.ndarray], Sequence[str]],
    num_pairs: int,
    config: FilterConfig,
    progress: Callable[[int], None],
) -> list[Path]:
    """Files of the signatures, uint32 [at most BLOCK_PAIRS, H] each, in order. Every rank calls it and makes every
    W-th block; a block that an earlier start left is not made again.

    read: `pair_text` of some of the pairs, by their numbers.
    """
    _datasketch()
    starts = range(0, num_pairs, BLOCK_PAIRS)
    paths = [folder / f"{first:012d}.npy" for first in starts]
    for number, (first, path) in enumerate(zip(starts, paths, strict=True)):
        if number % comm.world_size() != comm.rank():
            continue
        progress(first)
        if not path.exists():
            texts = read(np.arange(first, min(first + BLOCK_PAIRS, num_pairs)))
            signature_EH = np.stack([pair_signature(text, config) for text in texts])
            replace_file(path, partial(_save, signature_EH))
    comm.barrier()
    progress(num_pairs)
    return paths


def _save(array: np.ndarray, stream: IO[bytes]) -> None:
    np.save(stream, array)


def near_repeats(paths: Sequence[Path], config: FilterConfig, folder: Path) -> np.ndarray:
    """Whether an earlier kept pair is a near duplicate, bool [E]. folder: for arrays that need not fit in memory."""
    blocks = [np.load(path, mmap_mode="r") for path in paths]
    num_pairs = sum(map(len, blocks))
    folder.mkdir(parents=True)
    create = npy_format.open_memmap
    shape = (num_pairs, 2 * config.num_hashes)
    signature_EH = create(folder / "signature_EH.npy", mode="w+", dtype=np.uint32, shape=shape)
    first = 0
    for block in blocks:
        signature_EH[first : first + len(block)] = block
        first += len(block)
    num_bands, band_width = _bands(config)
    bucket_EB = create(folder / "bucket_EB.npy", mode="w+", dtype=np.int64, shape=(num_pairs, num_bands))
    next_bucket = 0
    for band in range(num_bands):
        bucket_EB[:, band], next_bucket = _buckets(signature_EH, band * band_width, band_width, next_bucket)
    return _first_of_each(signature_EH, bucket_EB, config.near_threshold)


def _buckets(signature_EH: np.ndarray, start: int, width: int, first: int) -> tuple[np.ndarray, int]:
    """Number of each pair's bucket in a band, from `first` on; -1 where it is alone in it. And the next free number."""
    key_E = np.zeros(len(signature_EH), dtype=np.uint64)
    for column in range(start, start + width):
        key_E = mix64(key_E ^ signature_EH[:, column], column)
    _, bucket_E, count_U = np.unique(key_E, return_inverse=True, return_counts=True)
    number_U = np.where(count_U > 1, first + np.cumsum(count_U > 1) - 1, -1)
    return number_U[bucket_E], first + int((count_U > 1).sum())


def similarity(signature_EH: np.ndarray, signature_H: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity to one pair, of the less similar of both sides, float64 [E]."""
    agrees = (signature_EH == signature_H).reshape(len(signature_EH), -1, 2)
    return agrees.mean(axis=1).min(axis=1)


def _first_of_each(signature_EH: np.ndarray, bucket_EB: np.ndarray, threshold: float) -> np.ndarray:
    repeated_E = np.zeros(len(signature_EH), dtype=bool)
    kept: dict[int, list[int]] = defaultdict(list)  # bucket → its pairs that stay
    for pair in np.flatnonzero((bucket_EB >= 0).any(axis=1)):
        buckets = [bucket for bucket in bucket_EB[pair].tolist() if bucket >= 0]
        others = sorted({other for bucket in buckets for other in kept[bucket]})
        if others and similarity(signature_EH[others], signature_EH[pair]).max() >= threshold:
            repeated_E[pair] = True
            continue
        for bucket in buckets:
            kept[bucket].append(int(pair))
    return repeated_E


def _bands(config: FilterConfig) -> tuple[int, int]:
    """(number of bands, hashes of a band) that miss few pairs at the threshold."""
    _, lsh_class = _datasketch()
    lsh = lsh_class(threshold=config.near_threshold, num_perm=2 * config.num_hashes, weights=(_NEEDLESS, _MISSED))
    return lsh.b, lsh.r


def _datasketch() -> tuple[type, type]:
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise ValueError(
            "--duplicates: got near, which needs datasketch, expected it installed; "
            "pip install -c constraints.txt -e '.[mining]', or take --duplicates exact"
        ) from error
    return MinHash, MinHashLSH
