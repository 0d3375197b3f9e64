"""launch.sh: what it installs, and where its arguments go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with launch.sh, pinned versions, and a stub of Python that records its arguments."""
    for name in ("launch.sh", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "launch.sh").chmod(0o755)
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    program = """#!/bin/bash
name=${0##*/}
echo "$name $*" >>"$CALLS"
exit "${STATUS:-0}"
"""
    (programs / "python").write_text(program)
    (programs / "python").chmod(0o755)
    return tmp_path


def variables(checkout: Path) -> dict[str, str]:
    """The environment of launch.sh: that of the tests, with the stub program."""
    return {**os.environ, "VIRTUAL_ENV": str(checkout / "venv"), "CALLS": str(checkout / "calls")}


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


def test_all_arguments_go_on_to_harness_launch_and_its_status_comes_back(checkout: Path) -> None:
    """Which goes where from there: tests/unit/cli/test_launch_command.py."""
    launch(checkout)
    arguments = ("my.yaml", "--hostfile", "F", "--set", "a.b=x y", "--restarts=2", "--check")
    status, calls = launch(checkout, *arguments, STATUS="75")
    assert calls == ["python -m harness launch my.yaml --hostfile F --set a.b=x y --restarts=2 --check"]
    assert status == 75
    assert launch(checkout, "--set", "training.steps=3")[1] == ["python -m harness launch demo --set training.steps=3"]
    assert launch(checkout)[1] == ["python -m harness launch demo"]


def test_launch_test_hands_its_arguments_to_pytest(checkout: Path) -> None:
    launch(checkout, "test")
    workers = "-n logical --maxprocesses 4"
    assert launch(checkout, "test", "-k", "x y")[1] == [f"python -m pytest {workers} -k x y"]
