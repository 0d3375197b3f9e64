"""The rows of the kernel benchmark: figures derived from the measurements, and the table that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.kernel.cases import Case
from benchmarks.kernel.measure import quantiles
from benchmarks.kernel.sides import Side

Status = Literal["measured", "unavailable", "wrong", "failed", "out of memory", "left out"]


@dataclass
class Row:
    """Result of one side on one case. Figures are None if they were not measured."""

    queries: int
    documents: int
    width: int
    dims: tuple[int, ...]
    dtype: str
    implementation: str
    passes: int
    ours: bool
    status: Status
    reason: str | None = None
    forward_ms: dict[str, float] | None = None
    forward_backward_ms: dict[str, float] | None = None
    peak_extra_bytes: int | None = None
    matrix_teraflops: float | None = None
    forward_teraflops: float | None = None
    forward_backward_teraflops: float | None = None
    forward_share: float | None = None
    forward_backward_share: float | None = None
    forward_to_naive: float | None = None
    forward_backward_to_naive: float | None = None
    memory_to_naive: float | None = None


def new_row(side: Side, case: Case, status: Status = "measured", reason: str | None = None) -> Row:
    """Create a row without figures."""
    return Row(
        case.queries,
        case.documents,
        case.width,
        case.dims,
        case.dtype_name,
        side.name,
        side.passes(case),
        side.ours,
        status,
        reason,
    )


def fill_in(
    row: Row, case: Case, forward: Sequence[float], forward_backward: Sequence[float], matrix_rate: float
) -> None:
    """Fill in the times (milliseconds) and the rates, which follow from the best time. `matrix_rate`: TFLOP/s."""
    row.forward_ms, row.forward_backward_ms = quantiles(forward), quantiles(forward_backward)
    row.matrix_teraflops = matrix_rate
    row.forward_teraflops = case.forward_operations / min(forward) / 1e9
    row.forward_backward_teraflops = case.forward_backward_operations / min(forward_backward) / 1e9
    row.forward_share = row.forward_teraflops / matrix_rate
    row.forward_backward_share = row.forward_backward_teraflops / matrix_rate


def compare_to_naive(rows: Sequence[Row]) -> None:
    """Fill in each row's ratios to naive. `rows`: one case. Does nothing if naive was not measured."""
    naive = next((row for row in rows if row.implementation == "naive"), None)
    if naive is None or naive.forward_ms is None or naive.forward_backward_ms is None or not naive.peak_extra_bytes:
        return
    for row in rows:
        if row.forward_ms is not None and row.forward_backward_ms is not None and row.peak_extra_bytes is not None:
            row.forward_to_naive = row.forward_ms["best"] / naive.forward_ms["best"]
            row.forward_backward_to_naive = row.forward_backward_ms["best"] / naive.forward_backward_ms["best"]
            row.memory_to_naive = row.peak_extra_bytes / naive.peak_extra_bytes


LEGEND = """\
Forward: the value alone, nothing kept for a gradient. Forward+backward (f+b): the value and both gradients.
Milliseconds: best (median) of the repeats, sides taken in turns; everything else follows from the best. Extra MiB: peak
beyond the start, without the two gradients handed back. TFLOP/s at nominal operations, forward 2BND and
forward+backward 6BND for any number of levels and passes; share: of the rate of one large torch.mm in the same run.
Over naive: the figure divided by naive's."""
_HEADINGS = (
    *("B", "N", "D", "K", "dtype", "implementation", "passes"),
    *("forward ms", "f+b ms", "extra MiB", "forward TFLOP/s", "f+b TFLOP/s", "forward share", "f+b share"),
    *("forward over naive", "f+b over naive", "memory over naive", "note"),
)
_LEFT = ("dtype", "implementation", "note")


def table(rows: Sequence[dict[str, Any]], *, markdown: bool) -> str:
    """Format rows of the JSON as a table, one line per row. Rows of `not_run_here` are left out."""
    lines = [_cells(row) for row in rows if row["status"] != "unavailable"]
    if markdown:
        return "\n".join("| " + " | ".join(cells) + " |" for cells in (_HEADINGS, ["---"] * len(_HEADINGS), *lines))
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if heading in _LEFT else cell.rjust(width)
            for heading, cell, width in zip(_HEADINGS, cells, widths, strict=True)
        ).rstrip()
        for cells in (_HEADINGS, *lines)
    )


def not_run_here(rows: Sequence[dict[str, Any]]) -> list[str]:
    """List `implementation: reason` of every side that cannot run on this machine, without repeats."""
    lines = [f"{row['implementation']}: {row['reason']}" for row in rows if row["status"] == "unavailable"]
    return list(dict.fromkeys(lines))


def _cells(row: dict[str, Any]) -> list[str]:
    note = "" if row["status"] == "measured" else f"{row['status']}: {row['reason']}"
    memory = row["peak_extra_bytes"]
    return [
        *(str(row[key]) for key in ("queries", "documents", "width")),
        str(len(row["dims"])),
        *(str(row[key]) for key in ("dtype", "implementation", "passes")),
        *(_milliseconds(row[key]) for key in ("forward_ms", "forward_backward_ms")),
        "-" if memory is None else f"{memory / 2**20:.1f}",
        *(_number(row[key], ".3g") for key in ("forward_teraflops", "forward_backward_teraflops")),
        *(_number(row[key], ".0%") for key in ("forward_share", "forward_backward_share")),
        *(_number(row[key], ".2f") for key in ("forward_to_naive", "forward_backward_to_naive")),
        _number(row["memory_to_naive"], ".3f"),
        note,
    ]


def _milliseconds(samples: dict[str, float] | None) -> str:
    return "-" if samples is None else f"{samples['best']:.4g} ({samples['q50']:.4g})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
