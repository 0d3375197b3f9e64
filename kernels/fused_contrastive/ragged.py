"""Lists of documents of different lengths, and the cells of the similarity matrix that they name, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class RaggedLists:
    """One list of documents per query: that of query i is `index_E[start_B1[i] : start_B1[i + 1]]`. Repeats count once.

    The lists need memory for their entries only, so that one query may have far more than the others.

    Attributes:
        start_B1: ascending integers [B + 1], from 0 to the number of entries.
        index_E: rows of the document table.
    """

    start_B1: Tensor
    index_E: Tensor

    @classmethod
    def of_padded(cls, index_BX: Tensor) -> RaggedLists:
        """The lists in the rows of a matrix, which is padded with -1 anywhere."""
        is_listed_BX = index_BX >= 0
        return cls(_starts(is_listed_BX.sum(1)), index_BX[is_listed_BX])

    @classmethod
    def of_pairs(cls, query_E: Tensor, document_E: Tensor, num_queries: int) -> RaggedLists:
        """The lists with these (query, document) pairs, in any order."""
        order_E = query_E.argsort(stable=True)
        return cls(_starts(query_E.bincount(minlength=num_queries)), document_E[order_E])

    def pairs(self) -> tuple[Tensor, Tensor]:
        """(query, document) of every entry, sorted by query."""
        query_B = torch.arange(len(self.start_B1) - 1, device=self.start_B1.device)
        query_E = query_B.repeat_interleave(self.start_B1.diff(), output_size=len(self.index_E))
        return query_E, self.index_E

    def contain(self, index_BM: Tensor, num_documents: int) -> Tensor:
        """[B, M]: whether each document is in the list of its row; False where padded."""
        if not len(self.index_E):
            return torch.zeros_like(index_BM, dtype=torch.bool)
        query_E, document_E = self.pairs()
        cell_E = (query_E * num_documents + document_E).sort().values
        first_B1 = torch.arange(len(index_BM), device=index_BM.device)[:, None] * num_documents
        cell_BM = first_B1 + index_BM
        place_BM = torch.searchsorted(cell_E, cell_BM).clamp_max(len(cell_E) - 1)
        return (cell_E[place_BM] == cell_BM) & (index_BM >= 0)


def _starts(length_B: Tensor) -> Tensor:
    return torch.cat([length_B.new_zeros(1), length_B.cumsum(0)])


class ListedCells:
    """Cells (query row, document) of the similarity matrix, looked up by tile without waiting for the device.

    The cells are sorted by document in host memory. Those of a range of documents are sorted by row when they are first
    asked for, copied to the device once, and kept: every tile then takes a slice. The ranges of one tiling hold each
    cell once, so that memory is linear in the number of cells.
    """

    def __init__(self, row_E: np.ndarray, column_E: np.ndarray, device: torch.device, at_once: int) -> None:
        """at_once: the number of cells that are written at a time."""
        order_E = np.argsort(column_E, kind="stable")
        self._row_E, self._column_E, self._device, self._at_once = row_E[order_E], column_E[order_E], device, at_once
        self._by_columns: dict[tuple[int, int], tuple[np.ndarray, Tensor, Tensor]] = {}

    def write(self, tile_RC: Tensor, rows: slice, columns: slice, value: bool | int) -> None:
        """Write `value` into the cells of this tile. columns: a range of the whole document table."""
        filler = tile_RC.new_full((), value)
        for row_E, column_E in self._within(rows, columns):
            tile_RC.index_put_((row_E - rows.start, column_E - columns.start), filler)

    def _within(self, rows: slice, columns: slice) -> Iterator[tuple[Tensor, Tensor]]:
        key = columns.start, columns.stop
        if key not in self._by_columns:
            self._by_columns[key] = self._sorted_by_row(columns)
        host_row_E, row_E, column_E = self._by_columns[key]
        first, stop = np.searchsorted(host_row_E, (rows.start, rows.stop)).tolist()
        for start in range(first, stop, self._at_once):
            part = slice(start, min(start + self._at_once, stop))
            yield row_E[part], column_E[part]

    def _sorted_by_row(self, columns: slice) -> tuple[np.ndarray, Tensor, Tensor]:
        first, stop = np.searchsorted(self._column_E, (columns.start, columns.stop)).tolist()
        order_E = np.argsort(self._row_E[first:stop], kind="stable")
        row_E, column_E = self._row_E[first:stop][order_E], self._column_E[first:stop][order_E]
        return row_E, torch.from_numpy(row_E).to(self._device), torch.from_numpy(column_E).to(self._device)
