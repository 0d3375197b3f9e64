"""launch.sh: what it installs, how many ranks it starts, and where its arguments go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with launch.sh, pinned versions, and stub programs that record their arguments."""
    for name in ("launch.sh", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "launch.sh").chmod(0o755)
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    program = """#!/bin/bash
name=${0##*/}
[[ $name == nvidia-smi ]] && { echo -n "$GPUS"; exit; }
[[ "$*" == "-m harness.launch "* ]] && exec "$REAL_PYTHON" "$@"
[[ $* == *harness.hosts.hostfile* ]] && { echo "$HOSTS"; exit "${BAD_HOSTS:-0}"; }
[[ $name == deepspeed && $DS_ENV_FILE ]] && { echo "$DS_ENV_FILE" >"$CALLS.file"; [[ -f $DS_ENV_FILE ]] || exit 9; }
echo "$name $* DS=$DS_ACCELERATOR OMP=$OMP_NUM_THREADS" >>"$CALLS"
[[ $name == deepspeed && $STAY ]] && { sleep 60 & echo $! >"$CALLS.pid"; wait; }
exit "${STATUS:-0}"
"""
    for name in ("python", "deepspeed", "nvidia-smi"):
        (programs / name).write_text(program)
        (programs / name).chmod(0o755)
    return tmp_path


def variables(checkout: Path) -> dict[str, str]:
    """The environment of launch.sh: that of the tests, without what it decides itself, and with the stub programs."""
    left_out = ("DS_ACCELERATOR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    clean = {name: value for name, value in os.environ.items() if name not in left_out}
    ours = {"VIRTUAL_ENV": checkout / "venv", "CALLS": checkout / "calls", "REAL_PYTHON": sys.executable}
    return clean | {name: str(value) for name, value in ours.items()} | {"PYTHONPATH": str(ROOT)}


def launch(checkout: Path, *arguments: str, **environment: str) -> tuple[int, list[str]]:
    calls = checkout / "calls"
    calls.write_text("")
    clean = {**variables(checkout), **environment}
    done = subprocess.run([checkout / "launch.sh", *arguments], env=clean, capture_output=True, text=True, check=False)
    return done.returncode, calls.read_text().splitlines()


def test_launch_installs_once_and_again_only_when_pins_or_extras_change(checkout: Path) -> None:
    def installs(*arguments: str) -> list[str]:
        return [
            call.split("-e ")[1].split("[")[1].split("]")[0]
            for call in launch(checkout, *arguments)[1]
            if "pip" in call
        ]

    assert installs() == ["demo"]
    assert installs() == []
    assert installs("test") == ["demo,test"]
    assert installs("test") == []
    assert installs() == []  # the packages for the tests include those for a run
    (checkout / "constraints.txt").write_text("torch==2.13.0\n")
    assert installs() == ["demo"]


def test_a_failed_installation_is_not_taken_for_a_whole_one(checkout: Path) -> None:
    assert launch(checkout, STATUS="3")[0] == 3
    assert any("pip" in call for call in launch(checkout)[1])


def test_launch_starts_two_cpu_ranks_without_a_gpu_and_one_per_gpu_with(checkout: Path) -> None:
    launch(checkout)
    quiet = "deepspeed --log_level critical"
    assert launch(checkout)[1][0].startswith(f"{quiet} --num_accelerators 2 --module harness train demo DS=cpu OMP=")
    gpus = "GPU 0: a\nGPU 1: b\nGPU 2: c\n"
    assert launch(checkout, GPUS=gpus)[1] == [f"{quiet} --num_accelerators 3 --module harness train demo DS= OMP="]
    chosen = launch(checkout, GPUS=gpus, CUDA_VISIBLE_DEVICES="1,2")[1]  # the launcher reads these itself
    assert chosen == [f"{quiet} --module harness train demo DS= OMP="]
    assert "num_accelerators 2" in launch(checkout, GPUS=gpus, CUDA_VISIBLE_DEVICES="")[1][0]


def test_launch_gives_the_harness_its_arguments_and_the_launcher_all_others(checkout: Path) -> None:
    launch(checkout)
    arguments = ("my.yaml", "--hostfile", "F", "--set", "a.b=1", "--master_port", "3", "--data-root", "D", "--verbose")
    status, calls = launch(checkout, *arguments, STATUS="7", OMP_NUM_THREADS="5", DS_ACCELERATOR="cpu")
    expected = (
        "deepspeed --hostfile F --master_port 3 --module harness train my.yaml --set a.b=1 --data-root D --verbose"
    )
    assert calls == [f"{expected} DS=cpu OMP=5"]
    assert status == 7
    _, calls = launch(checkout, "--set", "training.steps=3")
    assert calls[0].split(" DS=")[0].endswith("--module harness train demo --set training.steps=3")


def test_hosts_are_checked_first_and_what_they_get_lies_in_no_file_that_stays(checkout: Path) -> None:
    launch(checkout)
    added = "--master_addr=10.0.0.1"
    status, calls = launch(checkout, "my.yaml", "-H", "F", "--check", HOSTS=added, DS_ACCELERATOR="cpu")
    assert status == 0
    assert f"-H F {added} --module harness check my.yaml" in calls[0]
    assert not Path((checkout / "calls.file").read_text().strip()).exists()
    assert launch(checkout, "my.yaml", "--hostfile=F", BAD_HOSTS="2") == (2, [])


def test_launch_test_hands_its_arguments_to_pytest(checkout: Path) -> None:
    launch(checkout, "test")
    workers = "-n logical --maxprocesses 4"
    assert launch(checkout, "test", "-k", "x y")[1] == [f"python -m pytest {workers} -k x y DS=cpu OMP="]


def test_ctrl_c_ends_the_launcher_and_every_process_below_it(checkout: Path) -> None:
    launch(checkout)
    process = subprocess.Popen(
        [checkout / "launch.sh"], env={**variables(checkout), "STAY": "1"}, stderr=subprocess.PIPE, text=True
    )
    pid_file = checkout / "calls.pid"
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert process.communicate()[1] == ""
    with pytest.raises(ProcessLookupError):  # noqa: PT012
        while time.monotonic() < deadline:
            os.kill(int(pid_file.read_text()), 0)
            time.sleep(0.05)


def test_restarts_are_the_business_of_launch_alone(checkout: Path) -> None:
    launch(checkout)
    status, calls = launch(checkout, "my.yaml", "--restarts", "2", STATUS="2")
    assert status == 2
    assert [call.split(" DS=")[0] for call in calls] == [
        "deepspeed --log_level critical --num_accelerators 2 --module harness train my.yaml"
    ]
