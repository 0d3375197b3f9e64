"""Runs a function on several ranks, each a new process with one thread, and measures what each rank takes."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any


@dataclass
class Cost:
    """seconds: wall time. cpu_seconds: of the process. peak_bytes: the process's largest resident memory so far."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


@contextmanager
def measured() -> Iterator[Cost]:
    """What the block of code takes, in this process."""
    cost, start, cpu = Cost(), time.perf_counter(), time.process_time()
    yield cost
    cost.seconds, cost.cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    cost.peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def on_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`function(*arguments)` on `world` gloo ranks of this machine; the value of each rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ProcessPoolExecutor(max_workers=world, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_on_rank, rank, world, port, function, arguments) for rank in range(world)]
        return [future.result() for future in futures]


def _on_rank(rank: int, world: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()} | {"OMP_NUM_THREADS": "1"})
    import torch

    torch.set_num_threads(1)
    from harness import comm

    comm.initialise(timeout_minutes=5)
    value = function(*arguments)
    comm.shutdown()
    return value
