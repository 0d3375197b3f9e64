"""Cosine similarity of prefixes (Matryoshka levels) from unnormalised rows.

A row whose prefix is not longer than `EPSILON` counts as zero: its similarity to everything is 0 and no gradient
flows through it (dividing by a tiny norm would send a gradient of 1 / EPSILON instead). A row with NaN or infinite
entries, or whose squared norm overflows, gives NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

EPSILON = 1e-12


def chunks(dims: Sequence[int]) -> list[slice]:
    """The columns each level adds to the one before: [128, 256] -> [0:128], [128:256]."""
    return [slice(start, stop) for start, stop in pairwise((0, *dims))]


def prefix_sums(parts: Iterable[Tensor]) -> Tensor:
    """[K, ...]: running sum of the chunks' values, in a fixed order (a CUDA cumsum has none)."""
    return torch.stack(list(accumulate(parts, torch.add)))


def suffix_sums(level_K: Tensor) -> Tensor:
    """[K, ...]: sum of a level and all above it; what a chunk of columns receives from the levels that use it."""
    return prefix_sums(level_K.flip(0)).flip(0)


def prefix_inverse_norms(row_ND: Tensor, dims: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """[K, N]: 1 / |row[:dim]| for every level, 0 for a zero prefix, computed in `dtype` (the rows'). Differentiable."""
    norms = (torch.linalg.vector_norm(row_ND[:, chunk], dim=1, dtype=dtype) for chunk in chunks(dims))
    squared_KN = prefix_sums(norm_N.square() for norm_N in norms)
    inverse_KN = squared_KN.clamp_min(EPSILON**2).sqrt().reciprocal()
    return inverse_KN.masked_fill(squared_KN <= EPSILON**2, 0.0).masked_fill(squared_KN.isinf(), torch.nan)


def prefix_cosines(left_SD: Tensor, right_SD: Tensor, dims: Sequence[int]) -> Tensor:
    """[K, S]: cosine of row s of both tables at every level. Differentiable, memory linear in S."""
    dot_KS = prefix_sums((left_SD[:, chunk] * right_SD[:, chunk]).sum(1) for chunk in chunks(dims))
    return dot_KS * prefix_inverse_norms(left_SD, dims) * prefix_inverse_norms(right_SD, dims)
