"""Exact search of one shard: fast matrix products select the rows that may be among the best, exact scores rank them.

Float32 products of whole tiles are fast, but their last bits depend on the shapes of the tiles. They differ from the
true score by at most γ = (D + 8) · 2^-24 · |query| · |row|, whatever the order of summation (the 8 covers the other
roundings). Therefore every row whose product is at least (k-th best product) - 2γ is scored again by `pair_scores`, and
only these scores order the result. The search keeps a limited number of rows per query. If more rows are that close to
the k-th best, the query is searched again with a higher limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from harness.search.request import SearchRequest
from harness.search.scores import listed_scores

BLOCK_BYTES = {"cpu": 32 * 2**20, "cuda": 256 * 2**20}  # size of the products in memory; more is not faster on a CPU
TILE_COLUMNS = 65_536  # corpus rows per tile: enough to make the selection cheap in comparison to the product
GROUP = 8  # number of columns whose maximum is examined first
WIDEN = 4  # a query with too many close rows is searched again, and keeps this many times as many rows


class ExactSearch:
    """Finds the k best allowed rows of a shard per query. The result is exact and independent of `block_bytes`.

    Besides queries, shard and result it needs memory for `block_bytes` of products and a few arrays [R, H]. If n rows
    have the score of the k-th best row up to rounding (copies of one document), H grows to n.

    Raises:
        ValueError: `block_bytes` cannot hold one product.
    """

    def __init__(self, request: SearchRequest, block_bytes: int | None = None) -> None:
        self.request = request
        self._block_bytes = BLOCK_BYTES[request.device.type] if block_bytes is None else block_bytes
        if self._block_bytes < 4:
            raise ValueError(f"block_bytes: got {block_bytes}, expected at least the 4 of one product")
        num_tiles = -(-len(request.shard) // min(TILE_COLUMNS, self._block_bytes // 4))
        self._tile_columns = max(1, -(-len(request.shard) // max(1, num_tiles)))

    @torch.no_grad()
    def __call__(self, row_R: np.ndarray) -> tuple[Tensor, Tensor]:
        k = self.request.k
        with full_float32(self.request.device):
            return self._search(row_R, held=k + k // 16 + 8)

    def _search(self, row_R: np.ndarray, held: int) -> tuple[Tensor, Tensor]:
        at_once = max(1, self._block_bytes // 4 // max(self._tile_columns, 3 * min(held, len(self.request.shard))))
        index_RK = torch.empty((len(row_R), self.request.k), dtype=torch.int64, device=self.request.device)
        score_RK = torch.empty((len(row_R), self.request.k), device=self.request.device)
        for first in range(0, len(row_R), at_once):
            part = slice(first, first + at_once)
            index_RK[part], score_RK[part] = self._search_part(row_R[part], held)
        return index_RK, score_RK

    def _search_part(self, row_R: np.ndarray, held: int) -> tuple[Tensor, Tensor]:
        query_RD, highest_R = self.request.queries(row_R), self.request.highest(row_R)
        error_R = self._largest_error(query_RD)
        product_RH, column_RH = self._preselect(query_RD, row_R, highest_R + error_R, held)
        least_R, is_certain_R = _threshold(product_RH, highest_R - error_R, error_R, self.request.k)
        is_certain_R |= held >= len(self.request.shard)
        listed_RH = (product_RH >= least_R[:, None]) & (product_RH > -torch.inf) & is_certain_R[:, None]
        owner_E, place_E = listed_RH.nonzero(as_tuple=True)
        score_E = listed_scores(query_RD, self.request.shard.row_CD, owner_E, column_RH[owner_E, place_E])
        score_RH = torch.full_like(product_RH, -torch.inf)
        score_RH[owner_E, place_E] = score_E.where(score_E < highest_R[owner_E], -torch.inf)
        index, score = k_highest(column_RH + self.request.shard.first, score_RH, self.request.k)
        doubtful = (~is_certain_R).nonzero().flatten()
        if len(doubtful):
            index[doubtful], score[doubtful] = self._search(row_R[doubtful.cpu().numpy()], held * WIDEN)
        return index, score

    def _largest_error(self, query_RD: Tensor) -> Tensor:
        """Upper bound [R] of |product - exact score| over the shard; the second term covers underflow to 0."""
        width = query_RD.shape[1]
        unit = torch.finfo(torch.float32).eps / 2
        norm_R = torch.linalg.vector_norm(query_RD, dim=1) * self.request.largest_norm
        return 1.01 * (width + 8) * unit * norm_R + width * torch.finfo(torch.float32).tiny

    def _preselect(self, query_RD: Tensor, row_R: np.ndarray, limit_R: Tensor, held: int) -> tuple[Tensor, Tensor]:
        """The `held` highest products below `limit_R` without excluded rows, best first, and their columns: [R, H]."""
        corpus_CD, device = self.request.shard.row_CD, query_RD.device
        owner_E, excluded_E = (torch.from_numpy(array).to(device) for array in self.request.excluded_columns(row_R))
        best_RH = query_RD.new_empty((len(row_R), 0))
        column_RH = torch.empty((len(row_R), 0), dtype=torch.int64, device=device)
        for first in range(0, len(corpus_CD), self._tile_columns):
            product_RC = _products(query_RD, corpus_CD[first : first + self._tile_columns])
            inside_E = (excluded_E >= first) & (excluded_E < first + product_RC.shape[1])
            product_RC[owner_E[inside_E], excluded_E[inside_E] - first] = -torch.inf
            if self.request.highest_Q is not None:
                product_RC.masked_fill_(product_RC >= limit_R[:, None], -torch.inf)
            above_R = best_RH[:, -1] if best_RH.shape[1] == held else torch.full_like(limit_R, -torch.inf)
            column = _columns_of_highest(product_RC, above_R, held)
            best_RH = torch.cat([best_RH, product_RC.gather(1, column)], dim=1)
            column_RH = torch.cat([column_RH, column + first], dim=1)
            best_RH, order = best_RH.topk(min(held, best_RH.shape[1]), dim=1)
            column_RH = column_RH.gather(1, order)
        return best_RH, column_RH


def k_highest(index_RE: Tensor, score_RE: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(indices, scores) of the k highest scores of each row, best first; for equal scores the lower index comes first.

    If a row has fewer than k scores above -inf, the result is padded with index -1 and score -inf.
    """
    index_RE, order = index_RE.sort(dim=1)
    score_RE, order = score_RE.gather(1, order).sort(dim=1, descending=True, stable=True)
    missing = max(0, k - score_RE.shape[1])
    score_RK = torch.nn.functional.pad(score_RE[:, :k], (0, missing), value=-torch.inf)
    index_RK = torch.nn.functional.pad(index_RE.gather(1, order)[:, :k], (0, missing), value=-1)
    return index_RK.masked_fill(score_RK == -torch.inf, -1), score_RK


