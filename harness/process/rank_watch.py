"""A watcher per rank: says how the rank ended, and ends it when its launcher has ended.

Only the parent of a process learns which signal ended it, and launchers do not say it. So a rank starts its work in a
child of its own before anything heavy is loaded. This process, which stays small, hands on signals, waits for the child
and says, for example, `rank 1 (host b) ended with signal 9`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import psutil

from harness.process import statuses
from harness.process.parent import Launcher, end_with_parent

STATUS_FOLDER = "HARNESS_STATUS_FOLDER"  # launch.sh names a folder there, in which each rank's status is left
_RUNS, _ENDED = "runs", "ended"
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_BE_ASKED = 1.0
_SECONDS_TO_SAVE = 600.0  # that a rank without a launcher has after it was asked to stop
_HANDED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
_BY_HAND = (signal.SIGINT, signal.SIGHUP)  # nohup and a shell's background jobs ignore these, and so does a rank then
_WHY = {
    signal.SIGKILL: "often because memory ran out (see the kernel's log), or somebody ended it",
    signal.SIGBUS: "often a full disk or a damaged file below a memory-mapped array",
    signal.SIGSEGV: "a fault in a library; HARNESS_DEBUG=1 with PYTHONFAULTHANDLER=1 shows where",
}


def start() -> None:
    """Under a launcher, on Linux: return in a child process, which is the rank from now on. Elsewhere: return."""
    if "RANK" not in os.environ or sys.platform != "linux":
        return
    handed_on = [number for number in _HANDED_ON if _is_heard(number)]
    signal.pthread_sigmask(signal.SIG_BLOCK, [*handed_on, signal.SIGCHLD])
    launcher, watcher = Launcher.of_this_process(), os.getpid()
    _leave_status(None)
    child = os.fork()
    if child == 0:
        end_with_parent()
        if os.getppid() != watcher:  # it ended before the line above
            os._exit(statuses.of_signal(signal.SIGKILL))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [*handed_on, signal.SIGCHLD])
        return
    _watch(child, launcher, handed_on)


def _is_heard(number: signal.Signals) -> bool:
    return number not in _BY_HAND or signal.getsignal(number) is not signal.SIG_IGN


def _watch(child: int, launcher: Launcher, handed_on: list[signal.Signals]) -> NoReturn:
    """Wait for the child and end with its status."""
    end_with_parent(signal.SIGCHLD)  # wakes the wait below
    asked_at, seen_launcher_at = float("-inf"), time.monotonic()
    while True:
        received = signal.sigtimedwait([*handed_on, signal.SIGCHLD], _SECONDS_BETWEEN_LOOKS)
        pid, wait_status = os.waitpid(child, os.WNOHANG)
        if pid == child:
            _leave(os.waitstatus_to_exitcode(wait_status))
        if received is not None and received.si_signo != signal.SIGCHLD:
            os.kill(child, received.si_signo)
            if received.si_signo in (signal.SIGTERM, signal.SIGUSR1):
                asked_at = time.monotonic()
        lost, now = launcher.lost(), time.monotonic()
        if lost is None:
            seen_launcher_at = now
        # Schedulers send SIGTERM to all processes of a job: launchers die of it while the ranks still save.
        elif now - seen_launcher_at > _SECONDS_TO_BE_ASKED and now - asked_at > _SECONDS_TO_SAVE:
            _end_without_launcher(child, lost)


def _leave(returncode: int) -> NoReturn:
    status = statuses.of_process(returncode)
    if returncode < 0:
        number = signal.Signals(-returncode)
        reason = f": {_WHY[number]}" if number in _WHY else ""
        print(f"{name()} ended with signal {int(number)} ({number.name}){reason}", file=sys.stderr, flush=True)
    _leave_status(status)
    os._exit(status)


def _end_without_launcher(child: int, lost: int) -> NoReturn:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if os.environ.get("LOCAL_RANK", "0") == "0":  # one rank speaks for its host
        line = f"the launcher (process {lost} of host {socket.gethostname()}) has ended, so its ranks end, too"
        print(line, file=sys.stderr, flush=True)
    status = statuses.of_signal(signal.SIGKILL)
    _leave_status(status)
    os._exit(status)


def name() -> str:
    """This rank and its host, as messages call it."""
    return f"rank {os.environ.get('RANK', '0')} (host {socket.gethostname()})"


def _leave_status(status: int | None) -> None:
    """Write this rank's status for launch.sh; None: it runs, and this process hears signals for it."""
    folder = os.environ.get(STATUS_FOLDER)
    if not folder or not Path(folder).is_dir():
        return
    file = Path(folder) / os.environ["RANK"]
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(f"{_RUNS} {os.getpid()}" if status is None else f"{_ENDED} {status}")
    unfinished.replace(file)


def _read(folder: Path) -> Iterator[tuple[str, int]]:
    """(whether it runs or has ended, process id or status) of every rank that has started on this host."""
    for file in sorted(folder.iterdir()):
        if not file.suffix:
            state, number = file.read_text().split()
            yield state, int(number)


def running_watchers(folder: Path) -> list[int]:
    """The process ids of the watchers of this host's ranks that run."""
    return [number for state, number in _read(folder) if state == _RUNS and psutil.pid_exists(number)]


def read_statuses(folder: Path) -> list[int]:
    """The statuses of this host's ranks. A rank that has left none was ended together with its watcher: SIGKILL."""
    killed = statuses.of_signal(signal.SIGKILL)
    return [number if state == _ENDED else killed for state, number in _read(folder)]


def has_lost_peer() -> bool:
    """Whether a signal has ended another rank of this host, which its watcher has said."""
    folder = os.environ.get(STATUS_FOLDER)
    if not folder or not Path(folder).is_dir():
        return False
    return any(state == _ENDED and statuses.is_signal(number) for state, number in _read(Path(folder)))
