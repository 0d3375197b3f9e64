"""Normalises embeddings to length 1, so that their inner product is the cosine."""

from __future__ import annotations

import numpy as np

BLOCK_ROWS = 16_384  # rows in float64 at a time, so that memory does not grow with the table


def unit_rows(row_ND: np.ndarray) -> np.ndarray:
    """row / |row| of each row, float32 [N, D]; a zero row stays zero.

    Length and quotient are computed in float64 and rounded once. In float32, rows of one direction but different
    lengths would differ in their last bits, and noise would decide ties between them.
    """
    unit_ND = np.empty(row_ND.shape, dtype=np.float32)
    for first in range(0, len(row_ND), BLOCK_ROWS):
        block_BD = np.asarray(row_ND[first : first + BLOCK_ROWS], dtype=np.float64)
        length_B1 = np.linalg.norm(block_BD, axis=1, keepdims=True)
        unit_ND[first : first + BLOCK_ROWS] = block_BD / np.where(length_B1 == 0, 1.0, length_B1)
    return unit_ND
