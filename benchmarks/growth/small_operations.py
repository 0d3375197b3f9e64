"""The small operations of a step on a CPU: dropout masks, and the pages that the allocator maps anew.

Both compare with what torch and the C library do by themselves, taking turns in one run.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

from benchmarks.growth.row import Row

SHAPE = (8, 12, 128, 128)  # attention weights of 1,024 tokens in texts of 128, 12 heads
RATE = 0.1
CALLS = 10  # in a row
_MICRO_BATCHES = """
import json, resource, sys, time
from harness.settings.environment import prepare_environment
prepare_environment()
import torch
torch.set_num_threads(1)
width, rounds = int(sys.argv[1]), int(sys.argv[2])
layers = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(width, 4 * width), torch.nn.GELU(),
    torch.nn.Linear(4 * width, width)) for _ in range(6)))
table = torch.nn.Embedding(30522, width)
def run():
    for tokens in (1024, 960, 800, 1000):
        layers(table(torch.arange(tokens))).sum().backward()
run()
before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
for _ in range(rounds):
    run()
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": time.perf_counter() - start,
    "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    "faults": after.ru_minflt - before.ru_minflt, "peak_bytes": after.ru_maxrss * 1024}))
"""


def rows(scale: float = 1.0) -> list[Row]:
    """scale: of the number of repetitions."""
    return [*dropout_rows(max(3, round(7 * scale))), *allocator_rows(max(1, round(3 * scale)))]


def dropout_rows(repetitions: int) -> list[Row]:
    """Dropout of attention weights, forward and backward: torch's, ours, in turns; median of the repetitions."""
    import torch
    from torch.nn.functional import dropout

    from harness.encoder.dropout import CheapDropout
    from harness.settings.allocator import keep_freed_memory

    weights, gradient = torch.rand(SHAPE, requires_grad=True), torch.rand(SHAPE)
    keep_freed_memory()

    def torch_s() -> None:
        for _ in range(CALLS):
            weights.grad = None
            dropout(weights, RATE).backward(gradient)

    def ours() -> None:
        with CheapDropout():
            torch_s()

    times: dict[str, list[tuple[float, float]]] = {"torch's": [], "ours": []}
    for _ in range(repetitions + 1):
        for name, function in (("torch's", torch_s), ("ours", ours)):
            times[name].append(_times(function))
    wall, cpu = ({name: median(t[i] for t in taken[1:]) for name, taken in times.items()} for i in (0, 1))
    size = f"{CALLS} times {weights.numel():,} weights, rate {RATE}"
    goal = "at most half of torch's CPU seconds"
    return [
        Row("dropout, masks of torch", size, wall["torch's"], cpu["torch's"], None, "", None),
        Row("dropout, masks of ours", size, wall["ours"], cpu["ours"], None, goal, cpu["ours"] <= cpu["torch's"] / 2),
    ]


def allocator_rows(rounds: int) -> list[Row]:
    """Micro-batches of a small model in a process of its own, with the system's allocator settings and with ours."""
    found = {setting: _micro_batches(setting, rounds) for setting in ("system", "tuned")}
    system, tuned = found["system"], found["tuned"]
    goal = "at most half of the system's page faults, peak memory within 10 %"
    is_met = tuned["faults"] <= system["faults"] / 2 and tuned["peak_bytes"] <= 1.1 * system["peak_bytes"]
    return [
        Row(
            f"micro-batches, allocator {setting}",
            f"{4 * rounds} of 1,024 tokens, {facts['faults']:,} page faults",
            facts["seconds"],
            facts["cpu_seconds"],
            int(facts["peak_bytes"]),
            goal if setting == "tuned" else "",
            is_met if setting == "tuned" else None,
        )
        for setting, facts in found.items()
    ]


def _micro_batches(setting: str, rounds: int) -> dict[str, float]:
    environment = {**os.environ, "HARNESS_ALLOCATOR": setting, "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-c", _MICRO_BATCHES, "384", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def _times(function: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    function()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu
