"""Computes the loss of a query and its derivatives from log-sum-exps: the formula of the loss, at each level.

z_p: the logit (cosine / temperature) of positive p.
L: the log-sum-exp of the logits of the query's negatives.
T_p: the log-sum-exp of the logits between positive p and the query's negatives (document tower).
C_p: the log-sum-exp of the logits between positive p and the queries that have p as a negative (symmetric).
    row_p    = log(1 + e^(log(e^L + e^T_p) - z_p))          = -log(e^z_p / (e^z_p + e^L + e^T_p))
    column_p = log(1 + e^(C_p - z_p))
    loss     = mean over p of row_p; for the symmetric loss, mean over p of (row_p + column_p) / 2
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class QueryLoss:
    """The loss per level and query, and its derivatives ("slopes") by z_p, L, T_p and C_p of the module docstring."""

    loss_KB: Tensor
    denominator_lse_KB: Tensor  # log(e^z_p + e^L), mean over p
    positive_slope_KBP: Tensor
    row_slope_KB: Tensor
    tower_slope_KBP: Tensor | None
    column_slope_KBP: Tensor | None


def query_loss(
    positive_KBP: Tensor, valid_BP: Tensor, row_KB: Tensor, tower_KBP: Tensor | None, column_KBP: Tensor | None
) -> QueryLoss:
    """The formula in the module docstring. Arguments: z, which positives are not padding, L, T and C; none is -inf."""
    mean_BP = valid_BP.to(positive_KBP.dtype) / valid_BP.sum(1, keepdim=True)
    row_KBP = row_KB[..., None].expand_as(positive_KBP)
    negative_KBP = row_KBP if tower_KBP is None else torch.logaddexp(row_KBP, tower_KBP)
    loss_KB = (mean_BP * _softplus(negative_KBP - positive_KBP)).sum(2)
    row_mean_BP = mean_BP if column_KBP is None else mean_BP / 2
    negative_slope_KBP = row_mean_BP * torch.sigmoid(negative_KBP - positive_KBP)
    positive_slope_KBP, column_slope_KBP = -negative_slope_KBP, None
    if column_KBP is not None:
        loss_KB = (loss_KB + (mean_BP * _softplus(column_KBP - positive_KBP)).sum(2)) / 2
        column_slope_KBP = row_mean_BP * torch.sigmoid(column_KBP - positive_KBP)
        positive_slope_KBP = positive_slope_KBP - column_slope_KBP
    return QueryLoss(
        loss_KB=loss_KB,
        denominator_lse_KB=(mean_BP * torch.logaddexp(positive_KBP, row_KBP)).sum(2),
        positive_slope_KBP=positive_slope_KBP,
        row_slope_KB=(negative_slope_KBP * (row_KBP - negative_KBP).exp()).sum(2),
        tower_slope_KBP=None if tower_KBP is None else negative_slope_KBP * (tower_KBP - negative_KBP).exp(),
        column_slope_KBP=column_slope_KBP,
    )


def _softplus(value: Tensor) -> Tensor:
    """log(1 + e^value). torch's softplus omits the 1 if value > 20, an error that is visible in float64."""
    return torch.logaddexp(value, torch.zeros_like(value))
