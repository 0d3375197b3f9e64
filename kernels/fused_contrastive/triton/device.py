# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: RUF059 (tuples are unpacked whole)
"""Device functions that the kernels of `triton_kernels.py` share: the place of a tile, loads, stores, masks.

Tables, planes and panels are descriptors where the chip has TMA; elsewhere pointers, with a row stride that is None for
descriptors. The tuples passed on: masks = (positive, ceiling, plane, plane_stride, has_margin), sizes = (num_rows,
num_columns, both padded to whole tiles).
"""

from __future__ import annotations

import triton
import triton.language as tl

DROPPED = tl.constexpr(-1e34)  # stands for dot * column_scale in a dropped cell; finite, as 0 times it must be 0


@triton.jit
def place(num_rows, num_columns, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """The program's tile: 8 rows of tiles walk along the columns together, so that what they read stays in L2."""
    program = tl.program_id(0)
    group_size = 8 * tl.cdiv(num_columns, BLOCK_C)
    first = program // group_size * 8
    height = tl.minimum(tl.cdiv(num_rows, BLOCK_R) - first, 8)
    return first + program % group_size % height, program % group_size // height


@triton.jit
def padded(length, BLOCK: tl.constexpr):
    """To whole blocks."""
    return tl.cdiv(length, BLOCK) * BLOCK


@triton.jit
def hidden_zero(level):
    """0, but the compiler cannot know: else it computes the epilogue's addresses before the loop and spills them."""
    return level >> 20


@triton.jit
def load_tile(table, stride, length, first, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """[ROWS, COLUMNS] from row `first` and `column` on; what stands for rows past `length` does not matter."""
    if stride is None:
        tile = table.load([first, column])
    else:
        row = tl.minimum(tl.arange(0, ROWS), length - 1 - first)
        start = table + first.to(tl.int64) * stride + column
        tile = tl.load(start + row[:, None] * stride + tl.arange(0, COLUMNS)[None, :])
    return tile


@triton.jit
def store_tile(table, stride, first, column, tile):
    """The counterpart of `load_tile`, for tables padded to whole tiles."""
    if stride is None:
        table.store([first, column], tile.to(table.dtype))
    else:
        start = table + first.to(tl.int64) * stride + column
        offset = tl.arange(0, tile.shape[0])[:, None] * stride + tl.arange(0, tile.shape[1])[None, :]
        tl.store(start + offset, tile.to(table.dtype.element_ty))


@triton.jit
def multiply(
    left, left_stride, right, right_stride, sizes, row_tile, column_tile, step, dot,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add the products over one block of D. float32 rows: three TF32 products, which is about float32's precision."""
    a = load_tile(left, left_stride, sizes[0], row_tile * BLOCK_R, step * BLOCK_D, BLOCK_R, BLOCK_D)
    b = load_tile(right, right_stride, sizes[1], column_tile * BLOCK_C, step * BLOCK_D, BLOCK_C, BLOCK_D)
    return tl.dot(a, b.T, dot, input_precision="tf32x3")


@triton.jit
def halves(tile):
    """The left and the right columns."""
    return tl.split(tl.permute(tl.reshape(tile, (tile.shape[0], 2, tile.shape[1] // 2)), (0, 2, 1)))


@triton.jit
def must_compare(masks, sizes, row_tile, column_tile, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Whether the tile holds a positive or reaches past the end. Most do not, which saves comparing every cell."""
    positive, ceiling, plane, plane_stride, has_margin = masks
    num_rows, num_columns, row_length, column_length = sizes
    answer = ((row_tile + 1) * BLOCK_R > num_rows) | ((column_tile + 1) * BLOCK_C > num_columns)
    if positive is not None:
        column = tl.load(positive + row_tile * BLOCK_R + tl.arange(0, BLOCK_R)) - column_tile * BLOCK_C
        answer = answer | (tl.sum(((column >= 0) & (column < BLOCK_C)).to(tl.int32)) > 0)
    return answer


@triton.jit
def scaled_dots(dot, column_scale, masks, sizes, level, compare, first_row, first_column):
    """dot * column_scale, DROPPED in dropped cells. A NaN is no reason to drop."""
    positive, ceiling, plane, plane_stride, has_margin = masks
    num_rows, num_columns, row_length, column_length = sizes
    row = first_row + tl.arange(0, dot.shape[0])
    column = first_column + tl.arange(0, dot.shape[1])
    scaled = dot * tl.load(column_scale + level * column_length + column)[None, :]
    if plane is not None:
        mark = load_tile(plane, plane_stride, row_length, first_row, first_column, dot.shape[0], dot.shape[1])
        scaled = tl.where(mark != 0, DROPPED, scaled)
    if has_margin:
        scaled = tl.where(scaled > tl.load(ceiling + level * row_length + row)[:, None], DROPPED, scaled)
    if compare:
        outside = (row >= num_rows)[:, None] | (column >= num_columns)[None, :]
        if positive is not None:
            outside = outside | (tl.load(positive + row)[:, None] == column[None, :])
        scaled = tl.where(outside, DROPPED, scaled)
    return scaled
