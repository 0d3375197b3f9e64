"""InfoNCE written directly as its formula, for tests: builds every matrix; autograd computes the gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fused_contrastive.cosine import prefix_inverse_norms
from fused_contrastive.problem import InfoNCEOutput, InfoNCEStats, Problem


class _Documents(NamedTuple):
    """Bool [B, N] each: the roles of document n for query b."""

    own_BN: Tensor  # an own negative, dropped or not
    positive_BN: Tensor
    candidate_BN: Tensor  # inside the scope, and not a positive
    allowed_BN: Tensor  # a candidate that is neither excluded nor dropped by an equal key


class _Level(NamedTuple):
    """Cosines at one Matryoshka level. E: pairs of a query and one of its positives."""

    similarity_BN: Tensor
    tower_EN: Tensor | None  # document tower: cosines of the positive with all documents
    lowest_B: Tensor  # the lowest cosine of a positive


def reference(problem: Problem) -> InfoNCEOutput:
    """sum_i normalized_weight_i * sum_k level_weight_k * loss_ik; `info_nce` defines loss_ik."""
    with torch.autocast(problem.query_BD.device.type, enabled=False):
        return _reference(problem)


def _reference(problem: Problem) -> InfoNCEOutput:
    documents = _documents(problem)
    pair_E2 = documents.positive_BN.nonzero()
    levels = [_level(problem, dim, pair_E2) for dim in problem.dims]
    losses, lse = [], []
    for level, weight in zip(levels, problem.level_weights, strict=True):
        compared = levels[-1] if problem.margin_dims == "full" else level
        kept_BN = documents.allowed_BN & _within_margin(problem, compared.similarity_BN, compared.lowest_B)
        loss_E, lse_E = _pair_losses(problem, level, compared, documents, kept_BN, pair_E2)
        losses.append(weight * _mean_over_positives(loss_E, pair_E2, kept_BN))
        lse.append(_mean_over_positives(lse_E, pair_E2, kept_BN))
    loss_B = torch.stack(losses).sum(0)
    stats = _stats(problem, documents, levels[-1], kept_BN, torch.stack(lse), loss_B)
    tables = problem.query_BD.detach(), problem.document_ND.detach()
    norms = [prefix_inverse_norms(rows.to(problem.dtype), problem.dims).sum() for rows in tables]
    zero_or_nan = 0 * (norms[0] + norms[1])  # NaN if any row is not finite, even if no denominator contains it
    return InfoNCEOutput((problem.normalized_weight_B * loss_B).sum() + zero_or_nan, stats)


def _level(problem: Problem, dim: int, pair_E2: Tensor) -> _Level:
    unit_query, unit_document = (
        rows[:, :dim] * prefix_inverse_norms(rows, (dim,))[0, :, None]
        for rows in (problem.query_BD.to(problem.dtype), problem.document_ND.to(problem.dtype))
    )
    similarity_BN = unit_query @ unit_document.T
    positive_BP = similarity_BN.detach().gather(1, problem.positive_BP.clamp_min(0))
    return _Level(
        similarity_BN=similarity_BN,
        tower_EN=unit_document[pair_E2[:, 1]] @ unit_document.T if problem.document_tower else None,
        lowest_B=positive_BP.masked_fill(problem.positive_BP < 0, torch.inf).amin(1),
    )


def _within_margin(problem: Problem, similarity_EN: Tensor, lowest_E: Tensor) -> Tensor:
    if problem.margin is None:
        return torch.ones_like(similarity_EN, dtype=torch.bool)
    return ~(similarity_EN.detach() > lowest_E[:, None] + problem.margin + problem.rounding)


def _pair_losses(
    problem: Problem, level: _Level, compared: _Level, documents: _Documents, kept_BN: Tensor, pair_E2: Tensor
) -> tuple[Tensor, Tensor]:
    """[E] each: the loss of a query and one of its positives, and the log of the denominator in the query's row."""
    query_E, document_E = pair_E2.unbind(1)
    logit_BN = level.similarity_BN / problem.temperature_B[:, None]
    positive_E1 = logit_BN[query_E, document_E][:, None]
    negative_BN = logit_BN.masked_fill(~kept_BN, -torch.inf)
    weighted_BN = negative_BN
    if problem.hardness is not None:
        weighted_BN = negative_BN + problem.hardness * level.similarity_BN.detach() * documents.own_BN
    row = [positive_E1, weighted_BN[query_E]]
    lse_E = torch.cat(row, dim=1).logsumexp(1)
    if level.tower_EN is not None:
        assert compared.tower_EN is not None
        kept_EN = documents.allowed_BN[query_E] & _within_margin(problem, compared.tower_EN, compared.lowest_B[query_E])
        tower_EN = level.tower_EN / problem.temperature_B[query_E, None]
        row.append(tower_EN.masked_fill(~kept_EN, -torch.inf))
    loss_E = torch.cat(row, dim=1).logsumexp(1) - positive_E1[:, 0]
    if problem.symmetric:
        column = [positive_E1, negative_BN.T[document_E]]
        loss_E = (loss_E + torch.cat(column, dim=1).logsumexp(1) - positive_E1[:, 0]) / 2
    return loss_E, lse_E


