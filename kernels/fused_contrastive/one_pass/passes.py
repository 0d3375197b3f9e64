"""What is asked of a pass over the loss, what it sums on the way, and what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fused_contrastive.cosine import chunks, suffix_sums
from fused_contrastive.one_pass.tiles import MASKED, TileScores
from fused_contrastive.problem import InfoNCEStats


class Needs(NamedTuple):
    """Which gradients are asked for."""

    query: bool
    document: bool
    temperature: bool


@dataclass(slots=True)
class PassResult:
    """Statistics and the gradient of the loss by each input that needs one, in the type it was summed in."""

    stats: InfoNCEStats
    poison: Tensor  # 0, or NaN if any row is not finite: also one that no denominator holds
    query_BD: Tensor | None
    document_ND: Tensor | None
    temperature_B: Tensor | None


class RowSums:
    """Over the kept negatives of each left row, tile by tile (see `TileScores`)."""

    def __init__(self, inverse_KS: Tensor) -> None:
        num_left = inverse_KS.shape[1]
        self.lse_KS = torch.full_like(inverse_KS, MASKED)
        self.hardest_S = inverse_KS.new_full((num_left,), MASKED)
        self.similarity_sum_S = inverse_KS.new_zeros(num_left)
        self.num_kept_S = torch.zeros(num_left, dtype=torch.int64, device=inverse_KS.device)

    def add(self, rows: slice, scores: TileScores) -> None:
        """Add a tile of the rows."""
        self.lse_KS[:, rows] = torch.logaddexp(self.lse_KS[:, rows], scores.lse_KR)
        self.hardest_S[rows] = self.hardest_S[rows].maximum(scores.hardest_R)
        self.similarity_sum_S[rows] += scores.similarity_sum_R
        self.num_kept_S[rows] += scores.num_kept_R


class LeftGradient:
    """The gradient of the left rows, `scale` times, and the sums over documents of dloss/dcosine * cosine."""

    def __init__(self, row_SD: Tensor | None, inverse_KS: Tensor, scale: Tensor | None) -> None:
        self.row_SD = row_SD
        self.dot_KS = torch.zeros_like(inverse_KS)
        self.scale = scale

    def unscale(self, gradient: Tensor) -> None:
        """Divide by the scale, in place."""
        if self.scale is not None:
            gradient.div_(self.scale)


def remove_radial(
    gradient_ND: Tensor, row_ND: Tensor, inverse_KN: Tensor, dot_KN: Tensor, dims: tuple[int, ...]
) -> None:
    """Take out, once all sums are known, what lies along the rows themselves: a cosine does not see their length."""
    along_KN = suffix_sums(inverse_KN.square() * dot_KN)
    for level, chunk in enumerate(chunks(dims)):
        gradient_ND[:, chunk].addcmul_(row_ND[:, chunk].to(gradient_ND.dtype), along_KN[level, :, None], value=-1)


def panels(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `length`."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
