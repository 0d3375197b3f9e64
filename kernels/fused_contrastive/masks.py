"""Decides which documents are negatives of a query, without a B x N matrix.

A candidate is a document inside the scope that is not a positive of the query. A negative is a candidate that is
neither excluded nor dropped because of an equal key. (`Negatives.margin` drops further negatives; this happens where
the cosines are computed.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fused_contrastive.problem import Problem
from fused_contrastive.ragged import ListedCells

_CELL_BYTES = 64  # of temporaries per excluded cell that is written


@dataclass(frozen=True, slots=True)
class EqualKeys:
    """If query_key_S[s] == document_key_E[e], document column_E[e] is not a negative of query row s.

    `column_E` holds distinct documents in ascending order.
    """

    query_key_S: Tensor
    column_E: Tensor
    document_key_E: Tensor
    host_column_E: np.ndarray  # a copy of column_E in host memory, so that looking up columns does not wait for the GPU


@dataclass(frozen=True, slots=True)
class MaskRules:
    """The rules that drop cells of the similarity matrix, for all query rows and all documents.

    Lists of positives and own negatives are padded with -1.
    """

    positive_SP: Tensor
    own_SM: Tensor | None  # own negatives, which are candidates in any group; None if groups are not used
    excluded: ListedCells | None
    group_S: Tensor | None  # scope `group`: only documents of this group, and own negatives, are candidates
    group_N: Tensor | None
    equal_keys: tuple[EqualKeys, ...]  # keys are numbered from 0; a query row without a key has -1

    @classmethod
    def of(cls, problem: Problem, query_S: Tensor) -> MaskRules:
        """The rules of a problem. query_S: the query of each query row; the row has the negatives of this query."""

        def rows(index_B: Tensor | None) -> Tensor | None:
            return None if index_B is None else index_B[query_S]

        by_group = problem.scope == "group"
        equal_keys = (*_equal_document_keys(problem), *_equal_query_keys(problem))
        # Several entries share one tensor of keys, which is expanded to the query rows only once.
        row_keys = {id(keys.query_key_S): keys.query_key_S[query_S] for keys in equal_keys}
        positive_SP = problem.positive_BP[query_S]
        return cls(
            positive_SP=positive_SP,
            own_SM=rows(problem.own_BM) if by_group else None,
            excluded=_excluded_cells(problem, query_S),
            group_S=rows(problem.query_group_B) if by_group else None,
            group_N=problem.document_group_N if by_group else None,
            equal_keys=tuple(replace(keys, query_key_S=row_keys[id(keys.query_key_S)]) for keys in equal_keys),
        )

    @property
    def bytes_per_row(self) -> int:
        """Memory that `fill` needs per row in addition to the tile: copies of the row's index lists."""
        lists = (self.positive_SP, self.own_SM)
        return sum(24 * index.shape[1] for index in lists if index is not None)

    def fill(self, buffer: Tensor, rows: slice, columns: slice) -> None:
        """Write True for each query row in `rows` and document in `columns` that is not a negative of the row.

        columns: a range of the whole document table. buffer: bool [R, C + 1]; indices outside of the tile are written
        into the last column.
        """
        mask_RC = buffer[:, :-1]
        if self.group_S is not None:
            assert self.group_N is not None
            torch.ne(self.group_S[rows, None], self.group_N[columns], out=mask_RC)
            scatter_listed(buffer, self.own_SM, rows, columns, False)
        else:
            buffer.zero_()
        scatter_listed(buffer, self.positive_SP, rows, columns, True)
        if self.excluded is not None:
            self.excluded.write(mask_RC, rows, columns, True)
        for keys in self.equal_keys:
            mark_equal(mask_RC, keys, rows, columns)


def count_candidates(problem: Problem) -> Tensor:
    """int64 [B]: the number of candidates of each query, for scope `all` or `group`."""
    positive_BP = problem.positive_BP
    if problem.scope == "all":
        return problem.num_documents - (positive_BP >= 0).sum(1)
    assert problem.query_group_B is not None
    assert problem.document_group_N is not None
    group_N, group_B1 = problem.document_group_N, problem.query_group_B[:, None]
    sorted_N = group_N.sort().values
    query_group_B = problem.query_group_B.contiguous()
    count_B = torch.searchsorted(sorted_N, query_group_B, right=True) - torch.searchsorted(sorted_N, query_group_B)
    in_group_BP = (positive_BP >= 0) & (group_N[positive_BP.clamp_min(0)] == group_B1)
    count_B -= in_group_BP.sum(1)
    if problem.own_BM is not None:
        candidate_BM, _ = listed_masks(problem, problem.own_BM)
        count_B += (candidate_BM & (group_N[problem.own_BM.clamp_min(0)] != group_B1)).sum(1)
    return count_B


