"""The examples of `kernels/examples/` run and print what they promise."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
EXAMPLES = KERNELS / "examples"


def printed_by(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_in_batch_negatives_train_a_projection(capsys: pytest.CaptureFixture[str]) -> None:
    first, last = (float(re.findall(r"loss ([0-9.]+)", line)[0]) for line in printed_by("in_batch.py", capsys))
    assert last < first / 2


def test_keys_and_groups_leave_each_query_its_true_negatives(capsys: pytest.CaptureFixture[str]) -> None:
    """No negative is of another group, equal by key to a positive, or a positive of an equal query."""
    negatives = [line.partition("negatives: ")[2] for line in printed_by("keys_and_groups.py", capsys)]
    pacific = "['The Pacific.', 'The Pacific Ocean.']"
    paris = "['Paris.', 'The capital of France is Paris.']"
    assert negatives == [pacific, pacific, paris, "['Call reversed(values).']"]


@pytest.mark.distributed
def test_a_ring_of_processes_equals_one_process() -> None:
    """The example runs as a command, because the processes that it starts import its file."""
    environment = {**os.environ, "PYTHONPATH": str(KERNELS)}
    command = [sys.executable, str(EXAMPLES / "ring.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    loss_error, gradient_error = map(float, re.findall(r"by ([0-9e.+-]+)", result.stdout))
    assert loss_error < 1e-12
    assert gradient_error < 1e-12


def test_every_example_has_a_test() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in tested for path in EXAMPLES.glob("*.py"))
