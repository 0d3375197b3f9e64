"""Runs a function on rank 0 while the other ranks wait, or on each rank until the last one is done.

A rank that waits in one collective call fails after the process group's time limit. So the ranks send a message every
second while the function runs, and it may run for hours, on one rank longer than on others.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from harness import comm
from harness.files import create_once

SIGN_OF_LIFE_SECONDS = 1.0  # between two messages in which rank 0 says that it still works
SHARED_FOLDER_SECONDS = 60.0  # the longest delay until a host sees another host's file in a shared folder
Value = TypeVar("Value")


def by_main(work: Callable[[], Value]) -> Value:
    """Run `work()` on rank 0 and return its value on every rank. Every rank calls it.

    work: must not call collectives.

    Raises:
        ValueError: on the other ranks, with the message of rank 0's error. Rank 0 raises the error itself.
    """
    if comm.world_size() == 1:
        return work()
    future: Future[Value] = Future()
    if comm.is_main():
        Thread(target=_run_into, args=(future, work), daemon=True).start()
    while True:
        has_ended, value, problem = comm.broadcast_object(_sign_of_life(future) if comm.is_main() else None)
        if problem is not None and not comm.is_main():
            raise ValueError(problem)
        if has_ended:
            return future.result() if comm.is_main() else value


def by_each(work: Callable[[], Value]) -> list[Value]:
    """Run `work()` on every rank, its own share of a task; every rank gets the values of all ranks, in their order.

    work: must not call collectives. Its value is sent to all ranks, so it should be small.

    Raises:
        ValueError: with the message of the first rank that failed, at once; a rank that failed raises its own error.
    """
    if comm.world_size() == 1:
        return [work()]
    future: Future[Value] = Future()
    Thread(target=_run_into, args=(future, work), daemon=True).start()
    while True:
        signs = comm.gather_objects(_sign_of_life(future))
        problems = [problem for _, _, problem in signs if problem is not None]
        if problems:
            if signs[comm.rank()][2] is not None:
                future.result()  # raises this rank's own error
            raise ValueError(problems[0])
        if all(has_ended for has_ended, _, _ in signs):
            return [value for _, value, _ in signs]


def _run_into(future: Future[Value], work: Callable[[], Value]) -> None:
    """Store what `work()` returns or raises in the future."""
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _sign_of_life(future: Future[Any]) -> tuple[bool, Any, str | None]:
    """(whether the work has ended, its value, its error message). Returns when it has ended or after a second."""
    wait([future], SIGN_OF_LIFE_SECONDS)
    if not future.done():
        return False, None, None
    error = future.exception()
    if error is None:
        return True, future.result(), None
    return True, None, str(error) if isinstance(error, ValueError) else _named(error)


def _named(error: BaseException) -> str:
    return f"rank {comm.rank()}: {type(error).__name__}: {error}"


def made_by_main(path: Path, make: Callable[[Path], None]) -> Path:
    """Rank 0 creates the file or folder `path` unless it exists. Returns `path` when this rank sees it.

    Every rank calls it. make: see `files.create_once`; if rank 0 is killed, `path` is complete or does not exist.

    Raises:
        ValueError: the errors of `by_main`; this rank does not see `path` in time.
    """
    by_main(lambda: create_once(path, make))
    wait_until_visible(path)
    return path


def wait_until_visible(path: Path) -> None:
    """Wait until this rank sees a file or folder that rank 0 has written.

    Raises:
        ValueError: it does not appear within `SHARED_FOLDER_SECONDS`.
    """
    deadline = time.monotonic() + SHARED_FOLDER_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise ValueError(
                f"--out, or output of a recipe: rank {comm.rank()} ({socket.gethostname()}) does not see {path}, "
                "expected a folder that all hosts share"
            )
        time.sleep(0.05)


def see_files_of_all(folder: Path, knob: str) -> None:
    """Wait until rank 0 sees every file below `folder` that another rank has written. Every rank must call it.

    A network file system may show another host's files late. knob: names the setting in the message.

    Raises:
        ValueError: rank 0 does not see one of them in time.
    """
    own = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    written = sorted(set().union(*comm.gather_objects(own)))
    by_main(lambda: _see_all(folder, written, knob))


def _see_all(folder: Path, names: Sequence[str], knob: str) -> None:
    for name in names:
        try:
            wait_until_visible(folder / name)
        except ValueError:
            raise ValueError(
                f"{knob}: rank 0 does not see {name} that another rank wrote {SHARED_FOLDER_SECONDS:.0f} s ago, "
                "expected a folder that all hosts share"
            ) from None
