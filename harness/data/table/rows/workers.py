"""Reads the parts of files in several processes; the results come in the order of the parts.

A worker is a fresh process, not a fork (the ranks have threads), that loads this module and what it needs, without
torch (half a second). It reads requests from its standard input and ends when that ends, so that none outlives the
process that started it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO, Any, TypeVar

from harness.data.table.rows.pieces import Findings, PartRequest, Piece

MOST_WORKERS = 8  # the process that writes keeps up with about so many
IN_THIS_PROCESS = 2  # parts that are read here first: small sources start no process
_START = "import sys; sys.path[:] = {path!r}; from harness.data.table.rows.workers import serve; serve()"
Result = tuple[list[Piece], Findings]
Value = TypeVar("Value")


def num_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_parts(requests: Iterable[PartRequest], num_workers: int | None = None) -> Iterator[Result]:
    """The result of every request, in their order. If one fails, the results before it come first.

    num_workers: processes; default: one for each core, at most 8. With one, everything is read in this process.

    Raises:
        ValueError: of the first request that fails, or of `requests` itself; or a worker was killed.
    """
    num_workers = min(num_cores(), MOST_WORKERS) if num_workers is None else num_workers
    iterator = iter(requests)
    for _ in range(IN_THIS_PROCESS if num_workers > 1 else sys.maxsize):
        request = next(iterator, None)
        if request is None:
            return
        yield request.read()
    with _Workers(num_workers) as workers:
        yield from _in_order(workers.read, iterator, num_workers + 2)


def _in_order(
    submit: Callable[[PartRequest], Future[Result]], requests: Iterator[PartRequest], most_waiting: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    problem: Exception | None = None
    while True:
        while problem is None and len(waiting) < most_waiting:
            try:
                waiting.append(submit(next(requests)))
            except StopIteration:
                break
            except ValueError as error:  # of the file; the parts before may hold an earlier mistake
                problem = error
        if not waiting:
            break
        yield waiting.popleft().result()
    if problem is not None:
        raise problem


class _Workers:
    """Processes that read parts; each is driven by a thread of this process, which waits and holds no lock."""

    def __init__(self, count: int) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count, "read")
        self._count = count

    def __enter__(self) -> _Workers:
        command = [sys.executable, "-c", _START.format(path=sys.path)]
        for _ in range(self._count):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._processes.append(process)
            self._idle.put(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.communicate()

    def read(self, request: PartRequest) -> Future[Result]:
        return self._threads.submit(self._ask, request)

    def _ask(self, request: PartRequest) -> Result:
        process = self._idle.get()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            _send(process.stdin, request)
            value = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            status = process.wait(10)
            part = request.part
            raise ValueError(
                f"{part.path}:{part.first}: got a reading process that ended (status {status}), expected it to read up "
                f"to {part.stop - 1}; if memory ran out, give it more, or start again"
            ) from error
        finally:
            self._idle.put(process)
        if isinstance(value, Exception):
            raise value
        return value


def serve() -> None:
    """A worker: read requests from standard input and write their results to standard output, until either ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it is interrupted, too, and ends it
    requests, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the results
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        try:
            value: Any = request.read()
        except Exception as error:
            value = error
        try:
            _send(results, value)
        except BrokenPipeError:  # the process that started it was killed
            os._exit(0)  # without an attempt to write the rest


def _send(stream: IO[bytes], value: Any) -> None:
    pickle.dump(value, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()
