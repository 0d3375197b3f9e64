"""Run a function on several ranks, or a command of the harness, in processes of a fork server that has all imported.

Ranks form one gloo group and give their results back in rank order.
"""

from __future__ import annotations

import itertools
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

FIRST_PORT, NUM_PORTS = 10_000, 20_000  # below those that Linux gives out, so that no connection takes one meanwhile
_next_port = itertools.count(os.getpid() * 331)  # pytest's workers begin far apart


def free_port() -> int:
    """A port on which nothing listens, another one at each call."""
    for number in _next_port:
        port = FIRST_PORT + number % NUM_PORTS
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("the count does not end")


def _fork_server() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.preload"])
    return context


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
        comm.initialise(timeout_minutes=8)  # below run_ranks' own, so that a rank that waits says where
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
    context, port = _fork_server(), free_port()
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


def leave_out_report() -> None:
    """For a rank that trains, where no test looks at the report: its figures take longer than all the steps."""
    from harness.report import page

    page.write_report = lambda *_: None  # type: ignore[assignment]


def _command(arguments: tuple[str, ...], stdout: str, stderr: str) -> None:
    for file, descriptor in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    from harness.__main__ import main

    sys.argv = ["harness", *arguments]
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_command(*arguments: str, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
    """What `python -m harness ARGUMENTS` does, without the seconds of its imports.

    Where a test looks at what a fresh process prints while it imports, it must start one.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _fork_server().Process(target=_command, args=(arguments, *map(str, outputs)))
        process.start()
        process.join(timeout)
        process.kill()
        process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(arguments, process.exitcode, *(path.read_text() for path in outputs))
