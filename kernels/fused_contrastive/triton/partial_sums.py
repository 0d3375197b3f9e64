"""Converts the kernels' partial sums (base 2, padded to whole tiles) to `TileScores`, and log-sum-exps to base 2."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fused_contrastive.one_pass.tiles import MASKED, TileScores

LOG2_E = math.log2(math.e)


def tile_scores(sums: Mapping[str, Tensor | None], inverse_temperature_R: Tensor, num_columns: int) -> TileScores:
    """Add up the partial sums. sums: the results of `score_kernel`, by the names of its arguments."""
    num_rows = len(inverse_temperature_R)
    row_max, row_sum, row_count, row_total = (
        _required(sums, f"row_{name}") for name in ("max", "sum", "count", "total")
    )
    column_lse_KC = None
    if sums["column_max"] is not None:
        column_lse_KC = _log_sum(_required(sums, "column_max"), _required(sums, "column_sum"))[:, :num_columns]
    cosine_R = 1 / (inverse_temperature_R * LOG2_E)  # the cosine of a logit of 1
    hardest_R = row_max[-1].amax(0)[:num_rows]
    return TileScores(
        lse_KR=_log_sum(row_max, row_sum)[:, :num_rows],
        hardest_R=torch.where(hardest_R <= MASKED, MASKED, hardest_R * cosine_R),
        similarity_sum_R=row_total.sum(0)[:num_rows] * cosine_R,
        num_kept_R=row_count.sum(0)[:num_rows].long(),
        column_lse_KC=column_lse_KC,
    )


def weight_offset(lse: Tensor) -> Tensor:
    """The x in weight = 2^(logit - x): the log-sum-exp in base 2; inf (weight 0) if there are no negatives."""
    return torch.where(lse <= MASKED / 2, torch.inf, lse * LOG2_E)


def _log_sum(max_KTR: Tensor, sum_KTR: Tensor) -> Tensor:
    """[K, R]: natural logarithm of Σ sum * 2^max over all parts T; MASKED if there are no negatives."""
    highest_KR = max_KTR.amax(1)
    sum_KR = (max_KTR - highest_KR[:, None]).exp2_().mul_(sum_KTR).sum(1)
    return torch.where(sum_KR == 0, MASKED, (highest_KR + sum_KR.log2()) / LOG2_E)


def _required(sums: Mapping[str, Tensor | None], name: str) -> Tensor:
    value = sums[name]
    assert value is not None
    return value
