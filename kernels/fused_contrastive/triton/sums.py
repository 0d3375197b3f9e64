"""Between what `tiles.py` speaks of and what the kernels do: partial sums, padding to whole blocks, base 2."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fused_contrastive.one_pass.tiles import MASKED, TileScores

LOG2_E = math.log2(math.e)


def tile_scores(sums: Mapping[str, Tensor | None], inverse_temperature_R: Tensor, num_columns: int) -> TileScores:
    """`sums`: what `score_kernel` stored, by argument."""
    num_rows = len(inverse_temperature_R)
    row_max, row_sum, row_count, row_total = (_given(sums, f"row_{name}") for name in ("max", "sum", "count", "total"))
    column_lse_KC = None
    if sums["column_max"] is not None:
        column_lse_KC = _log_sum(_given(sums, "column_max"), _given(sums, "column_sum"))[:, :num_columns]
    cosine_R = 1 / (inverse_temperature_R * LOG2_E)  # of a logit of 1
    hardest_R = row_max[-1].amax(0)[:num_rows]
    return TileScores(
        lse_KR=_log_sum(row_max, row_sum)[:, :num_rows],
        hardest_R=torch.where(hardest_R <= MASKED, MASKED, hardest_R * cosine_R),
        similarity_sum_R=row_total.sum(0)[:num_rows] * cosine_R,
        num_kept_R=row_count.sum(0)[:num_rows].long(),
        column_lse_KC=column_lse_KC,
    )


def offset(lse: Tensor) -> Tensor:
    """In base 2; where nothing is kept, one that makes every weight 0."""
    return torch.where(lse <= MASKED / 2, torch.inf, lse * LOG2_E)


def _log_sum(max_KTR: Tensor, sum_KTR: Tensor) -> Tensor:
    """[K, R]: natural logarithm of sum * 2^max over all partials; MASKED if nothing is kept."""
    highest_KR = max_KTR.amax(1)
    sum_KR = (max_KTR - highest_KR[:, None]).exp2_().mul_(sum_KTR).sum(1)
    return torch.where(sum_KR == 0, MASKED, (highest_KR + sum_KR.log2()) / LOG2_E)


def _given(sums: Mapping[str, Tensor | None], name: str) -> Tensor:
    value = sums[name]
    assert value is not None
    return value
