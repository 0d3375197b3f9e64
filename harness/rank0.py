"""Rank 0 works while the other ranks wait: they hear every second that it is alive, and get its value or its error.

What it leaves on disk is whole or not there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from harness import comm
from harness.files import sync

WORD_SECONDS = 1.0  # from one word of rank 0 that it is still at work to the next
SEEN_SECONDS = 60.0  # until a host sees what another has written to a shared folder, at most
Value = TypeVar("Value")


def by_main(work: Callable[[], Value]) -> Value:
    """What `work()` returns on rank 0, on every rank; it may take hours. Every rank calls it. `work`: no collectives.

    One collective after it would give up at its time limit, so the others hear every second that rank 0 is at work.

    Raises:
        ValueError: on the other ranks, with the words of whatever rank 0 raises.
    """
    if comm.world_size() == 1:
        return work()
    future: Future[Value] = Future()
    if comm.is_main():
        Thread(target=_fulfil, args=(future, work), daemon=True).start()
    while True:
        has_ended, value, problem = comm.broadcast_object(_word(future) if comm.is_main() else None)
        if problem is not None and not comm.is_main():
            raise ValueError(problem)
        if has_ended:
            return future.result() if comm.is_main() else value


def _fulfil(future: Future[Value], work: Callable[[], Value]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _word(future: Future[Any]) -> tuple[bool, Any, str | None]:
    """(whether the work has ended, its value, its problem), after a while."""
    wait([future], WORD_SECONDS)
    if not future.done():
        return False, None, None
    error = future.exception()
    if error is None:
        return True, future.result(), None
    return True, None, str(error) if isinstance(error, ValueError) else f"rank 0: {type(error).__name__}: {error}"


def made_by_main(path: Path, make: Callable[[Path], None]) -> Path:
    """The file or folder `path`, made by `make(aside)` on rank 0 unless an earlier start left it. Every rank calls it.

    Raises:
        ValueError: as `by_main`; a rank does not see what was made.
    """
    by_main(lambda: _make(path, make))
    deadline = time.monotonic() + SEEN_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise ValueError(f"--out: rank {comm.rank()} does not see {path}, expected a folder that all hosts share")
        time.sleep(0.05)
    return path


def _make(path: Path, make: Callable[[Path], None]) -> None:
    if path.exists():
        return
    aside = path.with_name(f".{path.name}")
    shutil.rmtree(aside, ignore_errors=True)  # of a start that was killed
    path.parent.mkdir(parents=True, exist_ok=True)
    make(aside)
    for part in (*aside.iterdir(), aside) if aside.is_dir() else (aside,):
        sync(part)
    os.replace(aside, path)
    sync(path.parent)
