"""Cosine similarities of row prefixes (the first dim columns, one prefix per Matryoshka level).

The rows need no normalisation. A prefix whose norm is at most `EPSILON` counts as zero: all its cosines are 0, and it
gets no gradient (which would be of the order of 1 / EPSILON). A row with NaN or infinite entries, or whose squared norm
overflows, gives NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

EPSILON = 1e-12


def chunks(dims: Sequence[int]) -> list[slice]:
    """The columns that each level adds to the previous level: [128, 256] -> [0:128], [128:256]."""
    return [slice(start, stop) for start, stop in pairwise((0, *dims))]


def prefix_sums(parts: Iterable[Tensor]) -> Tensor:
    """[K, ...]: running sum of the parts. The order of additions is fixed, unlike that of torch.cumsum on CUDA."""
    return torch.stack(list(accumulate(parts, torch.add)))


def suffix_sums(level_K: Tensor) -> Tensor:
    """[K, ...]: sum of each level and all higher levels. These are the levels that use the columns the level adds."""
    return prefix_sums(level_K.flip(0)).flip(0)


def prefix_inverse_norms(row_ND: Tensor, dims: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """[K, N]: 1 / |row[:dim]| for every level, 0 for a zero prefix. dtype: default the rows'. Differentiable."""
    norms = (torch.linalg.vector_norm(row_ND[:, chunk], dim=1, dtype=dtype) for chunk in chunks(dims))
    squared_KN = prefix_sums(norm_N.square() for norm_N in norms)
    inverse_norm_KN = squared_KN.clamp_min(EPSILON**2).sqrt().reciprocal()
    return inverse_norm_KN.masked_fill(squared_KN <= EPSILON**2, 0.0).masked_fill(squared_KN.isinf(), torch.nan)


def prefix_cosines(left_SD: Tensor, right_SD: Tensor, dims: Sequence[int]) -> Tensor:
    """[K, S]: cosine of row s of one table and row s of the other, at every level. Differentiable, memory O(S)."""
    dot_KS = prefix_sums((left_SD[:, chunk] * right_SD[:, chunk]).sum(1) for chunk in chunks(dims))
    return dot_KS * prefix_inverse_norms(left_SD, dims) * prefix_inverse_norms(right_SD, dims)
