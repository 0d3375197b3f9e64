"""How fast a processor multiplies matrices in fp32, bf16 and fp16: without instructions for it, bf16 takes 25 times the
seconds of fp32 (LOG.md, 2026-11-30)."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from harness import comm

_SMALL, _LARGE = 192, 768  # rows of the square matrices
_TRIES, _LONG = 5, 0.2  # seconds of a try, after which there is no other
# Not from harness.prediction.precision: with it the checks before a run would import deepspeed.
_DTYPES = {"bf16": torch.bfloat16, "bf16_weights": torch.bfloat16, "fp16": torch.float16}
_MUCH_SLOWER = 1.5


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations per second of a product of square matrices on the CPU: the best of a few."""
    return 2 * _LARGE**3 / least_seconds(_product(_LARGE, dtype))


def slow_precision(precision: str) -> str | None:
    """A line if this processor multiplies more slowly in a precision than in fp32; None on a GPU, and if it does not.

    Measured by one thread, because several wait for each other where other processes run: a tenth of a second.
    """
    dtype = _DTYPES.get(precision)
    if dtype is None or comm.device().type != "cpu":
        return None
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratio = least_seconds(_product(_SMALL, dtype)) / least_seconds(_product(_SMALL, torch.float32))
    finally:
        torch.set_num_threads(before)
    if ratio < _MUCH_SLOWER:
        return None
    return f"{precision} takes {ratio:.0f} times the seconds of fp32 for a matrix product on this CPU"


def least_seconds(work: Callable[[], object]) -> float:
    """Of a few tries, by the processor's clock divided by the threads, so that other processes do not count."""
    work()
    seconds = []
    for _ in range(_TRIES):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        spent = (time.process_time() - cpu) / torch.get_num_threads()
        seconds.append(min(time.perf_counter() - wall, spent) or 1e-9)
        if seconds[-1] > _LONG:
            break
    return min(seconds)


def _product(side: int, dtype: torch.dtype) -> Callable[[], object]:
    left, right = (torch.randn(side, side).to(dtype) for _ in range(2))
    return lambda: left @ right
