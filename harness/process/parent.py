"""Ends a process with its parent: at once where Linux can (PR_SET_PDEATHSIG), otherwise by looking at the parent.

The deepspeed launcher has two levels, `deepspeed` and `deepspeed.launcher.launch`, and the second does not notice that
the first has gone. So a rank watches the parent of that parent, too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass

import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SECOND_LEVEL = "deepspeed.launcher.launch"


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this signal to this process as soon as its parent ends. Does nothing but on Linux."""
    _prctl(_PR_SET_PDEATHSIG, int(number))


def adopt_orphans() -> None:
    """Make this process the parent of those whose own parent ends, below it. Does nothing but on Linux."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Launcher:
    """The processes that this process must not outlive. above: the parent's parent, for deepspeed's second level."""

    pid: int
    above: int | None

    @classmethod
    def of_this_process(cls) -> Launcher:
        """Whoever has started this process."""
        pid = os.getppid()
        try:
            parent = psutil.Process(pid)
            is_second_level = any(_SECOND_LEVEL in word.replace("/", ".") for word in parent.cmdline())
            return cls(pid, parent.ppid() if is_second_level else None)
        except psutil.Error:
            return cls(pid, None)

    def lost(self) -> int | None:
        """The process id of the launcher that has ended; None while all live."""
        if os.getppid() != self.pid:
            return self.pid
        if self.above is None:
            return None
        try:
            return self.above if psutil.Process(self.pid).ppid() != self.above else None
        except psutil.Error:
            return self.pid
