"""Rows are sorted by query hash and by label in pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.table import lookup
from harness.data.table.npy import ArrayFile, open_array


def test_the_query_lookup_is_the_same_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than fit into one bucket are sorted bucket by bucket."""
    sizes: list[int] = []
    argsort = np.argsort
    monkeypatch.setattr(np, "argsort", lambda array, **options: sizes.append(len(array)) or argsort(array, **options))
    hashes = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64, endpoint=False)
    hashes[::10] = hashes[0]
    hashes[:2] = [0, 2**64 - 1]
    for bucket_rows in (10_000, 700, 7):
        with ArrayFile(tmp_path / "query_hash_R.npy", "uint64") as file:
            file.append(hashes)
        lookup.write_query_lookup(tmp_path, bucket_rows)
        assert max(sizes) < 2 * bucket_rows + 500  # 500 equal hashes must be in the same bucket
        sizes.clear()
        order = argsort(hashes, kind="stable")
        assert np.array_equal(open_array(tmp_path / "sorted_query_row_R.npy"), order)
        assert np.array_equal(open_array(tmp_path / "sorted_query_hash_R.npy"), hashes[order])


def test_the_label_lookup_is_the_same_in_pieces(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 9, 1000, dtype=np.int32)
    np.save(tmp_path / "label_R.npy", labels)
    for chunk_rows in (2000, 64, 1):
        lookup.write_label_lookup(tmp_path, 10, chunk_rows)
        assert np.array_equal(open_array(tmp_path / "label_order_R.npy"), np.argsort(labels, kind="stable"))
        expected = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=10))])
        assert np.array_equal(open_array(tmp_path / "label_start_C1.npy"), expected)
