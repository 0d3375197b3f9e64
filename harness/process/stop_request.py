"""SIGTERM and SIGUSR1 ask a command to stop: it saves what it can and ends with the status `CONTINUE`.

Slurm sends SIGTERM before it ends a job, and SIGUSR1 before the time limit if `--signal` asks for it. SIGUSR2 ends a
command at once, as Ctrl-C does; launch.sh sends it, because launchers die of SIGINT with a traceback.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_FILE = ".stop"  # in a run folder: asks its run to stop, from any host that sees the folder
_SECONDS_TO_LEAVE = 5.0  # an exception that a library has swallowed is raised again by a signal after this


class StopAskedError(BaseException):
    """A signal has asked this process to stop. Like KeyboardInterrupt it is no Exception, so that nothing swallows it.

    what_is_saved: where the state is, in words; None if there was nothing to save.
    """

    def __init__(self, signal_name: str, what_is_saved: str | None = None) -> None:
        super().__init__(signal_name)
        self.signal_name, self.what_is_saved = signal_name, what_is_saved


class _State:
    signal_name: str | None = None
    is_deferred = False
    raised_at = float("-inf")


def listen() -> None:
    """From now on a signal raises StopAskedError in the main thread, except while `deferred`. Main thread only."""
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGUSR1, _on_signal)
    signal.signal(signal.SIGUSR2, _interrupt)


def _on_signal(number: int, frame: FrameType | None) -> None:
    _State.signal_name = signal.Signals(number).name
    # Launchers and users often send a signal twice; the second must not disturb what the first has started.
    if not _State.is_deferred and time.monotonic() - _State.raised_at > _SECONDS_TO_LEAVE:
        _State.raised_at = time.monotonic()
        raise StopAskedError(_State.signal_name)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def asked() -> str | None:
    """The name of the signal that has asked this process to stop; None: no signal has."""
    return _State.signal_name


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal is only noted: the code asks for it with `asked()`, at moments when it can stop."""
    _State.is_deferred = True
    try:
        yield
    finally:
        _State.is_deferred = False
