"""The gradients that a loss pass must compute, the sums that it accumulates tile by tile, and its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fused_contrastive.cosine import chunks, suffix_sums
from fused_contrastive.one_pass.tiles import MASKED, TileScores
from fused_contrastive.problem import InfoNCEStats


class NeededGradients(NamedTuple):
    """Which inputs require a gradient."""

    query: bool
    document: bool
    temperature: bool


@dataclass(slots=True)
class PassResult:
    """Statistics, and the gradient of the loss by each input (None: not needed), in the type of the sums."""

    stats: InfoNCEStats
    zero_or_nan: Tensor  # see `Preparation`
    query_gradient_BD: Tensor | None
    document_gradient_ND: Tensor | None
    temperature_gradient_B: Tensor | None


class RowSums:
    """Sums over the negatives of each query row, accumulated tile by tile; `TileScores` describes each sum."""

    def __init__(self, inverse_norm_KS: Tensor) -> None:
        num_rows = inverse_norm_KS.shape[1]
        self.lse_KS = torch.full_like(inverse_norm_KS, MASKED)
        self.hardest_S = inverse_norm_KS.new_full((num_rows,), MASKED)
        self.similarity_sum_S = inverse_norm_KS.new_zeros(num_rows)
        self.num_kept_S = torch.zeros(num_rows, dtype=torch.int64, device=inverse_norm_KS.device)

    def add(self, rows: slice, scores: TileScores) -> None:
        """Add the scores of a tile with the query rows `rows`."""
        self.lse_KS[:, rows] = torch.logaddexp(self.lse_KS[:, rows], scores.lse_KR)
        self.hardest_S[rows] = self.hardest_S[rows].maximum(scores.hardest_R)
        self.similarity_sum_S[rows] += scores.similarity_sum_R
        self.num_kept_S[rows] += scores.num_kept_R


class QueryRowGradient:
    """The gradient of the query rows, accumulated tile by tile.

    row_SD: the gradient, multiplied by `scale` and still with its radial part (`remove_radial_part`); None: not needed.
    dot_KS: sum over documents of dloss/dcosine * cosine. The radial part and the gradient of the temperature are
        computed from it. Not scaled.
    """

    def __init__(self, row_SD: Tensor | None, inverse_norm_KS: Tensor, scale: Tensor | None) -> None:
        self.row_SD = row_SD
        self.dot_KS = torch.zeros_like(inverse_norm_KS)
        self.scale = scale

    def unscale(self, gradient: Tensor) -> None:
        """Divide a gradient by the scale, in place."""
        if self.scale is not None:
            gradient.div_(self.scale)


def remove_radial_part(
    gradient_ND: Tensor, row_ND: Tensor, inverse_norm_KN: Tensor, dot_KN: Tensor, dims: tuple[int, ...]
) -> None:
    """Subtract, in place, the part of the gradient in the direction of the row: a cosine is independent of the norm.

    dot_KN: per level, the sum over all cells of the row of dloss/dcosine * cosine.
    """
    along_KN = suffix_sums(inverse_norm_KN.square() * dot_KN)
    for level, chunk in enumerate(chunks(dims)):
        gradient_ND[:, chunk].addcmul_(row_ND[:, chunk].to(gradient_ND.dtype), along_KN[level, :, None], value=-1)


def consecutive_slices(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` elements that cover the range from 0 to `length`."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
