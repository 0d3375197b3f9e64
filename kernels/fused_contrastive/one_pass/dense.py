"""Scopes `all` and `group`: computes the similarity matrix tile by tile, all Matryoshka levels in one pass over D.

With P_c = Q_c D_c^T over the columns c that level c adds, rq_k = 1 / |q[:dim_k]| and rd_k = 1 / |d[:dim_k]|:
    s_k  = (sum_{c <= k} P_c) * rq_k * rd_k                              similarity of level k
    g_k  = dL/ds_k                                                       slope, 0 where masked
    G_c  = sum_{k >= c} g_k * rq_k * rd_k
    dQ_c = G_c D_c   - (sum_{k >= c} rq_k^2 * sum_j g_k s_k) Q_c
    dD_c = G_c^T Q_c - (sum_{k >= c} rd_k^2 * sum_i g_k s_k) D_c
If a panel (some query rows against all documents) fits into the workspace and the loss is not symmetric, each panel is
computed once: three matrix products, 6BND operations for any number of levels. Otherwise every tile is computed twice,
first for the denominators and then for the slopes: four products, 8BND operations.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fused_contrastive.cosine import chunks
from fused_contrastive.one_pass.accumulators import QueryRowGradient, RowSums, consecutive_slices
from fused_contrastive.one_pass.documents import Documents
from fused_contrastive.one_pass.tiles import QueryRows, Shard, SlopeWeights, Tiles
from fused_contrastive.options import Peers


class DenseNegatives:
    """Log-sum-exps and gradients of all query rows against all documents. The first `num_queries` rows are queries."""

    def __init__(
        self, tiles: Tiles, query_rows: QueryRows, num_queries: int, documents: Documents, dims: tuple[int, ...]
    ) -> None:
        self.tiles, self.query_rows, self.num_queries, self.documents = tiles, query_rows, num_queries, documents
        self.chunks = chunks(dims)

    def one_pass_panels(self) -> list[slice]:
        """Panels of rows for `score_panel` and `add_panel_gradients`; empty if computing tiles twice is faster."""
        if self.documents.num_shards > 1 or len(self.query_rows.row_SD) > self.num_queries:
            return []
        (shard,) = self.documents.shards()
        num_columns = len(shard.row_CD)
        shape = self.tiles.shape(self.num_queries, num_columns, slopes=True, keep=True)
        return list(consecutive_slices(self.num_queries, shape[0])) if shape[1] >= num_columns else []

    def score_panel(self, rows: slice, shard: Shard, sums: RowSums) -> None:
        """Add the scores of `rows` against all documents to `sums`, and keep the tile for `add_panel_gradients`."""
        columns = slice(0, len(shard.row_CD))
        sums.add(rows, self.tiles.score(self.query_rows, shard, rows, columns, keep=True, by_column=False))

    def add_panel_gradients(
        self, rows: slice, shard: Shard, weights: SlopeWeights, gradient: QueryRowGradient
    ) -> Tensor:
        """Add the gradients of the panel that `score_panel` scored last; returns sum_i g_k s_k per document, [K, N]."""
        return self._add_tile(shard, rows, slice(0, len(shard.row_CD)), weights, gradient, kept=True)

    def score(self, sums: RowSums, column_lse_KN: Tensor | None) -> None:
        """Add the scores of all query rows against all documents to `sums`; add the queries' scores to `column_lse_KN`.

        column_lse_KN: log-sum-exp over the queries, per document of the whole table; None: not needed.
        """
        for shard in self.documents.shards():
            for rows, columns in self._tiles(shard, slopes=False):
                by_column = column_lse_KN is not None and rows.start < self.num_queries
                scores = self.tiles.score(self.query_rows, shard, rows, columns, keep=False, by_column=by_column)
                sums.add(rows, scores)
                if by_column and column_lse_KN is not None and scores.column_lse_KC is not None:
                    column_KC = column_lse_KN[:, shard.first + columns.start : shard.first + columns.stop]
                    column_KC.copy_(torch.logaddexp(column_KC, scores.column_lse_KC))

    def add_gradients(self, shard: Shard, weights: SlopeWeights, gradient: QueryRowGradient) -> Tensor:
        """Add the gradients of all query rows against a shard; returns sum_i g_k s_k per document of the shard, [K, C].

        weights: of all query rows and all documents of the whole table.
        """
        dot_KC = torch.zeros_like(shard.inverse_norm_KC)
        for rows, columns in self._tiles(shard, slopes=True):
            table_columns = slice(shard.first + columns.start, shard.first + columns.stop)
            part = weights.part(rows, table_columns if rows.start < self.num_queries else None)
            dot_KC[:, columns] += self._add_tile(shard, rows, columns, part, gradient, kept=False)
        return dot_KC

    def _tiles(self, shard: Shard, *, slopes: bool) -> Iterator[tuple[slice, slice]]:
        """Yields the rows and columns of every tile. A tile has either queries or tower rows, never both."""
        num_columns, num_rows = len(shard.row_CD), len(self.query_rows.row_SD)
        for first, stop in ((0, self.num_queries), (self.num_queries, num_rows)):
            tile_rows, tile_columns = self.tiles.shape(stop - first, num_columns, slopes=slopes, keep=False)
            for rows in consecutive_slices(stop - first, tile_rows):
                for columns in consecutive_slices(num_columns, tile_columns):
                    yield slice(first + rows.start, first + rows.stop), columns

    def _add_tile(
        self,
        shard: Shard,
        rows: slice,
        columns: slice,
        weights: SlopeWeights,
        gradient: QueryRowGradient,
        *,
        kept: bool,
    ) -> Tensor:
        slopes = self.tiles.slopes(self.query_rows, shard, rows, columns, weights, kept=kept)
        gradient.dot_KS[:, rows] += slopes.query_dot_KR
        for weight_RC, chunk in zip(slopes.pair_weight_KRC, self.chunks, strict=True):
            if gradient.row_SD is not None:
                _add_product(gradient.row_SD[rows, chunk], weight_RC, shard.row_CD[columns, chunk])
            if shard.gradient_CD is not None:
                _add_product(shard.gradient_CD[columns, chunk], weight_RC.T, self.query_rows.row_SD[rows, chunk])
        return slopes.document_dot_KC


def column_lse_of_all(column_lse_KN: Tensor, peers: Peers | None) -> Tensor:
    """The log-sum-exp over the queries of all peers, computed from that over this caller's queries."""
    if peers is None:
        return column_lse_KN
    max_lse_KN = peers.max(column_lse_KN)
    return max_lse_KN + peers.sum((column_lse_KN - max_lse_KN).exp()).log()


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, accumulated in the type of `total`."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif total.is_cuda:  # multiplies half-precision operands into a float32 sum without copying them
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(left.to(total.dtype), right.to(total.dtype))
