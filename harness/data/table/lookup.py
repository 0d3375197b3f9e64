"""Writes the lookup tables of a source: its rows sorted by either hash of their query, and sorted by label.

A single sort would need the whole array in memory. Instead the keys are divided into ranges, and the rows of one range
are sorted at a time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.table.npy import ArrayFile, create_array, open_array

CHUNK_ROWS = 1 << 20
BUCKET_ROWS = 1 << 22  # rows sorted at once, about 130 MB


def write_query_lookup(folder: Path, bucket_rows: int = BUCKET_ROWS) -> None:
    """Write `sorted_query_hash_R` and `sorted_query_row_R` from `query_hash_R`, which is deleted."""
    _write_sorted(folder, "query_hash_R", "sorted_query_hash_R", "sorted_query_row_R", bucket_rows)


def write_query_token_lookup(folder: Path, row_start_R1: np.ndarray, bucket_rows: int = BUCKET_ROWS) -> None:
    """Write `sorted_query_token_hash_R` and `sorted_query_token_row_R` from `token_hash_G`; both in `folder`."""
    token_hash_G = open_array(folder / "token_hash_G.npy")
    with ArrayFile(folder / "query_token_hash_R.npy", "uint64") as hashes:
        for start in range(0, len(row_start_R1) - 1, CHUNK_ROWS):
            hashes.append(token_hash_G[row_start_R1[start : min(start + CHUNK_ROWS, len(row_start_R1) - 1)]])
    names = ("query_token_hash_R", "sorted_query_token_hash_R", "sorted_query_token_row_R")
    _write_sorted(folder, *names, bucket_rows)


def _write_sorted(folder: Path, source_name: str, hash_name: str, row_name: str, bucket_rows: int) -> None:
    """Sort the rows of an array of hashes, which is deleted.

    Rows with equal hashes keep their order. The hashes are uniformly distributed, so that ranges of equal width
    ("buckets") contain about `bucket_rows` rows each.
    """
    source = folder / f"{source_name}.npy"
    hash_R = open_array(source)
    num_bits = max(0, (len(hash_R) - 1) // bucket_rows).bit_length()
    with (
        ArrayFile(folder / f"{hash_name}.npy", "uint64") as hashes,
        ArrayFile(folder / f"{row_name}.npy", "int64") as rows,
    ):
        for bucket in range(1 << num_bits):
            row_N = _rows_of_bucket(hash_R, bucket, num_bits)
            hash_N = hash_R[row_N]
            order = np.argsort(hash_N, kind="stable")
            hashes.append(hash_N[order])
            rows.append(row_N[order])
    source.unlink()


def _rows_of_bucket(hash_R: np.ndarray, bucket: int, num_bits: int) -> np.ndarray:
    """The rows, ascending, whose hash begins with the `num_bits` bits of `bucket`."""
    if num_bits == 0:
        return np.arange(len(hash_R))
    shift = np.uint64(64 - num_bits)
    rows_of_chunks = [
        start + np.flatnonzero((hash_R[start : start + CHUNK_ROWS] >> shift) == bucket)
        for start in range(0, len(hash_R), CHUNK_ROWS)
    ]
    return np.concatenate(rows_of_chunks)


def write_label_lookup(folder: Path, num_labels: int, chunk_rows: int = CHUNK_ROWS) -> None:
    """From `label_R`, write `label_order_R` (rows sorted by label, then by row) and `label_start_C1`: counting sort."""
    label_R = open_array(folder / "label_R.npy")
    chunks = [slice(start, start + chunk_rows) for start in range(0, len(label_R), chunk_rows)]
    count_C = np.zeros(num_labels, dtype=np.int64)
    for chunk in chunks:
        count_C += np.bincount(label_R[chunk], minlength=num_labels)
    start_C1 = np.concatenate([[0], np.cumsum(count_C)])
    np.save(folder / "label_start_C1.npy", start_C1)
    order_R = create_array(folder / "label_order_R.npy", "int64", (len(label_R),))
    next_C = start_C1[:-1].copy()
    for chunk in chunks:
        label_N = np.asarray(label_R[chunk])
        by_label = np.argsort(label_N, kind="stable")
        count_C = np.bincount(label_N, minlength=num_labels)
        first_C = np.cumsum(count_C) - count_C
        sorted_N = label_N[by_label]
        order_R[next_C[sorted_N] + np.arange(len(label_N)) - first_C[sorted_N]] = chunk.start + by_label
        next_C += count_C
    order_R.flush()
