"""Ends a command after an error. A user's mistake gives one line on stderr, from rank 0 only, and exit status 2."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from harness.settings.environment import prepare_environment

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SIGNS_OF_A_FULL_DISK = (
    "No space left on device",
    "StorageFull",
    "Disk quota exceeded",
    "PytorchStreamWriter failed writing",  # torch.save has lost the reason when it raises this or the next one
    ". unexpected pos ",
)
_SIGNS_OF_FULL_MEMORY = ("out of memory", "can't allocate memory", "Unable to allocate", "CUBLAS_STATUS_ALLOC_FAILED")
_WRONG_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
OTHER_RANKS_WAIT_SECONDS = 10.0  # launchers need about a second to notice that rank 0 has ended


@contextmanager
def mistakes_in_one_line(verbose: bool) -> Iterator[None]:
    """Prepare the environment; a ValueError, a full disk or full memory gives one line on stderr and exit status 2.

    Commands import torch and similar libraries inside this context, because they read the environment at import.
    """
    try:
        prepare_environment(verbose)
        yield
    except ValueError as error:
        message = str(error)
        if os.environ.get("HARNESS_DEBUG", "0") not in ("", "0"):
            message = "".join(traceback.format_exception(error)).rstrip()
        elif not _raised_by_this_project(error):
            message += "\nThis was raised inside a library; HARNESS_DEBUG=1 shows where."
        _complain(message)
        _leave(2)
    except Exception as error:
        line = _about_the_disk(error) or _about_memory(error)
        if line is not None and os.environ.get("HARNESS_DEBUG", "0") in ("", "0"):
            _complain(line)
            _leave(2)
        if _is_alone():
            raise
        traceback.print_exc()  # exit at once: the process group's teardown can hang while it has other ranks
        os._exit(1)
    except KeyboardInterrupt:
        _leave(130)


def run(app: typer.Typer) -> NoReturn:
    """Run the command that the command line names, and exit with its status."""
    if _rank() == 0:
        app()
    try:
        sys.exit(app(standalone_mode=False))
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a mistake on the command line
            raise
        _complain(error.format_message())
        sys.exit(2)


def _about_the_disk(error: Exception) -> str | None:
    """One line for an error that a file or a disk causes, with the way out; None for any other error.

    Libraries written in Rust or C++ (safetensors, torch) tell of a full disk in errors of their own.
    """
    text = " ".join(str(error).split())
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL or any(sign in text for sign in _SIGNS_OF_A_FULL_DISK):
        return f"{_place_of(error)}: got a full disk ({text[:200]}), expected room to write; free some and start again"
    if number in _WRONG_PLACE:
        return (
            f"{_place_of(error)}: got {os.strerror(number or 0)}, expected a file or folder that can be opened here; "
            "correct its place or its permissions (HARNESS_DEBUG=1 shows where it is opened)"
        )
    return None


def _about_memory(error: Exception) -> str | None:
    """One line for memory that is full, of a GPU or of the host, with the way out; None for any other error."""
    text = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and not any(sign in text for sign in _SIGNS_OF_FULL_MEMORY):
        return None
    return (
        f"out of memory: got {text[:160] or type(error).__name__}, expected room for one micro-batch and what a step "
        "keeps; lower training.micro_batch_tokens, training.activation_memory or the tasks' quotas (a command without "
        "a recipe: --max-length), or take more ranks; harness plan says what a step needs"
    )


def _place_of(error: Exception) -> str:
    names = (getattr(error, "filename2", None), getattr(error, "filename", None))
    return str(next((name for name in names if name), "a file of this command"))


def _raised_by_this_project(error: ValueError) -> bool:
    """Whether this project's own code raised the error, not a library."""
    frames = traceback.extract_tb(error.__traceback__)
    harness = Path(__file__).parent.parent
    own_folders = (f"{harness}{os.sep}", f"{os.sep}fused_contrastive{os.sep}")
    return any(folder in frames[-1].filename for folder in own_folders)


def _complain(message: str) -> None:
    """Print to stderr. Other ranks than 0 wait first, so they print only if rank 0 has not ended the job."""
    if _rank() != 0:
        time.sleep(OTHER_RANKS_WAIT_SECONDS)
        message = "\n".join(f"rank {_rank()}: {line}" for line in message.splitlines())
    print(message, file=sys.stderr, flush=True)


def _leave(status: int) -> NoReturn:
    """End the process with this exit status."""
    if not _is_alone():
        # The process group's teardown can hang or abort while it has other ranks, and so hide the exit status.
        sys.stdout.flush()
        os._exit(status)
    raise typer.Exit(status)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _is_alone() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) == 1
