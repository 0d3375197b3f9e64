"""What surrounds a piece of work in a process that goes on afterwards: a notebook, a test, a user's own script.

Afterwards nothing of it is left: no process group, no environment variables, no filters of warnings and loggers, and
the random numbers of torch go on where they were. So the next training of the process starts as the first did.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from harness.settings.environment import prepared_environment

_only_one = Lock()  # the process group, the environment and the generators are the process's, not a thread's


@contextmanager
def session(verbose: bool = False) -> Iterator[None]:
    """Prepare the environment as the commands do; undo it at the end, also after an error.

    Import what is heavy inside. Of several ranks, one that fails does not wait for the others to leave the group.

    Raises:
        ValueError: another session of this process is open, or the process has formed a group of its own.
    """
    with _alone(), prepared_environment(verbose):
        from harness import comm
        from harness.model_folder.find import forget_models
        from harness.waits import waits

        if comm.has_joined():  # it would be used, and destroyed at the end
            raise ValueError(
                "torch.distributed: got a process group that this process has formed already, expected none, because "
                "harness forms its own and leaves it at the end; call torch.distributed.destroy_process_group() "
                "first, or train with ranks=N in processes of their own"
            )
        waits.starts_again()
        forget_models()
        with _own_random_numbers():
            try:
                yield
            finally:
                _leave()


@contextmanager
def _alone() -> Iterator[None]:
    """What a second session puts away at its end would be missing in the first."""
    if not _only_one.acquire(blocking=False):
        raise ValueError(
            "harness: got a call of train, evaluate or mine while another one runs in this process (in a thread, or "
            "around a callback), expected one after the other; a run scores data by evaluation.data, and train with "
            "ranks=1 takes a process of its own"
        )
    try:
        yield
    finally:
        _only_one.release()


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        yield


def _leave() -> None:
    import torch

    from harness import comm

    comm.shutdown()
    gc.collect()  # an engine and its hooks refer to each other
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
