"""Prepares the loss before negatives are scored: the query rows, and the cosines of positives and own negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from fused_contrastive.cosine import prefix_inverse_norms
from fused_contrastive.one_pass.documents import Documents
from fused_contrastive.one_pass.pairs import Pairs
from fused_contrastive.one_pass.tiles import QueryRows, Shard
from fused_contrastive.problem import Problem


class Preparation:
    """Visits every document once, because in a ring the positives and own negatives may be in any shard.

    query_rows: the rows of the similarity matrix: the queries and, with the document tower, the positives of each query
        after them, including padding (with weight 0).
    query_S: the query of each query row; the row has the negatives of this query.
    positive_cosine_KBP, own_cosine_KBM: 0 where padded. Own negatives have only the last level, unless they are scored
        pair by pair.
    zero_or_nan: 0, or NaN if any row is not finite, even if no denominator contains the row.
    """

    def __init__(self, problem: Problem, documents: Documents, row_dtype: torch.dtype) -> None:
        self.problem = problem
        listed_BM = problem.positive_BP[:, :0] if problem.own_BM is None else problem.own_BM
        self.positives = Pairs(problem.positive_BP, problem.workspace_bytes)
        self.own = Pairs(listed_BM, problem.workspace_bytes)
        own_dims = problem.dims if problem.scores_own_by_pair else problem.dims[-1:]  # statistics need the last level
        query = problem.query_BD.detach().to(row_dtype).contiguous()
        inverse_norm_KB = prefix_inverse_norms(query, problem.dims, problem.dtype)
        queries = QueryRows(query, inverse_norm_KB, problem.temperature_B.detach().reciprocal(), None)
        self.positive_cosine_KBP = inverse_norm_KB.new_zeros(len(problem.dims), *problem.positive_BP.shape)
        self.own_cosine_KBM = inverse_norm_KB.new_zeros(len(own_dims), *listed_BM.shape)
        tower_XD = query.new_zeros(problem.positive_BP.numel() if problem.document_tower else 0, query.shape[1])
        self.zero_or_nan = 0 * inverse_norm_KB.sum()  # the norm of a row that is not finite is NaN
        for shard in documents.shards():
            self.zero_or_nan += 0 * shard.inverse_norm_KC.sum()
            self.positives.score(self.positive_cosine_KBP, queries, shard, problem.dims)
            self.own.score(self.own_cosine_KBM, queries, shard, own_dims)
            if problem.document_tower:
                self._copy_positives(shard, tower_XD)
        self.query_S = self._query_of_row()
        self.query_rows = self._with_tower(queries, tower_XD)

    def _query_of_row(self) -> Tensor:
        num_queries, num_positives = self.problem.positive_BP.shape
        query_B = torch.arange(num_queries, device=self.problem.positive_BP.device)
        if not self.problem.document_tower:
            return query_B
        return torch.cat([query_B, query_B.repeat_interleave(num_positives)])

    def _copy_positives(self, shard: Shard, tower_XD: Tensor) -> None:
        """Copy the positives that are in this shard to their places among the tower rows."""
        index_X = self.problem.positive_BP.flatten()
        inside_X = (index_X >= shard.first) & (index_X < shard.first + len(shard.row_CD))
        tower_XD[inside_X] = shard.row_CD[index_X[inside_X] - shard.first]

    def _with_tower(self, queries: QueryRows, tower_XD: Tensor) -> QueryRows:
        """The queries followed by the tower rows, with the cosine above which the margin drops a document."""
        problem = self.problem
        max_cosine_KS = None
        if problem.margin is not None:
            lowest_KB = self.positive_cosine_KBP.masked_fill(problem.positive_BP < 0, torch.inf).amin(2)
            max_cosine_KS = (lowest_KB + problem.margin + problem.rounding)[:, self.query_S]
        inverse_norm_KX = prefix_inverse_norms(tower_XD, problem.dims, problem.dtype)
        return QueryRows(
            row_SD=torch.cat([queries.row_SD, tower_XD]) if len(tower_XD) else queries.row_SD,
            inverse_norm_KS=torch.cat([queries.inverse_norm_KS, inverse_norm_KX], dim=1),
            inverse_temperature_S=queries.inverse_temperature_S[self.query_S],
            max_cosine_KS=max_cosine_KS,
        )
