"""Measure the milliseconds and the peak extra memory of a loss and its two gradients."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.kernel.cases import Case, Inputs
from benchmarks.kernel.sides import Loss

_FLUSH_BYTES = 256 * 2**20  # several times the second-level cache of any GPU
_MATRIX_SIZE = {"cuda": 8192, "cpu": 2048}


class Clock:
    """Times one call. On a GPU it uses CUDA events, and clears the cache before the call."""

    def __init__(self, device: torch.device) -> None:
        self._flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=device) if device.type == "cuda" else None

    def milliseconds(self, call: Callable[[], object]) -> float:
        if self._flush is None:
            start = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - start)
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self._flush.zero_()
        before.record()
        call()
        after.record()
        after.synchronize()
        return before.elapsed_time(after)


def forward(loss: Loss, inputs: Inputs, dims: tuple[int, ...]) -> Tensor:
    """Compute only the value, as in evaluation: nothing is computed or stored for a gradient."""
    with torch.no_grad():
        return loss(*inputs, dims)


def forward_backward(loss: Loss, inputs: Inputs, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the value and its gradients with respect to queries and documents."""
    value = loss(*inputs, dims)
    query_gradient_BD, document_gradient_ND = torch.autograd.grad(value, (inputs.query_BD, inputs.document_ND))
    return value.detach(), query_gradient_BD, document_gradient_ND


def matrix_product(case: Case, device: torch.device) -> tuple[Callable[[], Tensor], int]:
    """Return a large matrix product in the dtype of the case, and its number of operations.

    Its rate (operations per second) is the reference for the rates of the sides.
    """
    size = _MATRIX_SIZE[device.type]
    left, right = (torch.randn(size, size, device=device).to(case.dtype) for _ in range(2))
    result = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=result), 2 * size**3


def quantiles(samples: Sequence[float]) -> dict[str, float]:
    """Best sample, 20th, 50th and 80th percentile, and number of samples."""
    ordered = sorted(samples)
    deciles = statistics.quantiles(ordered, n=10, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 9
    return {
        "best": ordered[0],
        "q20": deciles[1],
        "q50": deciles[4],
        "q80": deciles[7],
        "samples": len(ordered),
    }


def peak_extra_bytes(loss: Loss, inputs: Inputs, dims: tuple[int, ...]) -> int:
    """Peak memory of torch's allocator, minus the memory at the start and the size of the two returned gradients.

    The gradients are subtracted even if the peak comes before they exist, so the number is too low for a side that has
    its peak in the forward pass.
    """
    gradient_bytes = inputs.query_BD.nbytes + inputs.document_ND.nbytes
    if inputs.query_BD.is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        forward_backward(loss, inputs, dims)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before - gradient_bytes
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        forward_backward(loss, inputs, dims)
    events = profiled.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak - gradient_bytes
