"""Stages 2 and 3: find exact and near duplicates among the pairs; the first pair of each group is kept.

Exact duplicates are equal after normalisation, or encode alike: their queries have equal tokens after prompt and
truncation, and so have their positives. Two pairs are near duplicates if both their queries and their positives
are similar. One similar side is not enough, because different questions may have equal answers, and one question may
have several answers. The similarity of two texts is the Jaccard similarity of their sets of character shingles (not of
words, because Chinese has no spaces). MinHash estimates it as the share of positions at which two signatures agree
(Broder 1997). A signature is divided into bands, and only pairs that agree in a whole band are compared. datasketch
computes the signatures and the size of the bands. Its own search creates Python objects for every pair; this module
sorts arrays instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import xxhash
from numpy.lib import format as npy_format

from harness import comm
from harness.data.pseudo_random import mix64
from harness.data.table.identity import TextKeys, identities
from harness.files import replace_file
from harness.filtering.config import FilterConfig
from harness.filtering.junk_rules import normalised

BLOCK_PAIRS = 4096  # number of pairs whose signatures are computed together and written to one file
# datasketch chooses the bands by the weighted sum of two errors: similar pairs that no band finds, and dissimilar pairs
# that a band finds. The second error only costs the time of a comparison; a pair of the first kind is never compared.
_MISSED, _NEEDLESS = 0.98, 0.02


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


def signature(text: str, config: FilterConfig) -> np.ndarray:
    """MinHash of a text's set of character shingles, uint32 [H / 2]. A text shorter than a shingle is one shingle."""
    minhash_class, _ = _datasketch()
    width = config.shingle_characters
    shingles = {text[i : i + width].encode() for i in range(max(1, len(text) - width + 1))}
    minhash = minhash_class(num_perm=config.num_hashes, hashfunc=xxhash.xxh32_intdigest)
    minhash.update_batch(shingles)
    return minhash.hashvalues.astype(np.uint32)


def pair_signature(text: str, config: FilterConfig) -> np.ndarray:
    """Signature of a `pair_text`, uint32 [H]. Hashes of query and positive alternate, so that every band has both."""
    return np.stack([signature(side, config) for side in text.split("\n")], axis=1).ravel()


def write_signatures(
    folder: Path,
    read: Callable[[np.ndarray], Sequence[str]],
    num_pairs: int,
    config: FilterConfig,
    progress: Callable[[int], None],
) -> list[Path]:
    """Write the signatures of all pairs, uint32 [at most BLOCK_PAIRS, H] per file; returns the files in order.

    Every rank must call this; each writes every W-th file (W ranks) unless an earlier start has written the file. read:
    returns the `pair_text` of the pairs with the given numbers.
    """
    _datasketch()  # refuse before any work if it is not installed
    starts = range(0, num_pairs, BLOCK_PAIRS)
    paths = [folder / f"{first:012d}.npy" for first in starts]
    for number, (first, path) in enumerate(zip(starts, paths, strict=True)):
        if number % comm.world_size() != comm.rank():
            continue
        progress(first)
        if not path.exists():
            texts = read(np.arange(first, min(first + BLOCK_PAIRS, num_pairs)))
            signature_EH = np.stack([pair_signature(text, config) for text in texts])
            replace_file(path, partial(np.save, arr=signature_EH))
    comm.barrier()
    progress(num_pairs)
    return paths


def is_near_duplicate(files: Sequence[Path], config: FilterConfig, folder: Path) -> np.ndarray:
    """For each pair, whether it is a near duplicate of an earlier kept pair, bool [E].

    files: the result of `write_signatures`. folder: a folder to create for memory-mapped arrays, because the signatures
    may be larger than memory.
    """
    folder.mkdir(parents=True)
    signature_EH = _join(files, folder / "signature_EH.npy", 2 * config.num_hashes)
    num_bands, band_width = _bands(config)
    shape = (len(signature_EH), num_bands)
    bucket_EB = npy_format.open_memmap(folder / "bucket_EB.npy", mode="w+", dtype=np.int64, shape=shape)
    next_bucket = 0
    for band in range(num_bands):
        bucket_EB[:, band], next_bucket = _buckets(signature_EH, band * band_width, band_width, next_bucket)
    return _is_near_kept_pair(signature_EH, bucket_EB, config.near_threshold)


def _join(files: Sequence[Path], path: Path, width: int) -> np.ndarray:
    """The arrays of all files as one memory-mapped array uint32 [E, width]."""
    blocks = [np.load(file, mmap_mode="r") for file in files]
    shape = (sum(map(len, blocks)), width)
    joined = npy_format.open_memmap(path, mode="w+", dtype=np.uint32, shape=shape)
    first = 0
    for block in blocks:
        joined[first : first + len(block)] = block
        first += len(block)
    return joined


def _buckets(signature_EH: np.ndarray, start: int, width: int, first: int) -> tuple[np.ndarray, int]:
    """The bucket of each pair in one band, int64 [E], and the next free bucket number.

    The band has `width` hashes and begins at hash `start`. Pairs with equal hashes in the band share a bucket. Buckets
    are numbered from `first` on. The bucket is -1 for a pair that shares its hashes with no other pair.
    """
    key_E = np.zeros(len(signature_EH), dtype=np.uint64)
    for column in range(start, start + width):
        key_E = mix64(key_E ^ signature_EH[:, column], column)
    _, bucket_E, count_U = np.unique(key_E, return_inverse=True, return_counts=True)
    number_U = np.where(count_U > 1, first + np.cumsum(count_U > 1) - 1, -1)
    return number_U[bucket_E], first + int((count_U > 1).sum())


def similarity(signature_EH: np.ndarray, signature_H: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of many pairs to one pair, float64 [E]: the lower one of query and positive."""
    agrees = (signature_EH == signature_H).reshape(len(signature_EH), -1, 2)
    return agrees.mean(axis=1).min(axis=1)


def _is_near_kept_pair(signature_EH: np.ndarray, bucket_EB: np.ndarray, threshold: float) -> np.ndarray:
    """For each pair, whether its similarity to an earlier kept pair is at least `threshold`, bool [E]."""
    repeated_E = np.zeros(len(signature_EH), dtype=bool)
    kept: dict[int, list[int]] = defaultdict(list)  # bucket → its kept pairs
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
    """(number of bands, hashes per band), chosen so that nearly all pairs above the threshold share a bucket."""
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
