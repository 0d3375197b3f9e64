"""A user's mistake ends with one line from rank 0 and status 2; any other error keeps its traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.cli import mistakes
from harness.process import rank_watch, statuses
from tests.unit.cli.command_line import invoke, stub_trainer

ROOT = Path(harness.__file__).parent.parent


def run_cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT, check=False
    )


def test_a_users_mistake_is_one_line_on_stderr_and_status_2() -> None:
    done = run_cli("--local_rank=0", "train", "demo", "--set", "training.learning_rat=1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "--set: training.learning_rat: unknown key; did you mean learning_rate?\n"


def test_the_traceback_is_shown_when_asked_for() -> None:
    done = run_cli("train", "nosuch", HARNESS_DEBUG="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "RECIPE: got nosuch" in done.stderr


def test_another_rank_keeps_silent_while_rank_0_speaks() -> None:
    """One line per mistake, not one per rank: the launcher ends the other ranks when rank 0 has ended."""
    processes = []
    for arguments in (("train", "nosuch"), ("train", "demo", "--nosuch")):
        command = [sys.executable, "-m", "harness", *arguments]
        environment = {**os.environ, "RANK": "1", "WORLD_SIZE": "2"}
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT))
    time.sleep(3)
    assert [process.poll() for process in processes] == [None, None]
    for process in processes:
        process.terminate()
        assert process.communicate()[1] == ""


def test_a_rank_alone_with_an_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes, "OTHER_RANKS_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("RANK", "1")
    done = invoke("train", "nosuch")
    assert done.exit_code == 2
    assert done.stderr.startswith("rank 1: RECIPE: got nosuch")


def test_an_error_from_inside_a_library_says_how_to_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_trainer(monkeypatch, lambda loaded: json.loads("{"))
    done = invoke("train", "demo")
    assert done.exit_code == 2
    assert "HARNESS_DEBUG=1 shows where" in done.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x/metrics.jsonl"),
            "runs/x/metrics.jsonl: got a full disk",
        ),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed: No space left on device"), "got a full disk"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"), "got a full disk"),
        (MemoryError(), "out of memory: got MemoryError, expected room"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "out of memory: "),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "training.micro_batch_tokens"),
        (np._core._exceptions._ArrayMemoryError((1 << 60,), np.dtype("f4")), "out of memory: got Unable to allocate"),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs/x"),
            "runs/x: got Permission denied, expected",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "gone"), "gone: got No such file or directory"),
    ],
)
def test_what_a_disk_or_memory_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(loaded: object) -> None:
        raise error

    stub_trainer(monkeypatch, fail)
    done = invoke("train", "demo")
    assert done.exit_code == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_failure_that_is_no_users_mistake_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_trainer(monkeypatch, lambda loaded: 1 / 0)
    assert isinstance(invoke("train", "demo").exception, ZeroDivisionError)


def test_a_report_of_no_run_is_a_mistake_in_one_line(tmp_path: Path) -> None:
    done = invoke("report", str(tmp_path))
    assert done.exit_code == 2
    assert done.output == f"RUN: got {tmp_path}, expected a run folder (with recipe.yaml) or one of its checkpoints\n"


@pytest.mark.parametrize("has_been_said", [True, False])
def test_a_rank_whose_peer_is_lost_is_silent_if_the_peers_host_has_said_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_been_said: bool
) -> None:
    """One line for a lost rank, by one process: not a traceback of every rank that waited for it."""

    def fail(loaded: object) -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242")

    def leave(status: int) -> None:
        raise SystemExit(status)

    stub_trainer(monkeypatch, fail)
    monkeypatch.setattr(mistakes, "OTHER_RANKS_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(os, "_exit", leave)
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), (rank_watch.STATUS_FOLDER, str(tmp_path))):
        monkeypatch.setenv(name, value)
    (tmp_path / "1").write_text("ended 137" if has_been_said else "runs 17")
    done = invoke("train", "demo")
    assert done.exit_code == statuses.UNEXPECTED
    line = f"{rank_watch.name()} has lost another rank, which may have said why ([gloo/transport/tcp/pair.cc:547] "
    assert done.stderr == ("" if has_been_said else f"{line}Connection closed by peer [127.0.0.1]:4242)\n")
