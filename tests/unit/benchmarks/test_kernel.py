"""The kernel benchmark: every timed side computes the loss, every other side has a reason. No test measures time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.kernel import agreement as kernel_agreement
from benchmarks.kernel import benchmark as kernel
from benchmarks.kernel import run as kernel_run
from benchmarks.kernel import sides as kernel_sides
from benchmarks.kernel.agreement import check_at_size, in_panels, relative_errors, small_check
from benchmarks.kernel.cases import Case, make_inputs
from benchmarks.kernel.measure import forward_backward, peak_extra_bytes, quantiles
from benchmarks.kernel.report import Row
from benchmarks.kernel.run import prepared_row
from benchmarks.kernel.sides import NAIVE, Side, sides

CPU = torch.device("cpu")
TINY = Case(queries=24, documents=40, dims=(8, 24, 32), dtype=torch.float32)
QUICK_ON_CPU = [side for side in sides(TINY) if side.available(TINY, CPU) is None and side.name != "torch.compile"]


@pytest.mark.parametrize("dims", [TINY.dims, (32,)], ids=["K=3", "K=1"])
@pytest.mark.parametrize("side", QUICK_ON_CPU, ids=lambda side: f"{side.name}-{side.passes(TINY)}")
def test_a_side_has_the_references_value_and_gradients(side: Side, dims: tuple[int, ...]) -> None:
    assert small_check(replace(TINY, dims=dims), CPU).complaint(side.loss) is None


def test_compiled_naive_is_one_graph_for_more_levels_than_may_be_recompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses torch.compile's tracing without its code generation, which takes half a minute."""
    many_levels = replace(TINY, dims=tuple(range(5, 33, 3)))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(kernel_sides, "_compile_naive", cache(kernel_sides._compile_naive.__wrapped__))
    (side,) = [side for side in sides(TINY) if side.name == "torch.compile"]
    assert small_check(many_levels, CPU).complaint(side.loss) is None


def _nan(value: Tensor, query_BD: Tensor, document_ND: Tensor) -> Tensor:
    return value * math.nan


def _value_off(value: Tensor, query_BD: Tensor, document_ND: Tensor) -> Tensor:
    return value + 1e-4 * value.detach()


def _query_gradient_off(value: Tensor, query_BD: Tensor, document_ND: Tensor) -> Tensor:
    return value + 1e-3 * (query_BD - query_BD.detach()).sum()


def _document_gradient_off(value: Tensor, query_BD: Tensor, document_ND: Tensor) -> Tensor:
    return value + 1e-3 * (document_ND - document_ND.detach()).sum()


def side_with(change: Callable[[Tensor, Tensor, Tensor], Tensor], *, from_queries: int = 0) -> Side:
    """Naive torch, with a fault if there are at least `from_queries` queries."""

    def loss(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
        value = NAIVE.loss(query_BD, document_ND, positive_B, dims)
        return change(value, query_BD, document_ND) if len(query_BD) >= from_queries else value

    return replace(NAIVE, name="faulty", loss=loss)


def prepared(side: Side, case: Case = TINY) -> Row:
    inputs = make_inputs(case, CPU)
    small = small_check(case, CPU)
    return prepared_row(side, case, inputs, (small, check_at_size(inputs, small)))


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        (_nan, "value"),
        (_value_off, "value"),
        (_query_gradient_off, "gradient of the queries"),
        (_document_gradient_off, "gradient of the documents"),
    ],
)
def test_a_wrong_side_is_reported_with_its_error_instead_of_measured(
    change: Callable[[Tensor, Tensor, Tensor], Tensor], quantity: str
) -> None:
    row = prepared(side_with(change))
    assert row.status == "wrong"
    assert row.reason is not None
    assert row.reason.startswith(f"{quantity} off by ")
    assert row.peak_extra_bytes is None


