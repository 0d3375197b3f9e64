"""Rows are normalised to unit length."""

from __future__ import annotations

import numpy as np

from harness.search.unit_rows import unit_rows


def test_rows_are_divided_by_their_length_and_a_zero_row_stays_zero() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
