"""How the recipe's `loss.gather` becomes a whole or a divided embedding table."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness import comm
from harness.data.batch.deal import deal
from harness.engine import phases
from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings
from harness.losses.objective import Objective
from harness.losses.table import TABLE_BYTES, DividedTable, choose_gather, gather_bytes
from harness.types import QueryPart, RaggedLists


def test_auto_takes_the_table_until_it_is_too_large_and_then_what_needs_less_memory() -> None:
    small, large = 1_000, 1_000_000
    assert gather_bytes("table", small, 0, 1024, 8) < TABLE_BYTES < gather_bytes("table", large, 0, 1024, 8)
    assert choose_gather("auto", small, 0, 1024, 8) == "table"
    assert choose_gather("auto", large, 0, 1024, 8) == "ring"
    assert choose_gather("auto", large, large, 1024, 8) == "table"  # of losses that need all rows there is no ring
    assert choose_gather("table", large, 0, 1024, 8) == "table"
    assert choose_gather("ring", small, 0, 1024, 8) == "ring"
    assert choose_gather("ring", small, 0, 1024, 1) == "table"  # one rank holds all rows anyway


def test_a_ring_shrinks_with_the_number_of_ranks_and_a_table_does_not() -> None:
    sizes = {ranks: gather_bytes("ring", 1 << 20, 0, 1024, ranks) for ranks in (8, 64, 1024)}
    assert sizes[8] == 8 * sizes[64] == 128 * sizes[1024]
    assert gather_bytes("table", 1 << 20, 0, 1024, 8) == gather_bytes("table", 1 << 20, 0, 1024, 1024)


def objective(loss: str, **settings: str) -> Objective:
    return Objective([TaskLossSettings("a", losses=(loss,))], LossConfig(**{"gather": "ring", **settings}), None, None)  # type: ignore[arg-type]


def test_a_ring_without_a_loss_that_passes_documents_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss.gather: got ring, but no task .*\(info_nce\).*set loss.gather: auto"):
        objective("cosent").check_divisible(1)


def test_a_ring_with_the_reference_is_refused_on_several_ranks() -> None:
    with pytest.raises(ValueError, match=r"loss.implementation: got reference on 2 ranks with loss.gather: ring"):
        objective("info_nce", implementation="reference").check_divisible(2)
    objective("info_nce", implementation="reference").check_divisible(1)


@pytest.mark.parametrize(("implementation", "expected"), [("reference", "whole"), ("chunked", "divided")])
def test_auto_never_takes_a_ring_that_the_implementation_does_not_have(monkeypatch, implementation, expected) -> None:
    """Otherwise a run would end in the first step whose table is large, hours after its start."""
    monkeypatch.setattr(comm, "world_size", lambda: 2)
    monkeypatch.setattr(phases, "WholeTable", lambda *_: "whole")
    monkeypatch.setattr(phases, "DividedTable", lambda *_: "divided")
    texts = range(TABLE_BYTES // (16 * 4))  # of 16 dimensions: a gibibyte, and several tables are needed
    step = SimpleNamespace(plan=SimpleNamespace(parts=(), texts=texts), schedule=None)
    several = objective("info_nce", implementation=implementation, gather="auto")
    several.check_divisible(2)
    assert phases._share_embeddings(several, step, torch.zeros(1, 16)) == expected  # type: ignore[arg-type]


def divided(rank: int, monkeypatch: pytest.MonkeyPatch) -> tuple[DividedTable, torch.Tensor, torch.Tensor]:
    """The table of one of three ranks, whose other ranks are played; all embeddings; what the rank has gathered."""
    schedule = deal(np.arange(8, 8 + len(EMBEDDING_TD)), 3, 64)
    slots_SD = torch.zeros(3 * schedule.rows_per_rank, 2)
    slots_SD[schedule.slot_T] = EMBEDDING_TD
    sent = {}

    def gather(own_VD: torch.Tensor) -> torch.Tensor:
        sent[rank] = own_VD
        owner_G = schedule.slot_T[GATHERED] // schedule.rows_per_rank
        parts = [EMBEDDING_TD[GATHERED[owner_G == other]] for other in range(3)]
        return torch.cat([torch.nn.functional.pad(part, (0, 0, 0, len(own_VD) - len(part))) for part in parts])

    monkeypatch.setattr(comm, "rank", lambda: rank)
    monkeypatch.setattr(comm, "all_gather_rows", gather)
    local_RD = slots_SD[rank * schedule.rows_per_rank : (rank + 1) * schedule.rows_per_rank]
    return DividedTable(local_RD, schedule, GATHERED), local_RD, sent[rank]


EMBEDDING_TD = torch.arange(60.0).reshape(30, 2)
GATHERED = np.array([3, 4, 11, 25])
PART = QueryPart(
    task="a",
    row_B=np.arange(9),
    query_B=np.arange(9),
    document_N=np.arange(9, 30),
    positive_BP=np.stack([np.arange(9), np.full(9, -1)], axis=1),
    negative_BM=np.arange(9)[:, None] + 9,
    rank_BM=np.zeros((9, 1), dtype=np.int64),
    excluded_BX=RaggedLists.of_pairs(np.array([0, 0, 5]), np.array([20, 3, 7]), 9),
    own_negatives_only=False,
)


def test_ranks_hold_every_query_and_document_once_and_only_the_gathered_texts_of_others(monkeypatch) -> None:
    queries, documents = [], []
    for rank in range(3):
        table, local_RD, _ = divided(rank, monkeypatch)
        assert table.local_RD.shape == local_RD.shape == (10, 2)
        torch.testing.assert_close(table.gathered_GD.detach(), EMBEDDING_TD[GATHERED])
        held = table.held(PART)
        assert held.shard is not None
        assert (held.shard.first, held.shard.num_documents) == (len(documents), 21)
        queries += local_RD[held.part.query_B[held.queries]].tolist()
        documents += local_RD[held.part.document_N[held.documents]].tolist()
    of_part = sorted(EMBEDDING_TD[PART.query_B].tolist()), sorted(EMBEDDING_TD[PART.document_N].tolist())
    assert (sorted(queries), sorted(documents)) == of_part
    # Lists name the same documents as before, by their number in the order of the ranks.
    for name in ("positive_BP", "negative_BM"):
        lists = getattr(PART, name)[held.query_order_B]
        new_lists = getattr(held.part, name)
        assert [[documents[n] for n in row if n >= 0] for row in new_lists] == [
            EMBEDDING_TD[PART.document_N[row[row >= 0]]].tolist() for row in lists
        ]
    excluded = {
        (held.query_order_B[query], tuple(documents[n])) for query, n in zip(*held.part.excluded_pairs(), strict=True)
    }
    assert excluded == {(q, tuple(EMBEDDING_TD[9 + n].tolist())) for q, n in zip(*PART.excluded_pairs(), strict=True)}


def test_the_gradient_of_gathered_texts_is_added_where_their_rows_are_held(monkeypatch) -> None:
    for rank in range(3):
        table, local_RD, own_VD = divided(rank, monkeypatch)
        table.local_RD.grad, table.gathered_GD.grad = torch.ones_like(local_RD), torch.full((4, 2), 5.0)
        monkeypatch.setattr(comm, "world_size", lambda: 3)
        own = slice(rank * len(own_VD), (rank + 1) * len(own_VD))
        monkeypatch.setattr(comm, "reduce_scatter_rows", lambda slots_SD, own=own: slots_SD[own])
        is_gathered = (local_RD[:, None] == EMBEDDING_TD[GATHERED]).all(2).any(1)
        torch.testing.assert_close(table.gradient(), torch.where(is_gathered[:, None], 6.0, 1.0).expand(-1, 2))
