"""Scope `own`: every query against its positive and its own list only, O(B * M * D)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fused_contrastive.cosine import chunks, prefix_inverse_norms, prefix_sums, suffix_sums
from fused_contrastive.masks import listed_masks
from fused_contrastive.passes import Needs, PassResult, gather_rows, panels, rows_per_gather
from fused_contrastive.problem import InfoNCEStats, Problem


def listed_cosines(problem: Problem, query: Tensor, document: Tensor, index_BM: Tensor) -> Tensor:
    """[B, M]: cosine of query b with the documents it lists, at the last level; nan where padded."""
    dim = problem.dims[-1:]
    inverse_query_B = prefix_inverse_norms(query, dim)[0]
    inverse_document_N = prefix_inverse_norms(document, dim)[0]
    cosine_BM = query.new_empty(index_BM.shape)
    for rows in panels(len(index_BM), rows_per_gather(problem, index_BM.shape[1])):
        listed_PMD = gather_rows(document[:, : dim[0]], index_BM[rows])
        dot_PM = torch.bmm(listed_PMD, query[rows, : dim[0], None])[..., 0]
        cosine_BM[rows] = dot_PM * inverse_query_B[rows, None] * gather_rows(inverse_document_N, index_BM[rows])
    return cosine_BM.masked_fill_(index_BM < 0, torch.nan)


def listed_pass(problem: Problem, needs: Needs) -> PassResult:
    """Value, statistics and gradients of scope `own`."""
    return _ListedPass(problem, needs).run()


class _ListedPass:
    """Column 0 of every list is the positive, the rest the query's own negatives."""

    def __init__(self, problem: Problem, needs: Needs) -> None:
        self.problem, self.needs = problem, needs
        self.query = problem.query_BD.detach().to(problem.dtype).contiguous()
        self.document = problem.document_ND.detach().to(problem.dtype).contiguous()
        self.temperature_B = problem.temperature_B.detach()
        self.chunks = chunks(problem.dims)
        self.level_weight_K11 = self.query.new_tensor(problem.level_weights)[:, None, None]
        self.inverse_query_KB = prefix_inverse_norms(self.query, problem.dims)
        self.inverse_document_KN = prefix_inverse_norms(self.document, problem.dims)
        positive_B1 = problem.positive_B[:, None]
        own = problem.negative_BM if problem.negative_BM is not None else positive_B1[:, :0]
        offered_BM, kept_BM = listed_masks(problem, own)
        self.index_BC = torch.cat([positive_B1, own], dim=1)
        self.kept_BC = F.pad(kept_BM, (1, 0), value=True)
        self.num_offered_B = offered_BM.sum(1)
        shape = (len(problem.dims), *self.index_BC.shape)
        self.cosine_KBC = self.query.new_empty(shape)
        self.kept_KBC = self.kept_BC.new_empty(shape)
        self.lse_KB = self.query.new_empty(shape[:2])
        self.query_gradient = torch.zeros_like(self.query) if needs.query else None
        # dL/ds and the weight of a pair in the gradient of each chunk, kept for the documents' sums
        self.slope_KBC = self.query.new_empty(shape) if any(needs) else None
        self.pair_weight_KBC = self.query.new_empty(shape) if any(needs) else None

    def run(self) -> PassResult:
        for rows in panels(len(self.query), rows_per_gather(self.problem, self.index_BC.shape[1])):
            self._score_and_differentiate(rows)
        temperature_gradient = None
        if self.needs.temperature:
            assert self.slope_KBC is not None
            temperature_gradient = -(self.slope_KBC * self.cosine_KBC).sum((0, 2)) / self.temperature_B
        query_gradient, document_gradient = self.query_gradient, None
        if self.needs.document:
            document_gradient = self._document_gradient().to(self.problem.document_ND.dtype)
        if query_gradient is not None:
            query_gradient = query_gradient.to(self.problem.query_BD.dtype)
        return PassResult(self._stats(), query_gradient, document_gradient, temperature_gradient)

    def _score_and_differentiate(self, rows: slice) -> None:
        listed_PCD = gather_rows(self.document, self.index_BC[rows])
        dots = (torch.bmm(listed_PCD[:, :, chunk], self.query[rows, chunk, None])[..., 0] for chunk in self.chunks)
        inverse_query_KP1 = self.inverse_query_KB[:, rows, None]
        inverse_document_KPC = self.inverse_document_KN[:, self.index_BC[rows].clamp_min(0)]
        cosine_KPC = prefix_sums(dots) * inverse_query_KP1 * inverse_document_KPC
        kept_KPC = self.kept_BC[rows].expand_as(cosine_KPC)
        if self.problem.margin is not None:
            kept_KPC = kept_KPC & ~(cosine_KPC > cosine_KPC[..., :1] + self.problem.margin + self.problem.tie)
            kept_KPC[..., 0] = True
        logit_KPC = (cosine_KPC / self.temperature_B[rows, None]).masked_fill(~kept_KPC, -torch.inf)
        lse_KP = logit_KPC.logsumexp(2)
        self.cosine_KBC[:, rows], self.kept_KBC[:, rows], self.lse_KB[:, rows] = cosine_KPC, kept_KPC, lse_KP
        if self.slope_KBC is None or self.pair_weight_KBC is None:
            return
        slope_KPC = (logit_KPC - lse_KP[..., None]).exp()
        slope_KPC[..., 0] = torch.expm1(logit_KPC[..., 0] - lse_KP)
        slope_KPC *= self.level_weight_K11 * (self.problem.share_B / self.temperature_B)[rows, None]
        pair_weight_KPC = suffix_sums(slope_KPC * inverse_query_KP1 * inverse_document_KPC)
        self.slope_KBC[:, rows], self.pair_weight_KBC[:, rows] = slope_KPC, pair_weight_KPC
        if self.query_gradient is None:
            return
        along_KP = suffix_sums((slope_KPC * cosine_KPC).sum(2) * inverse_query_KP1[..., 0].square())
        for level, chunk in enumerate(self.chunks):
            across_PD = torch.bmm(pair_weight_KPC[level, :, None], listed_PCD[:, :, chunk])[:, 0]
            self.query_gradient[rows, chunk] = across_PD - along_KP[level, :, None] * self.query[rows, chunk]

    def _document_gradient(self) -> Tensor:
        """Sum over the pairs that name a document: pairs sorted by document, one bag each, so the order is fixed."""
        assert self.slope_KBC is not None
        assert self.pair_weight_KBC is not None
        gradient_ND = torch.zeros_like(self.document)
        row_E, column_E = (self.kept_BC & (self.index_BC >= 0)).nonzero(as_tuple=True)
        document_E, order_E = self.index_BC[row_E, column_E].sort(stable=True)
        row_E, column_E = row_E[order_E], column_E[order_E]
        offset_N = torch.searchsorted(document_E, torch.arange(len(self.document), device=document_E.device))

        def bags(row_BD: Tensor, weight_BC: Tensor) -> Tensor:
            weight_E = weight_BC[row_E, column_E]
            return F.embedding_bag(row_E, row_BD.contiguous(), offset_N, mode="sum", per_sample_weights=weight_E)

        if not len(row_E):
            return gradient_ND
        ones_B1 = torch.ones_like(self.query[:, :1])
        along = [bags(ones_B1, slope * cosine) for slope, cosine in zip(self.slope_KBC, self.cosine_KBC, strict=True)]
        along_KN1 = suffix_sums(torch.stack(along) * self.inverse_document_KN[..., None].square())
        for level, chunk in enumerate(self.chunks):
            gradient_ND[:, chunk] = bags(self.query[:, chunk], self.pair_weight_KBC[level])
            gradient_ND[:, chunk].addcmul_(self.document[:, chunk], along_KN1[level], value=-1)
        return gradient_ND

    def _stats(self) -> InfoNCEStats:
        problem, cosine_BC = self.problem, self.cosine_KBC[-1]
        kept_BM, cosine_BM = self.kept_KBC[-1, :, 1:], cosine_BC[:, 1:]
        num_kept_B = kept_BM.sum(1)
        padded_BM = self.index_BC[:, 1:] < 0
        loss_KB = self.lse_KB - self.cosine_KBC[..., 0] / self.temperature_B
        return InfoNCEStats(
            positive_similarity_B=cosine_BC[:, 0].clone(),
            negative_similarity_BM=None if problem.negative_BM is None else cosine_BM.masked_fill(padded_BM, torch.nan),
            lse_KB=self.lse_KB,
            loss_B=(self.level_weight_K11[..., 0] * loss_KB).sum(0),
            correct_B=~(kept_BM & (cosine_BM >= cosine_BC[:, :1] - problem.tie)).any(1),
            masked_B=self.num_offered_B - num_kept_B,
            mean_negative_similarity_B=cosine_BM.masked_fill(~kept_BM, 0.0).sum(1) / num_kept_B,
        )
