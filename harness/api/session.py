"""What surrounds a piece of work in a process that goes on afterwards: a notebook, a test, a user's own script.

Afterwards nothing of it is left: no process group, no environment variables, no filters of warnings and loggers, and
the random numbers of torch go on where they were. So the next training of the process starts as the first did.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from harness.settings.environment import prepared_environment


@contextmanager
def session(verbose: bool = False) -> Iterator[None]:
    """Prepare the environment as the commands do; undo it at the end, also after an error.

    Import what is heavy inside. Of several ranks, one that fails does not wait for the others to leave the group.
    """
    with prepared_environment(verbose):
        from harness.waits import waits

        waits.starts_again()
        with _own_random_numbers():
            try:
                yield
            finally:
                _leave()


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
