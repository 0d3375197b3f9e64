"""Scope `own`: every query against its own negatives only, O(B * M * D)."""

from __future__ import annotations

from torch import Tensor

from fused_contrastive.masks import listed_masks
from fused_contrastive.pairs import Pairs
from fused_contrastive.passes import LeftGradient, RowSums
from fused_contrastive.problem import Problem
from fused_contrastive.tiles import MASKED, Left, Shard


class Listed:
    """The same questions as `dense.Dense` answers, from the cosines of the listed pairs."""

    def __init__(self, problem: Problem, pairs: Pairs, cosine_KBM: Tensor, left: Left) -> None:
        self.problem, self.pairs, self.cosine_KBM, self.left = problem, pairs, cosine_KBM, left
        self.offered_BM, kept_BM = listed_masks(problem, pairs.index_BC)
        kept_KBM = kept_BM.expand_as(cosine_KBM)
        if left.highest_KS is not None:
            judged = slice(-1, None) if problem.margin_dims == "full" else slice(None)
            kept_KBM = kept_KBM & ~(cosine_KBM[judged] > left.highest_KS[judged, :, None])
        self.kept_KBM = kept_KBM
        self.logit_KBM = (cosine_KBM * left.inverse_temperature_S[:, None]).masked_fill(~kept_KBM, MASKED)

    def panels_at_once(self) -> list[slice]:
        return []

    def score(self, sums: RowSums, column_lse_KN: Tensor | None) -> None:
        if not self.logit_KBM.numel():
            return
        last_BM, kept_BM = self.cosine_KBM[-1], self.kept_KBM[-1]
        sums.lse_KS.copy_(self.logit_KBM.logsumexp(2))
        sums.hardest_S.copy_(last_BM.masked_fill(~kept_BM, MASKED).amax(1))
        sums.similarity_sum_S.copy_(last_BM.masked_fill(~kept_BM, 0.0).sum(1))
        sums.num_kept_S.copy_(kept_BM.sum(1))
        if column_lse_KN is not None:
            column_lse_KN.copy_(self.pairs.column_lse(self.logit_KBM, self.problem.num_documents))

    def add_gradients(
        self,
        shard: Shard,
        row_lse_KS: Tensor,
        row_weight_KS: Tensor,
        column_lse_KN: Tensor | None,
        column_weight_KN: Tensor | None,
        gradient: LeftGradient,
    ) -> Tensor:
        slope_KBM = row_weight_KS[..., None] * (self.logit_KBM - row_lse_KS[..., None]).exp()
        if column_lse_KN is not None and column_weight_KN is not None:
            index_BM = self.pairs.index_BC.clamp_min(0)
            slope_KBM += column_weight_KN[:, index_BM] * (self.logit_KBM - column_lse_KN[:, index_BM]).exp()
        return self.pairs.add_gradients(slope_KBM, self.cosine_KBM, self.left, shard, self.problem.dims, gradient)
