"""Nearest rows by cosine, of rows of which each rank holds its share; a share is normalised and searched in blocks.

Besides its share, each rank needs memory for one block of unit rows, which lies on the device that searches, for unit
rows of all queries, and for the best rows of each query: see `search_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.search.exact import ExactSearch, k_highest
from harness.search.request import CorpusShard, SearchRequest, SearchResult
from harness.search.unit_rows import BLOCK_ROWS, unit_rows

# Of unit rows. In smaller blocks, more rows are scored exactly (4 % of the work at 1,024 dimensions).
BLOCK_BYTES = 512 * 2**20
QUERIES = 1024  # searched at a time; the ranks exchange a message after each, so that none waits long for another


@dataclass(frozen=True, slots=True)
class Share:
    """This rank's rows, of rows that all ranks hold together: rows first … first + N - 1 of `total`."""

    row_ND: np.ndarray  # float32, not normalised
    first: int
    total: int


def share_of_rank(total: int) -> range:
    """The numbers of the rows that this rank holds; those of the next rank follow."""
    rank, ranks = comm.rank(), comm.world_size()
    return range(total * rank // ranks, total * (rank + 1) // ranks)


def search_bytes(num_rows: int, num_queries: int, dims: int, ranks: int, k: int) -> int:
    """Bytes of arrays on each rank during a search: its share, a block of it as unit rows and what is computed in
    float64 at a time, the queries twice, the best rows, and what is gathered of them.

    The products (`exact.BLOCK_BYTES`) and the model come on top. Checked in `tests/unit/search/test_cosine.py`.
    """
    rows = -(-num_rows // ranks)
    share, in_float64 = rows * dims * 4, min(rows, BLOCK_ROWS) * dims * 16
    best = num_queries * k * 12
    gathered = min(QUERIES, num_queries) * k * 12 * (ranks + 3)
    return share + min(share, BLOCK_BYTES) + in_float64 + 2 * num_queries * dims * 4 + best + gathered


def nearest_by_cosine(query_QD: np.ndarray, share: Share, k: int, dim: int | None = None) -> SearchResult:
    """The k rows with the highest cosine per query; an empty result on all ranks except 0.

    Every rank must call this with the same queries, which need no normalisation, and its share of the rows. With fewer
    than k rows, the result has all of them. For equal cosines the lower row comes first. dim: how many of the first
    dimensions are used; None: all.
    """
    query = torch.from_numpy(unit_rows(query_QD[:, :dim]))
    k = min(k, share.total)
    index_QK = torch.full((len(query), k), -1, dtype=torch.int64)
    score_QK = torch.full((len(query), k), -torch.inf)
    block_rows = max(1, BLOCK_BYTES // (4 * query.shape[1]))
    for first in range(0, max(1, -(-share.total // comm.world_size())), block_rows):  # as many blocks on every rank
        _search_block(query, share, slice(first, first + block_rows), index_QK, score_QK)
    return _joined(index_QK, score_QK)


def _search_block(query_QD: Tensor, share: Share, rows: slice, index_QK: Tensor, score_QK: Tensor) -> None:
    """Put the rows of a block of the share, which may be empty, among the best ones so far."""
    unit_BD = unit_rows(share.row_ND[rows, : query_QD.shape[1]])
    block = CorpusShard(share.first + rows.start, torch.from_numpy(unit_BD).to(comm.device()))
    k = index_QK.shape[1]
    search = ExactSearch(SearchRequest(query_QD, block, k))
    for part in _parts(len(query_QD)):
        index_RK, score_RK = (tensor.cpu() for tensor in search(np.arange(part.start, part.stop)))
        index_RE, score_RE = torch.cat([index_QK[part], index_RK], 1), torch.cat([score_QK[part], score_RK], 1)
        index_QK[part], score_QK[part] = k_highest(index_RE, score_RE, k)
        comm.sign_of_life()


def _parts(num_queries: int) -> Iterator[slice]:
    return (slice(first, min(first + QUERIES, num_queries)) for first in range(0, num_queries, QUERIES))


def _joined(index_QK: Tensor, score_QK: Tensor) -> SearchResult:
    """The best of all ranks' rows, on rank 0."""
    num_queries, k = index_QK.shape
    best_QK = SearchResult(np.empty((num_queries, k), np.int64), np.empty((num_queries, k), np.float32))
    for rows in _parts(num_queries):
        index_RE, score_RE = _gathered(index_QK[rows]), _gathered(score_QK[rows])
        if comm.is_main():
            best_QK.index_QK[rows], best_QK.score_QK[rows] = (t.numpy() for t in k_highest(index_RE, score_RE, k))
    return best_QK if comm.is_main() else SearchResult(best_QK.index_QK[:0], best_QK.score_QK[:0])


def _gathered(local_RK: Tensor) -> Tensor:
    """[R, W * K]: the arrays [R, K] of all ranks, side by side."""
    return torch.cat(comm.all_gather_rows(local_RK.to(comm.device())).cpu().split(len(local_RK)), dim=1)
