"""Other launchers than DeepSpeed's: torchrun, and Slurm's srun as far as its variables go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks import free_port

pytestmark = pytest.mark.distributed
ROOT = Path(__file__).parents[2]
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM")


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    ours = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env={**clean, **ours, **environment}, text=True, cwd=ROOT, **pipes)


def ended(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, out + err
    return out


def test_torchrun_trains(folder: Path) -> None:
    program, port = str(Path(sys.executable).with_name("torchrun")), str(free_port())
    few = ("--set", "training.steps=2", "--set", "evaluation.every=0", "--set", "checkpoint.every=0")
    ranks = ("--nproc-per-node", "2", "--master-port", port)
    train = ("-m", "harness", "train", str(folder / "tiny.yaml"), *few, "--output", str(folder / "torchrun"))
    out = ended(start(program, *ranks, *train))
    assert out.splitlines()[0] == "2 ranks on cpu: loading the model, then the data"
    facts = json.loads((folder / "torchrun" / "run.json").read_text())
    assert (facts["finished"], facts["world_size"]) == (True, 2)


def test_tasks_of_srun_are_ranks_and_the_check_compares_them(folder: Path) -> None:
    """Slurm itself is not there: these are the variables that srun sets for two tasks on one host."""
    step = {
        "SLURM_JOB_ID": str(free_port()), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_NODEID": "0",
    }  # fmt: skip
    command = (sys.executable, "-m", "harness", "check", str(folder / "tiny.yaml"), "--ranks", "2")
    tasks = [start(*command, **step, SLURM_PROCID=str(task), SLURM_LOCALID=str(task)) for task in range(2)]
    first, second = map(ended, tasks)
    lines = first.splitlines()
    assert lines[0].startswith("2 ranks on 1 host agree; a barrier takes ")
    assert lines[-1] == "checked: recipe, data, tokenizer, output and 2 rank(s)"
    assert second == ""
