"""Time and peak extra memory of `info_nce`, chunked against naive torch (levels one by one), value and gradients.

    python -m benchmarks.info_nce [--queries 4096] [--documents 4096] [--repeats 5] [--device cpu]

Times are the best of the repeats, taken in turns. Memory is the peak that torch's allocator holds beyond what was
there before, without the two gradients handed back.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from fused_contrastive import info_nce
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

TEMPERATURE = 0.05
CASES = ((768, (768,)), (1792, (256, 512, 768, 1024, 1280, 1792)))
Loss = Callable[[Tensor, Tensor, Tensor, tuple[int, ...]], Tensor]


def naive(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
    """What one writes first: normalise, multiply, cross-entropy; level by level."""
    loss = query_BD.new_zeros(())
    for dim in dims:
        query, document = F.normalize(query_BD[:, :dim], dim=1), F.normalize(document_ND[:, :dim], dim=1)
        loss = loss + F.cross_entropy(query @ document.T / TEMPERATURE, positive_B)
    return loss


def chunked(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The same number by the package."""
    output = info_nce(
        query_BD, document_ND, positive_B, temperature=TEMPERATURE, matryoshka_dims=dims, implementation="chunked"
    )
    return output.loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=4096)
    parser.add_argument("--documents", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    chip = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {chip}, float32, B={arguments.queries}, N={arguments.documents}")
    print(f"{'D':>5} {'K':>2} {'loss':<8} {'value':>11} {'seconds':>8} {'extra MiB':>10} {'time':>6} {'memory':>7}")
    for width, dims in CASES:
        generator = torch.Generator(device).manual_seed(0)
        query = torch.randn(arguments.queries, width, generator=generator, device=device).requires_grad_()
        document = torch.randn(arguments.documents, width, generator=generator, device=device).requires_grad_()
        positive = torch.randint(arguments.documents, (arguments.queries,), generator=generator, device=device)
        report(width, dims, (query, document, positive), arguments.repeats)


def report(width: int, dims: tuple[int, ...], inputs: tuple[Tensor, Tensor, Tensor], repeats: int) -> None:
    """One line per loss; the ratios are to naive."""
    losses: tuple[Loss, ...] = (naive, chunked)
    seconds = {loss: float("inf") for loss in losses}
    value = {}
    for _ in range(repeats):
        for loss in losses:
            value[loss], elapsed = timed(loss, inputs, dims)
            seconds[loss] = min(seconds[loss], elapsed)
    memory = {loss: peak_extra_bytes(loss, inputs, dims) for loss in losses}
    for loss in losses:
        print(
            f"{width:>5} {len(dims):>2} {loss.__name__:<8} {value[loss]:>11.6f} {seconds[loss]:>8.3f} "
            f"{memory[loss] / 2**20:>10.1f} {seconds[loss] / seconds[naive]:>6.2f} {memory[loss] / memory[naive]:>7.3f}"
        )


def timed(loss: Loss, inputs: tuple[Tensor, Tensor, Tensor], dims: tuple[int, ...]) -> tuple[float, float]:
    """The loss and the seconds for it and its two gradients."""
    synchronise(inputs[0])
    start = time.perf_counter()
    result = loss(*inputs, dims)
    torch.autograd.grad(result, inputs[:2])
    synchronise(inputs[0])
    return result.item(), time.perf_counter() - start


def synchronise(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


def peak_extra_bytes(loss: Loss, inputs: tuple[Tensor, Tensor, Tensor], dims: tuple[int, ...]) -> int:
    """Peak of torch's allocator above the start, less the bytes of the two gradients."""
    gradient_bytes = sum(tensor.nbytes for tensor in inputs[:2])
    if inputs[0].is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        timed(loss, inputs, dims)
        return torch.cuda.max_memory_allocated() - before - gradient_bytes
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        timed(loss, inputs, dims)
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak - gradient_bytes


if __name__ == "__main__":
    main()
