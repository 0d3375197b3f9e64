"""A search that stores its results in files: it continues after a kill; the number of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.search import exact as exact_search
from harness.search import top_k as search
from harness.search.block_store import BlockStore
from harness.search.request import CorpusShard, SearchRequest
from harness.search.top_k import candidate_blocks, top_k
from tests.unit.search.test_top_k import assert_same, rows


def test_a_killed_search_goes_on_behind_its_finished_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It continues with another block size, and ignores the unfinished file of a killed write."""
    query, corpus = rows(23, 8, seed=1), CorpusShard(0, rows(50, 8, seed=2))
    uninterrupted = top_k(query, corpus, 4)
    monkeypatch.setattr(search, "BLOCK_QUERIES", 5)
    blocks = candidate_blocks(exact_search.ExactSearch(SearchRequest(query, corpus, 4)), store=store_in(tmp_path))
    assert [first for first, _ in (next(blocks), next(blocks))] == [0, 5]
    blocks.close()
    (tmp_path / ".000000000010-000000000014.npy.1").write_bytes(b"torn")
    monkeypatch.setattr(search, "BLOCK_QUERIES", 8)
    done: list[int] = []
    assert_same(top_k(query, corpus, 4, store=store_in(tmp_path), progress=done.append), uninterrupted)
    assert done == [10, 18, 23]
    done.clear()
    assert_same(top_k(query, corpus, 4, store=store_in(tmp_path), progress=done.append), uninterrupted)
    assert done == [23]
    assert not list(tmp_path.glob(".*"))


def test_a_file_holds_a_block_of_queries_however_few_are_searched_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many ranks a search step has few queries; a file for each step would be too many files."""
    query, corpus = rows(23, 8, seed=1), CorpusShard(0, rows(50, 8, seed=2))
    uninterrupted = top_k(query, corpus, 4)
    monkeypatch.setattr(search, "BLOCK_QUERIES", 10)
    monkeypatch.setattr(search, "GATHERED_BYTES", 24 * 4 * 3)  # memory for three queries
    done: list[int] = []
    assert_same(top_k(query, corpus, 4, store=store_in(tmp_path), progress=done.append), uninterrupted)
    assert done == [0, 3, 6, 9, 10, 13, 16, 19, 20, 23]
    assert [first for first, _ in store_in(tmp_path).blocks()] == [0, 10, 20]


def test_blocks_of_another_key_are_not_used(tmp_path: Path) -> None:
    corpus = CorpusShard(0, rows(50, 8, seed=2))
    top_k(rows(9, 8, seed=1), corpus, 4, store=store_in(tmp_path, model="old"))
    query = rows(9, 8, seed=3)
    found = top_k(query, corpus, 4, store=store_in(tmp_path, model="new"))
    assert_same(found, top_k(query, corpus, 4))


def test_a_store_whose_key_forgot_k_is_refused(tmp_path: Path) -> None:
    query, corpus = rows(9, 8, seed=1), CorpusShard(0, rows(50, 8, seed=2))
    top_k(query, corpus, 4, store=store_in(tmp_path))
    with pytest.raises(ValueError, match="got 9 queries of 4 candidates, expected at most 9 of 5"):
        top_k(query, corpus, 5, store=store_in(tmp_path))
    with pytest.raises(ValueError, match="got 9 queries of 4 candidates, expected at most 8 of 4"):
        top_k(query[:8], corpus, 4, store=store_in(tmp_path))


def store_in(folder: Path, model: str = "a") -> BlockStore:
    return BlockStore(folder, {"model": model})
