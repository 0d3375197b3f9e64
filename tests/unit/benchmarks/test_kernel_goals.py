"""benchmarks/kernel: goals, the cases that they need, and the sides that cannot run on this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.kernel.cases import DIMS_1792, cases
from benchmarks.kernel.goals import GOALS, verdicts
from benchmarks.kernel.measure import quantiles
from benchmarks.kernel.report import Row, not_run_here, table


def row_of(implementation: str, dims: tuple[int, ...], size: int, milliseconds: float, memory: int = 1) -> Row:
    """A measured row whose forward pass takes a third of the total time."""
    ours = implementation in ("chunked", "triton")
    passes = 1 if ours else len(dims)
    row = Row(size, size, dims[-1], dims, "float32", implementation, passes, ours, "measured", peak_extra_bytes=memory)
    row.forward_ms, row.forward_backward_ms = quantiles([milliseconds / 3]), quantiles([milliseconds])
    row.forward_share = 0.5
    return row


@pytest.mark.parametrize(("milliseconds", "met"), [(400.0, True), (401.0, False)])
def test_a_goal_is_met_up_to_its_bound(milliseconds: float, met: bool) -> None:
    rows = [row_of("naive", DIMS_1792, 4096, 1000), row_of("chunked", DIMS_1792, 4096, milliseconds)]
    verdict = verdicts("cpu", rows)[-1]
    assert "2.5 times" in verdict.goal
    assert verdict.met is met
    assert str(verdict).startswith("met" if met else "MISSED")


def test_a_goal_without_its_rows_is_not_called_met() -> None:
    failed = replace(row_of("chunked", DIMS_1792, 4096, 1), status="failed", reason="TypeError: why")
    rows = [row_of("naive", DIMS_1792, 4096, 1000), failed]
    assert [verdict.met for verdict in verdicts("cpu", rows)] == [None, None, None]
    assert "chunked failed: TypeError: why" in str(verdicts("cpu", rows)[-1])


def test_gpu_goals_hold_triton_against_the_fastest_side_that_is_not_ours() -> None:
    size = 32 * 1024
    rows = [
        row_of("naive", DIMS_1792, size, 900, memory=100),
        row_of("quack", DIMS_1792, size, 210),
        row_of("chunked", DIMS_1792, size, 50),
        row_of("triton", DIMS_1792, size, 100, memory=2),
    ]
    by_goal = {verdict.goal: verdict for verdict in verdicts("cuda", rows) if verdict.figure is not None}
    speeds = [verdict for verdict in by_goal.values() if "times as fast as" in verdict.against]
    assert [(verdict.figure, verdict.met) for verdict in speeds] == [
        (pytest.approx(2.1), False),
        (pytest.approx(2.1), True),
    ]
    assert all(verdict.against == "times as fast as quack in 6 passes" for verdict in speeds)
    assert [verdict.met for verdict in by_goal.values()] == [True, False, True, True]  # share, two speeds, memory


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_sizes_called_goals_have_a_case_for_every_goal(device: str) -> None:
    rows = [
        Row(case.queries, case.documents, case.width, case.dims, case.dtype_name, "naive", 1, False, "measured")
        for case in cases(torch.device(device), "goals")
    ]
    for goal in GOALS[device]:
        assert any(map(goal.applies, rows)), goal.text


def test_unavailable_sides_are_listed_once_and_apart_from_the_table() -> None:
    row = row_of("quack", (32,), 64, 1)
    absent = replace(row, status="unavailable", reason="needs a GPU", forward_ms=None, forward_backward_ms=None)
    rows = [vars(absent), vars(absent), vars(replace(absent, implementation="liger"))]
    assert not_run_here(rows) == ["quack: needs a GPU", "liger: needs a GPU"]
    assert "quack" not in table(rows, markdown=False)
