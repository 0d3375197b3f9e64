"""What launch.sh starts the launcher with: signals reach the ranks, statuses are honest, nothing is left behind.

The launcher here is a script that starts one rank and, like DeepSpeed's, ends with the status that it is told to.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from harness.launch import run_folder
from harness.process.stop_request import STOP_FILE

RANK = """
import os, signal, sys, time
from harness.process import rank_watch
rank_watch.start()
def stop(*_):
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # launch.sh repeats it
    time.sleep(float(os.environ.get("SECONDS_TO_SAVE", "0.1")))
    os._exit(75)
signal.signal(signal.SIGUSR1, stop)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGUSR2, lambda *_: os._exit(130))
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
time.sleep(float(os.environ.get("SECONDS_OF_RANK", "60")))
sys.exit(int(os.environ.get("STATUS_OF_RANK", "0")))
"""
LAUNCHER = """
import os, subprocess, sys
rank = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], env={**os.environ, "RANK": "0"})
rank.wait()
sys.exit(int(os.environ.get("STATUS_OF_LAUNCHER", "1")))
"""

# However the tests were started: nohup and a shell's background jobs hand their ignored signals down.
LAUNCH = """
import os, signal, sys
ignored = os.environ.get("IGNORED")
for name in ("SIGINT", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_IGN if name == ignored else signal.SIG_DFL)
from harness import launch
launch._SECONDS_BEFORE_RESTART, launch._SECONDS_TO_END = 0.0, 1.0
sys.exit(launch.main(sys.argv[1:]))
"""


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """Where every rank writes its process id when it hears signals."""
    file = tmp_path / "started"
    file.write_text("")
    return file


def launch(started: Path, *options: str, arguments: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAUNCH, *options, "--"]
    command += [sys.executable, "-c", LAUNCHER, RANK, str(started), *arguments]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def wait_for_rank(started: Path, number: int = 1) -> int:
    deadline = time.monotonic() + 30
    while len(pids := started.read_text().split("\n")) <= number:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(pids[number - 1])


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_ranks_and_their_status_comes_back(started: Path, number: signal.Signals) -> None:
    process = launch(started, "--restarts", "3")
    rank = wait_for_rank(started)
    process.send_signal(number)
    stderr = process.communicate(timeout=20)[1]
    assert process.returncode == 75  # and no restart: whoever asked wants this job to end
    assert stderr == f"launch.sh: got {number.name}: the ranks finish their step, save and end\n"
    assert is_gone(rank)


def test_a_sigterm_to_every_process_of_the_job_leaves_the_ranks_time_to_save(started: Path) -> None:
    """As schedulers send it: the launcher dies of it at once."""
    process = launch(started, SECONDS_TO_SAVE="3")
    wait_for_rank(started)
    launcher = psutil.Process(process.pid).children()[0]
    watcher = launcher.children()[0]
    for pid in (launcher.pid, watcher.pid, process.pid):
        os.kill(pid, signal.SIGTERM)
    assert process.wait(timeout=20) == 75


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_ends_all_at_once(started: Path, number: signal.Signals) -> None:
    process = launch(started)
    rank = wait_for_rank(started)
    process.send_signal(number)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 130
    assert is_gone(rank)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_nohup_or_the_shell_ignores_is_ignored(started: Path, number: signal.Signals) -> None:
    """A closed terminal must not end a run that was started by nohup."""
    process = launch(started, IGNORED=number.name, SECONDS_OF_RANK="1", STATUS_OF_LAUNCHER="0")
    wait_for_rank(started)
    process.send_signal(number)
    assert process.wait(timeout=20) == 0


def test_ctrl_c_ends_ranks_that_do_not_stop_when_asked(started: Path) -> None:
    process = launch(started)
    rank = wait_for_rank(started)
    os.kill(rank, signal.SIGSTOP)  # a rank that hangs
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None
    assert process.wait(timeout=20) == 130
    assert is_gone(rank)


def test_a_killed_launcher_is_no_success_and_leaves_no_rank(started: Path) -> None:
    """DeepSpeed's launcher reports 0 when its own second level is killed."""
    process = launch(started, STATUS_OF_LAUNCHER="0")
    rank = wait_for_rank(started)
    os.kill(rank, signal.SIGKILL)
    assert process.wait(timeout=20) == 137
    process = launch(started)
    rank = wait_for_rank(started, 2)
    psutil.Process(process.pid).children()[0].kill()
    assert process.wait(timeout=20) == 137
    assert is_gone(rank)


