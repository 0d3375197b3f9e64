"""Approximate search of one shard with FAISS, for corpora in which an exact search takes too long.

It takes the same request as `ExactSearch` and computes the same scores, but may miss some of the best rows.
`recall_on_sample` measures the share of the rows that it finds.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness import rank0
from harness.search.exact import ExactSearch, k_highest
from harness.search.request import SearchRequest, ShardSearch
from harness.search.scores import listed_scores
from harness.search.top_k import search_rows

HNSW_NEIGHBOURS = 32  # links from each row of the graph to other rows
TRAINING_ROWS = 64  # rows per inverted list from which k-means learns the list centres; FAISS warns below 39
FETCHED_BYTES = 32 * 2**20  # approximate size of the columns and scores in memory at a time
WIDEN = 4  # a query with too few results is searched again for this many times as many rows


class FaissSearch:
    """A FAISS index over the shard: `ivf` (inverted lists, fast to build) or `hnsw` (a graph, faster to search).

    effort: number of inverted lists visited per query, or efSearch of the graph. FAISS supports neither excluded rows
    nor limits, so more than k rows are fetched, and excluded rows and rows above the limit are dropped. A query with
    fewer than k rows left is searched again for more rows, as long as the shard has more. The index holds a copy of the
    shard. Two graphs that several threads build from the same rows may differ.

    Raises:
        ValueError: FAISS is not installed, or the shard is not in CPU memory.
    """

    def __init__(self, request: SearchRequest, kind: Literal["ivf", "hnsw"], *, effort: int = 64) -> None:
        if request.device.type != "cpu":
            raise ValueError(f"shard.row_CD: got {request.device}, expected cpu; FAISS searches there")
        self.request, self._faiss = request, _import_faiss()
        self._faiss.omp_set_num_threads(torch.get_num_threads())
        self._kind, self._effort = kind, effort
        self._index = self._build()

    @torch.no_grad()
    def __call__(self, row_R: np.ndarray) -> tuple[Tensor, Tensor]:
        most_excluded = np.bincount(self.request.excluded_columns(row_R)[0], minlength=1).max()
        return self._search(row_R, fetched=self.request.k + int(most_excluded))

    def _search(self, row_R: np.ndarray, fetched: int) -> tuple[Tensor, Tensor]:
        fetched = min(fetched, len(self.request.shard))
        at_once = max(1, FETCHED_BYTES // (24 * max(1, fetched)))
        parts = [self._search_part(row_R[first : first + at_once], fetched) for first in range(0, len(row_R), at_once)]
        index, score = zip(*parts, strict=True)
        return torch.cat(index), torch.cat(score)

    def _search_part(self, row_R: np.ndarray, fetched: int) -> tuple[Tensor, Tensor]:
        column_RH = self._fetch(self.request.queries(row_R), fetched)
        index, score = k_highest(column_RH + self.request.shard.first, self._scores(row_R, column_RH), self.request.k)
        if fetched < len(self.request.shard):  # the last column is -1 where FAISS has no more rows
            short = ((index[:, -1] < 0) & (column_RH[:, -1] >= 0)).nonzero().flatten()
            if len(short):
                index[short], score[short] = self._search(row_R[short.numpy()], fetched * WIDEN)
        return index, score

    def _fetch(self, query_RD: Tensor, fetched: int) -> Tensor:
        """The columns int64 [R, H] that FAISS returns as the best ones; -1 where FAISS found no more."""
        if not fetched:
            return torch.empty((len(query_RD), 0), dtype=torch.int64)
        if self._kind == "hnsw":
            parameters = self._faiss.SearchParametersHNSW(efSearch=max(self._effort, fetched))
        else:
            parameters = self._faiss.SearchParametersIVF(nprobe=min(self._effort, self._index.nlist))
        return torch.from_numpy(self._index.search(query_RD.numpy(), fetched, params=parameters)[1])

    def _scores(self, row_R: np.ndarray, column_RH: Tensor) -> Tensor:
        """The exact scores [R, H] of the columns; -inf for padding, excluded rows and scores at or above the limit."""
        owner_E, place_E = (column_RH >= 0).nonzero(as_tuple=True)
        score_RH = torch.full(column_RH.shape, -torch.inf)
        row_CD = self.request.shard.row_CD
        score_RH[owner_E, place_E] = listed_scores(
            self.request.queries(row_R), row_CD, owner_E, column_RH[owner_E, place_E]
        )
        score_RH[score_RH >= self.request.highest(row_R)[:, None]] = -torch.inf
        excluded_owner_E, excluded_E = (torch.from_numpy(part) for part in self.request.excluded_columns(row_R))
        # One number per (query, column) pair: query * columns + column. The additional column is for -1.
        columns = len(self.request.shard) + 1
        is_excluded_RH = torch.isin(
            column_RH + torch.arange(len(row_R))[:, None] * columns, excluded_E + excluded_owner_E * columns
        )
        return score_RH.masked_fill_(is_excluded_RH, -torch.inf)

    def _build(self) -> Any:
        row_CD = self.request.shard.row_CD.numpy()
        num_rows, width = row_CD.shape
        if self._kind == "hnsw":
            index = self._faiss.IndexHNSWFlat(width, HNSW_NEIGHBOURS, self._faiss.METRIC_INNER_PRODUCT)
        else:
            num_lists = max(1, min(round(4 * num_rows**0.5), num_rows // TRAINING_ROWS))
            self._quantiser = self._faiss.IndexFlatIP(width)  # FAISS does not keep it alive
            index = self._faiss.IndexIVFFlat(self._quantiser, width, num_lists, self._faiss.METRIC_INNER_PRODUCT)
            if num_rows:
                index.train(row_CD[:: max(1, num_rows // (TRAINING_ROWS * num_lists))])
        if num_rows:
            index.add(row_CD)
        return index


def recall_on_sample(search: ShardSearch, *, num_queries: int = 256, seed: int = 0) -> float:
    """Share of the exact candidates of `num_queries` random queries that `search` finds; equal on every rank.

    The result is 1 if the queries have no candidates. The cost is an exact search of these queries.
    """
    request = search.request
    count = min(num_queries, len(request.query_QD))
    row_R = np.sort(np.random.default_rng(seed).choice(len(request.query_QD), count, replace=False))
    approximate, exact = search_rows(search, row_R), search_rows(ExactSearch(request), row_R)
    return rank0.by_main(lambda: recall(approximate.index_QK, exact.index_QK))


def recall(found_RK: np.ndarray, exact_RK: np.ndarray) -> float:
    """Share of the entries of `exact_RK`, not counting -1, that are in the same row of `found_RK`; 1 if none."""
    pairs = zip(found_RK, exact_RK, strict=True)
    hits = sum(int(np.isin(exact[exact >= 0], found).sum()) for found, exact in pairs)
    wanted = int((exact_RK >= 0).sum())
    return hits / wanted if wanted else 1.0


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ValueError(
            "approximate search: got no faiss, expected it installed; pip install 'conan-harness[mining]', "
            "or search exactly"
        ) from error
    return faiss
