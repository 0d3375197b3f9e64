"""Value, statistics and gradients of InfoNCE with memory linear in B + N; see `terms.py` for the loss of a query."""

from __future__ import annotations

import torch
from torch import Tensor

from fused_contrastive.masks import Rules, count_candidates, kept_of_list
from fused_contrastive.one_pass.dense import Dense, column_lse_of_all
from fused_contrastive.one_pass.documents import Documents
from fused_contrastive.one_pass.listed import Listed
from fused_contrastive.one_pass.passes import LeftGradient, Needs, PassResult, RowSums, remove_radial
from fused_contrastive.one_pass.query_loss import query_terms
from fused_contrastive.one_pass.query_rows import LeftRows
from fused_contrastive.one_pass.tiles import MASKED, Shard, SlopeWeights, Tiles
from fused_contrastive.problem import InfoNCEStats, Problem


class LossPass:
    """Runs once: cosines of the listed pairs, log-sum-exps over the negatives, loss, slopes, gradients."""

    def __init__(self, problem: Problem, needs: Needs, documents: Documents, tiles_type: type[Tiles]) -> None:
        self.problem, self.needs, self.documents = problem, needs, documents
        self.rows = LeftRows(problem, documents, tiles_type.row_dtype(problem))
        self.left, self.num_queries = self.rows.left, len(problem.query_BD)
        level_weight_K1 = problem.normalized_weight_B.new_tensor(problem.level_weights)[:, None]
        self.weight_KB = problem.normalized_weight_B * level_weight_K1
        self.sums = RowSums(self.left.inverse_KS)
        self._allocate_slopes()
        self.listed: Listed | None = None
        if problem.scores_own_by_pair:
            self.listed = Listed(problem, self.rows.own, self.rows.own_KBM, self.left)
        self.dense, scale = None, None
        if problem.scope != "own":
            rules = Rules.of(problem, self.rows.owner_S)
            tiles = tiles_type(problem, rules, by_column=problem.symmetric, needs_gradient=any(needs))
            scale = tiles.gradient_scale
            self.dense = Dense(tiles, self.left, self.num_queries, documents, problem.dims)
        wants_left = needs.query or (needs.document and problem.document_tower)
        gradient_SD = torch.zeros_like(self.left.row_SD, dtype=problem.dtype) if wants_left else None
        self.gradient = LeftGradient(gradient_SD, self.left.inverse_KS, scale)

    def run(self) -> PassResult:
        if self.listed is not None:
            self.listed.score(self.sums, self.column_lse_KN)
        one_pass = self.dense is not None and any(self.needs) and not self.problem.symmetric
        row_panels = self.dense.panels_at_once() if self.dense is not None and one_pass else []
        if row_panels:
            self._at_once(row_panels)
        else:
            if self.dense is not None:
                self.dense.score(self.sums, self.column_lse_KN)
            self._set_terms(slice(0, self.num_queries))
            if any(self.needs):
                self._differentiate()
        return self._result()

    def _allocate_slopes(self) -> None:
        positive_KBP, inverse_KS = self.rows.positive_KBP, self.left.inverse_KS
        self.loss_KB, self.denominator_lse_KB = positive_KBP.new_zeros(2, *positive_KBP.shape[:2])
        self.by_positive_KBP = torch.zeros_like(positive_KBP)
        self.row_weight_KS = torch.zeros_like(inverse_KS)
        self.column_lse_KN: Tensor | None = None
        self.column_weight_KN: Tensor | None = None
        if self.problem.symmetric:
            self.column_lse_KN = inverse_KS.new_full((len(inverse_KS), self.problem.num_documents), MASKED)

    def _at_once(self, row_panels: list[slice]) -> None:
        """A panel's value and gradient, then the next: its denominators depend on nothing else."""
        assert self.dense is not None
        weights = SlopeWeights(self.sums.lse_KS, self.row_weight_KS)  # filled panel by panel
        for shard in self.documents.circle(with_gradient=self.needs.document):
            dot_KC = torch.zeros_like(shard.inverse_KC)
            for rows in row_panels:
                self.dense.score_panel(rows, shard, self.sums)
                self._set_terms(rows)
                dot_KC += self.dense.add_panel_gradients(rows, shard, weights.part(rows, None), self.gradient)
            self._finish_shard(shard, dot_KC, weights)
        self._finish_left()

    def _set_terms(self, rows: slice) -> None:
        """The loss of these queries, and its slopes by their logits and log-sum-exps."""
        problem, num_queries = self.problem, self.num_queries
        positive_BP = problem.positive_BP[rows]
        inverse_temperature_B = self.left.inverse_temperature_S[rows]
        tower_KBP = column_KBP = None
        if problem.document_tower:
            tower_KBP = self.sums.lse_KS[:, num_queries:].view_as(self.rows.positive_KBP)
        if self.column_lse_KN is not None:
            self.column_lse_KN = column_lse_of_all(self.column_lse_KN, problem.peers)
            column_KBP = self.column_lse_KN[:, positive_BP.clamp_min(0)]
        logit_KBP = self.rows.positive_KBP[:, rows] * inverse_temperature_B[:, None]
        terms = query_terms(logit_KBP, positive_BP >= 0, self.sums.lse_KS[:, rows], tower_KBP, column_KBP)
        weight_KB = self.weight_KB[:, rows]
        self.loss_KB[:, rows], self.denominator_lse_KB[:, rows] = terms.loss_KB, terms.denominator_lse_KB
        self.by_positive_KBP[:, rows] = weight_KB[..., None] * terms.by_positive_KBP
        self.row_weight_KS[:, rows] = weight_KB * terms.by_row_KB
        if terms.by_tower_KBP is not None:
            self.row_weight_KS[:, num_queries:] = (weight_KB[..., None] * terms.by_tower_KBP).flatten(1)
        if terms.by_column_KBP is not None:
            weight_KBP = weight_KB[..., None] * terms.by_column_KBP
            weight_KN = self.rows.positives.sum_by_document(weight_KBP, 0, problem.num_documents)
            self.column_weight_KN = weight_KN if problem.peers is None else problem.peers.sum(weight_KN)

    def _differentiate(self) -> None:
        weights = SlopeWeights(self.sums.lse_KS, self.row_weight_KS, self.column_lse_KN, self.column_weight_KN)
        for shard in self.documents.circle(with_gradient=self.needs.document):
            dot_KC = torch.zeros_like(shard.inverse_KC)
            if self.dense is not None:
                dot_KC += self.dense.add_gradients(shard, weights, self.gradient)
            self._finish_shard(shard, dot_KC, weights)
        self._finish_left()
        if self.problem.document_tower and self.needs.document:
            assert self.gradient.row_SD is not None
            for shard in self.documents.circle(with_gradient=True):
                assert shard.gradient_CD is not None
                tower_XD = self.gradient.row_SD[self.num_queries :]
                self.rows.positives.sum_rows_by_document(tower_XD, shard.gradient_CD, shard.first)

    def _finish_shard(self, shard: Shard, dot_KC: Tensor, weights: SlopeWeights) -> None:
        """Add the listed negatives and the positives, then take out what lies along the rows."""
        rows, dims = self.rows, self.problem.dims
        if self.listed is not None:
            dot_KC = dot_KC + self.listed.add_gradients(shard, weights, self.gradient)
        dot_KC = dot_KC + rows.positives.add_gradients(
            self.by_positive_KBP, rows.positive_KBP, self.left, shard, dims, self.gradient
        )
        if shard.gradient_CD is not None:
            self.gradient.unscale(shard.gradient_CD)
            remove_radial(shard.gradient_CD, shard.row_CD, shard.inverse_KC, dot_KC, dims)

    def _finish_left(self) -> None:
        if self.gradient.row_SD is not None:
            self.gradient.unscale(self.gradient.row_SD)
            left, dims = self.left, self.problem.dims
            remove_radial(self.gradient.row_SD, left.row_SD, left.inverse_KS, self.gradient.dot_KS, dims)

    def _result(self) -> PassResult:
        problem, needs = self.problem, self.needs
        temperature_gradient_B = None
        if needs.temperature:
            by_row_S = -self.gradient.dot_KS.sum(0) * self.left.inverse_temperature_S
            temperature_gradient_B = by_row_S[: self.num_queries].clone()
            if problem.document_tower:
                temperature_gradient_B += by_row_S[self.num_queries :].view(problem.positive_BP.shape).sum(1)
        query_gradient = self.gradient.row_SD
        return PassResult(
            self._stats(),
            self.rows.poison,
            query_gradient[: self.num_queries] if needs.query and query_gradient is not None else None,
            self.documents.gradient if needs.document else None,
            temperature_gradient_B,
        )

    def _stats(self) -> InfoNCEStats:
        problem, rows, sums = self.problem, self.rows, self.sums
        queries = slice(0, self.num_queries)
        valid_BP = problem.positive_BP >= 0
        cosine_BP, num_kept_B = rows.positive_KBP[-1], sums.num_kept_S[queries]
        if self.dense is None:
            assert self.listed is not None
            num_offered_B = self.listed.offered_BM.sum(1)
        else:
            num_offered_B = count_candidates(problem)
        level_weight_K1 = self.loss_KB.new_tensor(problem.level_weights)[:, None]
        best_B = cosine_BP.masked_fill(~valid_BP, -torch.inf).amax(1)
        own_BM = problem.own_BM
        return InfoNCEStats(
            positive_similarity_B=cosine_BP.sum(1) / valid_BP.sum(1),
            negative_similarity_BM=None if own_BM is None else rows.own_KBM[-1].masked_fill(own_BM < 0, torch.nan),
            negative_kept_BM=None if own_BM is None else self._own_kept(own_BM),
            lse_KB=self.denominator_lse_KB,
            loss_B=(level_weight_K1 * self.loss_KB).sum(0),
            correct_B=best_B - sums.hardest_S[queries] > problem.rounding,
            masked_B=num_offered_B - num_kept_B,
            mean_negative_similarity_B=sums.similarity_sum_S[queries] / num_kept_B,
        )

    def _own_kept(self, own_BM: Tensor) -> Tensor:
        kept_BM = kept_of_list(self.problem, own_BM)
        if self.left.highest_KS is not None:
            kept_BM &= ~(self.rows.own_KBM[-1] > self.left.highest_KS[-1, : self.num_queries, None])
        return kept_BM
