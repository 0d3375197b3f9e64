"""Faults of several hosts: ways to start, lost links and ranks, hosts that differ, other ranks (table B)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.faults.fault import Fault, Seen
from tests.faults.started import NOTHING, environment, overrides, recipe_in
from tests.namespaces.hosts import Hosts, hosts, missing
from tests.ranks import free_port

LONG = ("training.steps=100000", "training.timeout=0.3", "checkpoint.every=20", "evaluation.every=0")


def rows_of(run: Path) -> list[dict[str, float]]:
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def last_line(text: str, word: str) -> str:
    """The last line with a word; without one the last line at all."""
    lines = [line.split("10.77.13.1: ")[-1] for line in text.strip().splitlines()]
    return next((line for line in reversed(lines) if word in line), lines[-1] if lines else "")


def lost_steps(run: Path) -> str:
    """How many steps are not in the newest checkpoint."""
    saved = max((int(path.name[5:]) for path in (run / "checkpoints").glob("step-*")), default=0)
    trained = len(rows_of(run))
    return NOTHING if trained - saved <= 20 else f"{trained - saved} steps"


def on_two_hosts(work: Callable[[Path, Hosts], Seen]) -> Callable[[Path], Seen]:
    """A row that needs network namespaces; where there are none it says so."""

    def run(folder: Path) -> Seen:
        reason = missing()
        if reason is not None:
            return Seen(0, f"not tried: {reason}", NOTHING, True)
        recipe_in(folder)
        with hosts(folder / "hosts") as made:
            return work(folder, made)

    return run


def launched_by_hostfile(folder: Path, made: Hosts) -> Seen:
    launch = ["./launch.sh", str(folder / "tiny.yaml"), "--hostfile", str(made.hostfile)]
    process = made.start(1, launch)
    output = process.communicate(timeout=180)[0]
    is_whole = (folder / "run" / "model" / "model.safetensors").is_file()
    lost = NOTHING if is_whole else "the model"
    return Seen(process.returncode, last_line(output, "network:"), lost, is_whole and process.returncode == 0)


def link_cut_for_5_seconds(folder: Path, made: Hosts) -> Seen:
    launch = ["./launch.sh", str(folder / "tiny.yaml"), "--hostfile", str(made.hostfile)]
    process = made.start(1, [*launch, *overrides((*LONG, "training.steps=300"))])
    run = folder / "run"
    until(lambda: len(rows_of(run)) > 5)
    made.cut(2, True)
    time.sleep(5)
    made.cut(2, False)
    output = process.communicate(timeout=180)[0]
    steps = [row["step"] for row in rows_of(run)]
    is_right = process.returncode == 0 and steps == list(range(1, 301))
    return Seen(process.returncode, last_line(output, "model:"), NOTHING if is_right else "steps", is_right)


def link_cut_for_good(folder: Path, made: Hosts) -> Seen:
    launch = ["./launch.sh", str(folder / "tiny.yaml"), "--hostfile", str(made.hostfile), *overrides(LONG)]
    process = made.start(1, launch)
    until(lambda: len(rows_of(folder / "run")) > 25)
    made.cut(2, True)
    output = process.communicate(timeout=180)[0]
    line = last_line(output, "training.timeout: rank 0")
    is_right = "rank 1 (host-2), not heard of" in line and process.returncode in (75, 255)
    return Seen(process.returncode, line, lost_steps(folder / "run"), is_right)


def host_out_of_reach(folder: Path, made: Hosts) -> Seen:
    hostfile = folder / "wrong"
    hostfile.write_text(f"{made.address(1)} slots=1\n{made.address(77)} slots=1\n")
    process = made.start(1, ["./launch.sh", str(folder / "tiny.yaml"), "--hostfile", str(hostfile)])
    line = process.communicate(timeout=60)[0].strip()
    is_right = process.returncode == 2 and line.startswith("--hostfile: 10.77.13.77 cannot be reached by ssh")
    return Seen(process.returncode, line, NOTHING, is_right and "\n" not in line)


def hostfile_that_is_not_there(folder: Path) -> Seen:
    command = [
        sys.executable,
        "-m",
        "harness.hosts.hostfile",
        str(folder / "file"),
        "--hostfile",
        str(folder / "hosts"),
    ]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    line = done.stderr.strip()
    return Seen(done.returncode, line, NOTHING, done.returncode == 2 and "which is no file" in line)


def two_ranks(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = ["deepspeed", "--num_accelerators", "2", "--master_port", str(free_port()), "--log_level", "critical"]
    return subprocess.Popen(
        [*command, "--module", "harness", *arguments], env=environment(), text=True, cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def rank_that_hangs(folder: Path) -> Seen:
    """SIGSTOP: a process that is there and does nothing, as one that waits for a dead disk."""
    process = two_ranks(folder, "train", recipe_in(folder), *overrides(LONG))
    until(lambda: len(rows_of(folder / "run")) > 25)
    ranks = [p for p in psutil.Process(process.pid).children(recursive=True) if _is_rank(p, "1")]
    for rank in ranks:
        rank.send_signal(signal.SIGSTOP)
    until(lambda: process.poll() is not None, 60)
    for rank in ranks:
        if rank.is_running():
            rank.kill()
    output = process.communicate(timeout=60)[0]
    line = last_line(output, "training.timeout:")
    is_right = "for rank 1 (" in line and process.returncode == 75
    return Seen(process.returncode, line, lost_steps(folder / "run"), is_right)


def _is_rank(process: psutil.Process, rank: str) -> bool:
    try:
        return process.environ().get("RANK") == rank
    except psutil.Error:
        return False


def host_with_another_recipe(folder: Path) -> Seen:
    recipe, port = recipe_in(folder), str(free_port())
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "harness", "train", recipe, "--set", f"training.seed={rank}"], text=True, cwd=folder,
            env={**environment(), "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_SIZE": "2",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]  # fmt: skip
    errors = [process.communicate(timeout=120)[1].strip() for process in ranks]
    line, status = errors[0], ranks[0].returncode
    is_right = status == 2 and line.startswith("recipe (its hash): got ") and "rank 1 (" in line
    return Seen(status, line, NOTHING, is_right)


def other_ranks_and_stage(folder: Path) -> Seen:
    """Two ranks at ZeRO stage 2 are stopped after 4 of 8 steps; one rank at stage 3 goes on."""
    recipe, quiet = recipe_in(folder), ("training.dropout=0", "evaluation.every=0", "training.schedule=constant")
    one = [sys.executable, "-m", "harness", "train", recipe, *overrides(quiet)]
    process = two_ranks(folder, "train", recipe, *overrides((*quiet, "deepspeed=zero2", "training.steps=4")))
    process.communicate(timeout=180)
    changed = overrides(("training.steps=8", "deepspeed=zero3"))
    done = subprocess.run([*one, *changed], env=environment(), capture_output=True, text=True, check=False, cwd=folder)
    whole = [*one, "--set", "training.steps=8", "--output", str(folder / "whole")]
    subprocess.run(whole, env=environment(), capture_output=True, check=False, cwd=folder)
    found, expected = ([row["loss"] for row in rows_of(folder / name)] for name in ("run", "whole"))
    apart = max((abs(a / b - 1) for a, b in zip(found, expected, strict=False)), default=1.0)
    is_right = done.returncode == 0 and len(found) == len(expected) == 8 and apart < 1e-3
    line = f"{last_line(done.stdout, 'wrote the checkpoint')} [losses within {apart:.1e}]"
    return Seen(done.returncode, line, NOTHING if is_right else "the curve", is_right)


ROWS: list[Fault] = [
    Fault("B1", "launch.sh with a hostfile of two hosts, as it stands", on_two_hosts(launched_by_hostfile)),
    Fault("B1", "a link that is cut for 5 s", on_two_hosts(link_cut_for_5_seconds)),
    Fault("B1", "a link that stays cut", on_two_hosts(link_cut_for_good)),
    Fault("B1", "a rank that hangs", rank_that_hangs),
    Fault("B2", "a hostfile that is not there", hostfile_that_is_not_there),
    Fault("B2", "a host that ssh does not reach", on_two_hosts(host_out_of_reach)),
    Fault("B3", "a host with another recipe", host_with_another_recipe),
    Fault("B4", "2 ranks at ZeRO stage 2, continued by 1 rank at stage 3", other_ranks_and_stage),
]