def _mean_over_positives(value_E: Tensor, pair_E2: Tensor, like_BN: Tensor) -> Tensor:
    sum_B = value_E.new_zeros(len(like_BN)).index_add(0, pair_E2[:, 0], value_E)
    return sum_B / pair_E2[:, 0].bincount(minlength=len(like_BN))


def _documents(problem: Problem) -> _Documents:
    nothing_BN = torch.zeros(
        len(problem.query_BD), problem.num_documents, dtype=torch.bool, device=problem.query_BD.device
    )
    own_BN = _listed(problem.own_BM, nothing_BN)
    positive_BN = _listed(problem.positive_BP, nothing_BN)
    itself_BN = nothing_BN if problem.query_row_B is None else _listed(problem.query_row_B[:, None], nothing_BN)
    if problem.scope == "own":
        scope_BN = own_BN
    elif problem.scope == "group":
        assert problem.query_group_B is not None
        assert problem.document_group_N is not None
        scope_BN = own_BN | (problem.query_group_B[:, None] == problem.document_group_N)
    else:
        scope_BN = ~nothing_BN
    dropped_BN = itself_BN | _excluded(problem, nothing_BN)
    if problem.document_key_N is not None:
        equal_NN = problem.document_key_N[:, None] == problem.document_key_N
        dropped_BN = dropped_BN | _any_of(positive_BN, equal_NN)
    if problem.query_key_B is not None:
        equal_BB = problem.query_key_B[:, None] == problem.query_key_B
        dropped_BN = dropped_BN | _any_of(equal_BB, positive_BN | itself_BN)
    candidate_BN = scope_BN & ~positive_BN
    return _Documents(own_BN, positive_BN, candidate_BN, candidate_BN & ~dropped_BN)


def _listed(index_BM: Tensor | None, nothing_BN: Tensor) -> Tensor:
    """[B, N]: whether document n is in query b's -1 padded list."""
    if index_BM is None:
        return nothing_BN
    query_E, place_E = (index_BM >= 0).nonzero(as_tuple=True)
    return nothing_BN.index_put((query_E, index_BM[query_E, place_E]), nothing_BN.new_ones(()))


def _excluded(problem: Problem, nothing_BN: Tensor) -> Tensor:
    """[B, N]: whether document n is in query b's list of excluded documents."""
    if problem.excluded_BX is None:
        return nothing_BN
    return nothing_BN.index_put(problem.excluded_BX.pairs(), nothing_BN.new_ones(()))


def _any_of(left: Tensor, right: Tensor) -> Tensor:
    """[B, N]: whether left[b, c] and right[c, n] are both true for any c."""
    return (left.float() @ right.float()) > 0


def _stats(
    problem: Problem, documents: _Documents, last: _Level, kept_BN: Tensor, lse_KB: Tensor, loss_B: Tensor
) -> InfoNCEStats:
    similarity_BN, positive_BN, own = last.similarity_BN.detach(), documents.positive_BN, problem.own_BM
    positive_BP = similarity_BN.gather(1, problem.positive_BP.clamp_min(0))
    best_B = positive_BP.masked_fill(problem.positive_BP < 0, -torch.inf).amax(1)
    return InfoNCEStats(
        positive_similarity_B=similarity_BN.masked_fill(~positive_BN, 0.0).sum(1) / positive_BN.sum(1),
        negative_similarity_BM=None
        if own is None
        else similarity_BN.gather(1, own.clamp_min(0)).masked_fill(own < 0, torch.nan),
        negative_kept_BM=None if own is None else kept_BN.gather(1, own.clamp_min(0)) & (own >= 0),
        lse_KB=lse_KB.detach(),
        loss_B=loss_B.detach(),
        correct_B=(kept_BN & (similarity_BN >= best_B[:, None] - problem.rounding)).sum(1) == 0,
        masked_B=(documents.candidate_BN & ~kept_BN).sum(1),
        mean_negative_similarity_B=similarity_BN.masked_fill(~kept_BN, 0.0).sum(1) / kept_BN.sum(1),
    )
