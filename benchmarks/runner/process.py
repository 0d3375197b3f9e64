"""Run a measurement in a new process, so that it shares no memory, threads or imports with other measurements."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

Value = TypeVar("Value")


def in_own_process(function: Callable[..., Value], *arguments: Any) -> Value:
    """Call `function(*arguments)` in a new Python process and return its value. Its exception is raised again here."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def harness(*arguments: Any, quiet: bool = False) -> None:
    """Run `python -m harness` with these arguments in a new process, which prints to this process's stdout and stderr.

    quiet: show the command's output only if the command fails.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "120"}
    try:
        subprocess.run(command, env=environment, capture_output=quiet, text=True, check=True)
    except subprocess.CalledProcessError as error:
        if quiet:
            print(error.stdout, error.stderr, sep="\n", file=sys.stderr)
        raise
