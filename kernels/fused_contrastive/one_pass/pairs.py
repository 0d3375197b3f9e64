"""Computes single cells of the similarity matrix: each query with its positives, or with its own negatives.

Memory and time are linear in the number of pairs. The sum over the pairs of a query or of a document is one bag of
`embedding_bag`. It has a fixed order, so that equal inputs give equal bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fused_contrastive.cosine import chunks, prefix_sums, suffix_sums
from fused_contrastive.one_pass.accumulators import QueryRowGradient, consecutive_slices
from fused_contrastive.one_pass.tiles import MASKED, QueryRows, Shard

_WORKSPACE_FRACTION = 16  # pairs use at most 1/16 of the workspace, because the tiles' buffers need the rest


class Pairs:
    """Pairs of query b and each document index_BC[b, c]; -1 is padding."""

    def __init__(self, index_BC: Tensor, workspace_bytes: int) -> None:
        self.index_BC = index_BC
        self.workspace_bytes = workspace_bytes

    def score(self, cosine_KBC: Tensor, query_rows: QueryRows, shard: Shard, dims: tuple[int, ...]) -> None:
        """Write the cosines of the pairs whose document is in the shard.

        dims: prefix lengths of the levels to compute; these must be the last ones of all levels.
        """
        query_E, place_E, document_E = self._inside(shard.first, len(shard.row_CD))
        inverse_norm_KS = query_rows.inverse_norm_KS[-len(dims) :]
        inverse_norm_KC = shard.inverse_norm_KC[-len(dims) :]
        entry_bytes = 3 * dims[-1] * cosine_KBC.element_size()
        pairs_at_once = max(1, self.workspace_bytes // _WORKSPACE_FRACTION // entry_bytes)
        for part in consecutive_slices(len(query_E), pairs_at_once):
            query, document = query_E[part], document_E[part]
            query_ED, document_ED = query_rows.row_SD[query], shard.row_CD[document]
            dot_KE = prefix_sums(
                (query_ED[:, chunk].to(cosine_KBC.dtype) * document_ED[:, chunk]).sum(1) for chunk in chunks(dims)
            )
            cosine_KBC[:, query, place_E[part]] = dot_KE * inverse_norm_KS[:, query] * inverse_norm_KC[:, document]

    def add_gradients(
        self,
        logit_slope_KBC: Tensor,
        cosine_KBC: Tensor,
        query_rows: QueryRows,
        shard: Shard,
        dims: tuple[int, ...],
        gradient: QueryRowGradient,
    ) -> Tensor:
        """Add the gradients of the pairs whose document is in the shard, to `gradient` and to the shard's gradient.

        Tower rows, which come after the queries, get no gradient. logit_slope_KBC: dloss/dlogit, 0 where dropped.
        Returns the sum of dloss/dcosine * cosine per document of the shard, [K, C].
        """
        num_queries = len(self.index_BC)
        query_E, place_E, document_E = self._inside(shard.first, len(shard.row_CD))
        inside_BC = torch.zeros_like(self.index_BC, dtype=torch.bool)
        inside_BC[query_E, place_E] = True
        slope_KBC = logit_slope_KBC * query_rows.inverse_temperature_S[:num_queries, None] * inside_BC
        product_KBC = slope_KBC * cosine_KBC
        gradient.dot_KS[:, :num_queries] += product_KBC.sum(2)
        if not len(query_E):
            return torch.zeros_like(shard.inverse_norm_KC)
        inverse_norm_KE = query_rows.inverse_norm_KS[:, query_E] * shard.inverse_norm_KC[:, document_E]
        weight_KE = suffix_sums(slope_KBC[:, query_E, place_E] * inverse_norm_KE)
        if gradient.scale is not None:
            weight_KE = weight_KE * gradient.scale
        order_E = document_E.argsort(stable=True)
        for level, columns in self._column_pieces(
            dims, len(query_rows.row_SD) + len(shard.row_CD), weight_KE.element_size()
        ):
            if gradient.row_SD is not None:
                table_CD = shard.row_CD[:, columns].to(weight_KE.dtype)
                part_SD = _bags(document_E, table_CD, query_E, len(gradient.row_SD), weight_KE[level])
                gradient.row_SD[:, columns] += part_SD
            if shard.gradient_CD is not None:
                table_SD = query_rows.row_SD[:, columns].to(weight_KE.dtype)
                bag_E, weight_E = document_E[order_E], weight_KE[level, order_E]
                shard.gradient_CD[:, columns] += _bags(query_E[order_E], table_SD, bag_E, len(shard.row_CD), weight_E)
        return self.sum_by_document(product_KBC, shard.first, len(shard.row_CD))

    def sum_by_document(self, value_KBC: Tensor, first: int, num_documents: int) -> Tensor:
        """[K, N]: for each of N documents from `first` on, the sum of the values of the pairs with this document."""
        query_E, place_E, document_E = self._inside(first, num_documents)
        document_E, order_E = document_E.sort(stable=True)
        if not len(document_E):
            return value_KBC.new_zeros(len(value_KBC), num_documents)
        value_EK = value_KBC[:, query_E[order_E], place_E[order_E]].T.contiguous()
        entry_E = torch.arange(len(document_E), device=document_E.device)
        return _bags(entry_E, value_EK, document_E, num_documents, torch.ones_like(value_EK[:, 0])).T

    def sum_rows_by_document(self, row_XD: Tensor, total_CD: Tensor, first: int) -> None:
        """Add row_XD[x] to the document index_BC.flatten()[x], if this is one of the C documents from `first` on."""
        query_E, place_E, document_E = self._inside(first, len(total_CD))
        document_E, order_E = document_E.sort(stable=True)
        if len(document_E):
            row_E = (query_E * self.index_BC.shape[1] + place_E)[order_E]
            total_CD += _bags(row_E, row_XD, document_E, len(total_CD), torch.ones_like(row_XD[row_E, 0]))

    def column_lse(self, logit_KBC: Tensor, num_documents: int) -> Tensor:
        """[K, N]: log-sum-exp over the pairs with the document; about MASKED if there are none."""
        index_KX = self.index_BC.clamp_min(0).flatten().expand(len(logit_KBC), -1)
        empty_KN = logit_KBC.new_full((len(logit_KBC), num_documents), MASKED)
        max_logit_KN = empty_KN.scatter_reduce(1, index_KX, logit_KBC.flatten(1), "amax")
        above_KBC = logit_KBC - max_logit_KN.gather(1, index_KX).view_as(logit_KBC)
        sum_KN = self.sum_by_document(above_KBC.exp(), 0, num_documents)
        return max_logit_KN + sum_KN.masked_fill(sum_KN == 0, 1.0).log()

    def _column_pieces(self, dims: tuple[int, ...], num_rows: int, item_bytes: int) -> Iterator[tuple[int, slice]]:
        """Yields (level, some columns that the level adds); `num_rows` rows of these columns fit into the workspace."""
        width = max(16, self.workspace_bytes // _WORKSPACE_FRACTION // (num_rows * item_bytes))
        for level, chunk in enumerate(chunks(dims)):
            for piece in consecutive_slices(chunk.stop - chunk.start, width):
                yield level, slice(chunk.start + piece.start, chunk.start + piece.stop)

    def _inside(self, first: int, num_documents: int) -> tuple[Tensor, Tensor, Tensor]:
        """The pairs with documents from `first` on, sorted by query: (query, place in its list, document - first)."""
        inside_BC = (self.index_BC >= first) & (self.index_BC < first + num_documents)
        query_E, place_E = inside_BC.nonzero(as_tuple=True)
        return query_E, place_E, self.index_BC[query_E, place_E] - first


def _bags(row_E: Tensor, table: Tensor, bag_E: Tensor, num_bags: int, weight_E: Tensor) -> Tensor:
    """[num_bags, D]: sum of weight_E * table[row_E] over the entries of each bag; `bag_E` must ascend."""
    start = torch.searchsorted(bag_E.contiguous(), torch.arange(num_bags, device=bag_E.device))
    return F.embedding_bag(row_E, table.contiguous(), start, mode="sum", per_sample_weights=weight_E.contiguous())
