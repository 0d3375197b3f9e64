"""Run one case of the kernel benchmark: check every side, measure its memory, then time all sides in turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Sequence
from functools import partial

import torch

from benchmarks.kernel.agreement import Check, check_at_size, small_check
from benchmarks.kernel.cases import Case, Inputs, make_inputs
from benchmarks.kernel.measure import Clock, forward, forward_backward, matrix_product, peak_extra_bytes
from benchmarks.kernel.report import Row, Status, compare_to_naive, fill_in, new_row
from benchmarks.kernel.sides import Side, sides


def run_case(case: Case, device: torch.device, repeats: int, deadline: float, skipped: Collection[str]) -> list[Row]:
    """Return the rows of all sides. After the deadline (`time.monotonic`) no other side and no other round begins."""
    inputs = make_inputs(case, device)
    small = small_check(case, device)
    checks = (small, check_at_size(inputs, small))
    pairs = []
    for side in sides(case):
        obstacle = side.available(case, device)
        if side.name in skipped:
            row = new_row(side, case, "left out", "skipped by request")
        elif obstacle is not None:
            row = new_row(side, case, "unavailable", obstacle)
        elif time.monotonic() > deadline:
            row = new_row(side, case, "left out", "the time budget was spent")
        else:
            print(f"{case}: {side.name}, passes: {side.passes(case)}", file=sys.stderr, flush=True)
            row = prepared_row(side, case, inputs, checks)
        pairs.append((side, row))
    del checks, small
    _take_turns(case, inputs, [(side, row) for side, row in pairs if row.status == "measured"], repeats, deadline)
    rows = [row for _, row in pairs]
    compare_to_naive(rows)
    return rows


def prepared_row(side: Side, case: Case, inputs: Inputs, checks: Sequence[Check]) -> Row:
    """Check a side, measure its peak memory and warm it up. The row holds the memory, or the reason of a failure."""
    row = new_row(side, case)
    try:
        for check in checks:
            complaint = check.complaint(side.loss)
            if complaint is not None:
                row.status, row.reason = "wrong", complaint
                return row
        row.peak_extra_bytes = peak_extra_bytes(side.loss, inputs, case.dims)
        forward(side.loss, inputs, case.dims)
    except Exception as error:  # any error of a package is a result to report
        _fail(row, error)
    return row


def _take_turns(
    case: Case, inputs: Inputs, contenders: Sequence[tuple[Side, Row]], repeats: int, deadline: float
) -> None:
    """Time every side and a large matrix product once per round. There is at least one round."""
    device = inputs.query_BD.device
    clock = Clock(device)
    multiply, operations = matrix_product(case, device)
    multiply()
    matrix_ms: list[float] = []
    forward_ms: list[list[float]] = [[] for _ in contenders]
    both_ms: list[list[float]] = [[] for _ in contenders]
    for turn in range(1, repeats + 1):
        print(f"{case}, round {turn}:", end="", file=sys.stderr)
        matrix_ms.append(clock.milliseconds(multiply))
        for (side, row), forward_samples, both_samples in zip(contenders, forward_ms, both_ms, strict=True):
            if row.status != "measured":
                continue
            print(f" {side.name}", end="", file=sys.stderr, flush=True)  # printed first: names the kernel if it hangs
            try:
                forward_samples.append(clock.milliseconds(partial(forward, side.loss, inputs, case.dims)))
                both_samples.append(clock.milliseconds(partial(forward_backward, side.loss, inputs, case.dims)))
            except Exception as error:
                _fail(row, error)
        print(file=sys.stderr)
        if time.monotonic() > deadline:
            break
    for (_, row), forward_samples, both_samples in zip(contenders, forward_ms, both_ms, strict=True):
        if row.status == "measured":
            fill_in(row, case, forward_samples, both_samples, operations / min(matrix_ms) / 1e9)


def _fail(row: Row, error: Exception) -> None:
    first_line = (str(error).strip().splitlines() or [""])[0]
    row.status, row.reason = _status_of(error), f"{type(error).__name__}: {first_line}"[:200]
    row.peak_extra_bytes = None


def _status_of(error: Exception) -> Status:
    # The CPU allocator raises a plain RuntimeError.
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return "out of memory"
    return "failed"
