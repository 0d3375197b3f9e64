"""A folder is used by one process at a time, and what a process that has ended leaves behind blocks nobody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.ownership import lease as lease_module
from harness.ownership.lease import IN_USE, Lease

HOLD = """
import sys, time
from pathlib import Path
from harness.ownership import lease
lease._SIGN_OF_LIFE_SECONDS = 0.3
lease.Lease(Path(sys.argv[1]), "--out", print).take()
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lease of the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_in_use_is_refused_with_host_and_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    said: list[str] = []
    with pytest.raises(ValueError, match=rf"in use by host {socket.gethostname()}, process {holder.pid}; wait until"):
        Lease(tmp_path, "--out", said.append).take()
    assert said == []  # nothing to wait for: the process lives
    assert holder.poll() is None


def test_the_lease_of_a_killed_process_of_this_host_is_taken_at_once(tmp_path: Path, holder) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / IN_USE).exists()
    started = time.monotonic()
    lease = Lease(tmp_path, "--out", print)
    lease.take()
    assert time.monotonic() - started < 2
    lease.end()
    assert not (tmp_path / IN_USE).exists()


def test_a_lease_whose_process_id_another_process_has_now_is_taken(tmp_path: Path, holder) -> None:
    """Process ids are used again, at once in a container. The start time tells the two apart."""
    marker = tmp_path / IN_USE
    content = marker.read_text()
    holder.kill()
    holder.wait()
    marker.unlink(missing_ok=True)
    marker.write_text(content.replace(str(holder.pid), str(os.getppid()), 1))
    Lease(tmp_path, "--out", print).take()


def _as_of_another_host(folder: Path) -> None:
    marker = folder / IN_USE
    marker.write_text(marker.read_text().replace(socket.gethostname(), "elsewhere", 1))


def test_another_hosts_lease_is_respected_while_it_gives_signs_of_life(
    tmp_path: Path, holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_SECONDS_TO_TAKE_OVER", 0.2)
    _as_of_another_host(tmp_path)
    said: list[str] = []
    with pytest.raises(ValueError, match="in use by host elsewhere, process"):
        Lease(tmp_path, "output", said.append).take()
    assert "waiting up to 60 s for a sign that it lives" in said[0]


def test_another_hosts_lease_without_a_sign_of_life_is_taken(
    tmp_path: Path, holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process cannot be asked, so only time tells."""
    holder.kill()
    holder.wait()
    _as_of_another_host(tmp_path)
    for name, value in (("_SECONDS_TO_TAKE_OVER", 0.2), ("LEASE_SECONDS", 1.5), ("_SIGN_OF_LIFE_SECONDS", 0.5)):
        monkeypatch.setattr(lease_module, name, value)
    marker = tmp_path / IN_USE
    marker.write_text(marker.read_text().replace("60.0", "1.5"))
    lease = Lease(tmp_path, "output", lambda line: None)
    lease.take()
    lease.end()
