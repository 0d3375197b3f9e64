"""One command at a time in a folder: FOLDER/.in_use names the process that writes there, and shows that it lives.

filelock's lease: on the same host a lease ends with its process (process id and start time say whether it lives); on a
shared file system, where another host's process cannot be asked, it ends when no sign of life has come for a minute.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from harness.process.statuses import MISTAKE

IN_USE = ".in_use"
LEASE_SECONDS = 60.0
_SIGN_OF_LIFE_SECONDS = 5.0
_SECONDS_TO_TAKE_OVER = 1.0  # of a lease whose process has ended on this host
_PID_NAMESPACE = "?pidns-"  # filelock adds a container's process namespace to the host's name


class Lease:
    """The right to write to a folder. Take it before anything is written, and end it last."""

    def __init__(self, folder: Path, knob: str, say: Callable[[str], None]) -> None:
        """knob: names the setting or option in messages. say: gets a line if this has to wait."""
        self._folder, self._knob, self._say = folder, knob, say
        # Not bound to a thread: rank 0 takes it in the thread that `rank0.by_main` starts.
        self._lock = SoftFileLease(
            folder / IN_USE,
            lease_duration=LEASE_SECONDS,
            heartbeat_interval=_SIGN_OF_LIFE_SECONDS,
            on_compromise=self._lost,
            thread_local=False,
        )

    def take(self) -> None:
        """Take the lease, at once or, if another host's process may have died, after a minute without a sign of life.

        Raises:
            ValueError: another process uses the folder.
        """
        try:
            self._lock.acquire(timeout=_SECONDS_TO_TAKE_OVER)
            return
        except Timeout:
            pass
        if self._is_of_this_host():
            raise ValueError(self._in_use())
        self._say(f"{self._in_use()}; waiting up to {LEASE_SECONDS:.0f} s for a sign that it lives")
        seen = self._last_sign()
        try:
            self._lock.acquire(timeout=2 * LEASE_SECONDS, cancel_check=lambda: self._last_sign() != seen)
        except Timeout:
            raise ValueError(self._in_use()) from None

    def end(self) -> None:
        """Give the folder free."""
        self._lock.release()

    def _is_of_this_host(self) -> bool:
        owner = self._lock.owner
        return owner is None or owner.hostname == _own_host()

    def _last_sign(self) -> int | None:
        try:
            return os.stat(self._folder / IN_USE).st_mtime_ns
        except OSError:
            return None

    def _in_use(self) -> str:
        owner = self._lock.owner
        who = "another process"
        if owner is not None:
            who = f"host {owner.hostname.partition(_PID_NAMESPACE)[0]}, process {owner.pid}"
        return f"{self._knob}: got {self._folder}, in use by {who}; wait until it ends, or name another folder"

    def _lost(self, compromise: LeaseCompromise) -> None:
        """End this process if another one has taken the folder, as it may if this one stood still for a minute."""
        if compromise.reason == "owner-changed":
            line = f"{self._in_use()}: it took the folder when this process had given no sign of life for a minute"
            print(line, file=sys.stderr, flush=True)
            os._exit(MISTAKE)


def _own_host() -> str | None:
    """This host as filelock names it in a lease."""
    with tempfile.TemporaryDirectory() as folder, SoftFileLease(Path(folder) / IN_USE) as lease:
        return lease.owner.hostname if lease.owner else None
