# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: RUF059 (tuples are unpacked whole)
"""Device functions that the kernels share: position of a tile, loads, stores, products, masks.

On chips with TMA, matrices (embeddings, drop mask, panel) are tensor descriptors, and their stride is None. On other
chips they are pointers with the stride of their rows. Arguments are passed as tuples: tables = (query, query_stride,
document, document_stride), masks = (positive, ceiling, drop_mask, drop_mask_stride, has_margin), sizes = (num_rows,
num_columns, num_rows padded to whole tiles, num_columns padded to whole tiles).
"""

from __future__ import annotations

import triton
import triton.language as tl

DROPPED = tl.constexpr(-1e34)  # value of dot * column_scale in a dropped cell; finite, so that 0 * DROPPED is 0


@triton.jit
def place(num_rows, num_columns, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Row and column of this program's tile. 8 rows of tiles advance along the columns together, to share the L2."""
    program = tl.program_id(0)
    group_size = 8 * tl.cdiv(num_columns, BLOCK_C)
    first = program // group_size * 8
    height = tl.minimum(tl.cdiv(num_rows, BLOCK_R) - first, 8)
    return first + program % group_size % height, program % group_size // height


@triton.jit
def padded(length, BLOCK: tl.constexpr):
    """The length rounded up to whole blocks."""
    return tl.cdiv(length, BLOCK) * BLOCK


@triton.jit
def hidden_zero(level):
    """0, computed so that the compiler does not know that it is 0.

    With a known 0, the compiler computes the epilogue's addresses before the loop over D and spills their registers.
    """
    return level >> 20


@triton.jit
def load_tile(table, stride, length, first, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Load [ROWS, COLUMNS] from row `first` and column `column` on. Rows after `length` have arbitrary values."""
    if stride is None:
        tile = table.load([first, column])
    else:
        row = tl.minimum(tl.arange(0, ROWS), length - 1 - first)
        start = table + first.to(tl.int64) * stride + column
        tile = tl.load(start + row[:, None] * stride + tl.arange(0, COLUMNS)[None, :])
    return tile


@triton.jit
def store_tile(table, stride, first, column, tile):
    """Store a tile at row `first` and column `column` of a matrix that is padded to whole tiles."""
    if stride is None:
        table.store([first, column], tile.to(table.dtype))
    else:
        start = table + first.to(tl.int64) * stride + column
        offset = tl.arange(0, tile.shape[0])[:, None] * stride + tl.arange(0, tile.shape[1])[None, :]
        tl.store(start + offset, tile.to(table.dtype.element_ty))


@triton.jit
def multiply(
    tables, sizes, row_tile, column_tile, step, dot,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Add the products over one block of D to `dot`. float32: three TF32 products, about as precise as float32."""
    query, query_stride, document, document_stride = tables
    a = load_tile(query, query_stride, sizes[0], row_tile * BLOCK_R, step * BLOCK_D, BLOCK_R, BLOCK_D)
    b = load_tile(document, document_stride, sizes[1], column_tile * BLOCK_C, step * BLOCK_D, BLOCK_C, BLOCK_D)
    return tl.dot(a, b.T, dot, input_precision="tf32x3")


@triton.jit
def halves(tile):
    """The first and the second half of the columns."""
    return tl.split(tl.permute(tl.reshape(tile, (tile.shape[0], 2, tile.shape[1] // 2)), (0, 2, 1)))


@triton.jit
def must_compare(masks, sizes, row_tile, column_tile, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Whether the tile has a positive or goes beyond the matrix. Most tiles do neither and need no comparisons."""
    positive, ceiling, drop_mask, drop_mask_stride, has_margin = masks
    num_rows, num_columns, row_length, column_length = sizes
    answer = ((row_tile + 1) * BLOCK_R > num_rows) | ((column_tile + 1) * BLOCK_C > num_columns)
    if positive is not None:
        column = tl.load(positive + row_tile * BLOCK_R + tl.arange(0, BLOCK_R)) - column_tile * BLOCK_C
        answer = answer | (tl.sum(((column >= 0) & (column < BLOCK_C)).to(tl.int32)) > 0)
    return answer


@triton.jit
def scaled_dots(dot, column_scale, masks, sizes, level, compare, first_row, first_column):
    """dot * column_scale; DROPPED in dropped cells. NaN stays NaN, because it must reach the loss."""
    positive, ceiling, drop_mask, drop_mask_stride, has_margin = masks
    num_rows, num_columns, row_length, column_length = sizes
    row = first_row + tl.arange(0, dot.shape[0])
    column = first_column + tl.arange(0, dot.shape[1])
    scaled = dot * tl.load(column_scale + level * column_length + column)[None, :]
    if drop_mask is not None:
        mark = load_tile(drop_mask, drop_mask_stride, row_length, first_row, first_column, dot.shape[0], dot.shape[1])
        scaled = tl.where(mark != 0, DROPPED, scaled)
    if has_margin:
        scaled = tl.where(scaled > tl.load(ceiling + level * row_length + row)[:, None], DROPPED, scaled)
    if compare:
        outside = (row >= num_rows)[:, None] | (column >= num_columns)[None, :]
        if positive is not None:
            outside = outside | (tl.load(positive + row)[:, None] == column[None, :])
        scaled = tl.where(outside, DROPPED, scaled)
    return scaled
