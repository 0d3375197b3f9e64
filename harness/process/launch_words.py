"""The words of a command that starts ranks: DeepSpeed's launcher, below the process that `harness/launch.py` is.

harness launch RECIPE ..., launch.sh, train(recipe, ranks=N)  →  python -m harness.launch ... -- deepspeed ...
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")


def num_gpus(environment: Mapping[str, str]) -> int:
    """NVIDIA GPUs of this host, 0 if CUDA_VISIBLE_DEVICES hides them. Does not import torch."""
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return 0
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU") for line in listed.splitlines())


def launch_words(
    arguments: list[str],
    ranks: int | None,
    environment: Mapping[str, str],
    command: str = "train",
    flags: Sequence[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """(the words that start `harness COMMAND ARGUMENTS` on `ranks` ranks of this host, variables to set for them).

    One rank per GPU; without a GPU the ranks share the cores. The ranks meet at a port that is free now. ranks: None:
    DeepSpeed's launcher decides, by its `flags` or the visible GPUs, and by its own port.

    Raises:
        ValueError: there are fewer GPUs than ranks.
    """
    gpus = num_gpus(environment)
    if ranks is not None and 0 < gpus < ranks and environment.get("DS_ACCELERATOR") != "cpu":
        raise ValueError(f"ranks: got {ranks}, expected at most the {gpus} GPU(s) of this host; lower it")
    on_cpu = gpus == 0 or environment.get("DS_ACCELERATOR") == "cpu"
    quiet = [] if "--verbose" in arguments else ["--log_level", "critical"]
    start = [] if ranks is None else ["--num_accelerators", str(ranks)]
    if ranks is not None and not any(flag.startswith("--master_port") for flag in flags):
        start += ["--master_port", str(_free_port())]
    launcher = Path(sys.executable).with_name("deepspeed")
    deepspeed = [str(launcher)] if launcher.is_file() else [sys.executable, "-m", "deepspeed.launcher.runner"]
    words = [sys.executable, "-m", "harness.launch", "--", *deepspeed, *quiet, *start, *flags]
    return [*words, "--module", "harness", command, *arguments], _variables(environment, ranks or 2, on_cpu)


def without_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what a launcher has set in it."""
    return {name: value for name, value in environment.items() if name not in _OF_LAUNCHERS}


def _variables(environment: Mapping[str, str], ranks: int, on_cpu: bool) -> dict[str, str]:
    if not on_cpu:
        return {}
    threads = environment.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // ranks))
    return {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": threads}


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
