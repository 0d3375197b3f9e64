"""The loss `kl`: the softmax of a query's similarities should equal the softmax of a ranker's scores."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.losses.distillation import distillation_term
from harness.losses.interface import LossTerm, StepShare, TaskLossSettings
from harness.types import QueryPart


def kl_term(task: TaskLossSettings, part: QueryPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """The loss `kl` over the share's queries, as a term of the step's loss."""
    return distillation_term(kl, task, part, table_TD, share)


def kl(positive_BP: Tensor, negative_BM: Tensor, positive_score_BP: Tensor, negative_score_BM: Tensor) -> Tensor:
    """loss_i = sum over c of softmax(t_i)_c * (log softmax(t_i)_c - log softmax(s_i)_c), over all documents c: [B].

    Its gradient equals that of FlagEmbedding's `kl_div`, which leaves out the teacher's entropy (a constant).
    FlagEmbedding also adds InfoNCE; to have both here, give the task the losses info_nce and kl. This loss times the
    square of the temperature is sentence-transformers' DistillKLDivLoss (Lin et al. 2020, arXiv 2010.11386).

    Args:
        positive_BP: the student's similarities s to the positives; padded cells may hold any number.
        negative_BM: the student's similarities to the negatives.
        positive_score_BP: the teacher's scores t of the positives, NaN where padded.
        negative_score_BM: the teacher's scores of the negatives, NaN where padded.
    """
    student_BC = torch.cat([positive_BP, negative_BM], dim=1)
    teacher_BC = torch.cat([positive_score_BP, negative_score_BM], dim=1)
    padded_BC = teacher_BC.isnan()
    student_log_BC, teacher_log_BC = (
        logit_BC.masked_fill(padded_BC, float("-inf")).log_softmax(1).masked_fill(padded_BC, 0.0)
        for logit_BC in (student_BC, teacher_BC)
    )
    probability_BC = teacher_log_BC.exp().masked_fill(padded_BC, 0.0)
    return (probability_BC * (teacher_log_BC - student_log_BC)).sum(1)
