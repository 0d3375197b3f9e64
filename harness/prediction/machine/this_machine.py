"""What this machine can do and holds: its device, the bytes of a training process, the optimizer's temporaries."""

from __future__ import annotations

import os
from dataclasses import replace

import psutil
import torch
from torch import nn

from harness.engine.average.optimizer import DECAY
from harness.engine.config import TrainingConfig
from harness.engine.optimizer import build_optimizer
from harness.prediction.counted.live_bytes import LiveBytes
from harness.prediction.machine.devices import Device, device_of_cuda_name
from harness.prediction.machine.matrix_rate import least_seconds, matrix_rate

# What libraries take on a CPU when the first steps run: their code, threads and working memory. Measured on 2026-11-28
# with all-MiniLM-L6-v2 on 2 ranks as the growth that no tensor explains.
WORKING_BYTES = 64 << 20
CUDA_CONTEXT_BYTES = 1 << 30  # CUDA's context and NCCL's buffers; assumed, not measured
_COUNTED = 1 << 16  # weights

_COPIED = 1 << 26  # bytes


def this_device(num_local_ranks: int) -> Device:
    """What a rank of this machine computes on, `num_local_ranks` of which share it.

    The CPU's memory is what is free now, divided among the ranks. Its rates are measured with the threads that a rank
    gets: this process's, or its share of the cores if all ranks would use more than there are.
    """
    if torch.cuda.is_available():
        name, memory = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1]
        unknown = Device(name, memory, {"fp32": None, "bf16": None, "fp16": None}, None, None, None)
        return replace(device_of_cuda_name(name) or unknown, memory_bytes=memory)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(torch.get_num_threads(), max(1, cores // num_local_ranks))
    available = psutil.virtual_memory().available // num_local_ranks
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rates = {name: matrix_rate(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
        memory_rate = _copy_rate()
    finally:
        torch.set_num_threads(before)
    name = f"CPU, {threads} thread{'s' if threads > 1 else ''} a rank"
    return Device(name, available, {**rates, "fp16": None}, memory_rate, None, None, is_gpu=False)


def process_bytes(*, on_gpu: bool) -> int:
    """Bytes that a rank holds on its device before the model is there.

    On a CPU, those of this process: the libraries that training imports, and the data as far as the caller has opened
    it. On a GPU, assumed.
    """
    if on_gpu:
        return CUDA_CONTEXT_BYTES
    import harness.engine.zero  # noqa: F401  deepspeed, as the training process holds it

    return psutil.Process().memory_info().rss + WORKING_BYTES


def optimizer_temporaries(training: TrainingConfig) -> float:
    """Bytes per weight that the recipe's optimizer allocates in an update, beyond its state: counted on a small one."""
    weight = nn.Parameter(torch.zeros(_COUNTED, 1))
    optimizer = build_optimizer(nn.ParameterList([weight]), training, on_cpu=False)
    weight.grad = torch.zeros_like(weight)
    for group in optimizer.param_groups:
        group.setdefault(DECAY, 0.5)
    optimizer.step()
    state = [value for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor)]
    with LiveBytes([weight, weight.grad, *state]) as live:
        optimizer.step()
    return live.peak / _COUNTED


def _copy_rate() -> float:
    """Bytes per second that a copy reads and writes."""
    source = torch.zeros(_COPIED, dtype=torch.uint8)
    target = torch.zeros_like(source)
    return 2 * _COPIED / least_seconds(lambda: target.copy_(source))
