"""Which documents stand in a query's denominator, without a B x N matrix.

A negative is a candidate of the scope that is not dropped: neither the positive, nor excluded, nor equal by key.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fused_contrastive.passes import panels
from fused_contrastive.problem import Problem


@dataclass(frozen=True, slots=True)
class _Equality:
    """Where row_B[i] == value_E[e], document column_E[e] is no negative of query i. Columns ascend, each once."""

    row_B: Tensor
    column_E: Tensor
    value_E: Tensor


class TileMask:
    """The mask of one tile of the similarity matrix at a time, in a reused buffer."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.equalities: list[_Equality] = []
        if problem.document_key_N is not None:
            self.equalities += _document_key_equalities(problem.document_key_N, problem.positive_B)
        if problem.query_key_B is not None:
            self.equalities += _query_key_equalities(problem.query_key_B, problem.positive_B)

    @property
    def bytes_per_row(self) -> int:
        """Scratch beside the tile: index lists of a row, moved into the tile's columns."""
        lists = (self.problem.negative_BM, self.problem.excluded_BX)
        return sum(24 * index.shape[1] for index in lists if index is not None)

    def fill(self, buffer: Tensor, scratch_PC: Tensor, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Write True where document c is no negative of query p.

        `buffer` is bool [P, C + 1]; its last column takes the indices that point outside the tile.
        Returns the mask [P, C] and, per query, the number of candidates the scope offers in this tile.
        """
        problem = self.problem
        mask_PC = buffer[:, :-1]
        if problem.scope == "task":
            assert problem.query_group_B is not None
            assert problem.document_group_N is not None
            torch.ne(problem.query_group_B[rows, None], problem.document_group_N[columns], out=mask_PC)
            _scatter(buffer, problem.negative_BM, rows, columns, False)
        else:
            buffer.zero_()
        _scatter(buffer, problem.positive_B[:, None], rows, columns, True)
        offered_P = count_false(mask_PC, scratch_PC)
        _scatter(buffer, problem.excluded_BX, rows, columns, True)
        for equality in self.equalities:
            _mark_equal(mask_PC, equality, rows, columns)
        return mask_PC, offered_P


def count_false(mask_PC: Tensor, scratch_PC: Tensor) -> Tensor:
    """int64 [P], by way of a float buffer: summing bools would build an int64 tile. Exact up to 2^24 columns."""
    return mask_PC.shape[1] - scratch_PC.copy_(mask_PC).sum(1).long()


def _scatter(buffer: Tensor, index_BM: Tensor | None, rows: slice, columns: slice, value: bool) -> None:
    if index_BM is None:
        return
    outside = buffer.shape[1] - 1
    local_PM = index_BM[rows] - columns.start
    local_PM.masked_fill_((local_PM < 0) | (local_PM > outside), outside)
    buffer.scatter_(1, local_PM, value)


def _mark_equal(mask_PC: Tensor, equality: _Equality, rows: slice, columns: slice) -> None:
    inside = (equality.column_E >= columns.start) & (equality.column_E < columns.stop)
    column_E = equality.column_E[inside] - columns.start
    equal_PE = equality.row_B[rows, None] == equality.value_E[inside]
    mask_PC[:, column_E] = mask_PC[:, column_E] | equal_PE


def _document_key_equalities(document_key_N: Tensor, positive_B: Tensor) -> list[_Equality]:
    """Only keys that two documents share can drop anything."""
    _, inverse_N, count = document_key_N.unique(return_inverse=True, return_counts=True)
    column_E = (count[inverse_N] > 1).nonzero()[:, 0]
    return [_Equality(document_key_N[positive_B], column_E, document_key_N[column_E])] if len(column_E) else []


def _query_key_equalities(query_key_B: Tensor, positive_B: Tensor) -> list[_Equality]:
    """One round per distinct key of the document with most of them, so that a round names a column once."""
    _, inverse_B, count = query_key_B.unique(return_inverse=True, return_counts=True)
    shared_B = count[inverse_B] > 1
    pair_E2 = torch.stack([positive_B[shared_B], query_key_B[shared_B]], dim=1).unique(dim=0)  # sorted by document
    column_E, value_E = pair_E2.unbind(1)
    place_E = torch.arange(len(column_E), device=column_E.device)
    place_E = place_E - torch.searchsorted(column_E.contiguous(), column_E.contiguous())
    num_rounds = int(place_E.max()) + 1 if len(place_E) else 0
    rounds = (place_E == number for number in range(num_rounds))
    return [_Equality(query_key_B, column_E[chosen], value_E[chosen]) for chosen in rounds]


def listed_masks(problem: Problem, index_BM: Tensor) -> tuple[Tensor, Tensor]:
    """[B, M] twice: distinct candidates of the list that are not the positive; those of them that are kept."""
    positive_B1 = problem.positive_B[:, None]
    offered_BM = (index_BM >= 0) & (index_BM != positive_B1) & ~_repeated(index_BM)
    dropped_BM = torch.zeros_like(offered_BM)
    listed_BM = index_BM.clamp_min(0)
    if problem.excluded_BX is not None:
        dropped_BM |= _members(index_BM, problem.excluded_BX, problem.workspace_bytes)
    if problem.document_key_N is not None:
        dropped_BM |= problem.document_key_N[listed_BM] == problem.document_key_N[positive_B1]
    if problem.query_key_B is not None:
        number_B = problem.query_key_B.unique(return_inverse=True)[1]
        first_B1 = number_B[:, None] * len(problem.document_ND)
        dropped_BM |= torch.isin(first_B1 + listed_BM, first_B1 + positive_B1)
    return offered_BM, offered_BM & ~dropped_BM


def _repeated(index_BM: Tensor) -> Tensor:
    """Whether the same index stands earlier in the row."""
    sorted_BM, order_BM = index_BM.sort(dim=1, stable=True)
    repeated_BM = torch.zeros_like(index_BM, dtype=torch.bool)
    return repeated_BM.scatter(1, order_BM[:, 1:], sorted_BM[:, 1:] == sorted_BM[:, :-1])


def _members(index_BM: Tensor, excluded_BX: Tensor, workspace_bytes: int) -> Tensor:
    """Whether index m of row b stands in row b's excluded list."""
    rows_per_panel = max(1, workspace_bytes // max(1, index_BM.shape[1] * excluded_BX.shape[1]))
    member_BM = torch.empty_like(index_BM, dtype=torch.bool)
    for rows in panels(len(index_BM), rows_per_panel):
        member_BM[rows] = (index_BM[rows, :, None] == excluded_BX[rows, None, :]).any(2)
    return member_BM
