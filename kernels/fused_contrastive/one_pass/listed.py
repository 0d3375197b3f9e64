"""Scores every query against its own negatives, pair by pair, in O(B * M * D).

In scope `own` there are no other negatives. In the other scopes own negatives are scored here only if `hardness` gives
them a weight; the tiles then skip them.
"""

from __future__ import annotations

from torch import Tensor

from fused_contrastive.masks import listed_masks
from fused_contrastive.one_pass.accumulators import QueryRowGradient, RowSums
from fused_contrastive.one_pass.pairs import Pairs
from fused_contrastive.one_pass.tiles import MASKED, QueryRows, Shard, SlopeWeights, TileScores
from fused_contrastive.problem import Problem


class ListedNegatives:
    """Adds scores and gradients like `dense.DenseNegatives`, computed from the cosines of the listed pairs.

    With `hardness`, a pair adds e^(logit + hardness * cosine) to its query's denominator; each level uses its own
    cosine. The pair adds e^logit to the sum of its column.
    """

    def __init__(self, problem: Problem, pairs: Pairs, cosine_KBM: Tensor, query_rows: QueryRows) -> None:
        self.problem, self.pairs, self.cosine_KBM, self.query_rows = problem, pairs, cosine_KBM, query_rows
        self.candidate_BM, kept_BM = listed_masks(problem, pairs.index_BC)
        kept_KBM = kept_BM.expand_as(cosine_KBM)
        if query_rows.max_cosine_KS is not None:
            compared = slice(-1, None) if problem.margin_dims == "full" else slice(None)
            max_cosine_KB = query_rows.max_cosine_KS[compared, : len(pairs.index_BC)]
            kept_KBM = kept_KBM & ~(cosine_KBM[compared] > max_cosine_KB[..., None])
        self.kept_KBM = kept_KBM
        num_queries = len(pairs.index_BC)  # tower rows follow the queries
        logit_KBM = cosine_KBM * query_rows.inverse_temperature_S[:num_queries, None]
        self.logit_KBM = logit_KBM.masked_fill(~kept_KBM, MASKED)
        self.weighted_KBM = self.logit_KBM
        if problem.hardness is not None:
            self.weighted_KBM = (logit_KBM + problem.hardness * cosine_KBM).masked_fill(~kept_KBM, MASKED)

    def score(self, sums: RowSums, column_lse_KN: Tensor | None) -> None:
        """See `DenseNegatives.score`."""
        if not self.logit_KBM.numel():
            return
        last_BM, kept_BM = self.cosine_KBM[-1], self.kept_KBM[-1]
        scores = TileScores(
            lse_KR=self.weighted_KBM.logsumexp(2),
            hardest_R=last_BM.masked_fill(~kept_BM, MASKED).amax(1),
            similarity_sum_R=last_BM.masked_fill(~kept_BM, 0.0).sum(1),
            num_kept_R=kept_BM.sum(1),
            column_lse_KC=None,
        )
        sums.add(slice(0, len(kept_BM)), scores)
        if column_lse_KN is not None:
            column_lse_KN.copy_(self.pairs.column_lse(self.logit_KBM, self.problem.num_documents))

    def add_gradients(self, shard: Shard, weights: SlopeWeights, gradient: QueryRowGradient) -> Tensor:
        """See `DenseNegatives.add_gradients`."""
        own = weights.part(slice(0, len(self.pairs.index_BC)), slice(None))
        slope_KBM = own.row_weight_KR[..., None] * (self.weighted_KBM - own.row_lse_KR[..., None]).exp()
        if own.column_lse_KC is not None and own.column_weight_KC is not None:
            index_BM = self.pairs.index_BC.clamp_min(0)
            above_KBM = self.logit_KBM - own.column_lse_KC[:, index_BM]
            slope_KBM += own.column_weight_KC[:, index_BM] * above_KBM.exp()
        return self.pairs.add_gradients(slope_KBM, self.cosine_KBM, self.query_rows, shard, self.problem.dims, gradient)