def _excluded_cells(problem: Problem, query_S: Tensor) -> ListedCells | None:
    """The cells that no rule of keys or groups decides: excluded documents, the query itself, own negatives.

    With `hardness` the tiles skip own negatives, because `ListedNegatives` scores them. Tower rows, which come after
    the queries, do not, because the tiles score these pairs.
    """
    rows, columns = [], []
    host_query_S = query_S.cpu().numpy()
    if problem.excluded_BX is not None:
        start_B1, index_E = problem.excluded_BX.start_B1.cpu().numpy(), problem.excluded_BX.index_E.cpu().numpy()
        length_S = np.diff(start_B1)[host_query_S]
        row_E = np.repeat(np.arange(len(length_S)), length_S)
        begin_S = start_B1[host_query_S] - (np.cumsum(length_S) - length_S)
        rows.append(row_E)
        columns.append(index_E[np.arange(len(row_E)) + begin_S[row_E]])
    if problem.query_row_B is not None:
        column_S = problem.query_row_B.cpu().numpy()[host_query_S]
        rows.append(np.flatnonzero(column_S >= 0))
        columns.append(column_S[column_S >= 0])
    if problem.hardness is not None:
        assert problem.own_BM is not None
        own_BM = problem.own_BM.cpu().numpy()
        rows.append(np.nonzero(own_BM >= 0)[0])
        columns.append(own_BM[own_BM >= 0])
    if not rows:
        return None
    at_once = max(1, problem.workspace_bytes // 16 // _CELL_BYTES)
    return ListedCells(np.concatenate(rows), np.concatenate(columns), query_S.device, at_once)


def _positives_and_query(problem: Problem) -> Tensor:
    """[B, P]: the query's positives and the query itself. They are not negatives of queries with an equal key."""
    if problem.query_row_B is None:
        return problem.positive_BP
    return torch.cat([problem.positive_BP, problem.query_row_B[:, None]], dim=1)


def count_false(mask_RC: Tensor, scratch_RC: Tensor) -> Tensor:
    """int64 [R]: the number of False cells of each row.

    The function sums a float copy in `scratch_RC`, because torch would convert bools to an int64 tile to sum them. The
    result is exact for up to 2^24 columns.
    """
    return mask_RC.shape[1] - scratch_RC.copy_(mask_RC).sum(1).long()


def scatter_listed(buffer: Tensor, index_SM: Tensor | None, rows: slice, columns: slice, value: bool | int) -> None:
    """Write `value` at the listed documents that are in `columns`.

    buffer: [R, C + 1]; for listed documents outside of `columns` the value is written into the last column.
    """
    if index_SM is None:
        return
    outside = buffer.shape[1] - 1
    local_RM = index_SM[rows] - columns.start
    local_RM.masked_fill_((local_RM < 0) | (local_RM > outside), outside)
    buffer.scatter_(1, local_RM, value)


def mark_equal(mask_RC: Tensor, keys: EqualKeys, rows: slice, columns: slice) -> None:
    """Set to True (1) every cell whose query row and document have equal keys."""
    start, stop = np.searchsorted(keys.host_column_E, (columns.start, columns.stop))
    column_E = keys.column_E[start:stop] - columns.start
    equal_RE = keys.query_key_S[rows, None] == keys.document_key_E[start:stop]
    mask_RC[:, column_E] = mask_RC[:, column_E].masked_fill_(equal_RE, 1)


def _equal_document_keys(problem: Problem) -> list[EqualKeys]:
    """The rule that a document with the key of a positive is not a negative: one entry per column of `positive_BP`.

    Documents with a unique key are left out, because they cannot drop another document.
    """
    key_N = problem.document_key_N
    if key_N is None or not len(key_N):
        return []
    _, number_N, count = key_N.unique(return_inverse=True, return_counts=True)
    column_E = (count[number_N] > 1).nonzero()[:, 0]
    if not len(column_E):
        return []
    row_BP = number_N[problem.positive_BP.clamp_min(0)].masked_fill(problem.positive_BP < 0, -1)
    host_column_E = column_E.cpu().numpy()
    return [EqualKeys(row_B, column_E, number_N[column_E], host_column_E) for row_B in row_BP.unbind(1)]


def _equal_query_keys(problem: Problem) -> list[EqualKeys]:
    """The rule that the positives of a query are not negatives of queries with an equal key.

    A document may be a positive of queries with different keys, but one `EqualKeys` holds a document only once.
    Therefore the number of entries is the largest number of different keys of a document.
    """
    if problem.query_key_B is None:
        return []
    listed_BP = _positives_and_query(problem)
    _, number_B, count = problem.query_key_B.unique(return_inverse=True, return_counts=True)
    query_E, place_E = ((listed_BP >= 0) & (count[number_B] > 1)[:, None]).nonzero(as_tuple=True)
    pair_E2 = torch.stack([listed_BP[query_E, place_E], number_B[query_E]], dim=1).unique(dim=0)
    column_E, value_E = pair_E2[:, 0].contiguous(), pair_E2[:, 1]  # sorted by document
    round_E = torch.arange(len(column_E), device=column_E.device) - torch.searchsorted(column_E, column_E)
    num_rounds = int(round_E.max()) + 1 if len(round_E) else 0
    rounds = (round_E == number for number in range(num_rounds))
    return [EqualKeys(number_B, column_E[chosen], value_E[chosen], column_E[chosen].cpu().numpy()) for chosen in rounds]


def listed_masks(problem: Problem, index_BM: Tensor) -> tuple[Tensor, Tensor]:
    """(candidates, negatives), bool [B, M] each, among listed documents; a repeated document counts once, the first."""
    candidate_BM = (index_BM >= 0) & ~repeated(index_BM)
    candidate_BM &= ~_members(index_BM, problem.positive_BP, problem.workspace_bytes)
    return candidate_BM, candidate_BM & ~_dropped(problem, index_BM)


def kept_of_list(problem: Problem, index_BM: Tensor) -> Tensor:
    """[B, M]: whether each listed document is a negative, before the margin is applied; repeats are marked as well."""
    positive_BM = _members(index_BM, problem.positive_BP, problem.workspace_bytes)
    return (index_BM >= 0) & ~positive_BM & ~_dropped(problem, index_BM)


def _dropped(problem: Problem, index_BM: Tensor) -> Tensor:
    """[B, M]: whether each listed document is excluded or dropped by an equal key; undefined where padded."""
    positive_BP = problem.positive_BP
    dropped_BM = torch.zeros_like(index_BM, dtype=torch.bool)
    listed_BM = index_BM.clamp_min(0)
    if problem.excluded_BX is not None:
        dropped_BM |= problem.excluded_BX.contain(index_BM, problem.num_documents)
    if problem.query_row_B is not None:
        dropped_BM |= index_BM == problem.query_row_B[:, None]
    if problem.document_key_N is not None:
        key_BP = problem.document_key_N[positive_BP.clamp_min(0)]
        key_BP = key_BP.where(positive_BP >= 0, key_BP[:, :1])
        dropped_BM |= _members(problem.document_key_N[listed_BM], key_BP, problem.workspace_bytes)
    if problem.query_key_B is not None:
        number_B1 = problem.query_key_B.unique(return_inverse=True)[1][:, None]
        listed_BP = _positives_and_query(problem)
        dropped = (number_B1 * problem.num_documents + listed_BP)[listed_BP >= 0]
        dropped_BM |= torch.isin(number_B1 * problem.num_documents + listed_BM, dropped)
    return dropped_BM


def repeated(index_BM: Tensor) -> Tensor:
    """[B, M]: whether the same index occurs earlier in the row."""
    sorted_BM, order_BM = index_BM.sort(dim=1, stable=True)
    same_BM = F.pad(sorted_BM[:, 1:] == sorted_BM[:, :-1], (1, 0))[:, : index_BM.shape[1]]
    return torch.zeros_like(index_BM, dtype=torch.bool).scatter(1, order_BM, same_BM)


def _members(index_BM: Tensor, listed_BX: Tensor, workspace_bytes: int) -> Tensor:
    """[B, M]: whether index_BM[b, m] occurs in listed_BX[b]."""
    rows_per_panel = max(1, workspace_bytes // max(1, index_BM.shape[1] * listed_BX.shape[1]))
    member_BM = torch.empty_like(index_BM, dtype=torch.bool)
    for start in range(0, len(index_BM), rows_per_panel):
        rows = slice(start, start + rows_per_panel)
        member_BM[rows] = (index_BM[rows, :, None] == listed_BX[rows, None, :]).any(2)
    return member_BM
