"""Top-k search on all ranks: each rank searches its part of the corpus, and rank 0 merges and keeps the results.

The result does not depend on the number of ranks, on the block size, or on interruptions of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from harness import comm, rank0
from harness.search.block_store import BlockStore
from harness.search.exact import ExactSearch, k_highest
from harness.search.request import LARGEST_NORM, CorpusShard, Pairs, SearchRequest, SearchResult, ShardSearch

GATHERED_QUERIES = 1024  # the largest number of queries that all ranks search at a time
GATHERED_BYTES = 64 * 2**20  # approximate size of all ranks' candidates for these queries
BLOCK_QUERIES = 16_384  # number of queries per file of the store, whatever the number of ranks
Progress = Callable[[int], None]


def top_k(
    query_QD: Tensor,
    corpus_shard: CorpusShard,
    k: int,
    *,
    block_bytes: int | None = None,
    excluded: Pairs | None = None,
    highest_Q: np.ndarray | None = None,
    store: BlockStore | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """The k corpus rows with the highest inner product per query (exact); an empty result on all ranks except 0.

    `SearchRequest`, `ExactSearch` and `candidate_blocks` describe the arguments. `candidate_blocks` alone needs less
    memory, because it does not collect the whole result.

    Raises:
        ValueError: on every rank, if an argument is invalid on any rank.
    """
    search = ExactSearch(SearchRequest(query_QD, corpus_shard, k, excluded, highest_Q), block_bytes)
    return join_blocks(candidate_blocks(search, store=store, progress=progress), search.request)


def shard_of(row_CD: np.ndarray, device: torch.device) -> CorpusShard:
    """This rank's contiguous part of the corpus rows, copied to `device`."""
    first, stop = (len(row_CD) * rank // comm.world_size() for rank in (comm.rank(), comm.rank() + 1))
    return CorpusShard(first, torch.from_numpy(row_CD[first:stop]).to(device))


def join_blocks(blocks: Iterator[tuple[int, SearchResult]], request: SearchRequest) -> SearchResult:
    """Collect the candidates of all queries from `candidate_blocks`; an empty result on all ranks except 0."""
    num_queries = len(request.query_QD) if comm.is_main() else 0
    index_QK = np.empty((num_queries, request.k), dtype=np.int64)
    score_QK = np.empty((num_queries, request.k), dtype=np.float32)
    for first, block in blocks:
        rows = slice(first, first + len(block))
        index_QK[rows], score_QK[rows] = block.index_QK, block.score_QK
    return SearchResult(index_QK, score_QK)


def candidate_blocks(
    search: ShardSearch, *, store: BlockStore | None = None, progress: Progress | None = None
) -> Iterator[tuple[int, SearchResult]]:
    """Yields (number of the first query, candidates) block by block, in order, on rank 0; nothing on the other ranks.

    Every rank must iterate to the end, because all ranks take part in the search. store: holds finished blocks of an
    earlier start; new blocks are added. progress: called on every rank with the number of queries done.

    Raises:
        ValueError: on every rank, if the request of any rank is invalid, or if the store belongs to another search or
            cannot be written.
    """
    request = search.request
    request.check()
    done = _num_stored(store, request)
    if progress is not None:
        progress(done)
    if store is not None and comm.is_main():
        yield from store.blocks()
    for first in range(done, len(request.query_QD), BLOCK_QUERIES):
        block = _search_block(search, first, min(first + BLOCK_QUERIES, len(request.query_QD)), progress)
        if store is not None:
            rank0.by_main(partial(store.write, first, block))
        if comm.is_main():
            yield first, block


def _search_block(search: ShardSearch, first: int, stop: int, progress: Progress | None) -> SearchResult:
    """The candidates of the queries first … stop - 1; an empty result on all ranks except 0."""
    at_once = max(1, min(GATHERED_QUERIES, GATHERED_BYTES // (24 * search.request.k * comm.world_size())))
    results = []
    for start in range(first, stop, at_once):
        end = min(start + at_once, stop)
        results.append(search_rows(search, np.arange(start, end)))
        if progress is not None:
            progress(end)
    return SearchResult(
        np.concatenate([result.index_QK for result in results]), np.concatenate([result.score_QK for result in results])
    )


def search_rows(search: ShardSearch, row_R: np.ndarray) -> SearchResult:
    """The candidates of the queries at positions `row_R` from all shards; an empty result on all ranks except 0.

    Raises:
        ValueError: a query is not finite, or its norm is too large for float32 products.
    """
    norm_R = torch.linalg.vector_norm(search.request.queries(row_R), dim=1)
    bad_R = (~(norm_R < LARGEST_NORM)).cpu().numpy()
    if bad_R.any():
        raise ValueError(
            f"query_QD: got a row of length {float(norm_R[int(bad_R.argmax())])} at {row_R[bad_R.argmax()]}, "
            f"expected finite ones below {LARGEST_NORM:g}"
        )
    index_RE, score_RE = (_gather_columns(tensor) for tensor in search(row_R))
    rows = slice(None) if comm.is_main() else slice(0)
    index_RK, score_RK = k_highest(index_RE[rows], score_RE[rows], search.request.k)
    return SearchResult(index_RK.cpu().numpy(), score_RK.cpu().numpy())


def _gather_columns(local_RK: Tensor) -> Tensor:
    """[R, W * K]: the arrays [R, K] of all ranks, side by side."""
    return torch.cat(comm.all_gather_rows(local_RK).split(len(local_RK)), dim=1)


def _num_stored(store: BlockStore | None, request: SearchRequest) -> int:
    """Number of queries whose candidates are in the store; equal on every rank.

    Raises:
        ValueError: the store holds more queries than the request, or another number of candidates per query.
    """
    if store is None:
        return 0
    done, width = rank0.by_main(lambda: (store.num_done(), store.num_candidates()))
    if done > len(request.query_QD) or width not in (None, request.k):
        raise ValueError(
            f"{store.folder}: got {done} queries of {width} candidates, expected at most {len(request.query_QD)} of "
            f"{request.k}; the store's key must name the queries and k"
        )
    return done
