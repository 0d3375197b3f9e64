"""Search over several ranks finds what one rank finds, bit for bit, and all ranks refuse together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import comm
from harness.search import top_k as search
from harness.search.approximate import FaissSearch, recall_on_sample
from harness.search.block_store import BlockStore
from harness.search.exact import ExactSearch
from harness.search.request import CorpusShard, SearchRequest
from harness.search.scores import lowest_scores
from harness.search.top_k import candidate_blocks, join_blocks, top_k
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed

NUM_QUERIES, NUM_ROWS, WIDTH, K = 30, 400, 24, 12


def _request() -> SearchRequest:
    """This rank's search request. All ranks hold copies of some rows; of three ranks the second holds no row."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(NUM_QUERIES, WIDTH, generator=generator)
    corpus = torch.randn(NUM_ROWS, WIDTH, generator=generator)
    corpus[torch.randperm(NUM_ROWS, generator=generator)[:90]] = query[:30].repeat(3, 1)
    excluded = tuple(torch.randint(high, (200,), generator=generator).numpy() for high in (NUM_QUERIES, NUM_ROWS))
    highest = torch.randint(5, 40, (NUM_QUERIES,), generator=generator).float().numpy()
    edges = {1: (0, NUM_ROWS), 2: (0, 77, NUM_ROWS), 3: (0, 77, 77, NUM_ROWS)}[comm.world_size()]
    first, stop = edges[comm.rank()], edges[comm.rank() + 1]
    return SearchRequest(query, CorpusShard(first, corpus[first:stop].clone()), K, excluded, highest)


def _searched(block_bytes: int | None) -> dict[str, Any]:
    request = _request()
    done: list[int] = []
    blocks = candidate_blocks(ExactSearch(request, block_bytes), progress=done.append)
    found = join_blocks(blocks, request)
    exact = FaissSearch(request, "ivf", effort=1000)
    return {
        "index": found.index_QK,
        "score": found.score_QK,
        "done": done,
        "lowest": lowest_scores(request.query_QD, request.shard, request.excluded),
        "recall": recall_on_sample(exact, num_queries=7),
        "faiss": join_blocks(candidate_blocks(exact), request).index_QK,
    }


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return run_ranks(1, _searched, None)[0]


@pytest.mark.parametrize(("world", "block_bytes"), [(2, None), (3, None), (3, 700)])
def test_any_number_of_ranks_finds_the_same_bits(world: int, block_bytes: int | None, alone: dict[str, Any]) -> None:
    pytest.importorskip("faiss")
    assert len(set(map(float, alone["score"][0]))) < K, "no ties"
    ranks = run_ranks(world, _searched, block_bytes)
    for name in ("index", "score", "faiss"):
        np.testing.assert_array_equal(ranks[0][name], alone[name])
    for result in ranks:
        assert (result["done"], result["recall"]) == ([0, NUM_QUERIES], 1.0)
        np.testing.assert_array_equal(result["lowest"], alone["lowest"])
    assert all(len(result["index"]) == 0 for result in ranks[1:])
    np.testing.assert_array_equal(alone["faiss"], alone["index"])


def _stored(folder: Path) -> tuple[list[int], np.ndarray]:
    search.BLOCK_QUERIES = 7
    request = _request()
    done: list[int] = []
    store = BlockStore(folder, {"data": 1})
    return done, top_k(
        request.query_QD,
        request.shard,
        K,
        excluded=request.excluded,
        highest_Q=request.highest_Q,
        store=store,
        progress=done.append,
    ).index_QK


def test_a_search_goes_on_with_another_number_of_ranks(tmp_path: Path, alone: dict[str, Any]) -> None:
    run_ranks(2, _stored, tmp_path)
    for path in sorted(tmp_path.glob("*.npy"))[2:]:
        path.unlink()
    ranks = run_ranks(3, _stored, tmp_path)
    assert [done for done, _ in ranks] == [[14, 21, 28, 30]] * 3
    np.testing.assert_array_equal(ranks[0][1], alone["index"])


def _refusal(kind: str) -> str:
    request = _request()
    row_CD, first, k = request.shard.row_CD, request.shard.first, K
    if comm.rank() == 1:
        if kind == "nan":
            row_CD[3, 3] = torch.nan
        elif kind == "gap":
            first += 1
        else:
            k += 1
    with pytest.raises(ValueError, match="rank 1") as caught:
        top_k(request.query_QD, CorpusShard(first, row_CD), k)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", "rank 1: shard.row_CD: got a row of length nan"),
        ("gap", "got 78 on rank 1, expected 77"),
        ("k", "Q, k, D: got (30, 13, 24) on rank 1"),
    ],
)
def test_what_is_wrong_on_one_rank_is_refused_on_all(kind: str, words: str) -> None:
    messages = run_ranks(2, _refusal, kind)
    assert messages[0] == messages[1]
    assert words in messages[0]


def _failed_write(folder: Path) -> str:
    def disk_full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    search.BLOCK_QUERIES = 7
    request, store = _request(), BlockStore(folder, {"data": 1})
    store.write = disk_full  # type: ignore[method-assign]
    with pytest.raises((ValueError, OSError)) as caught:
        top_k(request.query_QD, request.shard, K, store=store)
    return str(caught.value)


def test_a_block_that_rank_0_cannot_write_ends_all_ranks(tmp_path: Path) -> None:
    """Otherwise the other ranks would wait for rank 0 in the next collective."""
    messages = run_ranks(2, _failed_write, tmp_path, timeout=90)
    assert all("No space left on device" in message for message in messages)