def test_a_crash_and_a_stop_are_started_again_at_most_as_often_as_asked(started: Path) -> None:
    for status, starts in ((75, 3), (1, 3), (2, 1), (0, 1)):
        started.write_text("")
        environment = {"SECONDS_OF_RANK": "0", "STATUS_OF_RANK": str(status), "STATUS_OF_LAUNCHER": str(status)}
        process = launch(started, "--restarts", "2", **environment)
        stderr = process.communicate(timeout=30)[1]
        assert process.returncode == status
        assert len(started.read_text().split()) == starts, status
        expected = [f"launch.sh: ended with status {status}; restart {i} of 2" for i in range(1, starts)]
        assert stderr.splitlines() == expected


def test_a_launcher_that_is_not_installed_is_said() -> None:
    command = [sys.executable, "-m", "harness.launch", "--", "no-such-launcher", "--module", "harness"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("launch.sh: got no program no-such-launcher on PATH")


def test_the_run_folder_is_known_without_the_ranks(tmp_path: Path) -> None:
    """On other hosts a file in it asks the ranks to stop, where signals do not reach them."""
    command = ["deepspeed", "--hostfile", "F", "--module", "harness", "train", "demo", "--set", "training.steps=3"]
    assert run_folder(command) == Path("runs/demo")
    assert run_folder([*command, "--set=name=other", "--verbose"]) == Path("runs/other")
    assert run_folder([*command, "--output", "a=b"]) == Path("a=b")
    assert run_folder([*command, "--output=c"]) == Path("c")
    assert run_folder(["deepspeed", "--module", "harness", "check", "demo"]) is None
    assert run_folder([*command[:6], "no_such_recipe"]) is None


def test_a_stop_of_several_hosts_leaves_the_file_in_the_run_folder(started: Path, tmp_path: Path) -> None:
    hostfile = ["--hostfile", "F", "--module", "harness", "train", "demo", f"--output={tmp_path}"]
    process = launch(started, arguments=hostfile)
    wait_for_rank(started)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 75
    assert (tmp_path / STOP_FILE).exists()


def test_files_that_a_start_needs_are_removed_in_the_end(started: Path) -> None:
    needed = started.with_name("environment")
    needed.write_text("NAME=value")
    assert launch(started, "--remove", str(needed), SECONDS_OF_RANK="0", STATUS_OF_LAUNCHER="0").wait(timeout=20) == 0
    assert not needed.exists()


def test_a_number_of_restarts_that_is_none_is_refused(started: Path) -> None:
    process = launch(started, "--restarts", "often")
    assert process.communicate(timeout=20)[1] == "launch.sh: --restarts: got often, expected a number, 0 or more\n"
    assert process.returncode == 2


def test_a_launcher_that_ends_before_any_rank_has_started_has_not_succeeded() -> None:
    """DeepSpeed's ends with 0 if a signal ends its second level, which a scheduler would take for a finished run."""
    command = [sys.executable, "-c", LAUNCH, "--", sys.executable, "-c", "pass"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("launch.sh: the launcher ended before any rank had started")
    for elsewhere in (["--hostfile=hosts"], ["--help"]):
        assert subprocess.run([*command, *elsewhere], timeout=60, check=False).returncode == 0


def test_a_launcher_that_ends_well_before_the_run_of_other_hosts_has_ended_is_no_success(tmp_path: Path) -> None:
    """DeepSpeed reports 0 if a signal ends pdsh; the ranks, on other hosts, leave their statuses there."""
    command = [sys.executable, "-c", LAUNCH, "--", sys.executable, "-c", "pass", "--hostfile", "F", "--module"]
    command += ["harness", "train", "demo", f"--output={tmp_path}"]
    for facts, status in (('{"finished": null}', 1), ('{"finished": "2026-01-01"}', 0), ("{", 0)):
        (tmp_path / "run.json").write_text(facts)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, facts
        said = f"launch.sh: the launcher ended with status 0, but the run in {tmp_path} has not finished\n"
        assert done.stderr == (said if status else "")
