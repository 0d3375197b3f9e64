"""Normalises embeddings to length 1, so that their inner product is the cosine."""

from __future__ import annotations

import numpy as np


def unit_rows(row_ND: np.ndarray) -> np.ndarray:
    """row / |row| of each row, float32 [N, D]; a zero row stays zero."""
    row_ND = np.asarray(row_ND, dtype=np.float32)
    length_N1 = np.linalg.norm(row_ND, axis=1, keepdims=True)
    return row_ND / np.maximum(length_N1, np.finfo(np.float32).tiny)
