"""The goals of the kernel package, and whether the rows of a run meet them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.kernel.cases import DIMS_1792, KILO
from benchmarks.kernel.report import Row

_Times = Literal["forward_ms", "forward_backward_ms"]
# rows of one case -> (figure, words that say what it is compared with); LookupError: a needed row was not measured
_Figure = Callable[[Sequence[Row]], tuple[float, str]]


@dataclass(frozen=True)
class Goal:
    """`figure` must be at least the bound (`at_least`), or at most the bound, on every case that `applies` selects."""

    text: str
    applies: Callable[[Row], bool]
    figure: _Figure
    bound: float
    at_least: bool


@dataclass(frozen=True)
class Verdict:
    """Result of a goal on one case. If it was not measured, `figure` and `met` are None and `against` is the reason."""

    goal: str
    case: str
    bound: float
    figure: float | None
    against: str
    met: bool | None

    def __str__(self) -> str:
        if self.figure is None:
            return f"{'not measured':<12}  {self.goal} [{self.case}]: {self.against}"
        outcome = "met" if self.met else "MISSED"
        return f"{outcome:<12}  {self.goal} [{self.case}]: {self.figure:.3g} {self.against}"


def verdicts(device_type: str, rows: Sequence[Row]) -> list[Verdict]:
    """Judge every goal of the device on every case that the goal applies to."""
    return [verdict for goal in GOALS[device_type] for verdict in _judge(goal, rows)]


def _judge(goal: Goal, rows: Sequence[Row]) -> list[Verdict]:
    cases: dict[str, list[Row]] = {}
    for row in filter(goal.applies, rows):
        cases.setdefault(f"B={row.queries} N={row.documents} D={row.width} K={len(row.dims)}", []).append(row)
    results = []
    for case, case_rows in (cases or {"no case": []}).items():
        try:
            figure, against = goal.figure(case_rows)
        except LookupError as error:
            results.append(Verdict(goal.text, case, goal.bound, None, str(error.args[0]), None))
        else:
            met = figure >= goal.bound if goal.at_least else figure <= goal.bound
            results.append(Verdict(goal.text, case, goal.bound, figure, against, met))
    return results


def _measured(rows: Sequence[Row], implementation: str) -> Row:
    """Find the row of an implementation; for ours, the row that computes all levels in one pass."""
    for row in rows:
        if row.implementation == implementation and (row.passes == 1 or not row.ours):
            if row.status == "measured":
                return row
            raise LookupError(f"{implementation} {row.status}: {row.reason}")
    raise LookupError("not in this run")


def _best(row: Row, times: _Times) -> float:
    samples = getattr(row, times)
    return samples["best"]


def _fastest_other(rows: Sequence[Row], times: _Times) -> Row:
    """The row of the fastest side that is not ours; naive and compiled torch count, too."""
    others = [row for row in rows if row.status == "measured" and not row.ours]
    if not others:
        raise LookupError("no other side was measured")
    return min(others, key=lambda row: _best(row, times))


def _time_over_naive(rows: Sequence[Row]) -> tuple[float, str]:
    ours, naive = _measured(rows, "chunked"), _measured(rows, "naive")
    return _best(ours, "forward_backward_ms") / _best(naive, "forward_backward_ms"), "of naive's"


def _speed_over_naive(rows: Sequence[Row]) -> tuple[float, str]:
    ratio, _ = _time_over_naive(rows)
    return 1 / ratio, "times as fast as naive"


def _memory_over_naive(implementation: str) -> _Figure:
    def figure(rows: Sequence[Row]) -> tuple[float, str]:
        ours, naive = _measured(rows, implementation), _measured(rows, "naive")
        if ours.peak_extra_bytes is None or not naive.peak_extra_bytes:
            raise LookupError("the memory was not measured")
        return ours.peak_extra_bytes / naive.peak_extra_bytes, "of naive's"

    return figure


def _forward_share(rows: Sequence[Row]) -> tuple[float, str]:
    share = _measured(rows, "triton").forward_share
    if share is None:
        raise LookupError("the matrix rate was not measured")
    return share, "of the matrix rate"


def _speed_over_fastest_other(times: _Times) -> _Figure:
    def figure(rows: Sequence[Row]) -> tuple[float, str]:
        other = _fastest_other(rows, times)
        passes = f" in {other.passes} passes" if other.passes > 1 else ""
        ratio = _best(other, times) / _best(_measured(rows, "triton"), times)
        return ratio, f"times as fast as {other.implementation}{passes}"

    return figure


def _is_cpu_case(dims: tuple[int, ...]) -> Callable[[Row], bool]:
    return lambda row: (row.queries, row.documents, row.dims) == (4096, 4096, dims)


def _is_wide_single_level(row: Row) -> bool:
    return len(row.dims) == 1 and row.width >= 1024


def _is_conan(row: Row) -> bool:
    return row.dims == DIMS_1792


def _is_32k(row: Row) -> bool:
    return row.queries == row.documents == 32 * KILO


_SIX = _is_cpu_case(DIMS_1792)
_ONE = _is_cpu_case((768,))
_CPU = (
    Goal("chunked, K = 1: forward+backward in at most 1.15 of naive's time", _ONE, _time_over_naive, 1.15, False),
    Goal("chunked, K = 1: at most 1/8 of naive's peak extra memory", _ONE, _memory_over_naive("chunked"), 1 / 8, False),
    Goal("chunked, K = 6: forward+backward at least 2.5 times as fast as naive", _SIX, _speed_over_naive, 2.5, True),
)
_FORWARD, _BOTH = _speed_over_fastest_other("forward_ms"), _speed_over_fastest_other("forward_backward_ms")
_CUDA = (
    Goal("triton, K = 1: forward at 60 % of the matrix rate or more", _is_wide_single_level, _forward_share, 0.6, True),
    Goal("triton, K = 1: forward+backward no slower than any other", _is_wide_single_level, _BOTH, 1.0, True),
    Goal("triton, K = 6: forward at 45 % of the matrix rate or more", _is_conan, _forward_share, 0.45, True),
    Goal("triton, K = 6: forward at least 2.2 times as fast as the fastest other", _is_conan, _FORWARD, 2.2, True),
    Goal("triton, K = 6: forward+backward at least 2 times as fast as the fastest other", _is_conan, _BOTH, 2.0, True),
    Goal("triton: at most 1/50 of naive's peak extra memory", _is_32k, _memory_over_naive("triton"), 1 / 50, False),
)
GOALS = {"cpu": _CPU, "cuda": _CUDA}