def _threshold(product_RH: Tensor, limit_R: Tensor, error_R: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(a lower bound of the products of the k best rows [R], whether all rows above the bound were kept [R]).

    If a product is at least `limit_R`, the exact score of its row may be above the query's limit. Therefore the k-th
    best is counted among the products below `limit_R`.
    """
    num_rows, held = product_RH.shape
    if not held:
        return torch.full_like(error_R, -torch.inf), torch.ones(num_rows, dtype=torch.bool, device=error_R.device)
    place_R = (product_RH >= limit_R[:, None]).sum(dim=1) + k - 1
    kth_R = product_RH.gather(1, place_R.clamp(max=held - 1)[:, None])[:, 0]
    last_R, least_R = product_RH[:, -1], kth_R - 2 * error_R
    return least_R, (last_R == -torch.inf) | ((place_R < held) & (last_R < least_R))


def _columns_of_highest(product_RC: Tensor, above_R: Tensor, held: int) -> Tensor:
    """Columns [R, n] of each row that include the columns of its `held` highest products above `above_R`.

    The columns are divided into groups of `GROUP`. A group can contain one of the `held` highest products only if the
    group's maximum is among the `held` highest maxima. This function calls itself to find these maxima.
    """
    num_rows, num_columns = product_RC.shape
    columns = torch.arange(num_columns, device=product_RC.device)
    if num_columns < 2 * GROUP * max(1, held):
        return columns.expand(num_rows, -1)
    num_groups = num_columns // GROUP
    # A group consists of every num_groups-th column, so that all maxima are one elementwise maximum of GROUP vectors.
    highest_RG = product_RC[:, : GROUP * num_groups].view(num_rows, GROUP, num_groups).amax(dim=1)
    count = min(held, int((highest_RG > above_R[:, None]).sum(dim=1).max()))
    group = _columns_of_highest(highest_RG, above_R, count)
    group = group.gather(1, highest_RG.gather(1, group).topk(count, dim=1, sorted=False).indices)
    members = (group[:, :, None] + columns[: GROUP * num_groups : num_groups]).flatten(1)
    return torch.cat([members, columns[GROUP * num_groups :].expand(num_rows, -1)], dim=1)


def _products(query_RD: Tensor, corpus_CD: Tensor) -> Tensor:
    """query_RD @ corpus_CD.T. On a CPU oneDNN computes it: MKL, which torch uses for `@`, is half as fast on AMD."""
    if query_RD.is_cuda or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return query_RD @ corpus_CD.T
    return torch.ops.mkldnn._linear_pointwise(query_RD, corpus_CD, None, "none", [], "")


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute matrix products in full float32, never in TF32 or bfloat16; restore the process's setting afterwards.

    The error bound of the search is valid for float32 only.
    """
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    before = backend.matmul.fp32_precision
    backend.matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        backend.matmul.fp32_precision = before
