"""Ends a command after an error. A user's mistake gives one line on stderr, from rank 0 only, and exit status 2."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from harness.hosts.launched import choose_network_interface, take_ranks_of_slurm
from harness.process import rank_watch, statuses, stop_request
from harness.process.own_errors import raised_by_this_project, tracebacks_are_wanted
from harness.process.stop_request import StopAskedError
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
# What gloo, NCCL and torch's store say.
_SIGNS_OF_A_LOST_RANK = (
    "Connection closed by peer", "Connection reset by peer", "Broken pipe", "failed to recv", "ncclRemoteError",
    "remote process exited",
)  # fmt: skip
_WRONG_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
OTHER_RANKS_WAIT_SECONDS = 10.0  # launchers need about a second to notice that rank 0 has ended


@contextmanager
def mistakes_in_one_line(verbose: bool) -> Iterator[None]:
    """Prepare the environment; a ValueError, a full disk or full memory gives one line on stderr and exit status 2.

    Commands import torch and similar libraries inside this context, because they read the environment at import.
    """
    try:
        prepare_environment(verbose)
        network = choose_network_interface()
        if network is not None and _rank() == 0:
            print(network, flush=True)
        yield
    except ValueError as error:
        message = str(error)
        if tracebacks_are_wanted():
            message = "".join(traceback.format_exception(error)).rstrip()
        elif not raised_by_this_project(error):
            message += "\nThis was raised inside a library; HARNESS_DEBUG=1 shows where."
        _complain(message)
        _leave(statuses.MISTAKE)
    except Exception as error:
        line = _about_the_disk(error) or _about_memory(error)
        if line is not None and not tracebacks_are_wanted():
            _complain(line)
            _leave(statuses.MISTAKE)
        if _is_alone():
            raise
        if _tells_of_lost_rank(error):
            _leave_after_lost_rank(error)
        traceback.print_exc()  # exit at once: the process group's teardown can hang while it has other ranks
        os._exit(statuses.UNEXPECTED)
    except KeyboardInterrupt:
        _leave(statuses.INTERRUPTED)


def run(app: typer.Typer) -> NoReturn:
    """Run the command that the command line names, and exit with its status. See `process/statuses.py`."""
    try:
        take_ranks_of_slurm()
    except ValueError as error:
        _complain(str(error))
        sys.exit(statuses.MISTAKE)
    try:
        stop_request.listen()  # before a rank is forked, which would die of a signal until it listens
        rank_watch.start()
        _run(app)
    except StopAskedError as error:
        with stop_request.deferred():
            _leave_as_asked(error)


def _run(app: typer.Typer) -> NoReturn:
    if _rank() == 0:
        app()
    try:
        sys.exit(app(standalone_mode=False))
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a mistake on the command line
            raise
        _complain(error.format_message())
        sys.exit(statuses.MISTAKE)


def _leave_as_asked(error: StopAskedError) -> NoReturn:
    """End after a signal that asked for it. The line says what is saved; without it there was nothing to save."""
    if _rank() == 0 and not rank_watch.has_lost_peer():
        saved = error.what_is_saved or "nothing had to be saved"
        print(f"stopped by {error.signal_name}: {saved}; the same command continues", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(statuses.CONTINUE)


def _tells_of_lost_rank(error: Exception) -> bool:
    """Whether a collective has failed because another rank is gone."""
    is_of_a_pipe = isinstance(error, BrokenPipeError)  # that of `harness ... | head`
    return not is_of_a_pipe and any(sign in str(error) for sign in _SIGNS_OF_A_LOST_RANK)


def _leave_after_lost_rank(error: Exception) -> NoReturn:
    """End without a word while the lost rank's watcher or its launcher speaks; otherwise one rank of a host says so."""
    with stop_request.deferred():
        deadline = time.monotonic() + OTHER_RANKS_WAIT_SECONDS
        while time.monotonic() < deadline and not stop_request.asked() and not rank_watch.has_lost_peer():
            time.sleep(0.1)
        has_been_said = stop_request.asked() or rank_watch.has_lost_peer()
        if not has_been_said and os.environ.get("LOCAL_RANK", "0") == "0":
            text = " ".join(str(error).split())[:200]
            line = f"{rank_watch.name()} has lost another rank, which may have said why ({text})"
            print(line, file=sys.stderr, flush=True)
    os._exit(statuses.UNEXPECTED)


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
