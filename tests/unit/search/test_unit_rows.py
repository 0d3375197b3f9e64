"""Rows are normalised to unit length."""

from __future__ import annotations

import numpy as np
import pytest

from harness.search import unit_rows as module
from harness.search.unit_rows import unit_rows


def test_rows_are_divided_by_their_length_and_a_zero_row_stays_zero() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_rows_of_one_direction_have_equal_bits_whatever_their_lengths() -> None:
    """Otherwise noise would decide ties between them; float32 divisions leave differences of one bit."""
    row_D = np.random.RandomState(0).standard_normal(96).astype(np.float32)
    rows = np.outer(2.0 ** np.arange(-20, 20), row_D).astype(np.float32)
    rows = np.concatenate([rows, np.outer([3, 5, 7, 11], np.round(row_D, 2)).astype(np.float64)])
    assert len(np.unique(unit_rows(rows)[:40], axis=0)) == len(np.unique(unit_rows(rows)[40:], axis=0)) == 1
    direct = (rows[40:].astype("f") / np.linalg.norm(rows[40:].astype("f"), axis=1, keepdims=True)).astype("f")
    assert len(np.unique(direct, axis=0)) > 1


def test_the_size_of_a_block_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.RandomState(0).standard_normal((10, 7)).astype(np.float16)
    expected = unit_rows(rows)
    monkeypatch.setattr(module, "BLOCK_ROWS", 3)
    np.testing.assert_array_equal(unit_rows(rows), expected)
