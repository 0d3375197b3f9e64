"""Ragged lists of excluded documents: their cells are found tile by tile, and cost what they hold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from fused_contrastive import RaggedLists, info_nce
from fused_contrastive.ragged import ListedCells

from benchmarks.growth.plan import ragged_case, tensor_bytes


def test_a_padded_matrix_and_pairs_in_any_order_give_the_same_lists() -> None:
    index_BX = torch.tensor([[-1, 4, 2], [-1, -1, -1], [7, -1, 7]])
    lists = RaggedLists.of_padded(index_BX)
    assert (lists.start_B1.tolist(), lists.index_E.tolist()) == ([0, 2, 2, 4], [4, 2, 7, 7])
    pairs = RaggedLists.of_pairs(torch.tensor([2, 0, 2, 0]), torch.tensor([7, 4, 7, 2]), 3)
    assert (pairs.start_B1.tolist(), pairs.index_E.tolist()) == ([0, 2, 2, 4], [4, 2, 7, 7])
    wanted_BM = torch.tensor([[2, 4, 7, -1], [0, 4, 2, -1], [7, 2, 4, -1]])
    assert lists.contain(wanted_BM, 9).tolist() == [
        [True, True, False, False],
        [False] * 4,
        [True, False, False, False],
    ]


@pytest.mark.parametrize("at_once", [1, 5, 10_000])
@pytest.mark.parametrize("edges", [(0, 40), (0, 7, 8, 30, 40), (13, 29)])
def test_every_tile_gets_its_cells_and_no_other(edges: tuple[int, ...], at_once: int) -> None:
    """The tiles of a ring begin anywhere in the table; a tiling writes each cell of its documents once."""
    random = np.random.default_rng(0)
    row_E, column_E = random.integers(0, 23, 150), random.integers(0, 40, 150)
    expected = torch.zeros(23, 40, dtype=torch.int8)
    expected[row_E, column_E] = 1
    cells, written = ListedCells(row_E, column_E, torch.device("cpu"), at_once), 0
    for columns in (slice(*edge) for edge in pairwise(edges)):
        for rows in (slice(0, 9), slice(9, 23)):
            tile = torch.zeros(rows.stop - rows.start, columns.stop - columns.start + 1, dtype=torch.int8)
            cells.write(tile, rows, columns, 1)
            assert torch.equal(tile[:, :-1], expected[rows, columns])
            assert not tile[:, -1].any()
            written += sum(len(part) for part, _ in cells._within(rows, columns))
    assert written == ((column_E >= edges[0]) & (column_E < edges[-1])).sum()


def test_one_long_list_of_excluded_documents_costs_its_own_length_only() -> None:
    """Padded to the longest, the lists alone would be 1,000 x 20,000 x 8 bytes: 160 MB."""
    arguments = ragged_case(1_000, 20_000)

    def compute() -> None:
        with torch.no_grad():
            info_nce(**arguments, implementation="chunked")

    assert tensor_bytes(compute) < 8e6