def test_a_side_that_is_wrong_only_at_the_measured_size_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index overflow, for example, happens in large tables only."""
    monkeypatch.setattr(kernel_agreement, "SMALL_QUERIES", 8)
    faulty = side_with(_document_gradient_off, from_queries=TINY.queries)
    assert small_check(TINY, CPU).complaint(faulty.loss) is None
    assert prepared(faulty).status == "wrong"


def test_a_fault_of_naive_torch_does_not_excuse_the_same_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allowed errors follow from naive's errors: if naive were wrong, any wrong side would pass."""
    faulty = side_with(_document_gradient_off)
    monkeypatch.setattr(kernel_agreement, "NAIVE", faulty)
    assert small_check(TINY, CPU).complaint(faulty.loss) is not None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TypeError("got an unexpected keyword\nand more lines"), "failed"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory"),
    ],
)
def test_what_a_side_raises_is_a_result_that_says_so(error: Exception, status: str) -> None:
    def loss(*_: object) -> Tensor:
        raise error

    row = prepared(replace(NAIVE, name="raising", loss=loss))
    assert row.status == status
    assert row.reason == f"{type(error).__name__}: {str(error).splitlines()[0]}"
    assert row.forward_ms is None


def test_a_side_that_fails_while_it_is_timed_keeps_no_figure_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count()

    def loss(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
        if next(calls) == 6:  # after two checks, memory, warm-up and the first round
            raise RuntimeError("the kernel went away")
        return NAIVE.loss(query_BD, document_ND, positive_B, dims)

    fleeting = replace(NAIVE, name="fleeting", loss=loss)
    monkeypatch.setattr(kernel_run, "sides", lambda case: [fleeting, NAIVE])
    failed, measured = kernel_run.run_case(TINY, CPU, repeats=3, deadline=math.inf, skipped=())
    assert (failed.status, failed.reason) == ("failed", "RuntimeError: the kernel went away")
    assert failed.forward_ms is failed.forward_backward_ms is failed.peak_extra_bytes is failed.memory_to_naive is None
    assert next(calls) == 7  # the side was not called again
    assert measured.forward_ms is not None
    assert measured.forward_ms["samples"] == 3


def test_past_the_deadline_one_round_of_turns_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr(kernel_run.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(kernel_run, "sides", lambda case: [NAIVE, replace(NAIVE, name="late")])
    measured, late = kernel_run.run_case(TINY, CPU, repeats=3, deadline=0, skipped=())
    assert measured.forward_ms is not None
    assert measured.forward_ms["samples"] == 1
    assert (late.status, late.reason) == ("left out", "the time budget was spent")


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("quack", "quack-kernels"),
        ("liger", "liger-kernel"),
        ("liger_scaled", "liger-kernel"),
        ("inf_cl", "inf-cl"),
        ("cut_cross_entropy", "cut-cross-entropy"),
    ],
)
def test_a_side_without_its_package_names_it(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (side,) = [side for side in sides(TINY) if side.name == name]
    monkeypatch.setattr(kernel_sides, "find_spec", lambda module: None)
    on_a_gpu = side.available(replace(TINY, dtype=torch.bfloat16), torch.device("cuda"))
    assert on_a_gpu == side.available(TINY, CPU) == f"{package} is not installed"


@pytest.mark.parametrize("name", ["triton", "quack", "liger", "inf_cl", "cut_cross_entropy"])
def test_a_side_for_gpus_only_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_sides, "find_spec", lambda module: module)
    side = next(side for side in sides(TINY) if side.name == name)
    assert side.available(TINY, CPU) == "needs a GPU"
    assert side.available(replace(TINY, dtype=torch.bfloat16), torch.device("cuda")) is None


def test_naive_torch_is_not_begun_where_its_matrices_do_not_fit() -> None:
    """On a CPU the allocation would not raise an error but kill the process."""
    assert "GiB are free" in str(NAIVE.available(replace(TINY, queries=2**24, documents=2**24), CPU))


def test_nominal_operations_are_those_of_one_level_whatever_the_number_of_levels() -> None:
    """As counted by torch: one matrix product in the forward pass and two in the backward pass."""
    case = replace(TINY, dims=(32,))
    inputs = make_inputs(case, CPU)
    with FlopCounterMode(display=False) as forward_count, torch.no_grad():
        NAIVE.loss(*inputs, case.dims)
    with FlopCounterMode(display=False) as both_count:
        forward_backward(NAIVE.loss, inputs, case.dims)
    assert forward_count.get_total_flops() == case.forward_operations == TINY.forward_operations
    assert both_count.get_total_flops() == case.forward_backward_operations == TINY.forward_backward_operations


