"""Run a measurement in a new process, so that it shares no memory, threads or imports with other measurements."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

Value = TypeVar("Value")

_running: set[subprocess.Popen[str]] = set()  # commands that this process has started and that have not ended
_stopping = threading.Event()


class StoppedError(Exception):
    """SIGTERM has asked this process to end. What was started has been told so, and continues at the next start."""


def in_own_process(function: Callable[..., Value], *arguments: Any) -> Value:
    """Call `function(*arguments)` in a new Python process and return its value. Its exception is raised again here."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def stops_its_commands() -> Iterator[None]:
    """In this block SIGTERM is handed on to every running command, and none is started after it.

    A training saves its state and ends with status 75 then. Only the main thread may enter the block.
    """

    def stop(*_: object) -> None:
        _stopping.set()
        for child in list(_running):
            child.terminate()
        if not _running:  # else the thread that waits for a command raises it
            raise StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _stopping.clear()


def harness(*arguments: Any, quiet: bool = False) -> None:
    """Run `python -m harness` with these arguments in a new process, which prints to this process's stdout and stderr.

    quiet: show the command's output only if the command fails.

    Raises:
        subprocess.CalledProcessError: the command failed.
        StoppedError: SIGTERM has ended it.
    """
    run_module("harness", *arguments, quiet=quiet)


def run_module(module: str, *arguments: Any, quiet: bool = False) -> None:
    """Run `python -m MODULE` with these arguments. Like `harness` in everything else."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        run_command(command, quiet)
    except subprocess.CalledProcessError as error:
        if quiet:
            print(error.stdout, error.stderr, sep="\n", file=sys.stderr)
        raise


def run_command(command: list[str], quiet: bool) -> None:
    """Run a command to its end; raises as `harness` does."""
    if _stopping.is_set():
        raise StoppedError
    pipe = subprocess.PIPE if quiet else None
    environment = {**os.environ, "COLUMNS": "120"}
    child = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
    _running.add(child)
    if _stopping.is_set():  # the signal came before the command was in the list
        child.terminate()
    try:
        output, errors = child.communicate()
    finally:
        _running.discard(child)
    if child.returncode:
        if _stopping.is_set():
            raise StoppedError
        raise subprocess.CalledProcessError(child.returncode, command, output, errors)
