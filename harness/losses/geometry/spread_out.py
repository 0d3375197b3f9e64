"""The loss `spread_out`: texts that have nothing to do with each other should be at right angles, on average.

The second moment of the global orthogonal regularisation of Zhang et al. 2017 (arXiv 1708.06320), in the form of
EmbeddingGemma (arXiv 2509.20354): spread embeddings use the space evenly, which quantised vectors
and approximate search need. It is added to a loss that draws texts together: `loss: [info_nce, spread_out]`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.losses.geometry.pairwise import share_of, sum_over_pairs
from harness.losses.geometry.term import term_of_task
from harness.losses.interface import LossTerm, StepShare, TaskLossSettings, embeddings_at
from harness.types import QueryPart


def spread_out_term(task: TaskLossSettings, part: QueryPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """mean over queries i ≠ j of cos(q_i, q_j)^2 + mean over positives i ≠ j of cos(p_i, p_j)^2.

    Over the distinct queries, and the distinct sampled positives, of the task in the step, whichever rank encoded them;
    0 for a single text. Summed over the Matryoshka levels with their weights, as EmbeddingGemma does.

    sentence-transformers' GlobalOrthogonalRegularizationLoss(mean_weight=0, aggregation="sum") subtracts 1 / dimensions
    from each of the two means and stops at 0; its gradient is the same above that. It counts repeated texts.
    """
    positives = part.positive_BP[part.positive_BP >= 0]
    sides = np.unique(part.query_B), np.unique(part.document_N[positives])
    loss = sum((_mean_square(table_TD, rows_N, share) for rows_N in sides), table_TD.new_zeros(()))
    return term_of_task(loss, task, part, table_TD, share)


def _mean_square(table_TD: Tensor, rows_N: np.ndarray, share: StepShare) -> Tensor:
    """The share's part of the mean of the squared cosines between different texts."""
    count = len(rows_N)
    if count < 2:
        return table_TD.new_zeros(())
    number_N = torch.arange(count, device=table_TD.device)

    def square(cosine_AN: Tensor, block: slice) -> Tensor:
        is_itself_AN = number_N[block, None] == number_N
        return cosine_AN.masked_fill(is_itself_AN, 0.0).square()

    dims, weights = share.levels(table_TD.shape[1])
    own = share_of(count, share.index, share.count)
    return sum_over_pairs(embeddings_at(table_TD, rows_N), own, square, dims, weights) / (count * (count - 1))