def test_panels_of_rows_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_agreement, "_PANEL_ROWS", 7)
    small = small_check(TINY, CPU)
    errors = relative_errors(in_panels(small.inputs, TINY.dims), small.truth)
    assert all(error <= allowed for error, allowed in zip(errors, small.allowed, strict=True))


def test_peak_memory_counts_what_lives_at_once_without_the_gradients() -> None:
    matrix_bytes = 4 * 128 * 512

    def loss(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
        for _ in range(3):
            torch.empty(matrix_bytes, dtype=torch.int8)
        return query_BD.sum() + document_ND.sum()

    inputs = make_inputs(replace(TINY, dims=(32,)), CPU)
    expected = matrix_bytes - inputs.query_BD.nbytes - inputs.document_ND.nbytes
    assert expected <= peak_extra_bytes(loss, inputs, (32,)) < expected + inputs.query_BD.nbytes


def test_quantiles_are_those_of_the_samples() -> None:
    summary = quantiles([5.0, 1.0, 2.0, 4.0, 3.0, 6.0])
    assert summary == {"best": 1.0, "q20": 2.0, "q50": 3.5, "q80": 5.0, "samples": 6}
    assert quantiles([2.0]) == {"best": 2.0, "q20": 2.0, "q50": 2.0, "q80": 2.0, "samples": 1}


def tiny_run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(kernel, "cases", lambda device, sizes: [TINY, replace(TINY, dims=(32,))])
    kernel.main(["--device", "cpu", "--repeats", "2", "--skip", "torch.compile", *arguments])


@pytest.mark.parametrize("markdown", [False, True], ids=["text", "markdown"])
def test_everything_printed_is_in_the_json(
    markdown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new folder" / "kernel.json"
    tiny_run(monkeypatch, "--out", str(out), *(["--markdown"] if markdown else []))
    record = json.loads(out.read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert printed == kernel.describe(record, markdown=markdown) + "\n"
    measured = {(row["implementation"], row["passes"]) for row in record["rows"] if row["status"] == "measured"}
    assert measured >= {("naive", 3), ("naive", 1), ("chunked", 3), ("chunked", 1)}
    assert record["versions"]["torch"] == torch.__version__
    assert "skipped by request" in printed
    assert f"- triton: {next(row['reason'] for row in record['rows'] if row['implementation'] == 'triton')}" in printed


def test_figures_follow_from_the_best_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_run(monkeypatch, "--out", str(tmp_path / "kernel.json"))
    rows = json.loads((tmp_path / "kernel.json").read_text(encoding="utf-8"))["rows"]
    row, naive = (next(row for row in rows if row["implementation"] == name) for name in ("chunked", "naive"))
    best = row["forward_backward_ms"]["best"]
    assert row["forward_backward_teraflops"] == pytest.approx(6 * 24 * 40 * 32 / (best / 1e3) / 1e12)
    assert row["forward_backward_to_naive"] == pytest.approx(best / naive["forward_backward_ms"]["best"])
    assert row["memory_to_naive"] == pytest.approx(row["peak_extra_bytes"] / naive["peak_extra_bytes"])


def test_a_spent_budget_leaves_cases_out_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_run(monkeypatch, "--budget-seconds", "0")
    printed = capsys.readouterr().out
    assert f"- {TINY}: the time budget was spent" in printed
    assert printed.count("the time budget was spent") == 2


def test_a_case_that_cannot_be_set_up_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = kernel.run_case

    def run_case(case: Case, *rest: object) -> list[Row]:
        if case == TINY:
            raise torch.OutOfMemoryError("no room for the truth")
        return original(case, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(kernel, "run_case", run_case)
    tiny_run(monkeypatch)
    printed = capsys.readouterr().out
    assert f"- {TINY}: OutOfMemoryError: no room for the truth" in printed
    assert "chunked" in printed
