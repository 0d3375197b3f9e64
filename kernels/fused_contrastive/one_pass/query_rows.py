"""The left rows of the similarity matrix, and the cosines of the listed pairs.

Left rows are the queries; with the document tower the positives of each query follow, padding included (it gets no
weight).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fused_contrastive.cosine import prefix_inverse_norms
from fused_contrastive.one_pass.documents import Documents
from fused_contrastive.one_pass.pairs import Pairs
from fused_contrastive.one_pass.tiles import Left, Shard
from fused_contrastive.problem import Problem


class LeftRows:
    """Reads every document once: with a ring the positives and own negatives may lie anywhere."""

    def __init__(self, problem: Problem, documents: Documents, row_dtype: torch.dtype) -> None:
        self.problem = problem
        listed_BM = problem.positive_BP[:, :0] if problem.own_BM is None else problem.own_BM
        self.positives = Pairs(problem.positive_BP, problem.workspace_bytes)
        self.own = Pairs(listed_BM, problem.workspace_bytes)
        own_dims = problem.dims if problem.scores_own_by_pair else problem.dims[-1:]  # elsewhere a statistic only
        query = problem.query_BD.detach().to(row_dtype).contiguous()
        inverse_KB = prefix_inverse_norms(query, problem.dims, problem.dtype)
        queries = Left(query, inverse_KB, problem.temperature_B.detach().reciprocal(), None)
        self.positive_KBP = inverse_KB.new_zeros(len(problem.dims), *problem.positive_BP.shape)
        self.own_KBM = inverse_KB.new_zeros(len(own_dims), *listed_BM.shape)
        tower_XD = query.new_zeros(problem.positive_BP.numel() if problem.document_tower else 0, query.shape[1])
        # A row that is not finite has no norm, whether a denominator holds it or not.
        self.poison = 0 * inverse_KB.sum()
        for shard in documents.circle():
            self.poison += 0 * shard.inverse_KC.sum()
            self.positives.score(self.positive_KBP, queries, shard, problem.dims)
            self.own.score(self.own_KBM, queries, shard, own_dims)
            if problem.document_tower:
                self._copy_positives(shard, tower_XD)
        self.owner_S = self._owner()
        self.left = self._with_tower(queries, tower_XD)

    def _owner(self) -> Tensor:
        """[S]: the query whose candidates a left row has."""
        num_queries, num_positives = self.problem.positive_BP.shape
        query_B = torch.arange(num_queries, device=self.problem.positive_BP.device)
        if not self.problem.document_tower:
            return query_B
        return torch.cat([query_B, query_B.repeat_interleave(num_positives)])

    def _copy_positives(self, shard: Shard, tower_XD: Tensor) -> None:
        index_X = self.problem.positive_BP.flatten()
        inside_X = (index_X >= shard.first) & (index_X < shard.first + len(shard.row_CD))
        tower_XD[inside_X] = shard.row_CD[index_X[inside_X] - shard.first]

    def _with_tower(self, queries: Left, tower_XD: Tensor) -> Left:
        problem = self.problem
        highest_KS = None
        if problem.margin is not None:
            lowest_KB = self.positive_KBP.masked_fill(problem.positive_BP < 0, torch.inf).amin(2)
            highest_KS = (lowest_KB + problem.margin + problem.rounding)[:, self.owner_S]
        inverse_KX = prefix_inverse_norms(tower_XD, problem.dims, problem.dtype)
        return Left(
            row_SD=torch.cat([queries.row_SD, tower_XD]) if len(tower_XD) else queries.row_SD,
            inverse_KS=torch.cat([queries.inverse_KS, inverse_KX], dim=1),
            inverse_temperature_S=queries.inverse_temperature_S[self.owner_S],
            highest_KS=highest_KS,
        )
