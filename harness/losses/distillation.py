"""Distillation: a query's similarities to its own documents take after the scores that a ranker gave them.

Student: cosine / temperature, of the query and each of its sampled positives and own negatives. Teacher: the row's
`pos_scores` and `neg_scores` / teacher temperature. Cosines, not raw dot products: the other losses and the evaluation
compare cosines, so that a dot product could fit the teacher by the lengths of the embeddings, which nothing else reads.
The temperature gives the student the teacher's scale: 0.05 lets a margin reach 40, as those of a cross-encoder's logits
do; set 1 where the teacher's scores are cosines themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from fused_contrastive.cosine import prefix_cosines
from torch import Tensor


def margin_mse(
    positive_BP: Tensor, negative_BM: Tensor, positive_score_BP: Tensor, negative_score_BM: Tensor
) -> Tensor:
    """loss_i = mean over p, m of ((s_ip - s_im) - (t_ip - t_im))^2, 0 for a query without negatives: [B].

    Margin-MSE (Hofstätter et al. 2020, arXiv 2010.02666, section 3.2), over every pair of a positive and a negative as
    sentence-transformers has it, but on cosine / temperature where both take dot products.

    Args:
        positive_BP: student s, anything where padded.
        negative_BM: student s, anything where padded.
        positive_score_BP: teacher t, NaN where padded.
        negative_score_BM: teacher t, NaN where padded.
    """
    margin_BPM = positive_BP[:, :, None] - negative_BM[:, None, :]
    teacher_BPM = positive_score_BP[:, :, None] - negative_score_BM[:, None, :]
    valid_BPM = ~teacher_BPM.isnan()
    squared_BPM = (margin_BPM - teacher_BPM.nan_to_num()).square().masked_fill(~valid_BPM, 0.0)
    return squared_BPM.sum((1, 2)) / valid_BPM.sum((1, 2)).clamp_min(1)


def kl(positive_BP: Tensor, negative_BM: Tensor, positive_score_BP: Tensor, negative_score_BM: Tensor) -> Tensor:
    """loss_i = sum over c of softmax(t_i)_c * (log softmax(t_i)_c - log softmax(s_i)_c), c over all documents: [B].

    Its gradient is that of FlagEmbedding's `kl_div`, which leaves out the teacher's entropy and adds InfoNCE: for both
    together let the task have the losses info_nce and kl. sentence-transformers' DistillKLDivLoss (Lin et al. 2020,
    arXiv 2010.11386) is this times the square of the temperature. Arguments as in `margin_mse`.
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


def cosines_of_lists(table_TD: Tensor, query_B: Tensor, document_BC: Tensor, dims: Sequence[int]) -> Tensor:
    """[K, B, C], at least float32: cosine of each query and each row of the table in its -1 padded list, per level.

    0 where padded.
    """
    owner_E, column_E = (document_BC >= 0).nonzero(as_tuple=True)
    dtype = torch.promote_types(table_TD.dtype, torch.float32)
    # An embedding's backward adds repeated rows in a fixed order on every device.
    query_ED = F.embedding(query_B[owner_E], table_TD).to(dtype)
    document_ED = F.embedding(document_BC[owner_E, column_E], table_TD).to(dtype)
    cosine_KBC = table_TD.new_zeros((len(dims), *document_BC.shape), dtype=dtype)
    cosine_KBC[:, owner_E, column_E] = prefix_cosines(query_ED, document_ED, dims)
    return cosine_KBC
