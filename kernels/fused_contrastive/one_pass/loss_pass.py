"""Computes value, statistics and gradients of InfoNCE for a checked problem, with memory linear in B + N.

The steps are: cosines of the listed pairs (`preparation.py`); log-sum-exps over the negatives (`dense.py`,
`listed.py`); the loss of each query and its derivatives (`query_loss.py`); the gradients of the embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fused_contrastive.masks import MaskRules, count_candidates, kept_of_list
from fused_contrastive.one_pass.accumulators import (
    NeededGradients,
    PassResult,
    QueryRowGradient,
    RowSums,
    remove_radial_part,
)
from fused_contrastive.one_pass.dense import DenseNegatives, column_lse_of_all
from fused_contrastive.one_pass.documents import Documents
from fused_contrastive.one_pass.listed import ListedNegatives
from fused_contrastive.one_pass.preparation import Preparation
from fused_contrastive.one_pass.query_loss import query_loss
from fused_contrastive.one_pass.tiles import MASKED, Shard, SlopeWeights, Tiles
from fused_contrastive.problem import InfoNCEStats, Problem


class LossPass:
    """One computation of the loss. Create a new object for each computation and call `run` once."""

    def __init__(self, problem: Problem, needs: NeededGradients, documents: Documents, tiles_type: type[Tiles]) -> None:
        self.problem, self.needs, self.documents = problem, needs, documents
        self.prepared = Preparation(problem, documents, tiles_type.row_dtype(problem))
        self.query_rows, self.num_queries = self.prepared.query_rows, len(problem.query_BD)
        level_weight_K1 = problem.normalized_weight_B.new_tensor(problem.level_weights)[:, None]
        self.weight_KB = problem.normalized_weight_B * level_weight_K1
        self.sums = RowSums(self.query_rows.inverse_norm_KS)
        self._allocate_slopes()
        self.listed: ListedNegatives | None = None
        if problem.scores_own_by_pair:
            self.listed = ListedNegatives(problem, self.prepared.own, self.prepared.own_cosine_KBM, self.query_rows)
        self.dense, scale = None, None
        if problem.scope != "own":
            rules = MaskRules.of(problem, self.prepared.query_S)
            tiles = tiles_type(problem, rules, by_column=problem.symmetric, needs_gradient=any(needs))
            scale = tiles.gradient_scale
            self.dense = DenseNegatives(tiles, self.query_rows, self.num_queries, documents, problem.dims)
        needs_query_rows = needs.query or (needs.document and problem.document_tower)
        gradient_SD = torch.zeros_like(self.query_rows.row_SD, dtype=problem.dtype) if needs_query_rows else None
        self.gradient = QueryRowGradient(gradient_SD, self.query_rows.inverse_norm_KS, scale)

    def run(self) -> PassResult:
        """Compute the statistics and the needed gradients."""
        if self.listed is not None:
            self.listed.score(self.sums, self.column_lse_KN)
        one_pass = self.dense is not None and any(self.needs) and not self.problem.symmetric
        panels = self.dense.one_pass_panels() if self.dense is not None and one_pass else []
        if panels:
            self._run_panel_by_panel(panels)
        else:
            if self.dense is not None:
                self.dense.score(self.sums, self.column_lse_KN)
            self._compute_losses(slice(0, self.num_queries))
            if any(self.needs):
                self._differentiate()
        return self._result()

    def _allocate_slopes(self) -> None:
        positive_cosine_KBP, inverse_norm_KS = self.prepared.positive_cosine_KBP, self.query_rows.inverse_norm_KS
        self.loss_KB, self.denominator_lse_KB = positive_cosine_KBP.new_zeros(2, *positive_cosine_KBP.shape[:2])
        self.positive_slope_KBP = torch.zeros_like(positive_cosine_KBP)
        self.row_weight_KS = torch.zeros_like(inverse_norm_KS)
        self.column_lse_KN: Tensor | None = None
        self.column_weight_KN: Tensor | None = None
        if self.problem.symmetric:
            self.column_lse_KN = inverse_norm_KS.new_full((len(inverse_norm_KS), self.problem.num_documents), MASKED)

    def _run_panel_by_panel(self, panels: list[slice]) -> None:
        """Compute value and gradient of one panel of queries against all documents, then of the next panel.

        This requires that a query's loss does not depend on other queries: the loss must not be symmetric.
        """
        assert self.dense is not None
        weights = SlopeWeights(self.sums.lse_KS, self.row_weight_KS)  # filled panel by panel
        for shard in self.documents.shards(with_gradient=self.needs.document):
            dot_KC = torch.zeros_like(shard.inverse_norm_KC)
            for rows in panels:
                self.dense.score_panel(rows, shard, self.sums)
                self._compute_losses(rows)
                dot_KC += self.dense.add_panel_gradients(rows, shard, weights.part(rows, None), self.gradient)
            self._finish_shard(shard, dot_KC, weights)
        self._finish_query_rows()

    def _compute_losses(self, rows: slice) -> None:
        """Compute the loss of the queries `rows`, and its derivatives by logits and log-sum-exps."""
        problem, num_queries = self.problem, self.num_queries
        positive_BP = problem.positive_BP[rows]
        inverse_temperature_B = self.query_rows.inverse_temperature_S[rows]
        tower_KBP = column_KBP = None
        if problem.document_tower:
            tower_KBP = self.sums.lse_KS[:, num_queries:].view_as(self.prepared.positive_cosine_KBP)
        if self.column_lse_KN is not None:
            self.column_lse_KN = column_lse_of_all(self.column_lse_KN, problem.peers)
            column_KBP = self.column_lse_KN[:, positive_BP.clamp_min(0)]
        logit_KBP = self.prepared.positive_cosine_KBP[:, rows] * inverse_temperature_B[:, None]
        loss = query_loss(logit_KBP, positive_BP >= 0, self.sums.lse_KS[:, rows], tower_KBP, column_KBP)
        weight_KB = self.weight_KB[:, rows]
        self.loss_KB[:, rows], self.denominator_lse_KB[:, rows] = loss.loss_KB, loss.denominator_lse_KB
        self.positive_slope_KBP[:, rows] = weight_KB[..., None] * loss.positive_slope_KBP
        self.row_weight_KS[:, rows] = weight_KB * loss.row_slope_KB
        if loss.tower_slope_KBP is not None:
            self.row_weight_KS[:, num_queries:] = (weight_KB[..., None] * loss.tower_slope_KBP).flatten(1)
        if loss.column_slope_KBP is not None:
            weight_KBP = weight_KB[..., None] * loss.column_slope_KBP
            weight_KN = self.prepared.positives.sum_by_document(weight_KBP, 0, problem.num_documents)
            self.column_weight_KN = weight_KN if problem.peers is None else problem.peers.sum(weight_KN)

    def _differentiate(self) -> None:
        """Compute all gradients. The loss of every query must be known."""
        weights = SlopeWeights(self.sums.lse_KS, self.row_weight_KS, self.column_lse_KN, self.column_weight_KN)
        for shard in self.documents.shards(with_gradient=self.needs.document):
            dot_KC = torch.zeros_like(shard.inverse_norm_KC)
            if self.dense is not None:
                dot_KC += self.dense.add_gradients(shard, weights, self.gradient)
            self._finish_shard(shard, dot_KC, weights)
        self._finish_query_rows()
        if self.problem.document_tower and self.needs.document:
            assert self.gradient.row_SD is not None
            # A tower row is a copy of a positive, so its gradient is added to the gradient of this document.
            for shard in self.documents.shards(with_gradient=True):
                assert shard.gradient_CD is not None
                tower_XD = self.gradient.row_SD[self.num_queries :]
                self.prepared.positives.sum_rows_by_document(tower_XD, shard.gradient_CD, shard.first)

    def _finish_shard(self, shard: Shard, dot_KC: Tensor, weights: SlopeWeights) -> None:
        """Add the gradients from own negatives and positives. The sums are then complete: remove the radial part."""
        prepared, dims = self.prepared, self.problem.dims
        if self.listed is not None:
            dot_KC = dot_KC + self.listed.add_gradients(shard, weights, self.gradient)
        dot_KC = dot_KC + prepared.positives.add_gradients(
            self.positive_slope_KBP, prepared.positive_cosine_KBP, self.query_rows, shard, dims, self.gradient
        )
        if shard.gradient_CD is not None:
            self.gradient.unscale(shard.gradient_CD)
            remove_radial_part(shard.gradient_CD, shard.row_CD, shard.inverse_norm_KC, dot_KC, dims)

    def _finish_query_rows(self) -> None:
        if self.gradient.row_SD is not None:
            self.gradient.unscale(self.gradient.row_SD)
            query_rows, dims = self.query_rows, self.problem.dims
            remove_radial_part(
                self.gradient.row_SD, query_rows.row_SD, query_rows.inverse_norm_KS, self.gradient.dot_KS, dims
            )

    def _result(self) -> PassResult:
        problem, needs = self.problem, self.needs
        temperature_gradient_B = None
        if needs.temperature:
            temperature_gradient_S = -self.gradient.dot_KS.sum(0) * self.query_rows.inverse_temperature_S
            temperature_gradient_B = temperature_gradient_S[: self.num_queries].clone()
            if problem.document_tower:
                tower_BP = temperature_gradient_S[self.num_queries :].view(problem.positive_BP.shape)
                temperature_gradient_B += tower_BP.sum(1)
        gradient_SD = self.gradient.row_SD
        return PassResult(
            stats=self._stats(),
            zero_or_nan=self.prepared.zero_or_nan,
            query_gradient_BD=gradient_SD[: self.num_queries] if needs.query and gradient_SD is not None else None,
            document_gradient_ND=self.documents.gradient if needs.document else None,
            temperature_gradient_B=temperature_gradient_B,
        )

    def _stats(self) -> InfoNCEStats:
        problem, prepared, sums = self.problem, self.prepared, self.sums
        queries = slice(0, self.num_queries)
        valid_BP = problem.positive_BP >= 0
        cosine_BP, num_kept_B = prepared.positive_cosine_KBP[-1], sums.num_kept_S[queries]
        if self.dense is None:
            assert self.listed is not None
            num_candidates_B = self.listed.candidate_BM.sum(1)
        else:
            num_candidates_B = count_candidates(problem)
        level_weight_K1 = self.loss_KB.new_tensor(problem.level_weights)[:, None]
        best_B = cosine_BP.masked_fill(~valid_BP, -torch.inf).amax(1)
        own_BM, own_cosine_BM = problem.own_BM, prepared.own_cosine_KBM[-1]
        return InfoNCEStats(
            positive_similarity_B=cosine_BP.sum(1) / valid_BP.sum(1),
            negative_similarity_BM=None if own_BM is None else own_cosine_BM.masked_fill(own_BM < 0, torch.nan),
            negative_kept_BM=None if own_BM is None else self._own_kept(own_BM),
            lse_KB=self.denominator_lse_KB,
            loss_B=(level_weight_K1 * self.loss_KB).sum(0),
            correct_B=best_B - sums.hardest_S[queries] > problem.rounding,
            masked_B=num_candidates_B - num_kept_B,
            mean_negative_similarity_B=sums.similarity_sum_S[queries] / num_kept_B,
        )

    def _own_kept(self, own_BM: Tensor) -> Tensor:
        """[B, M]: whether each own negative is kept at the last level; repeats have the value of the first mention."""
        kept_BM = kept_of_list(self.problem, own_BM)
        if self.query_rows.max_cosine_KS is not None:
            kept_BM &= ~(self.prepared.own_cosine_KBM[-1] > self.query_rows.max_cosine_KS[-1, : self.num_queries, None])
        return kept_BM
