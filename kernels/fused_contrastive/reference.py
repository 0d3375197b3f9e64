"""InfoNCE as the formula reads: materialises every B x N matrix, gradients by autograd. The truth of every test."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fused_contrastive.cosine import prefix_inverse_norms
from fused_contrastive.problem import InfoNCEOutput, InfoNCEStats, Problem


def reference(problem: Problem) -> InfoNCEOutput:
    """sum_i share_i * sum_k level_weight_k * (log(e^(s_i+ / t) + sum over kept j of e^(s_ij / t)) - s_i+ / t)."""
    query, document = problem.query_BD.to(problem.dtype), problem.document_ND.to(problem.dtype)
    inverse_query_KB = prefix_inverse_norms(query, problem.dims)
    inverse_document_KN = prefix_inverse_norms(document, problem.dims)
    positive_B1, temperature_B1 = problem.positive_B[:, None], problem.temperature_B[:, None]
    candidate_BN, dropped_BN = _candidates(problem)
    loss_B = query.new_zeros(len(query))
    lse = []
    for level, (dim, weight) in enumerate(zip(problem.dims, problem.level_weights, strict=True)):
        unit_query = query[:, :dim] * inverse_query_KB[level, :, None]
        unit_document = document[:, :dim] * inverse_document_KN[level, :, None]
        similarity_BN = unit_query @ unit_document.T
        positive_similarity_B1 = similarity_BN.gather(1, positive_B1)
        kept_BN = candidate_BN & ~dropped_BN
        if problem.margin is not None:
            highest_B1 = positive_similarity_B1.detach() + problem.margin + problem.tie
            kept_BN = kept_BN & ~(similarity_BN.detach() > highest_B1)
        in_softmax_BN = kept_BN.scatter(1, positive_B1, True)
        logit_BN = (similarity_BN / temperature_B1).masked_fill(~in_softmax_BN, -torch.inf)
        lse.append(logit_BN.logsumexp(1))
        loss_B = loss_B + weight * (lse[-1] - (positive_similarity_B1 / temperature_B1)[:, 0])
    stats = _stats(problem, similarity_BN.detach(), candidate_BN, kept_BN, torch.stack(lse).detach(), loss_B.detach())
    return InfoNCEOutput((problem.share_B * loss_B).sum(), stats)


def _candidates(problem: Problem) -> tuple[Tensor, Tensor]:
    """[B, N] twice: the scope's documents but the positive, and those that are never negatives of the query."""
    positive_B, num_documents = problem.positive_B, len(problem.document_ND)
    nothing_BN = torch.zeros(len(positive_B), num_documents, dtype=torch.bool, device=positive_B.device)
    own_BN = _listed(problem.negative_BM, nothing_BN)
    if problem.scope == "own":
        candidate_BN = own_BN
    elif problem.scope == "task":
        assert problem.query_group_B is not None
        assert problem.document_group_N is not None
        candidate_BN = own_BN | (problem.query_group_B[:, None] == problem.document_group_N)
    else:
        candidate_BN = ~nothing_BN
    dropped_BN = _listed(problem.excluded_BX, nothing_BN)
    if problem.document_key_N is not None:
        dropped_BN = dropped_BN | (problem.document_key_N[positive_B, None] == problem.document_key_N)
    if problem.query_key_B is not None:
        equal_BB = problem.query_key_B[:, None] == problem.query_key_B
        dropped_BN = dropped_BN | ((equal_BB.double() @ F.one_hot(positive_B, num_documents).double()) > 0)
    return candidate_BN.scatter(1, positive_B[:, None], False), dropped_BN


def _listed(index_BM: Tensor | None, nothing_BN: Tensor) -> Tensor:
    """[B, N]: whether document n stands in query b's -1 padded list."""
    if index_BM is None:
        return nothing_BN
    num_documents = nothing_BN.shape[1]
    padded = F.pad(nothing_BN, (0, 1)).scatter(1, index_BM.where(index_BM >= 0, num_documents), True)
    return padded[:, :num_documents]


def _stats(
    problem: Problem, similarity_BN: Tensor, candidate_BN: Tensor, kept_BN: Tensor, lse_KB: Tensor, loss_B: Tensor
) -> InfoNCEStats:
    positive_similarity_B = similarity_BN.gather(1, problem.positive_B[:, None])[:, 0]
    own = problem.negative_BM
    return InfoNCEStats(
        positive_similarity_B=positive_similarity_B,
        negative_similarity_BM=None
        if own is None
        else similarity_BN.gather(1, own.clamp_min(0)).masked_fill(own < 0, torch.nan),
        lse_KB=lse_KB,
        loss_B=loss_B,
        correct_B=(kept_BN & (similarity_BN >= positive_similarity_B[:, None] - problem.tie)).sum(1) == 0,
        masked_B=(candidate_BN & ~kept_BN).sum(1),
        mean_negative_similarity_B=similarity_BN.masked_fill(~kept_BN, 0.0).sum(1) / kept_BN.sum(1),
    )
