"""From log-sum-exps to the loss of a query and its slopes: the formula of the loss, level by level.

With z_p the logit (cosine / temperature) of positive p, L the log-sum-exp over the query's negatives, T_p that over
the documents seen from the positive itself (document tower), and C_p that over the other queries down p's column:
    row_p    = log(1 + e^(log(e^L + e^T_p) - z_p))          = -log(e^z_p / (e^z_p + e^L + e^T_p))
    column_p = log(1 + e^(C_p - z_p))
    loss     = mean over p of row_p, or with columns of (row_p + column_p) / 2
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Terms:
    """Loss per level and query, and its derivatives by the logits and log-sum-exps it was made of."""

    loss_KB: Tensor
    denominator_lse_KB: Tensor  # log(e^z_p + e^L), mean over p
    by_positive_KBP: Tensor
    by_row_KB: Tensor
    by_tower_KBP: Tensor | None
    by_column_KBP: Tensor | None


def query_terms(
    positive_KBP: Tensor, valid_BP: Tensor, row_KB: Tensor, tower_KBP: Tensor | None, column_KBP: Tensor | None
) -> Terms:
    """Arguments: z, which positives are no padding, L, T and C of the module's formula; none may be -inf."""
    mean_BP = valid_BP.to(positive_KBP.dtype) / valid_BP.sum(1, keepdim=True)
    row_KBP = row_KB[..., None].expand_as(positive_KBP)
    negative_KBP = row_KBP if tower_KBP is None else torch.logaddexp(row_KBP, tower_KBP)
    loss_KB = (mean_BP * _softplus(negative_KBP - positive_KBP)).sum(2)
    row_share_BP = mean_BP if column_KBP is None else mean_BP / 2
    by_negative_KBP = row_share_BP * torch.sigmoid(negative_KBP - positive_KBP)
    by_positive_KBP, by_column_KBP = -by_negative_KBP, None
    if column_KBP is not None:
        loss_KB = (loss_KB + (mean_BP * _softplus(column_KBP - positive_KBP)).sum(2)) / 2
        by_column_KBP = row_share_BP * torch.sigmoid(column_KBP - positive_KBP)
        by_positive_KBP = by_positive_KBP - by_column_KBP
    return Terms(
        loss_KB=loss_KB,
        denominator_lse_KB=(mean_BP * torch.logaddexp(positive_KBP, row_KBP)).sum(2),
        by_positive_KBP=by_positive_KBP,
        by_row_KB=(by_negative_KBP * (row_KBP - negative_KBP).exp()).sum(2),
        by_tower_KBP=None if tower_KBP is None else by_negative_KBP * (tower_KBP - negative_KBP).exp(),
        by_column_KBP=by_column_KBP,
    )


def _softplus(value: Tensor) -> Tensor:
    """log(1 + e^value); torch's own leaves the 1 out above 20, which float64 sees."""
    return torch.logaddexp(value, torch.zeros_like(value))
