"""Vectors as an index with 8 bits or 1 bit a dimension keeps them, by `sentence_transformers.quantization`.

They are compared as float32 numbers again: products of int8 numbers would wrap around at 256.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from harness import comm
from harness.export.formats.sizes import Quantised
from harness.search.unit_rows import unit_rows


def quantised_rows(tables: Sequence[np.ndarray], precision: Quantised) -> list[np.ndarray]:
    """Each table [N, D], normalised, quantised, and as numbers again: float32 [N, D]. Every rank must call it.

    int8: 256 equal steps per dimension, from its lowest to its highest value in all tables of all ranks; each number is
    the middle of its step. binary: the signs, as 1 and -1.
    """
    rows = [unit_rows(table_ND) for table_ND in tables]
    if precision == "binary":
        return [signs(binary_codes(row_ND), row_ND.shape[1]) for row_ND in rows]
    from sentence_transformers.quantization import quantize_embeddings

    low_D, high_D = _ranges(rows)
    step_D = np.where(high_D > low_D, (high_D - low_D) / 255, 0).astype(np.float32)
    ranges = np.stack([low_D, high_D])
    codes = [quantize_embeddings(row_ND, "int8", ranges=ranges) for row_ND in rows]
    middles = [(code_ND.astype(np.float32) + 128.5) * step_D + low_D for code_ND in codes]
    return [np.where(row_ND.any(1, keepdims=True), middle, 0) for row_ND, middle in zip(rows, middles, strict=True)]


def binary_codes(row_ND: np.ndarray) -> np.ndarray:
    """One bit a dimension, whether the number is above 0: uint8 [N, D / 8]."""
    from sentence_transformers.quantization import quantize_embeddings

    return quantize_embeddings(row_ND, "ubinary")


def signs(code_NE: np.ndarray, dim: int) -> np.ndarray:
    """The bits as 1 and -1: float32 [N, D]. Their products are D - 2 · Hamming distance."""
    return np.unpackbits(code_NE, axis=1, count=dim).astype(np.float32) * 2 - 1


def _ranges(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value of each dimension [D], over all ranks; rows of zeros, unused, do not count."""
    used = np.concatenate([row_ND[row_ND.any(axis=1)] for row_ND in rows])
    limits_2D = np.full((2, rows[0].shape[1]), -np.inf, dtype=np.float32)
    if len(used):
        limits_2D = np.stack([-used.min(axis=0), used.max(axis=0)])
    limits = comm.all_reduce_max(torch.from_numpy(limits_2D).to(comm.device())).cpu().numpy()
    return -limits[0], limits[1]
