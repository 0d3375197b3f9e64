"""Processes of their own: what is measured shares memory, threads and imports with nothing else."""

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
    """The function's value, computed by a new interpreter; its exception is raised here."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def harness(*arguments: Any, quiet: bool = False) -> None:
    """Run a command of the harness in a new process; its output goes where this process's output goes.

    quiet: what the command prints is shown only if it fails.

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
