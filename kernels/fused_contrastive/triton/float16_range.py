"""Factors for numbers stored as float16 (slopes, stored weights), so that few underflow and none overflow."""

from __future__ import annotations

import torch
from torch import Tensor

from fused_contrastive.cosine import prefix_inverse_norms
from fused_contrastive.problem import Problem

HALF_HEADROOM = 2.0**14  # factor for stored weights, which are at most 1


def gradient_scale(problem: Problem) -> Tensor:
    """The power of two (a scalar) that scales the upper bound of |slope| * inverse norms to between 2^13 and 2^14.

    Summed over levels, |slope| <= (row weight + column weight) / temperature. The weight of a row is at most the
    normalized weight of its query. The weight of a column is at most the sum of the normalized weights of all queries
    (of all peers) that have the document as a positive.
    """
    max_weight, total = _largest(problem.normalized_weight_B), problem.normalized_weight_B.sum()
    inverse_query_norm = _largest(prefix_inverse_norms(problem.query_BD.detach(), problem.dims, torch.float32))
    inverse_document_norm = _largest(prefix_inverse_norms(problem.document_ND.detach(), problem.dims, torch.float32))
    num_mentions = _largest(
        problem.positive_BP[problem.positive_BP >= 0].unique(return_counts=True)[1].to(max_weight.dtype)
    )
    if problem.peers is not None:
        max_weight, inverse_document_norm = problem.peers.max(torch.stack([max_weight, inverse_document_norm]))
        num_mentions, total = problem.peers.sum(torch.stack([num_mentions, total]))
    if problem.document_tower:
        inverse_query_norm = inverse_query_norm.maximum(inverse_document_norm)
    weight = max_weight + total.minimum(num_mentions * max_weight) if problem.symmetric else max_weight
    inverse_temperature = _largest(problem.temperature_B.detach().reciprocal())
    bound = weight * sum(problem.level_weights) * inverse_query_norm * inverse_document_norm * inverse_temperature
    return (HALF_HEADROOM / bound).log2().floor().nan_to_num(0.0).clamp(-100, 100).exp2()


def _largest(value: Tensor) -> Tensor:
    return value.amax() if value.numel() else value.new_zeros(())
