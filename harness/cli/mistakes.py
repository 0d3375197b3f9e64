"""What happens when a command fails: a user's mistake ends in one line on stderr and exit status 2, on rank 0 only."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from harness.cli.environment import prepare_environment

OTHER_RANKS_WAIT_SECONDS = 10.0  # launchers need about a second to notice that rank 0 has ended


@contextmanager
def mistakes_in_one_line(verbose: bool) -> Iterator[None]:
    """Make the environment ready, and turn a user's mistake into its message and exit status 2.

    A command imports torch and the like inside this context: they read the environment when they are imported.
    """
    prepare_environment(verbose)
    try:
        yield
    except ValueError as error:
        message = str(error)
        if os.environ.get("HARNESS_DEBUG", "0") not in ("", "0"):
            message = "".join(traceback.format_exception(error)).rstrip()
        elif not _raised_by_this_project(error):
            message += "\nThis was raised inside a library; HARNESS_DEBUG=1 shows where."
        _complain(message)
        _leave(2)
    except KeyboardInterrupt:
        _leave(130)
    except Exception:
        if _is_alone():
            raise
        traceback.print_exc()  # leaving at once: a process group with ranks still in it can hang at teardown
        os._exit(1)


def run(app: typer.Typer) -> NoReturn:
    """Run the command that the command line names, and leave with its exit status."""
    if _rank() == 0:
        app()
    try:
        sys.exit(app(standalone_mode=False))
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a mistake on the command line
            raise
        _complain(error.format_message())
        sys.exit(2)


def _raised_by_this_project(error: ValueError) -> bool:
    """Whether this project's own code raised the error, not a library that it calls."""
    frames = traceback.extract_tb(error.__traceback__)
    harness = Path(__file__).parent.parent
    ours = (f"{harness}{os.sep}", f"{os.sep}fused_contrastive{os.sep}")
    return any(part in frames[-1].filename for part in ours)


def _complain(message: str) -> None:
    """Print to stderr: rank 0 at once; another rank waits, and so speaks only if rank 0 has not ended the job."""
    if _rank() != 0:
        time.sleep(OTHER_RANKS_WAIT_SECONDS)
        message = "\n".join(f"rank {_rank()}: {line}" for line in message.splitlines())
    print(message, file=sys.stderr, flush=True)


def _leave(status: int) -> NoReturn:
    """End the process with this exit status."""
    if not _is_alone():
        # A process group with ranks still in it can hang or abort at teardown and hide the status.
        sys.stdout.flush()
        os._exit(status)
    raise typer.Exit(status)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _is_alone() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) == 1
