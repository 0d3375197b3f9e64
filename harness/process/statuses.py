"""Exit statuses of every command and of launch.sh. docs/runs.md has them as a table for users.

A status above 128 says which signal ended a process: 128 + its number, as a shell counts.
"""

from __future__ import annotations

import signal
from collections.abc import Collection

DONE = 0
UNEXPECTED = 1  # an error that is no mistake of the user; its traceback is shown
MISTAKE = 2  # what was given cannot be used, or the folder is in use: one line says why
CONTINUE = 75  # stopped by a signal with everything saved: the same command continues (EX_TEMPFAIL of sysexits.h)
INTERRUPTED = 128 + signal.SIGINT


def of_signal(number: int) -> int:
    """The status of a process that this signal has ended."""
    return 128 + number


def of_process(returncode: int) -> int:
    """The status of a process from Python's return code, which is negative after a signal."""
    return of_signal(-returncode) if returncode < 0 else returncode


def is_signal(status: int) -> bool:
    """Whether a process was ended by a signal that nobody handled (Ctrl-C is handled)."""
    return status > 128 and status != INTERRUPTED


def of_ranks(statuses: Collection[int]) -> int:
    """The status of a job: the one that explains best why it ended. The launcher ends other ranks after the first."""
    for is_cause in (is_signal, MISTAKE.__eq__, UNEXPECTED.__eq__, INTERRUPTED.__eq__, CONTINUE.__eq__):
        found = [status for status in statuses if is_cause(status)]
        if found:
            return found[0]
    return max(statuses, default=DONE)


def worth_a_restart(status: int) -> bool:
    """Whether the same command may go further: after a stop or a crash, not after a mistake or Ctrl-C."""
    return status not in (DONE, MISTAKE, INTERRUPTED)
