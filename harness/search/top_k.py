"""Floor 4: top-k search over all ranks: each searches its shard of the corpus, rank 0 merges and keeps the result.

The result does not depend on the number of ranks, the block's size or on where a search was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.search.block_store import BlockStore
from harness.search.exact import ExactSearch, best
from harness.search.request import LARGEST_NORM, CorpusShard, Pairs, SearchRequest, SearchResult, ShardSearch

GATHERED_QUERIES = 1024  # searched by all ranks at a time, at most
GATHERED_BYTES = 64 * 2**20  # of all ranks' candidates of these, about
BLOCK_QUERIES = 16_384  # kept in one file, whatever the number of ranks: more queries, fewer files
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
    """The k corpus rows of highest inner product per query, exactly; on other ranks than 0 an empty result.

    Arguments as in `SearchRequest`, `ExactSearch` and `candidate_blocks`, which spares the memory of the result.

    Raises:
        ValueError: on every rank, if an argument is wrong on any.
    """
    search = ExactSearch(SearchRequest(query_QD, corpus_shard, k, excluded, highest_Q), block_bytes)
    return collect(candidate_blocks(search, store=store, progress=progress), search.request)


def shard_of(row_CD: np.ndarray, device: torch.device) -> CorpusShard:
    """This rank's contiguous part of the corpus rows, on a device."""
    first, stop = (len(row_CD) * rank // comm.world_size() for rank in (comm.rank(), comm.rank() + 1))
    return CorpusShard(first, torch.from_numpy(row_CD[first:stop]).to(device))


def collect(blocks: Iterator[tuple[int, SearchResult]], request: SearchRequest) -> SearchResult:
    """All blocks in one; on other ranks than 0 an empty result."""
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
    """(number of the first query, candidates) block by block, in order, on rank 0; other ranks work and get none.

    Every rank iterates to the end. store: finished blocks come from there, new ones go there. progress: called on
    every rank with the number of queries done, at the start and whenever some of a block's were searched.

    Raises:
        ValueError: on every rank, if the request of any is wrong or the store is another search's.
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
        if comm.is_main():
            if store is not None:
                store.write(first, block)
            yield first, block


def _search_block(search: ShardSearch, first: int, stop: int, progress: Progress | None) -> SearchResult:
    """The candidates of the queries first … stop - 1, some at a time; on other ranks than 0 an empty result."""
    at_once = max(1, min(GATHERED_QUERIES, GATHERED_BYTES // (24 * search.request.k * comm.world_size())))
    parts = []
    for start in range(first, stop, at_once):
        end = min(start + at_once, stop)
        parts.append(search_rows(search, np.arange(start, end)))
        if progress is not None:
            progress(end)
    return SearchResult(
        np.concatenate([part.index_QK for part in parts]), np.concatenate([part.score_QK for part in parts])
    )


def search_rows(search: ShardSearch, row_R: np.ndarray) -> SearchResult:
    """The candidates of the queries numbered `row_R` over all shards; on other ranks than 0 an empty result.

    Raises:
        ValueError: a query is not finite, or too long for float32 products.
    """
    norm_R = torch.linalg.vector_norm(search.request.queries(row_R), dim=1)
    bad_R = (~(norm_R < LARGEST_NORM)).cpu().numpy()
    if bad_R.any():
        raise ValueError(
            f"query_QD: got a row of length {float(norm_R[int(bad_R.argmax())])} at {row_R[bad_R.argmax()]}, "
            f"expected finite ones below {LARGEST_NORM:g}"
        )
    index_RE, score_RE = (_beside(tensor) for tensor in search(row_R))
    rows = slice(None) if comm.is_main() else slice(0)
    index_RK, score_RK = best(index_RE[rows], score_RE[rows], search.request.k)
    return SearchResult(index_RK.cpu().numpy(), score_RK.cpu().numpy())


def _beside(local_RK: Tensor) -> Tensor:
    """All ranks' [R, K], side by side: [R, W * K]."""
    return torch.cat(comm.all_gather_rows(local_RK).split(len(local_RK)), dim=1)


def _num_stored(store: BlockStore | None, request: SearchRequest) -> int:
    """Number of queries that need no search, the same on every rank.

    Raises:
        ValueError: the store holds more queries or other numbers of candidates than are asked for.
    """
    if store is None:
        return 0
    done, width = comm.broadcast_object((store.num_done(), store.num_candidates()) if comm.is_main() else None)
    if done > len(request.query_QD) or width not in (None, request.k):
        raise ValueError(
            f"{store.folder}: got {done} queries of {width} candidates, expected at most {len(request.query_QD)} of "
            f"{request.k}; the store's key must name the queries and k"
        )
    return done
