"""Single cells of the similarity matrix: each query with its positives, and with its own negatives.

Memory and time are linear in the number of pairs. Sums over the pairs of a query or of a document run in a fixed
order (one bag each), so that results are the same bits every time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fused_contrastive.cosine import chunks, prefix_sums, suffix_sums
from fused_contrastive.one_pass.passes import LeftGradient, panels
from fused_contrastive.one_pass.tiles import MASKED, Left, Shard

_PART = 16  # pairs take no more than this fraction of the workspace: tiles hold the rest at the same time


class Pairs:
    """Query b with the documents in its -1 padded list; a list has C places."""

    def __init__(self, index_BC: Tensor, workspace_bytes: int) -> None:
        self.index_BC = index_BC
        self.workspace_bytes = workspace_bytes

    def score(self, cosine_KBC: Tensor, left: Left, shard: Shard, dims: tuple[int, ...]) -> None:
        """Write the cosines of the shard's documents at each of the levels `dims`, the last len(dims) of all levels."""
        owner_E, place_E, document_E = self._inside(shard.first, len(shard.row_CD))
        inverse_left_KS, inverse_KC = left.inverse_KS[-len(dims) :], shard.inverse_KC[-len(dims) :]
        entry_bytes = 3 * dims[-1] * cosine_KBC.element_size()
        for part in panels(len(owner_E), max(1, self.workspace_bytes // _PART // entry_bytes)):
            owner, document = owner_E[part], document_E[part]
            left_ED, right_ED = left.row_SD[owner], shard.row_CD[document]
            dot_KE = prefix_sums(
                (left_ED[:, chunk].to(cosine_KBC.dtype) * right_ED[:, chunk]).sum(1) for chunk in chunks(dims)
            )
            cosine_KBC[:, owner, place_E[part]] = dot_KE * inverse_left_KS[:, owner] * inverse_KC[:, document]

    def add_gradients(
        self,
        by_logit_KBC: Tensor,
        cosine_KBC: Tensor,
        left: Left,
        shard: Shard,
        dims: tuple[int, ...],
        gradient: LeftGradient,
    ) -> Tensor:
        """Add the shard's pairs; returns the sum of dloss/dcosine * cosine per document of the shard, [K, C].

        by_logit_KBC: dloss/dlogit, 0 where dropped. Left rows beyond the queries get nothing.
        """
        num_queries = len(self.index_BC)
        owner_E, place_E, document_E = self._inside(shard.first, len(shard.row_CD))
        inside_BC = torch.zeros_like(self.index_BC, dtype=torch.bool)
        inside_BC[owner_E, place_E] = True
        slope_KBC = by_logit_KBC * left.inverse_temperature_S[:num_queries, None] * inside_BC
        product_KBC = slope_KBC * cosine_KBC
        gradient.dot_KS[:, :num_queries] += product_KBC.sum(2)
        if not len(owner_E):
            return torch.zeros_like(shard.inverse_KC)
        inverse_KE = left.inverse_KS[:, owner_E] * shard.inverse_KC[:, document_E]
        weight_KE = suffix_sums(slope_KBC[:, owner_E, place_E] * inverse_KE)
        if gradient.scale is not None:
            weight_KE = weight_KE * gradient.scale
        order_E = document_E.argsort(stable=True)
        for level, columns in self._narrow(dims, len(left.row_SD) + len(shard.row_CD), weight_KE.element_size()):
            if gradient.row_SD is not None:
                table_CD = shard.row_CD[:, columns].to(weight_KE.dtype)
                part_SD = _bags(document_E, table_CD, owner_E, len(gradient.row_SD), weight_KE[level])
                gradient.row_SD[:, columns] += part_SD
            if shard.gradient_CD is not None:
                table_SD = left.row_SD[:, columns].to(weight_KE.dtype)
                bag_E, weight_E = document_E[order_E], weight_KE[level, order_E]
                shard.gradient_CD[:, columns] += _bags(owner_E[order_E], table_SD, bag_E, len(shard.row_CD), weight_E)
        return self.sum_by_document(product_KBC, shard.first, len(shard.row_CD))

    def sum_by_document(self, value_KBC: Tensor, first: int, num_documents: int) -> Tensor:
        """[K, N] of documents `first` on: the sum over the pairs that name the document."""
        owner_E, place_E, document_E = self._inside(first, num_documents)
        document_E, order_E = document_E.sort(stable=True)
        if not len(document_E):
            return value_KBC.new_zeros(len(value_KBC), num_documents)
        value_EK = value_KBC[:, owner_E[order_E], place_E[order_E]].T.contiguous()
        entry_E = torch.arange(len(document_E), device=document_E.device)
        return _bags(entry_E, value_EK, document_E, num_documents, torch.ones_like(value_EK[:, 0])).T

    def sum_rows_by_document(self, row_XD: Tensor, total_CD: Tensor, first: int) -> None:
        """Add row x, of the x-th place of all lists, to the document named there."""
        owner_E, place_E, document_E = self._inside(first, len(total_CD))
        document_E, order_E = document_E.sort(stable=True)
        if len(document_E):
            row_E = (owner_E * self.index_BC.shape[1] + place_E)[order_E]
            total_CD += _bags(row_E, row_XD, document_E, len(total_CD), torch.ones_like(row_XD[row_E, 0]))

    def column_lse(self, logit_KBC: Tensor, num_documents: int) -> Tensor:
        """[K, N]: log-sum-exp over the pairs that name the document; about MASKED if there is none."""
        index_KX = self.index_BC.clamp_min(0).flatten().expand(len(logit_KBC), -1)
        empty_KN = logit_KBC.new_full((len(logit_KBC), num_documents), MASKED)
        highest_KN = empty_KN.scatter_reduce(1, index_KX, logit_KBC.flatten(1), "amax")
        above_KBC = logit_KBC - highest_KN.gather(1, index_KX).view_as(logit_KBC)
        sum_KN = self.sum_by_document(above_KBC.exp(), 0, num_documents)
        return highest_KN + sum_KN.masked_fill(sum_KN == 0, 1.0).log()

    def _narrow(self, dims: tuple[int, ...], num_rows: int, item_bytes: int) -> Iterator[tuple[int, slice]]:
        """(level, columns that it adds), in pieces that keep a table of so many rows within a part of the workspace."""
        width = max(16, self.workspace_bytes // _PART // (num_rows * item_bytes))
        for level, chunk in enumerate(chunks(dims)):
            for piece in panels(chunk.stop - chunk.start, width):
                yield level, slice(chunk.start + piece.start, chunk.start + piece.stop)

    def _inside(self, first: int, num_documents: int) -> tuple[Tensor, Tensor, Tensor]:
        """Query, place in its list, and document counted from `first`, for every pair with one of them; by query."""
        inside_BC = (self.index_BC >= first) & (self.index_BC < first + num_documents)
        owner_E, place_E = inside_BC.nonzero(as_tuple=True)
        return owner_E, place_E, self.index_BC[owner_E, place_E] - first


def _bags(row_E: Tensor, table: Tensor, bag_E: Tensor, num_bags: int, weight_E: Tensor) -> Tensor:
    """[num_bags, D]: sum of weight * table[row] over the entries of a bag; `bag_E` ascends."""
    start = torch.searchsorted(bag_E.contiguous(), torch.arange(num_bags, device=bag_E.device))
    return F.embedding_bag(row_E, table.contiguous(), start, mode="sum", per_sample_weights=weight_E.contiguous())
