"""The loss `margin_mse`: differences between a query's similarities should equal those between a ranker's scores."""

from __future__ import annotations

from torch import Tensor

from harness.losses.distillation import distillation_term
from harness.losses.interface import LossTerm, StepShare, TaskLossSettings
from harness.types import QueryPart


def margin_mse_term(task: TaskLossSettings, part: QueryPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """The loss `margin_mse` over the share's queries, as a term of the step's loss."""
    return distillation_term(margin_mse, task, part, table_TD, share)


def margin_mse(
    positive_BP: Tensor, negative_BM: Tensor, positive_score_BP: Tensor, negative_score_BM: Tensor
) -> Tensor:
    """loss_i = mean over p, m of ((s_ip - s_im) - (t_ip - t_im))^2, 0 for a query without negatives: [B].

    Margin-MSE (Hofstätter et al. 2020, arXiv 2010.02666, section 3.2), over every pair of a positive and a negative, as
    in sentence-transformers. The paper and sentence-transformers use dot products; here s is cosine / temperature.

    Args:
        positive_BP: the student's similarities s to the positives; padded cells may hold any number.
        negative_BM: the student's similarities to the negatives.
        positive_score_BP: the teacher's scores t of the positives, NaN where padded.
        negative_score_BM: the teacher's scores of the negatives, NaN where padded.
    """
    margin_BPM = positive_BP[:, :, None] - negative_BM[:, None, :]
    teacher_BPM = positive_score_BP[:, :, None] - negative_score_BM[:, None, :]
    valid_BPM = ~teacher_BPM.isnan()
    squared_BPM = (margin_BPM - teacher_BPM.nan_to_num()).square().masked_fill(~valid_BPM, 0.0)
    return squared_BPM.sum((1, 2)) / valid_BPM.sum((1, 2)).clamp_min(1)
