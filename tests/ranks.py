"""Run a function on several ranks: processes of a fork server, one gloo group, results back in rank order."""

from __future__ import annotations

import os
import pickle
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(function: Callable[..., Any], args: tuple[Any, ...], rank: int, world: int, port: int, out: str) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        DS_ACCELERATOR="cpu",
        OMP_NUM_THREADS="1",
        CUDA_VISIBLE_DEVICES="",
    )
    import torch

    torch.set_num_threads(1)
    from harness import comm

    try:
        comm.initialise(timeout_minutes=3)
        result = (True, function(*args))
    except BaseException:
        result = (False, traceback.format_exc())
    Path(out).write_bytes(pickle.dumps(result))
    os._exit(0)  # a failed peer must not keep this rank waiting in a collective at shutdown


def _read(out: str) -> tuple[bool, Any] | None:
    return pickle.loads(Path(out).read_bytes()) if Path(out).exists() else None


def _wait(processes: list[Any], outs: list[str], timeout: float) -> None:
    """Until all ranks are done, one has failed (the others would wait for it in a collective), or time is up."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and any(process.is_alive() for process in processes):
        time.sleep(0.05)
        ended = [out for process, out in zip(processes, outs, strict=True) if not process.is_alive()]
        if any(not (_read(out) or (False,))[0] for out in ended):
            time.sleep(1.0)  # let the others say why, too
            return


def run_ranks(world: int, function: Callable[..., Any], *args: Any, timeout: float = 600.0) -> list[Any]:
    """`function(*args)` on `world` ranks; its value on each. A rank's exception fails the caller with its traceback."""
    context, port = get_context("forkserver"), free_port()
    context.set_forkserver_preload(["tests.preload"])
    with tempfile.TemporaryDirectory() as folder:
        outs = [str(Path(folder) / str(rank)) for rank in range(world)]
        processes = [
            context.Process(target=_run, args=(function, args, rank, world, port, outs[rank])) for rank in range(world)
        ]
        for process in processes:
            process.start()
        _wait(processes, outs, timeout)
        hung = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for process in processes:
            process.kill()
        results = [_read(out) or (False, "no result") for out in outs]
    failures = [f"rank {rank}: {value}" for rank, (good, value) in enumerate(results) if not good]
    assert not failures, "\n".join(failures)
    assert not hung, f"ranks {hung} did not finish in {timeout} s"
    return [value for _, value in results]
