"""A rank's end is said as it was, and a rank ends with its launcher. The ranks here are small scripts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.process.rank_watch import STATUS_FOLDER, has_lost_peer, read_statuses

RANK = """
import os, sys, time
from harness.process import rank_watch
rank_watch.start()
print(os.getpid(), flush=True)
{work}
"""
# As a training works. Python runs a handler between two instructions: a long sleep that begins in the moment in which
# the signal comes is not ended by it.
WORKS = "[time.sleep(0.05) for _ in range(1200)]"
HOST = socket.gethostname()


def start_rank(folder: Path, work: str, rank: int = 1) -> tuple[subprocess.Popen[str], int]:
    """A rank under its watcher, and the process id of the rank itself."""
    environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    environment[STATUS_FOLDER] = str(folder)
    command = [sys.executable, "-c", RANK.format(work=work)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_a_rank_that_a_signal_ends_is_named_with_host_and_signal(tmp_path: Path) -> None:
    watcher, rank = start_rank(tmp_path, "time.sleep(60)")
    os.kill(rank, signal.SIGKILL)
    stderr = watcher.communicate(timeout=10)[1]
    assert watcher.returncode == 137
    assert stderr.startswith(f"rank 1 (host {HOST}) ended with signal 9 (SIGKILL): often because memory ran out")
    assert stderr.count("\n") == 1
    assert read_statuses(tmp_path) == [137]


@pytest.mark.parametrize("status", [0, 2, 75])
def test_a_status_is_handed_on_without_a_word(tmp_path: Path, status: int) -> None:
    watcher, _ = start_rank(tmp_path, f"sys.exit({status})")
    assert watcher.communicate(timeout=10)[1] == ""
    assert watcher.returncode == status
    assert read_statuses(tmp_path) == [status]


def test_signals_reach_the_rank(tmp_path: Path) -> None:
    work = f"import signal; signal.signal(signal.SIGUSR1, lambda *_: os._exit(75)); print('', flush=True); {WORKS}"
    watcher, _ = start_rank(tmp_path, work)
    assert watcher.stdout is not None
    watcher.stdout.readline()
    watcher.send_signal(signal.SIGUSR1)
    assert watcher.wait(timeout=10) == 75


def test_a_rank_ends_with_its_watcher_and_counts_as_killed(tmp_path: Path) -> None:
    watcher, rank = start_rank(tmp_path, "time.sleep(60)")
    watcher.kill()
    assert gone_within(rank, 5)
    watcher.wait()
    assert read_statuses(tmp_path) == [137]


LAUNCHER = """
import subprocess, sys, time
rank = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(rank.pid, flush=True)
time.sleep(60)
"""


def test_a_rank_ends_with_its_launcher_and_says_so_once(tmp_path: Path) -> None:
    script = RANK.format(work="time.sleep(60)")
    environment = {**os.environ, "RANK": "0", "LOCAL_RANK": "0", STATUS_FOLDER: str(tmp_path)}
    command = [sys.executable, "-c", LAUNCHER, script]
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    watcher, rank = int(launcher.stdout.readline()), int(launcher.stdout.readline())
    launcher.kill()
    assert gone_within(watcher, 5)
    assert gone_within(rank, 1)
    said = launcher.communicate(timeout=10)[1]
    assert said == f"the launcher (process {launcher.pid} of host {HOST}) has ended, so its ranks end, too\n"
    assert read_statuses(tmp_path) == [137]


def test_a_rank_that_was_asked_to_stop_saves_though_its_launcher_has_ended(tmp_path: Path) -> None:
    """A scheduler's SIGTERM goes to all processes of a job, and launchers die of it."""
    stop = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(3), os._exit(75)))"
    script = RANK.format(work=f"import signal; {stop}; print('', flush=True); {WORKS}")
    environment = {**os.environ, "RANK": "0", "LOCAL_RANK": "0", STATUS_FOLDER: str(tmp_path)}
    command = [sys.executable, "-c", LAUNCHER, script]
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    watcher, _, _ = int(launcher.stdout.readline()), launcher.stdout.readline(), launcher.stdout.readline()
    for pid in (watcher, launcher.pid):
        os.kill(pid, signal.SIGTERM)
    launcher.wait()
    assert gone_within(watcher, 8)
    assert read_statuses(tmp_path) == [75]


def test_a_lost_rank_is_known_to_the_other_ranks_of_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATUS_FOLDER, str(tmp_path))
    (tmp_path / "0").write_text("runs 17")
    (tmp_path / "1").write_text("ended 75")
    assert not has_lost_peer()
    (tmp_path / "2").write_text("ended 137")
    assert has_lost_peer()
