"""The common part of distillation losses, which compare a query's similarities to its own documents with ranker scores.

The student's similarity is cosine / temperature, for the query and each of its sampled positives and own negatives. The
teacher's score is the row's `pos_scores` or `neg_scores` / teacher temperature. The student uses cosines because the
other losses and the evaluation do. With raw dot products, the student could imitate the teacher by the norms of the
embeddings, which no other loss and no metric uses. The temperature brings cosines to the teacher's scale. With 0.05,
two similarities differ by up to 40, as a cross-encoder's logits do. If the teacher's scores are cosines, set it to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from fused_contrastive.cosine import prefix_cosines
from torch import Tensor

from harness.losses.interface import LossTerm, QuerySimilarities, StepShare, TaskLossSettings, on_device_of
from harness.types import QueryPart

# (positive_BP, negative_BM, positive_score_BP, negative_score_BM) -> loss_B; see `harness.losses.kl.kl`
DistillationLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def distillation_term(
    loss_of_queries: DistillationLoss, task: TaskLossSettings, part: QueryPart, table_TD: Tensor, share: StepShare
) -> LossTerm:
    """A distillation loss of the share's queries, summed over the Matryoshka levels.

    No document is left out as a suspected positive, because the teacher's score says how similar it should be.
    """
    queries = part.share(share.index, share.count)
    dims, weights = share.levels(table_TD.shape[1])
    positive_KBP = _cosines(part, part.positive_BP, queries, table_TD, dims)
    negative_KBM = _cosines(part, part.negative_BM, queries, table_TD, dims)
    positive_score_BP = _teacher_scores(part.positive_score_BP, queries, positive_KBP, task)
    negative_score_BM = _teacher_scores(part.negative_score_BM, queries, negative_KBM, task)
    temperature = share.query_temperature(task)
    loss_B = positive_KBP.new_zeros(positive_KBP.shape[1])
    for weight, positive_BP, negative_BM in zip(weights, positive_KBP, negative_KBM, strict=True):
        loss_B = loss_B + weight * loss_of_queries(
            positive_BP / temperature, negative_BM / temperature, positive_score_BP, negative_score_BM
        )
    similarities = _similarities(part, queries, positive_KBP[-1], negative_KBM[-1], table_TD, share)
    weighted_loss = task.weight * loss_B.sum() / share.sum_of_query_weights
    return LossTerm(weighted_loss, loss_B.detach().sum() / len(part.query_B), similarities)


def _cosines(part: QueryPart, place_BC: np.ndarray, queries: slice, table_TD: Tensor, dims: Sequence[int]) -> Tensor:
    """[K, B, C]: cosines between the queries of a slice of the part and the documents at `place_BC` of `document_N`."""
    place_BC = place_BC[queries]
    document_BC = np.where(place_BC >= 0, part.document_N[place_BC], -1)
    query_B = on_device_of(table_TD, part.query_B[queries])
    return cosines_of_lists(table_TD, query_B, on_device_of(table_TD, document_BC), dims)


def _teacher_scores(score_BC: np.ndarray | None, queries: slice, cosine_KBC: Tensor, task: TaskLossSettings) -> Tensor:
    """[B, C]: the ranker's scores of the sliced queries / teacher temperature, in the dtype of the cosines."""
    assert score_BC is not None  # the plan gives scores to every task with a distillation loss
    return on_device_of(cosine_KBC, score_BC[queries]).to(cosine_KBC.dtype) / task.teacher_temperature


def own_similarities(part: QueryPart, table_TD: Tensor, share: StepShare) -> QuerySimilarities:
    """The cosines of the share's queries to their own documents, at the last Matryoshka level, without a graph."""
    queries, detached_TD = part.share(share.index, share.count), table_TD.detach()
    last_dim = share.levels(table_TD.shape[1])[0][-1:]
    positive_BP = _cosines(part, part.positive_BP, queries, detached_TD, last_dim)[0]
    negative_BM = _cosines(part, part.negative_BM, queries, detached_TD, last_dim)[0]
    return _similarities(part, queries, positive_BP, negative_BM, table_TD, share)


def _similarities(
    part: QueryPart, queries: slice, positive_BP: Tensor, negative_BM: Tensor, table_TD: Tensor, share: StepShare
) -> QuerySimilarities:
    """What is reported of the cosines of a slice of the part's queries to their documents."""
    is_padded_BP, is_padded_BM = (
        on_device_of(table_TD, place_BC[queries]) < 0 for place_BC in (part.positive_BP, part.negative_BM)
    )
    own_negative_BM = table_TD.new_zeros(part.negative_BM.shape)
    own_negative_BM[queries] = negative_BM.detach().to(table_TD.dtype).masked_fill(is_padded_BM, torch.nan)
    return QuerySimilarities(
        positive=_mean_cosine(positive_BP, is_padded_BP).sum() / share.num_queries,
        negative=_mean_cosine(negative_BM, is_padded_BM).sum(),
        queries_with_negatives=(~is_padded_BM).any(1).sum().to(negative_BM.dtype),
        false_negatives_masked=table_TD.new_zeros(()),
        own_negative_BM=own_negative_BM,
    )


def _mean_cosine(cosine_BC: Tensor, is_padded_BC: Tensor) -> Tensor:
    """[B]: each query's mean cosine to its documents, or 0. The cosine of padding is 0."""
    return cosine_BC.detach().sum(1) / (~is_padded_BC).sum(1).clamp_min(1)


def cosines_of_lists(table_TD: Tensor, query_B: Tensor, document_BC: Tensor, dims: Sequence[int]) -> Tensor:
    """[K, B, C], float32 or wider: cosine of each query to every document of its list, per Matryoshka level.

    Args:
        query_B: rows of the table.
        document_BC: rows of the table, each query's list padded with -1; the cosine of a padded cell is 0.
        dims: how many of the first dimensions each level compares.
    """
    owner_E, column_E = (document_BC >= 0).nonzero(as_tuple=True)
    dtype = torch.promote_types(table_TD.dtype, torch.float32)
    # The backward of F.embedding adds the gradients of repeated rows in a fixed order on every device.
    query_ED = F.embedding(query_B[owner_E], table_TD).to(dtype)
    document_ED = F.embedding(document_BC[owner_E, column_E], table_TD).to(dtype)
    cosine_KBC = table_TD.new_zeros((len(dims), *document_BC.shape), dtype=dtype)
    cosine_KBC[:, owner_E, column_E] = prefix_cosines(query_ED, document_ED, dims)
    return cosine_KBC
