"""A run under the launcher: its command, its ranks' processes, and how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from tests.ranks import free_port

ROOT = Path(__file__).parents[2]
MOST_SECONDS_TO_END = 120.0


@dataclass(frozen=True, slots=True)
class End:
    """How a start ended. outlived: ranks that were still there when the launcher had ended."""

    status: int
    seconds: float
    outlived: int


class Launched:
    """A start of the run. module: what the ranks run."""

    def __init__(
        self, recipe: Path, output: Path, log: IO[str], ranks: int, module: str = "harness", **variables: str
    ) -> None:
        self.output = output
        own = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR")
        environment = {
            **{key: value for key, value in os.environ.items() if key not in own},
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            **variables,
        }
        command = [
            "deepspeed", "--num_accelerators", str(ranks), "--master_port", str(free_port()), "--log_level", "critical",
            "--module", module, "train", str(recipe), "--output", str(output),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
        )

    def processes_of(self, rank: int) -> list[psutil.Process]:
        """The processes of a rank: only those that this start has made."""
        with suppress(psutil.Error):
            below = psutil.Process(self.process.pid).children(recursive=True)
            return [process for process in below if _rank_of(process) == rank and str(self.output) in _command(process)]
        return []

    def all_ranks(self, ranks: int) -> list[psutil.Process]:
        """The processes of all ranks."""
        return [process for rank in range(ranks) for process in self.processes_of(rank)]

    def kill(self, rank: int) -> bool:
        """SIGKILL to a rank: to its innermost process, which trains. False: there is none any more."""
        found = self.processes_of(rank)
        for process in reversed(found):
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
                return True
        return False

    def wait(self, ranks: list[psutil.Process]) -> End:
        """Wait until the launcher has ended, then end what is left of the given ranks and of this start."""
        started = time.monotonic()
        try:
            status = self.process.wait(MOST_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            status = self.process.wait()
        seconds = time.monotonic() - started
        left = psutil.wait_procs(ranks, timeout=15)[1]
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        return End(status, seconds, len(left))

    def is_running(self) -> bool:
        """Whether the launcher has not ended."""
        return self.process.poll() is None


def last_step(output: Path) -> int:
    """The last step in metrics.jsonl; 0 if there is none."""
    with suppress(OSError, ValueError, IndexError):
        lines = (output / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"])
    return 0


def _rank_of(process: psutil.Process) -> int | None:
    with suppress(psutil.Error, ValueError):
        return int(process.environ()["RANK"]) if "RANK" in process.environ() else None
    return None


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
