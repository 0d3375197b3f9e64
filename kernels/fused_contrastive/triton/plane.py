"""The plane: one mark per cell of a tile, where comparing the column with one positive does not say who is dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from fused_contrastive.masks import Equality, Rules, mark_equal, scatter_listed
from fused_contrastive.triton.helpers import mark_kernel
from fused_contrastive.triton.launch import Block, Buffers, Launcher, pad, whole

_NUM_KEYS = 2  # that the kernel compares densely


class Plane:
    """int8 [R, C], whole blocks and more, valid until the next `fill`; 1 where the rules drop the cell.

    Lists are scattered by torch: 1 drops, 2 is an own negative, which stands whatever its group. The kernel then
    compares group and keys cell by cell and leaves 0 or 1. What equalities are left, those of few columns, torch marks.
    """

    def __init__(self, rules: Rules, num_documents: int, launcher: Launcher, device: torch.device) -> None:
        self.rules, self.launcher = rules, launcher
        self.buffers = Buffers(device)
        by_length = sorted(rules.equalities, key=lambda equality: len(equality.column_E), reverse=True)
        dense, self._sparse = by_length[:_NUM_KEYS], by_length[_NUM_KEYS:]
        self._labels = _dense_labels(rules, dense, num_documents)

    @property
    def row_bytes(self) -> int:
        """Scratch per row while filling."""
        entries = max((len(equality.column_E) for equality in self._sparse), default=0)
        return self.rules.bytes_per_row + 4 * entries

    def fill(self, rows: slice, columns: slice, rows_at_once: int) -> Tensor:
        """Against documents `columns` of the whole table; lists of `rows_at_once` rows are in work at a time."""
        num_rows, num_columns = rows.stop - rows.start, columns.stop - columns.start
        plane = self.buffers.get("plane", torch.int8, *self._shape(num_rows, num_columns)).zero_()
        marks = plane[:num_rows, : num_columns + 1]  # the last column takes what lies outside
        parts = [slice(start, start + rows_at_once) for start in range(0, num_rows, rows_at_once)]
        for part in parts:
            self._scatter(marks[part], _within(rows, part), columns)
        if self._labels is not None:
            self._compare(plane, rows, columns)
        for equality in self._sparse:
            for part in parts:
                mark_equal(marks[part, :-1], equality, _within(rows, part), columns)
        return plane

    def _shape(self, num_rows: int, num_columns: int) -> tuple[int, int]:
        blocks = [block for block in self.launcher.blocks if isinstance(block, Block)]
        height = max(whole(num_rows, block.rows) for block in blocks)
        return height, max(whole(num_columns + 1, block.columns) for block in blocks)

    def _scatter(self, marks: Tensor, rows: slice, columns: slice) -> None:
        scatter_listed(marks, self.rules.own_SM, rows, columns, 2)
        scatter_listed(marks, self.rules.positive_SP, rows, columns, 1)
        scatter_listed(marks, self.rules.excluded_SX, rows, columns, 1)

    def _compare(self, plane: Tensor, rows: slice, columns: slice) -> None:
        block = self.launcher.blocks.mark
        assert self._labels is not None
        row_labels, column_labels = self._labels
        height, width = whole(rows.stop - rows.start, block.rows), whole(columns.stop - columns.start, block.columns)
        arguments = {
            "plane": plane,
            "row_labels": pad(row_labels[:, rows], block.rows),
            "column_labels": pad(column_labels[:, columns], block.columns),
            "row_length": height,
            "column_length": width,
            "plane_stride": plane.stride(0),
            "BLOCK_R": block.rows,
            "BLOCK_C": block.columns,
        }
        self.launcher.launch(mark_kernel, block.num_programs(height, width), block, arguments)


def _within(rows: slice, part: slice) -> slice:
    return slice(rows.start + part.start, min(rows.start + part.stop, rows.stop))


def _dense_labels(rules: Rules, equalities: list[Equality], num_documents: int) -> tuple[Tensor, Tensor] | None:
    """int32 [3, S] and [3, N]: group, key, second key; None if there is none of them.

    Where there is no group all have the same; a document without a key has -2, which no row has.
    """
    if rules.group_S is None and not equalities:
        return None
    row_labels = rules.positive_SP.new_full((1 + _NUM_KEYS, len(rules.positive_SP)), -1, dtype=torch.int32)
    column_labels = row_labels.new_full((1 + _NUM_KEYS, num_documents), -2)
    row_labels[0], column_labels[0] = 0, 0
    if rules.group_S is not None:
        assert rules.group_N is not None
        number = torch.cat([rules.group_S, rules.group_N]).unique(return_inverse=True)[1]
        row_labels[0], column_labels[0] = number[: len(rules.group_S)], number[len(rules.group_S) :]
    for key, equality in enumerate(equalities, start=1):
        row_labels[key] = equality.row_S
        column_labels[key, equality.column_E] = equality.value_E.to(torch.int32)
    return row_labels, column_labels
